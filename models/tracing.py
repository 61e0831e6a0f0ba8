"""A user's network as the calls that it makes: a copy of its modules in float64, with weights as it has them."""

from __future__ import annotations

import copy
import operator

import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from models.steps import FLOAT32, NoBoundError

_VIEWS = {
    torch.flatten,
    torch.reshape,
    torch.squeeze,
    torch.unsqueeze,
    torch.permute,
    torch.transpose,
    operator.getitem,
}
_VIEWING = {"flatten", "view", "reshape", "squeeze", "unsqueeze", "permute", "transpose", "contiguous"}
_PASSING = (nn.Flatten, nn.Unflatten, nn.Identity, nn.Dropout, nn.Dropout2d)
_FLAGGED = {F.relu, F.leaky_relu}  # take `inplace`


def traced(network: nn.Module) -> tuple[nn.Module, list[fx.Node], float]:
    """A network's calls.

    Returns:
        A copy of the network in float64 on the CPU, its calls in their order, and the unit roundoff of its own numbers.

    Raises:
        NoBoundError: it cannot be traced, or has hooks, or changes in place what it reads again.
    """
    hooked = [name for name, m in network.named_modules() if m._forward_hooks or m._forward_pre_hooks]
    if hooked:
        raise NoBoundError(f"{hooked[0] or 'the network'}: has a hook, which may change what it computes")
    try:
        unit = _unit(network)
        made = _with_plain_weights(copy.deepcopy(network)).cpu().double().eval()
        made = made if list(made.children()) else nn.Sequential(made)  # a layer alone is not traced as one
        nodes = list(fx.Tracer().trace(copy.deepcopy(made)).nodes)
    except Exception as error:  # a network is the user's code, and may do anything when it is copied or traced
        raise NoBoundError(
            f"the network cannot be traced: {type(error).__name__}: {str(error).splitlines()[0]}"
        ) from error
    _refuse_overwritten(made, nodes)
    return made, nodes, unit


def _unit(network: nn.Module) -> float:
    """The unit roundoff of the least precise numbers of a network; that of float32 at least."""
    dtypes = {t.dtype for t in (*network.parameters(), *network.buffers()) if t.is_floating_point()}
    return max([FLOAT32, *(torch.finfo(dtype).eps / 2 for dtype in dtypes)])


def _with_plain_weights(network: nn.Module) -> nn.Module:
    """A network whose weights are what it computes of others now, in its own precision."""
    for module in list(network.modules()):
        if parametrize.is_parametrized(module):
            values = {name: getattr(module, name).detach() for name in module.parametrizations}  # type: ignore[union-attr]
            module.__class__ = parametrize.type_before_parametrizations(module)  # the other class is the user's, too
            del module.parametrizations
            for name, value in values.items():
                module.register_parameter(name, nn.Parameter(value))
    return network


def _refuse_overwritten(network: nn.Module, nodes: list[fx.Node]) -> None:
    """Refuse a call that changes in place what a later one reads: as steps, that one would read the value before.

    Of `y += h`, tracing sees a sum alone: what else reads y differs from its steps wherever h is not 0, which whoever
    compares them sees. A ReLU may change nothing at the images that are compared.
    """
    order = {node: number for number, node in enumerate(nodes)}
    for node in nodes:
        if not _in_place(network, node):
            continue
        shared = [_first(network, node)]
        for one in shared:
            if any(order[user] > order[node] for user in one.users):
                raise NoBoundError(f"{node.name}: changes in place what is read again, which has no known bound")
            shared += [user for user in one.users if user is not node and _shares(network, user)]


def _first(network: nn.Module, node: fx.Node) -> fx.Node:
    """The node whose numbers a call changes."""
    while node.args and isinstance(node.args[0], fx.Node) and _shares(network, node):
        node = node.args[0]
    return node


def _shares(network: nn.Module, node: fx.Node) -> bool:
    """Whether the result of a call may be the same numbers in memory as its first argument."""
    if node.op == "call_module":
        return isinstance(network.get_submodule(str(node.target)), _PASSING) or _in_place(network, node)
    return node.target in (_VIEWING if node.op == "call_method" else _VIEWS) or _in_place(network, node)


def _in_place(network: nn.Module, node: fx.Node) -> bool:
    """Whether a call changes its first argument."""
    if node.op == "call_module":
        return bool(getattr(network.get_submodule(str(node.target)), "inplace", False))
    if node.op == "call_method":
        return str(node.target).endswith("_")
    if node.op != "call_function":
        return False
    flagged = node.target in _FLAGGED and (node.kwargs.get("inplace") or True in node.args)
    return bool(flagged) or node.target is operator.iadd or getattr(node.target, "__name__", "").endswith("_")
