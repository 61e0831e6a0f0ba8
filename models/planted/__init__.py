"""Networks that are broken on purpose, so that an evaluation which believes them is caught.

Each is a healthy network behind a disguise that one or another published defence wore without meaning to: it answers
clean images as before (or nearly so), and hides from an evaluation how easily it is fooled. The weights are those of
the healthy network, trained once for all; the disguise is put on afterwards.

`disguise` has what they share; `flat` the faults that leave no or a wrong gradient, `steep` those whose gradients
vanish in saturation or point anywhere, `random` those that draw lots, `shifting` those whose answers depend on more
than the image.
"""
