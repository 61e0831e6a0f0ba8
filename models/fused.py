"""A network of dense layers and its gradient in one piece: the same numbers without the way there.

What a small network takes is to a great part not its products of matrices: modules that are called, nodes that autograd
makes of them, follows and drops. Of dense layers one after the other both ways are known,

    u_l = W_l h_(l-1) + b_l,   h_l = f_l(u_l);      g_(l-1) = W_l^T (f_l'(u_l) g_l),

and are done here by the functions that autograd would come to call, one by one. Whoever follows gradients asks for both
at once (`Fused.vjp`); to everybody else it is the network as it is.

Which layers there are is read off a trace by `torch.fx`; a form whose logits or gradients differ from the network's in
a single bit, on images that it is tried on, is not used.

Source: Rumelhart, Hinton and Williams, "Learning representations by back-propagating errors", Nature 323, 1986.
Cost: a trace, and two forwards and backwards each of the network and of the form.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

_aten: Any = torch.ops.aten


class Normalised(Protocol):
    """A network with the normalisation of its images beside it, as `Classifier` has them.

    Attributes:
        network: normalised images -> logits (B, K), of any dtype.
    """

    network: nn.Module

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W) in box units."""

    def normalised(self, x: Tensor) -> Tensor:
        """The images (B, C, H, W) as the network takes them."""

    def pulled(self, gradient: Tensor) -> Tensor:
        """The gradient by the images, of one (B, C, H, W) by what `normalised` makes of them."""


@dataclass(frozen=True)
class _Rule:
    """An activation f; `forward` may write into u where `backward` reads f(u) alone.

    Attributes:
        forward: u -> f(u).
        backward: (gradient by f(u), u, f(u)) -> gradient by u.
    """

    forward: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor, Tensor], Tensor]


_NONE = _Rule(lambda u: u, lambda g, u, h: g)
_RELU = _Rule(torch.relu_, lambda g, u, h: _aten.threshold_backward(g, h, 0))
_SIGMOID = _Rule(torch.sigmoid_, lambda g, u, h: _aten.sigmoid_backward(g, h))
_TANH = _Rule(torch.tanh_, lambda g, u, h: _aten.tanh_backward(g, h))
_SILU = _Rule(F.silu, lambda g, u, h: _aten.silu_backward(g, u))


def _gelu(module: nn.Module) -> _Rule:
    form = str(module.approximate)
    return _Rule(
        lambda u: F.gelu(u, approximate=form), lambda g, u, h: _aten.gelu_backward(g, u, approximate=form)
    )  # fmt: skip


def _leaky(module: nn.Module) -> _Rule:
    slope: Any = module.negative_slope
    return _Rule(
        lambda u: F.leaky_relu(u, slope), lambda g, u, h: _aten.leaky_relu_backward(g, u, slope, False)
    )  # fmt: skip


_MODULES: dict[type[nn.Module], Callable[[nn.Module], _Rule]] = {
    nn.ReLU: lambda module: _RELU,
    nn.Sigmoid: lambda module: _SIGMOID,
    nn.Tanh: lambda module: _TANH,
    nn.SiLU: lambda module: _SILU,
    nn.GELU: _gelu,
    nn.LeakyReLU: _leaky,
}
_CALLS: dict[Any, _Rule] = {
    **dict.fromkeys((F.relu, torch.relu, "relu"), _RELU),
    **dict.fromkeys((F.sigmoid, torch.sigmoid, "sigmoid"), _SIGMOID),
    **dict.fromkeys((F.tanh, torch.tanh, "tanh"), _TANH),
}
_PASSING = (nn.Identity, nn.Dropout)  # in evaluation mode
_KNOWN = {nn.Linear, nn.Flatten, nn.Sequential, nn.ModuleList, nn.ModuleDict, *_PASSING, *_MODULES}
_SHAPING = {torch.flatten, torch.reshape, "flatten", "reshape", "view"}
_SIZING = {getattr, "size"}


@dataclass(frozen=True)
class _Layer:
    dense: nn.Linear
    rule: _Rule


class Fused(nn.Module):
    """A network of dense layers, for who asks for logits and a gradient at once.

    Attributes:
        network: as it was given.
    """

    def __init__(self, network: Normalised, layers: list[_Layer]) -> None:
        super().__init__()
        self.network = network
        self._layers = layers

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W) in box units: those of the network."""
        return self.network(x)

    def stand_in(self) -> Callable[[Tensor], Tensor] | None:
        """What the network offers to follow the gradients of in its place, if anything."""
        offered: Callable[[], Callable[[Tensor], Tensor] | None] | None = getattr(self.network, "stand_in", None)
        return None if offered is None else offered()

    @torch.no_grad()
    def vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Logits (B, K) of images (B, C, H, W), and what gives the gradient (B, C, H, W) for a cotangent (B, K)."""
        made = self.network.normalised(x)
        h = made.flatten(1).to(self._layers[0].dense.weight.dtype)
        kept: list[tuple[Tensor, Tensor]] = []
        for layer in self._layers:
            u = F.linear(h, layer.dense.weight, layer.dense.bias)
            h = layer.rule.forward(u)
            kept.append((u, h))

        @torch.no_grad()
        def pull(cotangent: Tensor) -> Tensor:
            g = cotangent.to(h.dtype)
            for layer, (u, out) in zip(reversed(self._layers), reversed(kept), strict=True):
                g = torch.mm(layer.rule.backward(g, u, out), layer.dense.weight)
            return self.network.pulled(g.view(made.shape).to(made.dtype))

        return h.to(x.dtype), pull


def fuse(network: Normalised, x: Tensor) -> Fused | None:
    """The network in one piece; None where it is not made of dense layers one after the other, or differs from them.

    Layers may be followed by ReLU, leaky ReLU, sigmoid, tanh, GELU or SiLU. Networks that have hooks or parametrised
    weights, or offer a differentiable stand-in, stay as they are.

    Args:
        network: frozen and in evaluation mode; nothing of it is changed.
        x: images (B, C, H, W) on which the two are compared.
    """
    kinds = {type(module) for module in network.network.modules()}
    theirs = {kind for kind in kinds if kind.__module__.startswith("torch.nn")}
    if nn.Linear not in kinds or not theirs <= _KNOWN:
        return None  # without a copy of a large network
    try:
        layers = _layers(network.network)
        if layers is None:
            return None
        fused = Fused(network, layers)
        same = all(_same(fused, images) for images in (x, x[:1] / 2))
    except Exception:  # a network is the user's code, and may do anything when it is copied, traced, or asked
        return None
    return fused if same else None


def _same(fused: Fused, x: Tensor) -> bool:
    """Whether logits and gradients are those of the network, bit by bit."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        logits = fused.network(leaf)
    weights = torch.linspace(-1, 1, logits.shape[1], device=x.device, dtype=x.dtype).expand_as(logits)
    (gradient,) = torch.autograd.grad(logits, leaf, weights)
    mine, pull = fused.vjp(x)
    return torch.equal(mine, logits.detach()) and torch.equal(pull(weights), gradient)


def _layers(network: nn.Module) -> list[_Layer] | None:
    """The layers of a network that has nothing else, from the first to the last; else None."""
    hooked = any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in network.modules())
    if hooked or hasattr(network, "differentiable"):
        return None
    layers: list[_Layer] = []
    value: fx.Node | None = None
    sizes: set[fx.Node] = set()
    for node in fx.Tracer().trace(copy.deepcopy(network)).nodes:
        if node.op == "placeholder":
            if value is not None:
                return None
            value = node
        elif node.op == "output":
            return layers if layers and node.args == (value,) else None
        elif node.target in _SIZING or (sizes and set(node.all_input_nodes) <= sizes):
            sizes.add(node)
        elif (
            node.args[:1] != (value,)
            or not set(node.all_input_nodes) <= {value, *sizes}
            or not _step(network, node, layers)
        ):
            return None
        else:
            value = node
    return None


def _step(network: nn.Module, node: fx.Node, layers: list[_Layer]) -> bool:
    """Add what a call does to the layers; whether that can be."""
    module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
    if isinstance(module, nn.Linear):
        layers.append(_Layer(module, _NONE))
        return module.in_features > 1  # a column of one number, autograd goes back through by another product
    if isinstance(module, nn.Flatten) or node.target in _SHAPING:
        return not layers  # of images; how, the trial shows
    if isinstance(module, _PASSING):
        return not module.training
    if module is not None:
        made = _MODULES.get(type(module))
        rule = None if made is None else made(module)
    else:
        plain = len(node.args) == 1 and set(node.kwargs) <= {"inplace"}
        rule = _CALLS.get(node.target) if plain else None
    if rule is None or not layers or layers[-1].rule is not _NONE:
        return False
    layers[-1] = _Layer(layers[-1].dense, rule)
    return True
