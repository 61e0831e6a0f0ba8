"""Training that keeps the norms of the layers small: their bounds as a penalty.

    penalty = strength * sum over the dense layers and convolutions of |M_l|

M_l is the weight as a matrix (outputs, all else); |M_l| is a dense layer's norm, and that of a convolution at least
1 / sqrt(h w) of its own, which is at most sqrt(h w) |M_l|. The sum in place of the product is the product's logarithm
to first order where all are near 1, and its gradient does not vanish where they are large.

Source: Szegedy et al., "Intriguing properties of neural networks", ICLR 2014 (arXiv 1312.6199v4), section 4.3, which
suggests to penalise each bound; Yoshida and Miyato (arXiv 1705.10941), who penalise the squares.
Cost: a singular value decomposition of each layer a step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.errors import ModelError
from models.spec import Network, Spec


@dataclass(frozen=True)
class Bounded:
    """The networks of another spec, trained with the penalty.

    Attributes:
        of: that spec.
        strength: of the penalty.
    """

    of: Spec
    strength: float

    def __post_init__(self) -> None:
        if not self.strength > 0:
            raise ModelError(f"strength: must be > 0, got {self.strength:g}")

    def build(self, name: str, input_shape: tuple[int, int, int], num_classes: int) -> dict[str, Network]:
        """As the other spec builds them, with the penalty beside their own."""
        networks = self.of.build(name, input_shape, num_classes)
        for network in networks.values():
            own, weights = network.penalty, _weights(network.module)

            def penalty(own: object = own, weights: list[Tensor] = weights) -> Tensor:
                norms = torch.stack([torch.linalg.matrix_norm(w.flatten(1), 2) for w in weights]).sum()
                return self.strength * norms + (own() if callable(own) else 0.0)

            network.penalty = penalty if weights else own
            network.description += f", bounds penalised by {self.strength:g}"
        return networks


def _weights(module: nn.Module) -> list[Tensor]:
    return [m.weight for m in module.modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d)]
