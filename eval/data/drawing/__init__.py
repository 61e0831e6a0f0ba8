"""Pictures of animals and household objects, drawn from a stream of random numbers.

`outline` has the curves, `pen` puts them on a canvas, `colours` chooses paints; `animals`, `furniture` and `utensils`
are the ten things; `backdrop` is what stands behind them, and `scene` puts all together.
"""
