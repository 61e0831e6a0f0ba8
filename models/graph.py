"""A network read as steps whose mathematics is known: what bounds from below are computed on.

`torch.fx` traces the network; each call becomes a step with one module that computes it and a kind that says what may
be said of it. What is not known by name is refused, not guessed: a bound of a network that computes something else is
no bound. The steps can be evaluated, so that they are compared with the network itself.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from models.classifier import Classifier
from models.steps import (
    ACTIVATION,
    ADD,
    AVERAGE,
    CONV,
    DENSE,
    MAXPOOL,
    SCALE,
    SELECT,
    Add,
    Graph,
    NoBoundError,
    Scale,
    Select,
    Step,
)
from models.tracing import traced

_ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh)
_KINDS: tuple[tuple[type[nn.Module], str], ...] = (
    (nn.Linear, DENSE), (nn.Conv2d, CONV), (nn.MaxPool2d, MAXPOOL), (nn.AvgPool2d, AVERAGE),
    (nn.AdaptiveAvgPool2d, AVERAGE), *((a, ACTIVATION) for a in _ACTIVATIONS), (nn.Identity, SELECT),
    (nn.Flatten, SELECT), (nn.Unflatten, SELECT), (nn.Dropout, SELECT), (nn.Dropout2d, SELECT), (nn.ZeroPad2d, SELECT),
)  # fmt: skip
_RESHAPING = {torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze, "flatten", "view", "reshape", "squeeze"}
_SELECTING = {torch.permute, torch.transpose, "permute", "transpose", "contiguous", "unsqueeze", F.pad}
_FUNCTIONS: dict[Any, type[nn.Module]] = {
    F.relu: nn.ReLU, torch.relu: nn.ReLU, "relu": nn.ReLU, torch.sigmoid: nn.Sigmoid, F.sigmoid: nn.Sigmoid,
    "sigmoid": nn.Sigmoid, torch.tanh: nn.Tanh, F.tanh: nn.Tanh, "tanh": nn.Tanh, F.leaky_relu: nn.LeakyReLU,
    F.max_pool2d: nn.MaxPool2d, F.avg_pool2d: nn.AvgPool2d, F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
}  # fmt: skip
_SUMS = (operator.add, operator.iadd, torch.add, "add", "add_")
_AFFINE: dict[Any, tuple[float, float]] = {  # of x and a constant c: x -> x (c or 1 / c) or x + c or x - c
    operator.sub: (1, -1), torch.sub: (1, -1), "sub": (1, -1), **dict.fromkeys(_SUMS, (1, 1)),
}  # fmt: skip
_PRODUCTS = (operator.mul, torch.mul, "mul")
_QUOTIENTS = (operator.truediv, torch.div, torch.true_divide, "div")


class _Reader:
    """Builds the steps, one call after the other; everything that is no step is a constant."""

    def __init__(self, network: nn.Module, x: Tensor) -> None:
        self.network = network
        self.steps: list[Step] = []
        self.values = [x]  # (2, ...) of each step

    def add(self, name: str, kind: str, module: nn.Module, *inputs: int) -> int:
        """Appends a step; returns its number."""
        if hasattr(module, "inplace"):
            vars(module)["inplace"] = False  # else it would change what the step before computed
        value = module(*(self.values[i] for i in inputs))
        _refuse_mixed(name, value)
        self.values.append(value)
        self.steps.append(Step(name, kind, module.eval(), inputs, tuple(value.shape[1:])))
        return len(self.steps)

    def module(self, name: str, number: int) -> int:
        """A call of a module of the network."""
        module = self.network.get_submodule(name)
        own = type(module).forward
        if isinstance(module, _BatchNorm):
            return self.norm(name, module, number)
        for known, kind in _KINDS:
            if isinstance(module, known) and own is known.forward and "forward" not in vars(module):
                _refuse_variants(name, module)
                return self.add(name, kind, module, number)
        raise NoBoundError(f"{name}: {type(module).__name__} has no known bound")

    def norm(self, name: str, norm: Any, number: int) -> int:
        """A batch norm in evaluation mode."""
        if norm.training or norm.running_mean is None:
            raise NoBoundError(f"{name}: takes the statistics of the batch; put it into evaluation mode")
        factor = (norm.running_var + norm.eps).rsqrt() * (1.0 if norm.weight is None else norm.weight)
        bias = torch.zeros_like(factor) if norm.bias is None else norm.bias
        mean = norm.running_mean * factor
        shape = (-1, *[1] * (len(self.steps[number - 1].shape if number else self.values[0].shape[1:]) - 1))
        parts = (factor, bias - mean, bias.abs() + mean.abs())
        return self.add(name, SCALE, Scale(*(part.reshape(shape) for part in parts)), number)

    def function(self, name: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        """A call of a function or a method that reads a step."""
        first, rest = args[0], args[1:]
        if target in _FUNCTIONS and isinstance(first, _At):
            options = {k: v for k, v in kwargs.items() if k not in ("training",)}
            made = _FUNCTIONS[target](*rest, **options)
            _refuse_variants(name, made)
            return self.add(name, dict(_KINDS)[type(made)], made, first.number)
        if target in _SUMS and not kwargs and len(args) == 2 and all(isinstance(a, _At) for a in args):
            a, b = (self.values[at.number] for at in args)
            if a.shape == b.shape:
                return self.add(name, ADD, Add(), first.number, args[1].number)
        if isinstance(first, _At) and not any(isinstance(a, _At) for a in rest):
            made_step = self.selected(name, target, first.number, rest, kwargs)
            made_step = self.scaled(name, target, first.number, rest, kwargs) if made_step is None else made_step
            if made_step is not None:
                return made_step
        raise NoBoundError(f"{name}: {getattr(target, '__name__', target)} has no known bound")

    def selected(self, name: str, target: Any, number: int, rest: tuple[Any, ...], kwargs: Any) -> int | None:
        """A call that moves entries."""
        before = self.values[number]
        if target is operator.getitem:
            index = rest[0] if isinstance(rest[0], tuple) else (rest[0],)
            plain = all(isinstance(i, int | slice) or i is Ellipsis for i in index)
            whole = index[0] == slice(None) or (index[0] is Ellipsis and len(index) <= before.ndim)
            if plain and not whole:
                raise NoBoundError(f"{name}: must take all images of a batch, got {rest[0]}")
            return self.add(name, SELECT, Select(lambda x: x[index]), number) if plain else None
        call = _called(target, rest, kwargs)
        if target in _RESHAPING or target in _SELECTING:  # 1 in the first image, 2 in the second, as long as they part
            _refuse_mixed(name, call(torch.ones_like(before).cumsum(0)), numbered=True)
        if target in _RESHAPING:
            shape = tuple(call(before).shape[1:])
            return self.add(name, SELECT, Select(lambda x: x.reshape(len(x), *shape)), number)
        if target is F.pad and (kwargs.get("mode", "constant") != "constant" or kwargs.get("value") or len(rest) > 1):
            return None
        return self.add(name, SELECT, Select(call), number) if target in _SELECTING else None

    def scaled(self, name: str, target: Any, number: int, rest: tuple[Any, ...], kwargs: Any) -> int | None:
        """A call with a constant."""
        if kwargs or len(rest) != 1 or not isinstance(rest[0], int | float | Tensor):
            return None
        before = self.values[number]
        constant = torch.as_tensor(rest[0], dtype=before.dtype)
        if constant.ndim >= before.ndim and len(constant) > 1:
            return None  # of the batch that it was traced with
        one, none = torch.ones_like(constant), torch.zeros_like(constant)
        if target in _PRODUCTS:
            module = Scale(constant, none)
        elif target in _QUOTIENTS:
            module = Scale(1 / constant, none)
        elif target in _AFFINE:
            module = Scale(one, constant * _AFFINE[target][1])
        else:
            return None
        return self.add(name, SCALE, module, number) if module(before).shape == before.shape else None


@dataclass(frozen=True)
class _At:
    """Stands for a step among constants."""

    number: int


def _called(target: Any, rest: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[Tensor], Tensor]:
    def call(x: Tensor) -> Tensor:
        out: Tensor = getattr(x, target)(*rest, **kwargs) if isinstance(target, str) else target(x, *rest, **kwargs)
        return out

    return call


def _refuse_mixed(name: str, value: Tensor, numbered: bool = False) -> None:
    """Refuse the result of a step that does not keep the two images of a batch apart.

    Args:
        name: of the step.
        value: its result.
        numbered: whether the pixels of each image were its number, from 1, and those that were added 0.
    """
    apart = value.ndim > 1 and len(value) == 2
    if apart and numbered:
        apart = all(bool(((row == 0) | (row == i)).all()) for i, row in enumerate(value, 1))
    if not apart:
        raise NoBoundError(
            f"{name}: must keep the images of a batch apart on its first axis, got {tuple(value.shape)} of a batch of 2"
        )


def _refuse_variants(name: str, module: nn.Module) -> None:
    """Refuse settings that change what a layer is."""
    if isinstance(module, nn.Conv2d) and module.padding_mode != "zeros":
        raise NoBoundError(f"{name}: padding_mode {module.padding_mode} has no known bound; only zeros has")
    if isinstance(module, nn.MaxPool2d) and module.return_indices:
        raise NoBoundError(f"{name}: a max-pool that returns indices has no known bound")
    if isinstance(module, nn.AvgPool2d) and (module.divisor_override or 1) < 0:
        raise NoBoundError(f"{name}: divisor_override must be > 0, got {module.divisor_override}")
    if isinstance(module, nn.LeakyReLU) and not 0 <= module.negative_slope <= 1:
        raise NoBoundError(f"{name}: negative_slope must be in [0, 1], got {module.negative_slope:g}")


@torch.no_grad()
def read(classifier: Classifier) -> Graph:
    """The steps of a classifier, its normalisation the first of them.

    Raises:
        NoBoundError: it cannot be traced, or contains what no bound is known of.
    """
    network, nodes, unit = traced(classifier.network)
    mean, std = classifier.mean.cpu().double(), classifier.std.cpu().double()
    reader = _Reader(network, torch.zeros(2, *classifier.input_shape, dtype=torch.float64))
    at = 0 if classifier.identity else reader.add("normalisation", SCALE, Scale(1 / std, -mean / std), 0)
    env: dict[fx.Node, Any] = {}
    for node in nodes:
        if node.op == "placeholder":
            env[node] = _At(at)
        elif node.op == "output":
            return _finished(reader, fx.map_arg(node.args[0], env.__getitem__), unit)
        else:
            env[node] = _read(reader, node, env)
    raise NoBoundError("the network has no output")


def _read(reader: _Reader, node: fx.Node, env: dict[fx.Node, Any]) -> Any:
    """As `_taken`; what goes wrong in the user's code is a reason to know no bound."""
    try:
        return _taken(reader, node, env)
    except NoBoundError:
        raise
    except Exception as error:  # the call is the user's, and their module may do anything
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise NoBoundError(f"{node.name}: could not be read on its own: {type(error).__name__}: {first}") from error


def _taken(reader: _Reader, node: fx.Node, env: dict[fx.Node, Any]) -> Any:
    """The step of a call, or the constant that it comes to."""
    args: Any = fx.map_arg(node.args, env.__getitem__)
    kwargs: Any = fx.map_arg(node.kwargs, env.__getitem__)
    steps = [a for a in (*_leaves(args), *_leaves(tuple(kwargs.values()))) if isinstance(a, _At)]
    if node.op == "get_attr":
        try:
            return operator.attrgetter(str(node.target))(reader.network)
        except AttributeError:  # what tracing has kept of a tensor that forward made itself
            raise NoBoundError(
                f"{node.target}: a tensor that forward makes, and may make anew each time, has no known bound"
            ) from None
    if node.op == "call_module":
        if len(args) != 1 or kwargs or not isinstance(args[0], _At):
            raise NoBoundError(f"{node.target}: takes more than one input, which has no known bound")
        return _At(reader.module(str(node.target), args[0].number))
    shape = node.target in ("size", "dim") or (node.target is getattr and args[1] in ("shape", "ndim", "dtype"))
    if not steps or shape:
        real = [reader.values[a.number] if isinstance(a, _At) else a for a in args]
        return _called(node.target, tuple(real[1:]), kwargs)(real[0]) if real else None
    return _At(reader.function(node.name, node.target, args, kwargs))


def _leaves(args: Sequence[Any]) -> list[Any]:
    return [leaf for a in args for leaf in (_leaves(a) if isinstance(a, tuple | list) else [a])]


def _finished(reader: _Reader, out: Any, unit: float) -> Graph:
    if not isinstance(out, _At) or out.number != len(reader.steps):
        raise NoBoundError("the network must return the logits that it computes last")
    return Graph(tuple(reader.values[0].shape[1:]), tuple(reader.steps), unit)
