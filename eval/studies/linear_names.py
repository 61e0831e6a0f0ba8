"""What the networks and attacks of `eval.studies.linear` are called, for who trains and who reads. Free of torch."""

from __future__ import annotations

LOGISTIC = "logistic"
ADVERSARIAL, SIGN, UNIFORM = "_adv", "_sign", "_uniform"  # of the names of maxout networks by what they were trained on
PAPERS = "fgsm"  # the attack that the paper's numbers are about
ROUNDED = "fgsm_rounded"
CLIPPED = "_clipped"  # of the name of an attack that stays in the box
