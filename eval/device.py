"""Where a run computes, and that it computes in float32 there."""

from __future__ import annotations

import os
import platform
from math import prod
from typing import Any, cast

import torch
from torch import Tensor, nn

from eval.errors import InputError

_SMALL = 1_000_000  # multiplications per image below which threads cost more than they give
_CORES = torch.get_num_threads()


def choose(name: str) -> torch.device:
    """The device called `auto`, `cpu`, `cuda`, `cuda:1` or `mps`; `auto` takes the best one there is.

    Raises:
        InputError: there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device: must be auto, cpu, cuda, cuda:N or mps, got {name!r}") from None
    missing = (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()) or (
        device.type == "mps" and not torch.backends.mps.is_available()
    )
    if missing or device.type not in ("cpu", "cuda", "mps"):
        raise InputError(f"device: this machine has no {name}; use device=auto or device=cpu")
    if device.type == "cuda":
        # convolutions would round their inputs to 10 bits of mantissa by default
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
    return device


def describe(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({device})"
    return f"{device.type}, {torch.get_num_threads()} threads, {platform.machine()}"


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given; for timing."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@torch.no_grad()
def multiplications(network: nn.Module, x: Tensor) -> int:
    """Multiplications of the dense and convolutional layers for one image, the first of `x` (B, C, H, W)."""
    counts: list[int] = []

    def count(module: nn.Module, inputs: Any, output: Tensor) -> None:
        weight = cast(Tensor, module.weight)
        counts.append(prod(output.shape[1:]) * prod(weight.shape[1:]))

    layers = [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        network(x[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return sum(counts)


def share_out(work: int, device: torch.device) -> None:
    """Give a network that does `work` multiplications per image one thread, or all of them.

    Small layers are done before a second thread has woken up; on a machine that is busy with something else too,
    waiting for it made them five times slower. The rule looks at the network alone, so that results repeat.
    OMP_NUM_THREADS, where it is set, is left as it is.
    """
    if device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1 if work < _SMALL else _CORES)
