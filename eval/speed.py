"""What makes a network faster on this machine and leaves what it computes as it is, up to rounding."""

from __future__ import annotations

import ctypes
import os
import platform
from math import prod
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.classifier import Classifier
from models.reduced import Reduced, agrees, native

_SMALL = 1_000_000  # multiplications per image below which threads, or 16 bits, cost more than they give
_CORES = torch.get_num_threads()
_MALLOC = ((-3, 1 << 30), (-1, (1 << 31) - 1), (-2, 1 << 26))
"""Of glibc's malloc.h: M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and M_TOP_PAD, in bytes."""


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


PRECISIONS = ("auto", "float32", "bfloat16")


def reduce(classifier: Classifier, x: Tensor, work: int, precision: str) -> Reduced | None:
    """A form of the network whose gradients are in bfloat16, where they are wanted and right.

    `auto` takes it on a CPU that computes in bfloat16 for networks of a million multiplications an image or more:
    there it took 0.4 to 0.7 of the time, while small ones got slower. The rule looks at the machine and the network,
    never at a clock, so that results repeat.

    Args:
        classifier: the network.
        x: images (B, C, H, W) on which both are tried.
        work: multiplications per image.
        precision: one of `PRECISIONS`.
    """
    wanted = precision == "bfloat16" or (
        precision == "auto" and x.device.type == "cpu" and work >= _SMALL and native(x.device)
    )
    if not wanted:
        return None
    reduced = Reduced(classifier)
    return reduced if agrees(classifier, reduced, x) else None


def share_out(work: int, device: torch.device) -> None:
    """Give a network that does `work` multiplications per image one thread, or all of them.

    Small layers are done before a second thread has woken up; on a machine that is busy with something else too,
    waiting for it made them five times slower. The rule looks at the network alone, so that results repeat.
    OMP_NUM_THREADS, where it is set, is left as it is.
    """
    if device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1 if work < _SMALL else _CORES)


def keep_memory(device: torch.device) -> bool:
    """On a CPU, let glibc keep up to 2 GiB of what a backward has freed for the next forward.

    By default it returns that to the system, and the next forward begins with page faults: with 100 images a fifth of
    the time of a ResNet-20, with 200 on two threads half of it.

    Returns:
        Whether it does; not with another C library, nor where MALLOC_* or GLIBC_TUNABLES say what it should do.
    """
    told = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    if device.type != "cpu" or platform.libc_ver()[0] != "glibc" or told:
        return False
    library = ctypes.CDLL(None)
    return all(library.mallopt(parameter, value) for parameter, value in _MALLOC)


def lay_out(network: nn.Module, x: Tensor) -> bool:
    """On a CPU, have convolutions keep the channels of a pixel side by side, which makes them up to a quarter faster.

    Args:
        network: changed in place; its values and outputs stay as they are, up to rounding.
        x: two images or more (B, C, H, W) on which it is tried, gradient included.

    Returns:
        Whether they do; not in a network that relies on the other layout, by `view` for instance.
    """
    if x.device.type != "cpu" or not any(isinstance(m, nn.Conv2d) for m in network.modules()):
        return False
    network.to(memory_format=torch.channels_last)
    try:
        with torch.enable_grad():
            images = x[:2].detach().requires_grad_()
            torch.autograd.grad(network(images).sum(), images)
    except RuntimeError:  # where another layout is not the reason, the attacks meet it too
        network.to(memory_format=torch.contiguous_format)
        return False
    return True
