"""Data sets: ordered, fingerprinted, split and limited by a seed.

A specification is the `data` group of a configuration.
"""

from __future__ import annotations

from eval.data.arrays import Arrays
from eval.data.classes import class_number
from eval.data.digits import Digits
from eval.data.downloads import Torchvision
from eval.data.images import Images
from eval.data.photo import Photo
from eval.data.samples import Data, Samples
from eval.data.spec import Spec
from eval.data.subset import balanced, in_turn, limited, split
from eval.data.things import Things

__all__ = [
    "Arrays",
    "Data",
    "Digits",
    "Images",
    "Photo",
    "Samples",
    "Spec",
    "Things",
    "Torchvision",
    "balanced",
    "class_number",
    "in_turn",
    "limited",
    "split",
]
