"""Faults that leave no gradient, or one that has nothing to do with the answer.

Sources: BPDA against all of these is Athalye, Carlini and Wagner, "Obfuscated gradients give a false sense of
security", ICML 2018 (arXiv 1802.00420), section 4.1.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from models.classifier import Classifier
from models.convnets import CNN
from models.errors import ModelError
from models.planted.disguise import Overlaid, Preprocessed, Transparent, passed
from models.spec import Network


@dataclass(frozen=True)
class Quantised(Preprocessed):
    """The input is rounded to a few levels; the gradient of rounding is 0.

    Published: feature squeezing, Xu, Evans and Qi, NDSS 2018 (arXiv 1704.01155); bit-depth reduction, Guo et al., ICLR
    2018 (arXiv 1711.00117). Trips: gradients that are exactly 0. Broken by: BPDA through the identity.

    Attributes:
        levels: of a pixel, from black to white.
    """

    levels: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_levels(self.levels)

    @property
    def says(self) -> str:
        """A few words for the report."""
        return f"input rounded to {self.levels} levels"

    def before(self, x: Tensor) -> Tensor:
        """The rounded images."""
        return (x * (self.levels - 1)).round() / (self.levels - 1)


@dataclass(frozen=True)
class Thermometer(Transparent):
    """Every pixel x becomes the code [x > 0, x > 1/l, ..., x > (l-1)/l]; a comparison has no gradient.

    The first layer on the codes is the healthy network's behind a mean of each code. Published: Buckman et al., ICLR
    2018, "Thermometer encoding: one hot way to resist adversarial examples". Trips: no gradient. Broken by: BPDA
    through the code min(max(l x - j, 0), 1), of Athalye et al., section 5.1.

    Attributes:
        levels: l.
    """

    levels: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_levels(self.levels)

    @property
    def says(self) -> str:
        """A few words for the report."""
        return f"thermometer code of {self.levels} levels"

    def _coded(self, x: Tensor, *, soft: bool) -> Tensor:
        """Codes (B, C, H, W, l)."""
        over = x[..., None] * self.levels - torch.arange(self.levels, device=x.device, dtype=x.dtype)
        return over.clamp(0, 1) if soft else (over > 0).to(x.dtype)

    def logits(self, network: Any, x: Tensor) -> Tensor:
        """Those of the codes."""
        logits: Tensor = network(self._coded(x, soft=False).mean(-1))
        return logits

    def stand_in(self, network: Any, x: Tensor) -> Tensor:
        """The same, with the soft code backwards."""
        logits: Tensor = network(passed(self._coded(x, soft=False), self._coded(x, soft=True)).mean(-1))
        return logits


@dataclass(frozen=True)
class Jpeg(Preprocessed):
    """The input goes through a real 8-bit JPEG file, which autograd cannot follow.

    Published: Dziugaite et al., 2016 (arXiv 1608.00853); Guo et al., ICLR 2018 (arXiv 1711.00117). Trips: no gradient.
    Broken by: BPDA through the identity.

    Attributes:
        quality: 1 to 95.
    """

    quality: int = 75

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.quality <= 95:
            raise ModelError(f"quality: must be in 1..95, got {self.quality}")

    def build(self, name: str, input_shape: tuple[int, int, int], num_classes: int) -> dict[str, Network]:
        """One network, for grey or colour images.

        Raises:
            ModelError: they are of another kind.
        """
        if input_shape[0] not in (1, 3):
            raise ModelError(f"Jpeg: images must have 1 or 3 channels, got {input_shape[0]}")
        return super().build(name, input_shape, num_classes)

    @property
    def says(self) -> str:
        """A few words for the report."""
        return f"input through JPEG of quality {self.quality}"

    def before(self, x: Tensor) -> Tensor:
        """The images as they come back from files."""
        pixels = (x.detach().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        back = [self._one(image) for image in pixels]
        return torch.from_numpy(np.stack(back)).permute(0, 3, 1, 2).to(x) / 255

    def _one(self, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        file = io.BytesIO()
        Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(file, "jpeg", quality=self.quality)
        return np.array(Image.open(file)).reshape(image.shape)


@dataclass(frozen=True)
class Argmax(Overlaid):
    """The answer is 1 for the predicted class and 0 for the others: no gradient, and no scores to search by.

    Published: the decision-only answers of Papernot et al., AsiaCCS 2017 (arXiv 1602.02697), who call it gradient
    masking. Trips: no gradient; two values alone among the logits. Broken by: BPDA through the healthy logits, or from
    outside by searches that need decisions alone.
    """

    @property
    def says(self) -> str:
        """A few words for the report."""
        return "tells decisions alone"

    def logits(self, network: Any, x: Tensor) -> Tensor:
        """One-hot."""
        z: Tensor = network(x)
        return F.one_hot(z.argmax(1), z.shape[1]).to(z.dtype)


@dataclass(frozen=True)
class Detached(Overlaid):
    """The gradient is stopped but for a tiny path that has nothing to do with the class: the mean brightness.

    Published: none that says so; it is a slip of code (a `detach` or `no_grad` too many) that leaves a gradient which
    is neither missing nor zero. Trips: gradients that finite differences contradict. Broken by: BPDA through the
    healthy logits.

    Attributes:
        leak: factor of the brightness, the greater the higher the class.
    """

    leak: float = 1e-6

    @property
    def says(self) -> str:
        """A few words for the report."""
        return "gradient detached but for a leak"

    def logits(self, network: Any, x: Tensor) -> Tensor:
        """Those of the healthy network, up to the leak."""
        z: Tensor = network(x.detach())
        order = torch.arange(z.shape[1], device=z.device, dtype=z.dtype)
        return z + self.leak * x.flatten(1).mean(1, keepdim=True) * order


class _Pair(nn.Module):
    """The healthy network, and one with random weights."""

    def __init__(self, network: Classifier, other: Classifier) -> None:
        super().__init__()
        self.network = network
        self.other = other


@dataclass(frozen=True)
class WrongGradient(Overlaid):
    """The answer is right; the gradient is that of another network with random weights.

    Published: honeypots lead gradients astray, Shan et al., CCS 2020 (arXiv 1904.08554), broken by Carlini, 2020 (arXiv
    2009.10975); a custom backward with a mistake does the same. Trips: gradients that finite differences contradict;
    scores beat gradients. Broken by: BPDA through the healthy logits, or searches from scores.

    Attributes:
        seed: of the other network's weights.
    """

    seed: int = 1

    @property
    def says(self) -> str:
        """A few words for the report."""
        return "gradient of another network"

    def prepared(self, network: Classifier) -> nn.Module:
        """The healthy network, and the other one."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            other = CNN(**self.base).build("other", network.input_shape, network.num_classes)["other"]
        return _Pair(network, other.classifier("other", network.input_shape).to(network.mean.device))

    def logits(self, network: Any, x: Tensor) -> Tensor:
        """Values of the one, with derivatives of the other."""
        return passed(network.network(x), network.other(x))

    def stand_in(self, network: Any, x: Tensor) -> Tensor:
        """The healthy network's logits."""
        return super().stand_in(network.network, x)


def _require_levels(levels: int) -> None:
    if levels < 2:
        raise ModelError(f"levels: must be at least 2, got {levels}")
