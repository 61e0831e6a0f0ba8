"""The span of images, and a network whose first layer has no weights outside of it.

For images in the span S, w'x = (P w)'x, where P projects onto S: no answer changes. The gradient of P w lies in S, so
that directions in which no two images differ can no longer be made use of. The weights hold nothing there that was
learnt, only what they started from.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from eval.data import Samples
from eval.dimension.boundary import Boundary
from eval.errors import InputError
from eval.trial import Arrays
from models.classifier import Classifier
from models.initial import first_layer

PROJECTED = "projected"
"""Name of the probe in a run's folder."""
_SMALL = 1e-9  # of the greatest eigenvalue: what rounding of float32 leaves of none
_LEAST = 1e-12


@dataclass(frozen=True)
class Span:
    """The span of some images.

    Attributes:
        samples: the images.
        digest: their fingerprint.
    """

    samples: Samples = field(repr=False)
    digest: str

    @cached_property
    def basis(self) -> Tensor:
        """Orthonormal columns (D, rank), float64, on the CPU."""
        x = self.samples.batch(np.arange(len(self.samples))).flatten(1).double()  # (N, D)
        wide = x.shape[1] > x.shape[0]
        values, vectors = torch.linalg.eigh(x @ x.T if wide else x.T @ x)
        kept = values > max(_SMALL * float(values[-1]), _LEAST)
        found: Tensor = x.T @ (vectors[:, kept] / values[kept].sqrt()) if wide else vectors[:, kept]
        return found

    def confined(self, classifier: Classifier) -> Classifier:
        """A copy of a network, with the weights of its first layer projected onto the span.

        Raises:
            InputError: the first layer does not see all pixels at once.
        """
        own = copy.deepcopy(classifier)
        first = first_layer(own.network)
        if not isinstance(first, nn.Linear) or first.in_features != len(self.basis):
            raise InputError(
                f"study.handled: the first layer of {classifier.name} must see all pixels at once for its weights to "
                f"be projected, got {type(first).__name__}; leave the network out"
            )
        basis = self.basis.to(first.weight.device)
        first.weight.data = ((first.weight.double() @ basis) @ basis.T).to(first.weight.dtype)
        return own


@dataclass(frozen=True)
class Projected:
    """Measures the boundary of a network whose first layer is confined to the span of the training images.

    Attributes:
        boundary: what is measured.
        span: of the training images.
    """

    boundary: Boundary
    span: Span

    def __call__(
        self, classifier: Classifier, samples: Samples, batch_size: int, device: torch.device, seed: int
    ) -> Arrays:
        """As `Boundary` does."""
        return self.boundary(self.span.confined(classifier), samples, batch_size, device, seed)
