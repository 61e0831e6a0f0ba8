"""The network of the cat that becomes a toaster: Inception v3 where the data are ImageNet's, a small one elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field

from models.convnets import CNN
from models.errors import ModelError
from models.pretrained import Torchvision
from models.spec import Network

_IMAGENET = 1000


@dataclass(frozen=True)
class Fitting:
    """A network that fits the data: torchvision's with its weights for ImageNet's classes, else a CNN to be trained.

    Attributes:
        name: of torchvision's classifier.
        weights: path of its state dict; None for torchvision's download.
        widths: filters of each convolution of the small network.
        hidden: its hidden units.
    """

    name: str = "inception_v3"
    weights: str | None = None
    widths: list[int] = field(default_factory=lambda: [16, 32, 64])
    hidden: int = 128

    def build(self, name: str, input_shape: tuple[int, int, int], num_classes: int) -> dict[str, Network]:
        """One network, called by its architecture.

        Raises:
            ModelError: as those of `models.pretrained.Torchvision` and `models.convnets.CNN` do.
        """
        if num_classes != _IMAGENET:
            return CNN(widths=self.widths, hidden=self.hidden).build("cnn", input_shape, num_classes)
        try:
            return Torchvision(self.name, weights=self.weights).build(self.name, input_shape, num_classes)
        except ModelError as error:
            if self.weights is not None or "downloaded" not in str(error):
                raise
            text = str(error).partition(", or train without")[0].replace(f"model.{self.name}.weights", "model.weights")
            raise ModelError(f"{text}; data=things needs no download: its network is trained here") from error
