"""Scikit-learn's embedded handwritten digits: real images without a download."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from eval.data.samples import Data, Samples
from eval.data.spec import Spec
from eval.data.subset import split

_TEST = 450


def _digits() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Images (1797, 8, 8) with levels 0 to 16 and their labels, as `load_digits` reads them.

    From its file: to import scikit-learn, and SciPy with it, takes a second.
    """
    found = find_spec("sklearn")
    path = Path(found.origin or "" if found else "").parent / "datasets" / "data" / "digits.csv.gz"
    if not path.is_file():  # of a version that keeps it elsewhere
        from sklearn.datasets import load_digits

        bunch = load_digits()
        return bunch.images, bunch.target
    with gzip.open(path, "rt", encoding="ascii") as file:
        table = np.loadtxt(file, delimiter=",")
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(int)


@dataclass(frozen=True, kw_only=True)
class Digits(Spec):
    """1,797 digits of 8x8 pixels with 17 grey levels, of which 450, chosen by the seed, are the test samples.

    Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
    Repository, 1998; the part that scikit-learn ships as `load_digits`.
    """

    def read(self, seed: int) -> Data:
        """Pixels divided by 16, which is exact in float32."""
        images, labels = _digits()
        pixels = (images / 16.0).astype(np.float32)[:, None]
        everything = Samples.of(pixels, labels, [str(digit) for digit in range(10)], "digits")
        train, test = split(everything, _TEST / len(everything), seed)
        description = (
            f"UCI handwritten digits from scikit-learn, 8x8 pixels, split by the seed: {len(test):,} of "
            f"{len(everything):,} images, the rest to train on"
        )
        return Data(self.name, description, train, test)
