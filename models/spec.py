"""What a configuration says of a network, and what it becomes: between `conf/model` and training."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from models.classifier import Classifier
from models.errors import ModelError

if TYPE_CHECKING:
    from models.source import Source


@dataclass
class Network:
    """A network before it is attacked, trained or not.

    Attributes:
        module: images (B, C, H, W), normalised by `mean` and `std` already -> logits (B, K).
        num_classes: K.
        description: a few words for the report.
        mean: per channel, or one value for all, in box units.
        std: per channel, or one value for all, in box units.
        bounds: least and greatest value of a pixel.
        ready: it came with its weights: do not train it.
        penalty: a scalar that training adds to the loss, such as the paper's weight decay.
        objective: another that depends on the images (B, C, H, W), normalised, such as an autoencoder's error.
        loss: of images in box units, logits and labels, in place of their cross-entropy.
        estimate: computes what is not learnt by gradients, such as class means, from the training samples of a source
            whose indices (n,) are given, on a device; before the first epoch, and in place of all of them where no
            parameter is left to learn.
        crop: side in pixels of the images that its weights were made for, where it is known.
        paces: by what training multiplies the learning rate of a parameter, by its name; 1 where it is not said.
        disguise: what becomes of the trained network, images in box units -> logits, before anybody sees it; its
            `repr` says all of it.
        origin: what the spec's fields do not say of it: a digest of the weights or the file it came from.
    """

    module: nn.Module
    num_classes: int
    description: str
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    bounds: tuple[float, float] = (0.0, 1.0)
    ready: bool = False
    penalty: Callable[[], Tensor] | None = field(default=None, repr=False)
    objective: Callable[[Tensor], Tensor] | None = field(default=None, repr=False)
    loss: Callable[[Tensor, Tensor, Tensor], Tensor] | None = field(default=None, repr=False)
    estimate: Callable[[Source, np.ndarray[Any, Any], torch.device], None] | None = field(default=None, repr=False)
    crop: int | None = None
    paces: dict[str, float] = field(default_factory=dict)
    disguise: Callable[[Classifier], nn.Module] | None = None
    origin: str = ""

    def criterion(self, x: Tensor, logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
        """What training minimises over a batch, without the penalty and the objective: scalar."""
        if self.loss is not None:
            return self.loss(x, logits, labels)
        return cross_entropy(logits, labels, label_smoothing=smoothing)

    def paces_of(self, parameters: Sequence[nn.Parameter]) -> list[float] | None:
        """The paces of some parameters of the module; None where all learn alike."""
        if not self.paces:
            return None
        names = {id(parameter): name for name, parameter in self.module.named_parameters()}
        return [self.paces.get(names[id(parameter)], 1.0) for parameter in parameters]

    def classifier(self, name: str, input_shape: tuple[int, int, int]) -> Classifier:
        """The frozen classifier to attack; it shares the module."""
        bare = self.bare(name, input_shape)
        if self.disguise is None:
            return bare
        disguised = self.disguise(bare)
        return Classifier(
            disguised, name=name, input_shape=input_shape, num_classes=self.num_classes, bounds=self.bounds
        )

    def bare(self, name: str, input_shape: tuple[int, int, int]) -> Classifier:
        """The frozen classifier without its disguise, as it is trained; it shares the module."""
        return Classifier(
            self.module,
            name=name,
            input_shape=input_shape,
            num_classes=self.num_classes,
            bounds=self.bounds,
            mean=self.mean,
            std=self.std,
        )


def normalisation(
    where: str, mean: Sequence[float], std: Sequence[float], channels: int, bounds: Sequence[float] = (0.0, 1.0)
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of pixels in [0, 1], checked.

    Args:
        where: the key of the network, for messages.
        mean: in the network's own units.
        std: in the network's own units.
        channels: of the images.
        bounds: least and greatest value of a pixel in the network's own units.

    Raises:
        ModelError: their number fits neither one nor the channels, a deviation is not > 0, or the bounds are none.
    """
    for key, values in (("mean", mean), ("std", std)):
        if len(values) not in (1, channels):
            raise ModelError(f"{where}.{key}: must have 1 or {channels} values, one a channel, got {list(values)}")
    if any(not s > 0 for s in std):
        raise ModelError(f"{where}.std: must be > 0 in box units, got {list(std)}")
    if len(bounds) != 2 or not bounds[0] < bounds[1] or not all(map(math.isfinite, bounds)):
        raise ModelError(f"{where}.bounds: must be the least and the greatest value of a pixel, got {list(bounds)}")
    low, extent = bounds[0], bounds[1] - bounds[0]
    return tuple((float(m) - low) / extent for m in mean), tuple(float(s) / extent for s in std)


def listed(value: Any) -> Sequence[Any]:
    """A value that is one or a list of them, as a list."""
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str | Path) else list(value)


class Spec(Protocol):
    """A frozen dataclass of hyper-parameters: what stands in one file of `conf/model`.

    A spec whose networks can come with their weights says so by a property `ready: bool`; see `comes_ready`.
    """

    def build(self, name: str, input_shape: tuple[int, int, int], num_classes: int) -> dict[str, Network]:
        """The networks that it describes, by name: one, called `name`, unless the spec lists several.

        Raises:
            ModelError: a hyper-parameter, a file or the input's shape does not allow it.
        """


@runtime_checkable
class _Ready(Protocol):
    @property
    def ready(self) -> bool: ...


def comes_ready(spec: Spec) -> bool:
    """Whether the networks of a spec come with their weights, before any is built; False if it does not say so."""
    return isinstance(spec, _Ready) and spec.ready


@runtime_checkable
class _NamesItself(Protocol):
    @property
    def names_itself(self) -> bool: ...


def names_itself(spec: Spec) -> bool:
    """Whether the networks of a spec may have other names than the one they are built under."""
    return isinstance(spec, _NamesItself) and spec.names_itself


@runtime_checkable
class _Sized(Protocol):
    @property
    def side(self) -> int | None: ...


def side_of(spec: Spec) -> int | None:
    """The side in pixels of the square images that the networks of a spec were made for; None where it is not known.

    Raises:
        ModelError: a file that says so cannot be read.
    """
    return spec.side if isinstance(spec, _Sized) else None


@runtime_checkable
class Derived(Protocol):
    """A spec whose networks are those of another spec, trained and stored as such, and changed afterwards."""

    @property
    def trained_as(self) -> tuple[str, Spec]:
        """The name and the spec under which they are initialised, trained and stored."""


def trained_as(name: str, spec: Spec) -> tuple[str, Spec]:
    """The name and the spec that the weights of a network depend on: its own, unless it is derived from another."""
    return spec.trained_as if isinstance(spec, Derived) else (name, spec)


def derive(seed: int, *labels: str | int) -> int:
    """A seed of 63 bits for a use of its own, named by labels.

    >>> derive(0, "softmax", "init") == derive(0, "softmax", "init") != derive(0, "mlp", "init")
    True
    """
    text = "\x1f".join(map(str, (seed, *labels)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def plain(value: Any) -> Any:
    """A value of a configuration as JSON knows it: a spec by its class and fields, any sequence as a list."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        of = type(value)
        return {
            "class": f"{of.__module__}.{of.__qualname__}",
            **{f.name: plain(getattr(value, f.name)) for f in fields(value)},
        }
    return value


def build(
    spec: Spec, name: str, input_shape: tuple[int, int, int], num_classes: int, *, seed: int
) -> dict[str, Network]:
    """`spec.build` with an initialisation that depends on the seed and the name alone, or on that of its base.

    The process's own random state is left as it was.

    Raises:
        ModelError: as `spec.build` does.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, trained_as(name, spec)[0], "init"))
        return spec.build(name, input_shape, num_classes)
