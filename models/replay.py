"""An exported graph as a module: each node is an operator of PyTorch, looked up in a list, on the values before it.

What the graph says is data: an operator is one of `aten`, `prims` or `torchvision` that opens no file, or arithmetic
on sizes. Layers whose weights are in the file become the layers that they were, so that the rest of the tree (folding,
memory layout, counts of multiplications, bounds from below) knows them; other operators are called as they are. Where
a node names a device, the images' own stands in its place, and so the module can be moved.

Departures: from `torch.export.load(...).module()`: no guards, no names of the file in generated code, no symbolic
shapes; the batch is whatever comes.
"""

from __future__ import annotations

import keyword
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from models.archive import Program, dtype_of
from models.operators import (
    ASSERTIONS,
    KNOWN,
    TrainingModeError,
    UnknownOperatorError,
    function,
    layer_of,
    refuse_training,
)

_MEMORY = {1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d, 4: torch.preserve_format}
_NUMBERED: Mapping[str, Callable[[int], Any]] = {
    "as_scalar_type": dtype_of,
    "as_memory_format": _MEMORY.__getitem__,
    "as_layout": {7: torch.strided}.__getitem__,
}
_PLAIN = ("as_int", "as_float", "as_bool", "as_string", "as_ints", "as_floats", "as_bools", "as_strings")
_STATES = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}
_SCOPES = ("wrap_with_set_grad_enabled", "wrap_with_autocast")


class _Scope(nn.Module):
    """A part of a graph that runs without gradients, or in another precision."""

    def __init__(self, kind: str, options: tuple[Any, ...], body: nn.Module) -> None:
        super().__init__()
        self.kind, self.options, self.body = kind, options, body

    def forward(self, *values: Any) -> Any:
        """What the part makes of its values."""
        if self.kind == _SCOPES[0]:
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.options[0]):
                return self.body(*values)
        device, dtype, enabled, cache = self.options
        with torch.autocast(device, dtype=dtype, enabled=enabled, cache_enabled=cache):
            return self.body(*values)


def module_of(program: Program) -> nn.Module:
    """The module, images -> what the graph returns first, in evaluation mode.

    Raises:
        TrainingModeError: it was exported in training mode.
        UnknownOperatorError: it calls what no list has.
        ValueError, KeyError, TypeError, IndexError: it is malformed.
    """
    reader = _Reader(program.tensors)
    image = input_of(program)
    for spec in program.signature["output_specs"]:
        if "user_output" not in spec and "token" not in spec:
            raise TrainingModeError(next(iter(spec)).replace("_", " "))
    for spec in program.signature["input_specs"]:
        ((kind, content),) = spec.items()
        if kind == "user_input" and content["arg"].get("as_tensor", {}).get("name") == image:
            reader.values[image] = reader.take_image(dtype_of(program.graph["tensor_values"][image]["dtype"]))
        elif kind in _STATES:
            reader.values[content["arg"]["name"]] = _State(content[_STATES[kind]], kind == "parameter")
        elif kind not in ("user_input", "constant_input", "token"):
            raise UnknownOperatorError(f"an input of the kind {kind}")
    return reader.module(program.graph, single=True).eval()


def input_of(program: Program) -> str:
    """The name of the one tensor that a graph takes.

    Raises:
        ValueError: there are none or several.
    """
    specs = [spec["user_input"]["arg"] for spec in program.signature["input_specs"] if "user_input" in spec]
    names = [arg["as_tensor"]["name"] for arg in specs if "as_tensor" in arg]
    outputs = [spec for spec in program.signature["output_specs"] if "user_output" in spec]
    if len(names) != 1 or len(outputs) != 1:
        raise ValueError(f"it takes {len(names)} tensors and returns {len(outputs)}, where images and logits must be")
    return str(names[0])


class _State:
    """A parameter, buffer or constant that no node has asked for yet."""

    def __init__(self, name: str, parameter: bool) -> None:
        self.name, self.parameter = name, parameter


class _Reader:
    """Builds one graph of `torch.fx`, and the graphs within it."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors
        self.root = nn.Module()
        self.graph = fx.Graph()
        self.values: dict[str, Any] = {}
        self.taken: dict[str, Tensor] = {}
        self.first: Any = None
        self.count = 0

    def take_image(self, dtype: torch.dtype) -> Any:
        """The graph's images, in the precision that it was exported for."""
        self.first = self.graph.placeholder("x")
        if not dtype.is_floating_point:
            raise ValueError(f"it takes images of {dtype}, where floating-point numbers must be")
        return self.first if dtype == torch.float32 else self.graph.call_method("to", (self.first, dtype))

    def module(self, graph: Mapping[str, Any], *, single: bool) -> nn.Module:
        """The module of all nodes; `single` where it returns its first output alone."""
        for node in graph["nodes"]:
            if node["target"] not in ASSERTIONS:
                self._node(node)
        outputs = [self._value(output) for output in graph["outputs"]]
        self.graph.output(outputs[0] if single else tuple(outputs))
        self.graph.lint()
        return fx.GraphModule(self.root, self.graph)

    def _node(self, node: Mapping[str, Any]) -> None:
        target = str(node["target"])
        given = [(str(entry["name"]), entry["arg"]) for entry in node["inputs"]]
        name = target.removeprefix("torch.ops.higher_order.")
        if name in _SCOPES and name != target:
            self._keep(node["outputs"], self._scope(name, [arg for _, arg in given]), nested=True)
            return
        found = function(target)
        if not isinstance(found, torch._ops.OpOverload):
            args = tuple(self._value(arg) for _, arg in given)
            self._keep(node["outputs"], self.graph.call_function(found, args))
            return
        positional, rest = self._arguments(found, dict(given))
        refuse_training(found, positional)
        self._keep(node["outputs"], self._call(target.removeprefix("torch.ops."), found, positional, rest))

    def _arguments(self, op: Any, given: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """What an operator is called with: by position as far as anything is given, and the rest by name."""
        args: list[Any] = []
        rest: dict[str, Any] = {}
        known = op._schema.arguments
        if unknown := given.keys() - {argument.name for argument in known}:
            raise ValueError(f"{op} has no argument {', '.join(sorted(unknown))}")
        last = max((i for i, a in enumerate(known) if a.name in given and not a.kwarg_only), default=-1)
        for i, argument in enumerate(known):
            if argument.kwarg_only:
                if argument.name in given and not keyword.iskeyword(argument.name):
                    rest[argument.name] = self._argument(given[argument.name])
            elif i <= last:
                own = argument.name in given
                args.append(self._argument(given[argument.name]) if own else argument.default_value)
        return args, rest

    def _call(self, name: str, op: Any, args: list[Any], rest: dict[str, Any]) -> Any:
        """The node of an operator, or of the layer or the function that it stands for."""
        if name == "aten.dropout.default":
            return self._loaded(args[0])
        given = [self.tensors[arg.name] if isinstance(arg, _State) else arg for arg in args]
        layer = None if rest or not isinstance(args[0], fx.Node) else layer_of(name, given, self._is_map(args[0]))
        if layer is not None:
            return self.graph.call_module(self._own("layer", layer), (self._loaded(args[0]),))
        plain = [self._loaded(arg) for arg in args]
        if name == "aten.relu_.default" and plain[0].op == "call_module":  # nothing else shares its memory
            return self._in_place_of(plain[0], self.graph.call_function(F.relu, tuple(plain)))
        if name == "aten.max_pool2d.default":
            defaults: list[Any] = [[], [], 0, 1, False]
            size, stride, padding, dilation, ceil = plain[1:] + defaults[len(plain) - 1 :]
            options = {"stride": stride or size, "padding": padding, "dilation": dilation, "ceil_mode": ceil}
            return self.graph.call_function(F.max_pool2d, (plain[0], size), options)
        own = {key: self._loaded(value) for key, value in rest.items()}
        return self.graph.call_function(op if own else KNOWN.get(name, op), tuple(plain), own)

    def _in_place_of(self, old: fx.Node, new: fx.Node) -> fx.Node:
        """The new node, which is from now on what every name of the old one means."""
        self.values |= {name: new for name, value in self.values.items() if value is old}
        return new

    def _is_map(self, value: Any) -> bool:
        """Whether a value is known to be a batch of maps (B, C, H, W): it is what a convolution computes."""
        if not isinstance(value, fx.Node) or value.op != "call_module":
            return False
        return isinstance(self.root.get_submodule(str(value.target)), nn.Conv2d | nn.BatchNorm2d)

    def _scope(self, kind: str, given: list[Mapping[str, Any]]) -> Any:
        """A part of the graph under a setting of its own."""
        where = next(i for i, arg in enumerate(given) if "as_graph" in arg)
        content = given[where]["as_graph"]["graph"]
        inner = _Reader(self.tensors)
        for place, own in enumerate(content["inputs"]):
            inner.values[_name(own)] = inner.graph.placeholder(f"x{place}")
        inner.first = inner.values[_name(content["inputs"][0])] if content["inputs"] else None
        body = inner.module(content, single=False)
        scope = _Scope(kind, tuple(self._value(arg) for arg in given[:where]), body)
        operands = tuple(self._loaded(self._value(arg)) for arg in given[where + 1 :])
        return self.graph.call_module(self._own("scope", scope), operands)

    def _own(self, kind: str, module: nn.Module) -> str:
        self.count += 1
        self.root.add_module(f"{kind}{self.count}", module)
        return f"{kind}{self.count}"

    def _loaded(self, value: Any) -> Any:
        """A value as a node can take it: with nodes that read what is asked for of the file."""
        if isinstance(value, list):
            return [self._loaded(item) for item in value]
        if not isinstance(value, _State):
            return value
        if value.name not in self.taken:
            tensor = self.tensors[value.name]
            own = f"state{len(self.taken)}"
            if value.parameter and tensor.is_floating_point():
                self.root.register_parameter(own, nn.Parameter(tensor))
            else:
                self.root.register_buffer(own, tensor)
            self.taken[value.name] = self.graph.get_attr(own)  # type: ignore[assignment]
        return self.taken[value.name]

    def _argument(self, arg: Mapping[str, Any]) -> Any:
        """A value as it is given to an operator: a weight still by its name."""
        if "as_tensor" in arg:
            return self.values[arg["as_tensor"]["name"]]
        return self._value(arg)

    def _value(self, arg: Mapping[str, Any]) -> Any:
        """A constant, the node of a value, or a list of them."""
        ((kind, content),) = arg.items()
        if kind == "as_none" or kind in _PLAIN:
            return None if kind == "as_none" else _plain(kind, content)
        if kind in ("as_tensor", "as_tensors", "as_optional_tensor", "as_optional_tensors"):
            return self._tensors(content)
        if kind.removesuffix("s") in ("as_sym_int", "as_sym_float", "as_sym_bool"):
            return [self._size(item) for item in content] if isinstance(content, list) else self._size(content)
        if kind == "as_device":
            return self.graph.call_function(getattr, (self.first, "device"))
        if kind not in _NUMBERED:
            raise UnknownOperatorError(f"a value of the kind {kind}")
        return _NUMBERED[kind](content)

    def _tensors(self, content: Any) -> Any:
        if isinstance(content, list):
            return [self._tensors(item) for item in content]
        if "as_none" in content:
            return None
        return self._loaded(self.values[content.get("as_tensor", content)["name"]])

    def _size(self, content: Mapping[str, Any]) -> Any:
        ((kind, value),) = content.items()
        return self.values[value] if kind == "as_name" else _plain(kind, value)

    def _keep(self, outputs: list[Mapping[str, Any]], node: Any, *, nested: bool = False) -> None:
        """Give what a node computes its names."""
        if len(outputs) == 1 and not nested and not isinstance(next(iter(outputs[0].values())), list):
            if "as_none" not in outputs[0]:
                self.values[_name(outputs[0])] = node
            return
        if len(outputs) == 1 and isinstance(next(iter(outputs[0].values())), list):
            outputs = [{"as_tensor": item} for item in outputs[0]["as_tensors"]]
        for place, output in enumerate(outputs):
            if "as_none" not in output:
                self.values[_name(output)] = self.graph.call_function(operator.getitem, (node, place))


def _name(arg: Mapping[str, Any]) -> str:
    """The name of a value."""
    ((_, content),) = arg.items()
    return str(content["name"] if "name" in content else content["as_name"])


def _plain(kind: str, content: Any) -> Any:
    """A number, a text or a list of them; infinities are texts in JSON."""
    if kind == "as_floats":
        return [float(item) for item in content]
    expected = {"as_int": int, "as_float": float, "as_bool": bool, "as_string": str}.get(kind, list)
    value = float(content) if kind == "as_float" else content
    if not isinstance(value, expected):
        raise TypeError(f"{kind} must be of the type {expected.__name__}, got {content!r}")
    return value
