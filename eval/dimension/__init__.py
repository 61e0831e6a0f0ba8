"""How far the decision boundary is: along the worst direction, lines, subspaces and noise; and what is beside it.

`boundary` measures distances, `gradients` what they begin with, `subspaces` lies between the worst direction and random
ones, `span` takes a network's start out of it, and `separation` says how far apart the classes are.
"""
