"""Batch norm folded into the layer before it: the same network in evaluation mode, in fewer passes over its maps.

In evaluation mode a batch norm is y = gamma (x - mu) / sqrt(var + eps) + beta, per channel. After a convolution or a
dense layer x = W u + b it is part of that layer:

    W' = s W,   b' = s (b - mu) + beta,   s = gamma / sqrt(var + eps).

Which layer is followed by which norm, and by nothing else, is read off a trace by `torch.fx`. The trace serves for that
alone: the copy keeps its own `forward`, and an identity stands where the norm was.

Source: torch.nn.utils.fusion for the weights; Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018 (arXiv 1712.05877), section 3.2.
Cost: a trace, and two forwards of the images on which it is tried.
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any, TypeVar

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

N = TypeVar("N", bound=nn.Module)

_PAIRS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: nn.BatchNorm1d,
    nn.Conv1d: nn.BatchNorm1d,
    nn.Conv2d: nn.BatchNorm2d,
    nn.Conv3d: nn.BatchNorm3d,
}
_ROUNDING = 1000  # units of rounding of the range of the logits, by which they may differ: 1.2e-4 of it in float32


@torch.no_grad()
def fold(network: N, x: Tensor) -> N:
    """A copy with batch norms folded, to be evaluated in the place of the network, not trained.

    Layers stay as they are that are called more than once, have hooks or parametrisations, or compute in less than 32
    bits, and so do norms by the statistics of the batch.

    Args:
        network: in evaluation mode; nothing of it is changed.
        x: images (B, C, H, W) on which the two are compared.

    Returns:
        The copy; `network` itself where there is nothing to fold, where no trace or copy of it can be made, or where
        logits of the copy differ by more than 1,000 units of rounding of their range.
    """
    if not any(isinstance(m, _BatchNorm) for m in network.modules()):
        return network
    try:
        folded = copy.deepcopy(network)
        for layer, norm in _pairs(network):
            _set(folded, layer, _merged(network.get_submodule(layer), network.get_submodule(norm)))
            _set(folded, norm, nn.Identity().eval())
        same = _agree(network(x), folded(x))
    except Exception:  # a network is the user's code, and may do anything when it is copied, traced, or lacks a layer
        return network
    return folded if same and _left(folded) < _left(network) else network


def _pairs(network: nn.Module) -> list[tuple[str, str]]:
    """Names of the layers and of the norms that alone read what they compute."""
    traced = copy.deepcopy(network)  # whose forward may keep what it computes, here placeholders
    graph = fx.Tracer().trace(traced)
    calls = [node for node in graph.nodes if node.op == "call_module"]
    module = {node: network.get_submodule(str(node.target)) for node in calls}
    times = Counter(id(module[node]) for node in calls)
    pairs = []
    for node in calls:
        before = node.args[0] if len(node.args) == 1 else None
        if not isinstance(before, fx.Node) or before not in module or list(before.users) != [node]:
            continue
        layer, norm = module[before], module[node]
        once = times[id(layer)] == times[id(norm)] == 1
        if once and _foldable(layer, norm):
            pairs.append((str(before.target), str(node.target)))
    return pairs


def _foldable(layer: nn.Module, norm: nn.Module) -> bool:
    """Whether they are a layer and a norm of its channels, without anything that was added to them."""
    if _PAIRS.get(type(layer)) is not type(norm):
        return False
    weight, mean = layer.weight, norm.running_mean
    if norm.training or not isinstance(weight, Tensor) or not isinstance(mean, Tensor):
        return False
    hooked = any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in (layer, norm))
    return not hooked and weight.dtype in (torch.float32, torch.float64) and weight.shape[:1] == mean.shape


def _merged(layer: Any, norm: Any) -> nn.Module:
    """The layer that computes what the two do one after the other."""
    merged: nn.Module = copy.deepcopy(layer)
    merged.weight, merged.bias = fuse_conv_bn_weights(
        layer.weight, layer.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    return merged.requires_grad_(layer.weight.requires_grad)


def _set(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(network.get_submodule(parent), own, module)


def _left(network: nn.Module) -> int:
    return sum(isinstance(m, _BatchNorm) for m in network.modules())


def _agree(logits: Tensor, others: Tensor) -> bool:
    """Whether two logits (B, K) are the same up to rounding; NaN never is."""
    extent = logits.max() - logits.min()
    return bool((logits - others).abs().max() <= _ROUNDING * torch.finfo(logits.dtype).eps * extent)
