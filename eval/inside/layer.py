"""Which layer is looked at, and which of its units."""

from __future__ import annotations

from math import prod

from torch import Tensor

from eval.errors import InputError
from models.classifier import Classifier
from models.features import Layer, find_layer, layers

_VALUES = 1 << 22  # of pixels at once


def chosen(classifier: Classifier, x: Tensor, wanted: str | None) -> Layer:
    """The layer of that name; the last convolution for None, or else the first dense layer, or else the last of all.

    A convolution with a map for each class, which some networks end in, is not taken for None.

    Raises:
        ModelError: there is no such layer.
        InputError: the network has no layer at all.
    """
    if wanted is not None:
        return find_layer(classifier, x, wanted)
    known = layers(classifier, x)
    if not known:
        raise InputError(f"layer: {classifier.name} must have a layer that can be looked at, it has none")
    convolutions = [a for a in known if a.alias.startswith("conv") and a.units != classifier.num_classes]
    dense = [layer for layer in known if layer.alias.startswith("fc")]
    return (convolutions[-1:] or dense[:1] or known[-1:])[0]


def units_of(layer: Layer, unit: int | None, most: int) -> list[int]:
    """That unit, or the first `most`.

    Raises:
        InputError: the layer has no such unit.
    """
    if unit is None:
        return list(range(min(most, layer.units)))
    if not 0 <= unit < layer.units:
        raise InputError(f"unit: must be in 0..{layer.units - 1}, the units of {_named(layer)}, got {unit}")
    return [unit]


def at_once(classifier: Classifier, batch_size: int) -> int:
    """Copies of an image that a network is given at once: fewer of large ones, whose maps would fill the memory."""
    return max(1, min(batch_size, _VALUES // prod(classifier.input_shape)))


def _named(layer: Layer) -> str:
    return layer.alias or layer.name


def table(known: list[Layer]) -> list[tuple[str, str, str, str]]:
    """Name, module, class and shape of the layers, as text."""
    return [(_named(one), one.name, one.kind, " x ".join(map(str, one.shape))) for one in known]
