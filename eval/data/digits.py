"""Scikit-learn's embedded handwritten digits: real images without a download."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.data.samples import Data, Samples
from eval.data.spec import Spec
from eval.data.subset import split

_TEST = 450


@dataclass(frozen=True, kw_only=True)
class Digits(Spec):
    """1,797 digits of 8x8 pixels with 17 grey levels, of which 450, chosen by the seed, are the test samples.

    Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
    Repository, 1998; the part that scikit-learn ships as `load_digits`.
    """

    def read(self, seed: int) -> Data:
        """Pixels divided by 16, which is exact in float32."""
        from sklearn.datasets import load_digits

        bunch = load_digits()
        pixels = (bunch.images / 16.0).astype(np.float32)[:, None]
        everything = Samples.of(pixels, bunch.target, [str(name) for name in bunch.target_names], "digits")
        train, test = split(everything, _TEST / len(everything), seed)
        description = (
            f"UCI handwritten digits from scikit-learn, 8x8 pixels, split by the seed: {len(test):,} of "
            f"{len(everything):,} images, the rest to train on"
        )
        return Data(self.name, description, train, test)
