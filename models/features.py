"""Activations of a named layer of a network.

A layer is named as `torch.nn.Module.named_modules` names it (`features.3`, `layer1.0.conv2`), or by its kind and its
place among those of its kind, from 1 (`conv2`, `relu1`, `sigmoid1`, `pool1`, `bn1`, `fc1`), where no module has
that very name.

Source: C. Szegedy et al., "Intriguing properties of neural networks", ICLR 2014 (arXiv 1312.6199v4), section 3, for
what they are looked at for: phi(x), the activations of a layer.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.classifier import Classifier
from models.errors import ModelError

_SHOWN = 12  # names in a message
_KINDS: tuple[tuple[str, tuple[type[nn.Module], ...]], ...] = (
    ("conv", (nn.Conv1d, nn.Conv2d, nn.Conv3d)),
    ("fc", (nn.Linear,)),
    ("bn", (_BatchNorm,)),
    ("pool", (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)),
    ("relu", (nn.ReLU, nn.ReLU6)),  # one name: the first `relu6` would be called as the sixty-first `relu` is
    ("leakyrelu", (nn.LeakyReLU,)),
    ("sigmoid", (nn.Sigmoid,)),
    ("tanh", (nn.Tanh,)),
    ("gelu", (nn.GELU,)),
    ("silu", (nn.SiLU,)),
    ("elu", (nn.ELU,)),
    ("hardswish", (nn.Hardswish,)),
    ("softplus", (nn.Softplus,)),
)


@dataclass(frozen=True)
class Layer:
    """A module of a network.

    Attributes:
        name: by `named_modules`.
        alias: kind and place, such as `conv2`; empty where it has no kind, or a module has that name.
        kind: class of the module.
        shape: of its output for one image, without the batch.
    """

    name: str
    alias: str
    kind: str
    shape: tuple[int, ...]

    @property
    def units(self) -> int:
        """Feature maps of a convolutional layer, values of another one."""
        return self.shape[0]


class _ReachedError(Exception):
    """A forward pass came to the layer that was asked for."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output


@torch.no_grad()
def layers(classifier: Classifier, x: Tensor, *, every: bool = False) -> list[Layer]:
    """The modules of a network that return values (B, U) or maps (B, U, H, W) of U units, as they are first called.

    Args:
        classifier: whose layers they are.
        x: images (B, C, H, W) to be sent through it.
        every: those too that return any other tensor (B, ...), such as tokens, or maps with their units last.
    """
    module = classifier.network
    aliases = _aliases(module)
    found: dict[str, Layer] = {}

    def note(name: str, part: nn.Module, output: Any) -> None:
        if name in found or not isinstance(output, Tensor) or output.ndim < 2 or len(output) != len(x):
            return
        last = isinstance(part, nn.Linear | nn.LayerNorm)  # of more than values they work on what comes last
        if every or output.ndim == 2 or (output.ndim == 4 and not last):
            found[name] = Layer(name, aliases.get(name, ""), type(part).__name__, tuple(output.shape[1:]))

    hooks = [
        part.register_forward_hook(lambda m, _, out, name=name: note(name, m, out))
        for name, part in module.named_modules()
        if name
    ]
    try:
        classifier(x)
    finally:
        for hook in hooks:
            hook.remove()
    return list(found.values())


def find_layer(classifier: Classifier, x: Tensor, wanted: str, where: str = "layer") -> Layer:
    """The layer of that name or alias.

    Args:
        classifier: whose layer it is.
        x: images (B, C, H, W) to be sent through it.
        wanted: name or alias.
        where: the key that said so, for messages.

    Raises:
        ModelError: there is none.
    """
    known = layers(classifier, x)
    for layer in known:
        if layer.name == wanted:
            return layer
    for layer in known:
        if layer.alias and layer.alias == wanted:
            return layer
    raise ModelError(f"{where}: must name a layer of {classifier.name}, got {wanted!r}; {_nearest(wanted, known)}")


def _nearest(wanted: str, known: Sequence[Layer]) -> str:
    names = [layer.alias or layer.name for layer in known]
    near = difflib.get_close_matches(wanted, [*names, *(layer.name for layer in known)], n=3)
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    has = f"It has {shown or 'none'}, of those that return values or maps of units"
    return f"did you mean {' or '.join(near)}? {has}" if near else has.replace("It", "it", 1)


def _aliases(module: nn.Module) -> dict[str, str]:
    """Kind and place by name, of those modules whose alias is no module's name."""
    names = {name for name, _ in module.named_modules()}
    counts: Counter[str] = Counter()
    found = {}
    for name, part in module.named_modules():
        kind = next((kind for kind, classes in _KINDS if isinstance(part, classes)), None)
        if kind is None:
            continue
        counts[kind] += 1
        alias = f"{kind}{counts[kind]}"
        if alias not in names:
            found[name] = alias
    return found


def activations(classifier: Classifier, layer: str, x: Tensor) -> Tensor:
    """What a layer returns for images.

    Gradients flow from it to the images where autograd is on and `x` requires them. A layer that is called several
    times tells what it returned first. Nothing after it is computed.

    Args:
        classifier: whose layer it is.
        layer: its name by `named_modules`, as `find_layer` gives it.
        x: images (B, C, H, W) in box units.

    Returns:
        (B, ...), of the dtype the layer computes in.

    Raises:
        ModelError: the layer was not called.
    """
    part = classifier.network.get_submodule(layer)

    def leave(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        raise _ReachedError(output.clone())  # what comes after may change it in place

    hook = part.register_forward_hook(leave)
    try:
        classifier.bare(x)
    except _ReachedError as reached:
        return reached.output
    finally:
        hook.remove()
    raise ModelError(f"layer: {layer} of {classifier.name} must take part in its forward pass, it was not called")


def responses(classifier: Classifier, layer: str, x: Tensor, *, at: str = "mean") -> Tensor:
    """One number a unit: a layer's activations (B, U, ...) over their places.

    Args:
        classifier: whose layer it is.
        layer: as `activations` takes it.
        x: images (B, C, H, W) in box units.
        at: `mean` or `max` over the places of a feature map.

    Returns:
        (B, U).
    """
    out = activations(classifier, layer, x)
    flat = out.flatten(2) if out.ndim > 2 else out[..., None]
    return flat.mean(2) if at == "mean" else flat.amax(2)
