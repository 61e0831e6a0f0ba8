"""A softmax on top of the features of a sparse autoencoder that are not fine-tuned: AE400-10 of Szegedy et al.

The autoencoder of n units minimises, over the images x and their mean activations a_j,

    1/2 ||x' - x||^2 + decay / 2 (||W1||^2 + ||W2||^2) + weight * sum_j KL(sparsity || a_j),

with h = sigmoid(W1 x + b1) and x' = sigmoid(W2 h + b2). The softmax sees h, and no gradient of it reaches W1: both are
trained in one pass, the filters as if there were no labels.

Source: Szegedy, Zaremba, Sutskever, Bruna, Erhan, Goodfellow and Fergus, "Intriguing properties of neural networks",
ICLR 2014 (arXiv 1312.6199v4), section 4.2, which names "a single layer sparse autoencoder with sigmoid activations and
400 nodes" and gives neither its objective nor its settings. The objective is that of Ng, "Sparse autoencoder", CS294A
lecture notes, Stanford 2011.
Departures: the paper trains the softmax after the autoencoder, here it follows it; a_j is the mean over a mini-batch;
between both the features are standardised over the batch, an affine map that lets the softmax converge. The settings
are those, of a dozen tried, with the least error on a tenth of MNIST's training images that was held out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from models.errors import ModelError
from models.paper import check_decay, decay_penalty
from models.spec import Network


class SparseAutoencoder(nn.Module):
    """Images (B, C, H, W) -> logits (B, K).

    Attributes:
        encoder: W1 and b1.
        decoder: W2 and b2; only the objective needs them.
        norm: standardises the features.
        head: the softmax's.
    """

    def __init__(self, inputs: int, units: int, num_classes: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(inputs, units)
        self.decoder = nn.Linear(units, inputs)
        self.norm = nn.BatchNorm1d(units, affine=False)
        self.head = nn.Linear(units, num_classes)
        for layer in (self.encoder, self.decoder):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def features(self, x: Tensor) -> Tensor:
        """Activations (B, units)."""
        return torch.sigmoid(self.encoder(x.flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits; while training, from features that take no gradient."""
        h = self.features(x)
        logits: Tensor = self.head(self.norm(h.detach() if self.training else h))
        return logits

    def objective(self, x: Tensor, decay: float, sparsity: float, weight: float) -> Tensor:
        """What the autoencoder minimises, on the images (B, C, H, W)."""
        h = self.features(x)
        error = (torch.sigmoid(self.decoder(h)) - x.flatten(1)).square().sum(1).mean() / 2
        decayed = (self.encoder.weight.square().sum() + self.decoder.weight.square().sum()) * (decay / 2)
        return error + decayed + weight * divergence(sparsity, h.mean(0)).sum()


def divergence(p: float, q: Tensor) -> Tensor:
    """KL divergence, in nats, of a coin that falls with probability `q` from one that does with `p`.

    >>> divergence(0.5, torch.tensor([0.5, 0.25]))
    tensor([0.0000, 0.1438])
    """
    return p * (math.log(p) - q.log()) + (1 - p) * (math.log(1 - p) - torch.log1p(-q))


@dataclass(frozen=True)
class AE:
    """A softmax on sparse features: AE400-10 of the paper's Table 1 as it stands.

    Attributes:
        units: of the autoencoder.
        decay: lambda of the softmax's weight decay.
        decay_form: `half`, `full` or `per_unit`.
        filter_decay: weight decay of the autoencoder, always in the form `half`.
        sparsity: mean activation that a unit should have.
        sparsity_weight: of the divergence from it.
    """

    units: int = 400
    decay: float = 1e-6
    decay_form: str = "half"
    filter_decay: float = 1e-3
    sparsity: float = 0.1
    sparsity_weight: float = 1.0

    def __post_init__(self) -> None:
        check_decay("AE", [self.decay], self.decay_form)
        if self.units < 1:
            raise ModelError(f"AE.units: must be >= 1, got {self.units}")
        if not 0 < self.sparsity < 1:
            raise ModelError(f"AE.sparsity: must be in (0, 1), a mean activation, got {self.sparsity:g}")
        for key in ("filter_decay", "sparsity_weight"):
            if not getattr(self, key) >= 0:
                raise ModelError(f"AE.{key}: must be >= 0, got {getattr(self, key):g}")

    def build(self, name: str, input_shape: tuple[int, int, int], num_classes: int) -> dict[str, Network]:
        """One network."""
        module = SparseAutoencoder(prod(input_shape), self.units, num_classes)
        network = Network(
            module,
            num_classes,
            f"softmax on {self.units} features of a sparse autoencoder",
            penalty=decay_penalty([module.head], [self.decay], self.decay_form),
            objective=lambda x: module.objective(x, self.filter_decay, self.sparsity, self.sparsity_weight),
        )
        return {name: network}
