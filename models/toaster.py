"""The network of the cat that becomes a toaster: Inception v3 where the data are ImageNet's, a small one elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from models.compact import Compact
from models.convnets import CNN
from models.errors import ModelError
from models.pretrained import Torchvision
from models.spec import Network

_IMAGENET = 1000
_SIDE = 32  # pixels from which on the compact network is taken


@dataclass(frozen=True)
class Fitting:
    """A network that fits the data: torchvision's with its weights for ImageNet's classes, else one to be trained.

    Attributes:
        name: of torchvision's classifier.
        weights: path of its state dict; None for torchvision's download.
    """

    name: str = "inception_v3"
    weights: str | None = None

    def build(self, name: str, input_shape: tuple[int, int, int], num_classes: int) -> dict[str, Network]:
        """One network, called by its architecture.

        Raises:
            ModelError: as those of `models.pretrained.Torchvision` do.
        """
        if num_classes != _IMAGENET:
            large = min(input_shape[1:]) >= _SIDE
            small = Compact().build if large else CNN().build
            return small("compact" if large else "cnn", input_shape, num_classes)
        try:
            return Torchvision(self.name, weights=self.weights).build(self.name, input_shape, num_classes)
        except ModelError as error:
            if self.weights is not None or "downloaded" not in str(error):
                raise
            text = str(error).partition(", or train without")[0].replace(f"model.{self.name}.weights", "model.weights")
            raise ModelError(f"{text}; data=things needs no download: its network is trained here") from error
