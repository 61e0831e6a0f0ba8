"""How much longer a network can make a change of an image: the norms of its layers, and what they come to together.

    ||f(x) - f(y)|| <= L ||x - y||

`torch.fx` traces the network. L is the product of the layers' bounds along a chain; where results are added, L is the
sum of theirs, where they are concatenated, the root of the sum of their squares. Where a call is met that no bound is
known of, or no trace can be made, the layers have their norms all the same, and L is infinite, with the reason.
The product is for curiosity and for radii that follow from it alone; certificates are `models.spectral`'s, which counts
rounding too.

Source: Szegedy et al., "Intriguing properties of neural networks", ICLR 2014 (arXiv 1312.6199v4), section 4.3.
Cost: `models.layer_norms`, and a forward of two images in float64.
"""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from models.classifier import Classifier
from models.features import layers
from models.layer_norms import Norm, layer_norm
from models.steps import NoBoundError
from models.tracing import traced

_SAME = 1e-3  # of the range of the logits, by which the network may differ from its calls in float64
_FUNCTIONS: dict[Any, type[nn.Module]] = {
    F.relu: nn.ReLU, torch.relu: nn.ReLU, "relu": nn.ReLU, F.relu6: nn.ReLU6, torch.sigmoid: nn.Sigmoid,
    F.sigmoid: nn.Sigmoid, "sigmoid": nn.Sigmoid, torch.tanh: nn.Tanh, F.tanh: nn.Tanh, "tanh": nn.Tanh,
    F.leaky_relu: nn.LeakyReLU, F.elu: nn.ELU, F.gelu: nn.GELU, F.silu: nn.SiLU, F.hardswish: nn.Hardswish,
    F.max_pool2d: nn.MaxPool2d, F.avg_pool2d: nn.AvgPool2d, F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
}  # fmt: skip
_MOVES = {
    torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze, torch.permute, torch.transpose, torch.chunk,
    torch.split, "flatten", "view", "reshape", "squeeze", "unsqueeze", "permute", "transpose",
    "contiguous", "chunk", "split",
}  # fmt: skip
_SUMS = (operator.add, operator.iadd, torch.add, "add", "add_", operator.sub, torch.sub, "sub")
_DROPS = (F.dropout, F.dropout2d, torch.dropout)
_JOINS = (torch.cat, torch.concat)
_PRODUCTS = (operator.mul, torch.mul, "mul")
_QUOTIENTS = (operator.truediv, torch.div, "div")
_MEANS = (torch.mean, "mean")
_ASKED, _SHAPES = ("size", "dim"), ("shape", "dtype", "device", "ndim")  # the same for every image
_TURNED = ("T", "mT", "H", "mH")


@dataclass(frozen=True)
class LayerNorm:
    """A layer of a network, as it is called.

    Attributes:
        name: by `named_modules`, or of the call.
        kind: class of the module.
        weight: shape of its weight; () where it has none.
        shape: of its input, without the batch.
        stride: of a convolution or a pool; 1 otherwise.
        norm: what it can do to the length of a change; None where nothing is known.
        total: bound of everything from the image to its result; infinite where that is not known.
    """

    name: str
    kind: str
    weight: tuple[int, ...]
    shape: tuple[int, ...]
    stride: int
    norm: Norm | None
    total: float


@dataclass(frozen=True)
class NetworkNorm:
    """The layers of a network in the order of their calls, those that do nothing to lengths left out.

    Attributes:
        layers: with their norms.
        total: L, from the image in box units to the logits; infinite where it is not known.
        reason: why it is not known; empty where it is.
    """

    layers: tuple[LayerNorm, ...]
    total: float
    reason: str


@dataclass(frozen=True)
class _Value:
    """A result (2, ...), or several, and the bound of all that leads to it."""

    tensor: Any
    total: float


def network_norm(classifier: Classifier, x: Tensor) -> NetworkNorm:
    """The norms of the layers of a classifier.

    Args:
        classifier: on whatever device.
        x: two images (2, C, H, W) in box units, which it is tried on.
    """
    try:
        reader = _Reader(*traced(classifier.network)[:2])
        with torch.no_grad():
            return reader.read(classifier, x.cpu().double())
    except NoBoundError as error:
        return NetworkNorm(tuple(_called(classifier, x)), math.inf, str(error))


def _called(classifier: Classifier, x: Tensor) -> list[LayerNorm]:
    """The layers of a network that cannot be traced, by what calls them: nothing is known of them together."""
    inputs: dict[str, tuple[int, ...]] = {}

    def note(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
            if args and isinstance(args[0], Tensor):
                inputs.setdefault(name, tuple(args[0].shape[1:]))

        return hook

    modules = dict(classifier.network.named_modules())
    hooks = [module.register_forward_pre_hook(note(name)) for name, module in modules.items()]
    try:
        names = [layer.name for layer in layers(classifier, x, every=True)]
    finally:
        for hook in hooks:
            hook.remove()
    found = []
    for name in names:
        module = modules[name]
        if name in inputs and not any(True for _ in module.children()):
            norm = layer_norm(copy.deepcopy(module).cpu().double(), inputs[name])
            if _matters(norm):
                found.append(_described(name, module, inputs[name], norm, math.inf))
    return found


class _Reader:
    """Goes through the calls of a network, one after the other."""

    def __init__(self, network: nn.Module, nodes: list[fx.Node]) -> None:
        self.network, self.nodes = network, nodes
        self.layers: list[LayerNorm] = []
        self.reason = ""

    def read(self, classifier: Classifier, x: Tensor) -> NetworkNorm:
        """All of them, from the image on."""
        mean, std = classifier.mean.cpu().double(), classifier.std.cpu().double()
        first = 1.0 if classifier.identity else float((1 / std).max())
        if first != 1.0:
            norm = Norm(first, first, "factor")
            self.layers.append(LayerNorm("normalisation", "Normalisation", (), tuple(x.shape[1:]), 1, norm, first))
        env: dict[fx.Node, Any] = {}
        for node in self.nodes:
            if node.op == "placeholder":
                env[node] = _Value(x if classifier.identity else (x - mean) / std, first)
            elif node.op == "output":
                return self.finished(fx.map_arg(node.args[0], env.__getitem__), classifier, x)
            else:
                env[node] = self.call(node, fx.map_arg(node.args, env.get), fx.map_arg(node.kwargs, env.get))
        raise NoBoundError("the network has no output")

    def finished(self, out: Any, classifier: Classifier, x: Tensor) -> NetworkNorm:
        """What there is to say once the logits are known, if these are the network's own."""
        if not isinstance(out, _Value) or not isinstance(out.tensor, Tensor):
            raise NoBoundError("the network must return its logits alone")
        own = classifier(x.to(classifier.mean)).cpu().double()
        if out.tensor.shape != own.shape or (out.tensor - own).abs().max() > _SAME * (own.max() - own.min() + 1e-30):
            raise NoBoundError("its calls, in float64, must give the logits that the network gives; they differ")
        total = math.inf if self.reason else out.total
        return NetworkNorm(tuple(self.layers), total, self.reason)

    def call(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        """One call: its result, with its bound if it depends on the image, else as it is."""
        if node.op == "get_attr":
            return operator.attrgetter(str(node.target))(self.network)
        module = self.network.get_submodule(str(node.target)) if node.op == "call_module" else None
        try:
            result = _evaluated(node, module, _plain(args), _plain(kwargs))
        except Exception as error:  # the call is the user's, and may do anything
            raise NoBoundError(f"{node.name}: {type(error).__name__}: {(str(error) or '?').splitlines()[0]}") from error
        values = _values(args) + _values(tuple(kwargs.values()))
        if not values or node.target in _ASKED or (node.target is getattr and args[1] in _SHAPES):
            return result
        if not _tensors(result):  # a number that depends on the image, which later calls would take for a constant
            self.reason = self.reason or f"{node.name}: a number is taken from the image's values, with no known bound"
            return result
        total = math.inf
        if module is not None:
            total = self.layer(str(node.target), module, values) if len(values) == 1 and len(args) == 1 else math.inf
        elif node.target in _FUNCTIONS and isinstance(args[0], _Value) and len(values) == 1:
            options = {k: v for k, v in kwargs.items() if k != "training"}
            total = self.layer(node.name, _FUNCTIONS[node.target](*args[1:], **options), values)
        else:
            total = _combined(node.target, args, kwargs, values, result)
        if math.isinf(total) and not self.reason:
            called = type(module).__name__ if module is not None else getattr(node.target, "__name__", node.target)
            self.reason = f"{node.name}: {called} has no known bound"
        return _Value(result, total)

    def layer(self, name: str, module: nn.Module, values: list[_Value]) -> float:
        """A layer with one input; returns the bound of all up to its result."""
        shape = tuple(values[0].tensor.shape[1:])
        norm = layer_norm(module, shape)
        total = math.inf if norm is None else norm.high * values[0].total
        if _matters(norm):
            self.layers.append(_described(name, module, shape, norm, total))
        return total


def _described(name: str, module: nn.Module, shape: tuple[int, ...], norm: Norm | None, total: float) -> LayerNorm:
    weight, stride = getattr(module, "weight", None), getattr(module, "stride", 1)
    shown = tuple(weight.shape) if isinstance(weight, Tensor) else ()
    largest = max(stride) if isinstance(stride, tuple) else stride
    return LayerNorm(name, type(module).__name__, shown, shape, int(largest or 1), norm, total)


def _matters(norm: Norm | None) -> bool:
    """Whether a layer does something to lengths, or may."""
    return norm is None or norm.low != 1.0 or norm.high > 1.0 + 1e-6


def _evaluated(node: fx.Node, module: nn.Module | None, args: Any, kwargs: Any) -> Any:
    if module is not None:
        return module(*args, **kwargs)
    if isinstance(node.target, str):
        return getattr(args[0], node.target)(*args[1:], **kwargs)
    assert callable(node.target)
    return node.target(*args, **kwargs)


def _combined(target: Any, args: Any, kwargs: Any, values: list[_Value], result: Any) -> float:
    """The bound of a function of one result or several; infinite where none is known."""
    totals, first = [value.total for value in values], values[0].tensor
    if target in _JOINS:
        return math.sqrt(sum(t * t for t in totals))
    if target in _SUMS and not kwargs and len(args) == 2:
        alike = all(value.tensor.shape == result.shape for value in values)
        return sum(totals) if alike else math.inf
    if len(values) > 1:
        return math.inf
    return totals[0] * _factor(target, args, kwargs, first, result)


def _factor(target: Any, args: Any, kwargs: Any, before: Any, result: Any) -> float:
    """The norm of a function of one result, and constants; infinite where it is not known."""
    if (target is getattr and args[1] in _TURNED) or _moves(target, args, kwargs, before, result):
        return 1.0
    if target in _MEANS and isinstance(result, Tensor):
        return math.sqrt(result.numel() / before.numel())
    if target in _PRODUCTS + _QUOTIENTS and len(args) == 2 and result.shape == before.shape:
        turned = not isinstance(args[0], _Value)
        constant = torch.as_tensor(args[0] if turned else args[1]).double().abs()
        if target in _PRODUCTS:
            return float(constant.max())
        return math.inf if turned else float((1 / constant).max())
    return math.inf


def _moves(target: Any, args: Any, kwargs: Any, before: Any, result: Any) -> bool:
    """Whether a function only moves entries, drops some, or adds constants beside them."""
    if target in _DROPS:
        return torch.equal(result, before)
    if not isinstance(args[0], _Value):
        return False
    if target is F.pad:
        return bool((args[2] if len(args) > 2 else kwargs.get("mode", "constant")) == "constant")
    if target is operator.getitem:
        index = args[1] if isinstance(args[1], tuple) else (args[1],)
        return all(isinstance(i, int | slice) or i is Ellipsis or i is None for i in index)
    return target in _MOVES


def _plain(value: Any) -> Any:
    """Arguments with the results themselves in the place of `_Value`s, copied, so that no call changes them."""
    if isinstance(value, _Value):
        return value.tensor.clone() if isinstance(value.tensor, Tensor) else value.tensor
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return tuple(_plain(item) for item in value) if type(value) is tuple else value


def _values(args: Any) -> list[_Value]:
    if isinstance(args, _Value):
        return [args]
    return [found for item in args for found in _values(item)] if isinstance(args, tuple | list) else []


def _tensors(result: Any) -> bool:
    return isinstance(result, Tensor) or (isinstance(result, tuple | list) and any(map(_tensors, result)))
