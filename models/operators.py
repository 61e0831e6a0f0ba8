"""What the nodes of an exported graph may call, and the layers that calls on weights stand for.

An operator is one of `aten`, `prims` or `torchvision` that names no file, or arithmetic on sizes; `aten.from_file` and
`aten.save` read and write files, and a name such as `torch.os.system` is no operator at all.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_NAMESPACES = ("aten", "prims", "torchvision")
_COMPARISONS = ("eq", "ne", "le", "ge", "lt", "gt", "and_", "or_", "getitem")
_NUMBERS = ("neg", "pos", "mul", "add", "sub", "floordiv", "mod", "pow", "truediv", "lshift", "rshift")
_ARITHMETIC: Mapping[str, tuple[Any, Sequence[str]]] = {
    "_operator": (operator, (*_COMPARISONS, *_NUMBERS)),
    "math": (math, ("trunc", "ceil", "floor", "sqrt")),
    "torch": (torch, ("sym_not", "sym_int", "sym_float", "sym_ite", "sym_max", "sym_min", "sym_sqrt")),
}
KNOWN: Mapping[str, Any] = {  # the same function under the name by which bounds and folding know it
    "aten.relu.default": F.relu, "aten.sigmoid.default": torch.sigmoid, "aten.tanh.default": torch.tanh,
    "aten.flatten.using_ints": torch.flatten, "aten.adaptive_avg_pool2d.default": F.adaptive_avg_pool2d,
    "aten.add.Tensor": operator.add, "aten.sub.Tensor": operator.sub, "aten.mul.Tensor": operator.mul,
    "aten.div.Tensor": operator.truediv,
}  # fmt: skip
ASSERTIONS = ("torch.ops.aten._assert_tensor_metadata.default",)
"""What a graph asks of its own values, on the device that it was exported on; it computes nothing."""


class UnknownOperatorError(ValueError):
    """A graph calls, takes or returns something that no list has."""


class TrainingModeError(ValueError):
    """A graph does what a network does while it is trained."""


def function(target: str) -> Any:
    """What a target of a graph stands for, such as `torch.ops.aten.relu.default` or `_operator.mul`.

    Raises:
        UnknownOperatorError: it is no operator that may be called.
    """
    parts = target.split(".")
    if len(parts) == 2 and parts[0] in _ARITHMETIC and parts[1] in _ARITHMETIC[parts[0]][1]:
        return getattr(_ARITHMETIC[parts[0]][0], parts[1])
    own = [part for part in parts[3:] if part.isidentifier()]
    if parts[:2] == ["torch", "ops"] and len(own) == 2 and len(parts) == 5 and parts[2] in _NAMESPACES:
        if parts[2] == "torchvision":
            import torchvision  # noqa: F401 - registers its operators
        packet = getattr(getattr(torch.ops, parts[2]), own[0], None)
        found = getattr(packet, own[1], None)
        if isinstance(found, torch._ops.OpOverload) and not _names_a_file(found):
            return found
    raise UnknownOperatorError(target)


def _names_a_file(op: Any) -> bool:
    return any("file" in argument.name for argument in op._schema.arguments)


def refuse_training(op: Any, args: Sequence[Any]) -> None:
    """Refuse an operator that does what it does in training alone.

    Raises:
        TrainingModeError: it does.
    """
    given = dict(zip((argument.name for argument in op._schema.arguments), args, strict=False))
    tracked = given.get("running_mean", True) is not None  # a norm without running statistics always takes the batch's
    if (given.get("training") is True and tracked) or given.get("train") is True:
        raise TrainingModeError(f"{op._schema.name.partition('::')[2]} in training mode")
    if float(given.get("dropout_p") or 0.0) > 0:
        raise TrainingModeError("dropout in training mode")


def layer_of(name: str, args: Sequence[Any], maps: bool) -> nn.Module | None:
    """The layer that an operator stands for; None where it is none.

    Args:
        name: of the operator, such as `aten.linear.default`.
        args: what it is called with; weights of the file as tensors, values of other nodes as anything else.
        maps: whether what it is called on is known to be maps (B, C, H, W).
    """
    if name in ("aten.conv2d.default", "aten.convolution.default"):
        return _conv(name, args)
    if name == "aten.linear.default" and _weights(args[1:3]) and args[1].ndim == 2:
        return _with(nn.Linear(args[1].shape[1], args[1].shape[0], bias=False, device="meta"), args[1:3])
    if name == "aten.batch_norm.default" and maps and _weights(args[1:3]) and _weights(args[3:5]):
        norm = nn.BatchNorm2d(len(args[1]), float(args[7]), float(args[6]), device="meta")
        norm.running_mean, norm.running_var = args[3], args[4]
        norm.num_batches_tracked = torch.tensor(0)
        return _with(norm, args[1:3])
    return None


def _conv(name: str, args: Sequence[Any]) -> nn.Module | None:
    if not _weights(args[1:3]) or args[1].ndim != 4:
        return None
    options = list(args[3:])
    if name == "aten.convolution.default":
        stride, padding, dilation, transposed, outside, groups = options
        if transposed or any(outside):
            return None
        options = [stride, padding, dilation, groups]
    options += [1, 0, 1, 1][len(options) :]
    if any(not isinstance(n, int) for option in options for n in (option if isinstance(option, list) else [option])):
        return None
    out, depth, height, width = args[1].shape
    stride, padding, dilation = map(_pair, options[:3])
    groups = options[3]
    shape = (depth * groups, out, (height, width), stride, padding, dilation, groups)
    return _with(nn.Conv2d(*shape, bias=False, device="meta"), args[1:3])


def _weights(args: Sequence[Any]) -> bool:
    """Whether they are a weight of the file and another one or none."""
    return len(args) > 0 and isinstance(args[0], Tensor) and all(isinstance(a, Tensor | None) for a in args)


def _pair(value: Any) -> tuple[int, int]:
    return (value[0], value[-1]) if isinstance(value, list) else (value, value)


def _with(layer: Any, weights: Sequence[Any]) -> nn.Module:
    """A layer with a weight and a bias, or none."""
    layer.weight = nn.Parameter(weights[0])
    layer.bias = None if len(weights) < 2 or weights[1] is None else nn.Parameter(weights[1])
    module: nn.Module = layer
    return module
