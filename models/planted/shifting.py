"""Faults whose answers depend on more than the image: the batch, earlier queries, or a search inside the network.

Source for the last kind: Croce et al., "Evaluating the adversarial robustness of adaptive test-time defenses", ICML
2022 (arXiv 2202.13711).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.classifier import Classifier
from models.errors import ModelError
from models.planted.disguise import Fault, Overlaid, Transparent, passed
from models.spec import Network


@dataclass(frozen=True)
class Rejecting(Overlaid):
    """What the network is not sure of is rejected: all such images get one and the same class, at a constant score.

    A class of its own would need a K + 1st column, which the data do not have. So a class of the data says "rejected";
    of the others, anything that makes the network unsure counts as fooled, while images of that class look robust to
    whatever makes it unsure. Published: Hendrycks and Gimpel, ICLR 2017 (arXiv 1610.02136). Trips: images of one class
    alone withstand any budget; random noise is as good as a search; zero gradients near the images, not at them.
    Broken by: adversarial examples of high confidence (Carlini and Wagner, AISec 2017, arXiv 1705.07263), BPDA through
    the healthy logits.

    Attributes:
        least: probability of the likeliest class below which an image is rejected.
        answer: the class that says so.
    """

    least: float = 0.9
    answer: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.least < 1:
            raise ModelError(f"least: must be a probability in (0, 1), got {self.least:g}")

    def build(self, name: str, input_shape: tuple[int, int, int], num_classes: int) -> dict[str, Network]:
        """One network.

        Raises:
            ModelError: there is no class of that number.
        """
        if not 0 <= self.answer < num_classes:
            raise ModelError(f"answer: must be a class in 0..{num_classes - 1}, got {self.answer}")
        return super().build(name, input_shape, num_classes)

    @property
    def says(self) -> str:
        """A few words for the report."""
        return f"rejects below a probability of {self.least:g}"

    def logits(self, network: Any, x: Tensor) -> Tensor:
        """The healthy ones, or those that say that it was rejected."""
        z: Tensor = network(x)
        unsure = z.softmax(1).amax(1, keepdim=True) < self.least
        rejected = torch.zeros_like(z)
        rejected[:, self.answer] = 10.0
        return torch.where(unsure, rejected, z)


@dataclass(frozen=True)
class Purifying(Transparent):
    """The network first moves its input to where it is surer of its own prediction, by gradients of its own.

    Published: Alfarra et al., "Combating adversaries with anti-adversaries", AAAI 2022 (arXiv 2103.14347); Croce et al.
    found no robustness in it. Trips: autograd is called inside forward; no gradient. Broken by: BPDA, taking the way to
    the purified image for the identity; transfer from the healthy network.

    Attributes:
        steps: of the purification.
        length: of each in Linf, in box units.
    """

    steps: int = 2
    length: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise ModelError(f"steps: must be at least 1, got {self.steps}")
        if not self.length > 0:
            raise ModelError(f"length: must be > 0 in box units, got {self.length:g}")

    @property
    def says(self) -> str:
        """A few words for the report."""
        return f"purifies its input in {self.steps} steps"

    def _purified(self, network: Any, x: Tensor) -> Tensor:
        y = x.detach()
        for _ in range(self.steps):
            with torch.enable_grad():
                leaf = y.clone().requires_grad_()
                sure = network(leaf).log_softmax(1).amax(1)
                (gradient,) = torch.autograd.grad(sure.sum(), leaf)
            y = (y + self.length * gradient.sign()).clamp(0, 1)
        return y

    def logits(self, network: Any, x: Tensor) -> Tensor:
        """Those of the purified images."""
        logits: Tensor = network(self._purified(network, x))
        return logits

    def stand_in(self, network: Any, x: Tensor) -> Tensor:
        """The same, as if purification were the identity backwards."""
        logits: Tensor = network(passed(self._purified(network, x), x))
        return logits


@dataclass(frozen=True)
class BatchDependent(Overlaid):
    """The batch's mean logits are taken away from each image's, as norms by the statistics of a batch do inside.

    Published: adaptation to the test batch, of which Croce et al. evaluate several; norms left in training mode do the
    same by mistake. Trips: an image's logits alone are not those in its batch. Broken by: the healthy logits.

    Attributes:
        share: of the mean that is taken away.
    """

    share: float = 1.0

    @property
    def says(self) -> str:
        """A few words for the report."""
        return "takes the mean logits of its batch away"

    def logits(self, network: Any, x: Tensor) -> Tensor:
        """Relative to the batch."""
        z: Tensor = network(x)
        return z - self.share * z.mean(0, keepdim=True)


class _Pool(nn.Module):
    """A network, how often it was asked, and what each member adds to the images."""

    patterns: Tensor

    def __init__(self, network: Classifier, patterns: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("patterns", patterns, persistent=False)
        self.asked = 0


@dataclass(frozen=True)
class Stateful(Fault):
    """A pool of members that take turns, one for each query: the gradient of one is of little use with the next.

    Member k sees the images through a fixed pattern of its own. Published: moving targets, such as Morphence, Amich and
    Eshete, ACSAC 2021 (arXiv 2108.13952). Trips: answers that differ from one query to the next, with the random
    generators set back as well. Broken by: the mean gradient over queries.

    Attributes:
        members: of the pool.
        sigma: standard deviation of their patterns, in box units.
    """

    members: int = 16
    sigma: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.members < 2:
            raise ModelError(f"members: must be at least 2, got {self.members}")
        if not self.sigma > 0:
            raise ModelError(f"sigma: must be > 0 in box units, got {self.sigma:g}")

    @property
    def says(self) -> str:
        """A few words for the report."""
        return f"{self.members} members take turns"

    def prepared(self, network: Classifier) -> nn.Module:
        """The pool."""
        draw = torch.Generator().manual_seed(0)
        patterns = self.sigma * torch.randn(self.members, *network.input_shape, generator=draw)
        return _Pool(network, patterns.to(network.mean.device))

    def logits(self, network: Any, x: Tensor) -> Tensor:
        """Those of the member whose turn it is."""
        network.asked += 1
        logits: Tensor = network.network(x + network.patterns[network.asked % self.members])
        return logits
