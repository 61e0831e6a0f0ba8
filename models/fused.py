"""A network of dense layers and its gradient in one piece: the same numbers without the way there.

What a small network takes is to a great part not its products of matrices: modules that are called, nodes that autograd
makes of them, follows and drops. Of dense layers one after the other both ways are known,

    u_l = W_l h_(l-1) + b_l,   h_l = f_l(u_l);      g_(l-1) = W_l^T (f_l'(u_l) g_l),

and are done here by the functions that autograd would come to call, one by one. Whoever follows gradients asks for both
at once (`Fused.vjp`); to everybody else it is the network as it is.

Only PyTorch's own layers in `nn.Sequential` are taken, with nothing that anybody has added to them: there is no code in
between that could decide, draw or count. A form that differs from the network in a single bit of logits or gradients,
on images that it is tried on, is not used.

Source: Rumelhart, Hinton and Williams, "Learning representations by back-propagating errors", Nature 323, 1986.
Cost: two forwards and backwards each of the network and of the form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules import module as _globally

from models.classifier import Classifier
from models.quick import Quick

_aten: Any = torch.ops.aten


@dataclass(frozen=True)
class _Rule:
    """An activation f; `forward` may write into u where `backward` does not read it.

    Attributes:
        forward: u -> f(u).
        backward: (gradient by f(u), what it reads) -> gradient by u.
        reads: "u", "h" for f(u), or "" for neither.
    """

    forward: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Any], Tensor]
    reads: str


_threshold = _aten.threshold_backward.default  # by its full name, which is not looked for at each call
_gelu_backward, _leaky_backward = _aten.gelu_backward.default, _aten.leaky_relu_backward.default

_NONE = _Rule(lambda u: u, lambda g, _: g, "")
_RELU = _Rule(torch.relu_, lambda g, h: _threshold(g, h, 0), "h")
_SIGMOID = _Rule(torch.sigmoid_, _aten.sigmoid_backward.default, "h")
_TANH = _Rule(torch.tanh_, _aten.tanh_backward.default, "h")
_SILU = _Rule(F.silu, _aten.silu_backward.default, "u")


def _gelu(module: nn.GELU) -> _Rule:
    form = module.approximate
    return _Rule(
        lambda u: F.gelu(u, approximate=form), lambda g, u: _gelu_backward(g, u, approximate=form), "u"
    )  # fmt: skip


def _leaky(module: nn.LeakyReLU) -> _Rule:
    slope = module.negative_slope
    return _Rule(
        lambda u: F.leaky_relu(u, slope), lambda g, u: _leaky_backward(g, u, slope, False), "u"
    )  # fmt: skip


_ACTIVATIONS: dict[type[nn.Module], Callable[[Any], _Rule]] = {
    nn.ReLU: lambda _: _RELU,
    nn.Sigmoid: lambda _: _SIGMOID,
    nn.Tanh: lambda _: _TANH,
    nn.SiLU: lambda _: _SILU,
    nn.GELU: _gelu,
    nn.LeakyReLU: _leaky,
}


@dataclass(frozen=True)
class _Layer:
    """A dense layer, and what follows it.

    Attributes:
        held: weight and bias by name, as the layer holds them: to ask it for an attribute takes as long as a sum.
        rule: what follows.
    """

    held: Mapping[str, Any]
    rule: _Rule


class Fused(nn.Module):
    """A network of dense layers, for who asks for logits and a gradient at once.

    Attributes:
        network: as it was given; its weights may change in place from here on, and nothing else.
    """

    offers_vjp = True

    def __init__(self, network: Classifier | Quick, layers: list[_Layer]) -> None:
        super().__init__()
        self.network = network
        self._layers = layers
        self._normalised, self._pulled = network.normalised, network.pulled

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W) in box units: those of the network."""
        answer: Tensor = self.network(x)
        return answer

    def vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Logits (B, K) of images (B, C, H, W), and what gives the gradient (B, C, H, W) for a cotangent (B, K).

        Whoever has the logits must not write to them before the gradient is there.
        """
        h = self._normalised(x).flatten(1)
        kept: list[Tensor | None] = []  # what the way back reads, and nothing else
        for layer in self._layers:
            rule = layer.rule
            u = F.linear(h, layer.held["weight"], layer.held["bias"])
            h = rule.forward(u)
            kept.append(h if rule.reads == "h" else u if rule.reads == "u" else None)
        if h.requires_grad:  # not of frozen weights; to rule it out beforehand takes as long as a layer
            with torch.no_grad():
                return self.vjp(x)
        logits, shape = h, x.shape

        def pull(cotangent: Tensor) -> Tensor:
            g = cotangent.to(logits.dtype)
            for layer, read in zip(reversed(self._layers), reversed(kept), strict=True):
                g = torch.mm(layer.rule.backward(g, read), layer.held["weight"])
            return self._pulled(g.view(shape)).detach()

        return logits.to(x.dtype), pull


def fuse(network: Classifier | Quick, x: Tensor) -> Fused | None:
    """The network in one piece; None where it is anything but dense layers one after the other, or differs from them.

    These are `nn.Sequential`, however deep, of flattened images and `nn.Linear`, each of these followed by ReLU, leaky
    ReLU, sigmoid, tanh, GELU, SiLU or nothing.

    Args:
        network: frozen and in evaluation mode; nothing of it is changed.
        x: images (B, C, H, W) on which the two are compared.
    """
    layers = _layers(network)
    if layers is None:
        return None
    fused = Fused(network, layers)
    return fused if all(_same(fused, images) for images in (x, x[:1] / 2)) else None


def _same(fused: Fused, x: Tensor) -> bool:
    """Whether logits and gradients are those of the network, bit by bit."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        logits = fused.network(leaf)
    weights = torch.linspace(-1, 1, logits.shape[1], device=x.device, dtype=x.dtype).expand_as(logits)
    (gradient,) = torch.autograd.grad(logits, leaf, weights)
    mine, pull = fused.vjp(x)
    return torch.equal(mine, logits.detach()) and torch.equal(pull(weights), gradient)


def _layers(network: Classifier | Quick) -> list[_Layer] | None:
    """The layers of a network that has nothing else, from the first to the last; else None."""
    if type(network) not in (Classifier, Quick) or _added_to(network):
        return None
    layers: list[_Layer] = []
    flat = False
    for module in _in_turn(network.network):
        kind = type(module)
        if kind is nn.Flatten:
            if layers or (module.start_dim, module.end_dim) != (1, -1):
                return None
            flat = True
        elif kind is nn.Linear:
            if not flat or not _plain(module):
                return None
            layers.append(_Layer(module._parameters, _NONE))
        elif kind in _ACTIVATIONS:
            if not layers or layers[-1].rule is not _NONE:
                return None
            layers[-1] = _Layer(layers[-1].held, _ACTIVATIONS[kind](module))
        elif kind is not nn.Identity and (kind is not nn.Dropout or module.training):
            return None
    return layers or None


def _plain(dense: nn.Linear) -> bool:
    """Whether a layer's products are those of this form: not of tensors of another kind, nor of a column alone."""
    held = dense._parameters
    own = type(held.get("weight")) is nn.Parameter and type(held.get("bias", False)) in (nn.Parameter, NoneType)
    return own and dense.in_features > 1  # autograd goes back through a column by another product


def _in_turn(network: nn.Module) -> Iterator[Any]:
    """What a network does, in its order: the parts of `nn.Sequential`, and of those within."""
    if type(network) is not nn.Sequential:
        yield network
        return
    for part in network:
        yield from _in_turn(part)


def _added_to(network: Classifier | Quick) -> bool:
    """Whether anybody wants to see what goes through a module, does it otherwise than its class, or has a stand-in."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    own = any("forward" in vars(m) or any(getattr(m, name) for name in hooks) for m in network.modules())
    everywhere = any(getattr(_globally, f"_global{name}") for name in hooks)
    return own or everywhere or hasattr(network.network, "differentiable")
