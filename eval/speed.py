"""What makes a network faster on this machine and leaves what it computes as it is, up to rounding."""

from __future__ import annotations

import ctypes
import os
import platform
from math import prod
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.captured import Capture, Captured, Film, filmed
from models.classifier import Classifier
from models.fused import Fused, fuse
from models.graphed import SIZES, Graphed, replays
from models.quick import Quick
from models.reduced import Reduced, agrees, native

_SMALL = 1_000_000  # multiplications per image below which threads, or 16 bits, cost more than they give
PRECISIONS = ("auto", "float32", "bfloat16")
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


def rounds(work: int, precision: str, device: torch.device) -> bool:
    """Whether gradients in bfloat16 are wanted, of a network that does `work` multiplications per image.

    `auto` wants them on a CPU that computes in bfloat16 for networks of a million multiplications an image or more:
    there they took 0.4 to 0.7 of the time, while small ones got slower. The rule looks at the machine and the network,
    never at a clock, so that results repeat.
    """
    fits = device.type == "cpu" and work >= _SMALL and native(device)
    return precision == "bfloat16" or (precision == "auto" and fits)


def reduce(classifier: Classifier, x: Tensor, work: int, precision: str, nhwc: bool = True) -> Reduced | None:
    """A form of the network whose gradients are in bfloat16, where they are wanted (`rounds`) and right.

    Args:
        classifier: the network.
        x: images (B, C, H, W) on which both are tried.
        work: multiplications per image.
        precision: one of `PRECISIONS`.
        nhwc: whether convolutions on a GPU may have the channels of a pixel side by side, as its units for 16 bits do.
    """
    if not rounds(work, precision, x.device):
        return None
    reduced = Reduced(classifier)
    if nhwc and x.device.type == "cuda" and convolves(classifier):
        reduced.quick.to(memory_format=torch.channels_last)
        if agrees(classifier, reduced, x):
            return reduced
        reduced.quick.to(memory_format=torch.contiguous_format)
    return reduced if agrees(classifier, reduced, x) else None


def convolves(network: nn.Module) -> bool:
    """Whether there are convolutions over two dimensions in a network."""
    return any(isinstance(module, nn.Conv2d) for module in network.modules())


def graph(network: nn.Module, x: Tensor, capture: Capture = Captured, film: Film = filmed) -> Graphed | str:
    """A network as CUDA graphs, where these answer as it does; else why not, in words.

    Args:
        network: images (B, C, H, W) -> logits (B, K).
        x: images (B, C, H, W) on which it is tried, five at least.
        capture: makes the graphs.
        film: makes those of whole steps.
    """
    graphed = Graphed(network, capture, x.device.type, film)
    devices = [x.device] if x.device.type == "cuda" else []
    with torch.random.fork_rng(devices):  # what a network draws in a trial must not change what it draws later
        try:
            return graphed if replays(graphed, x[: SIZES[0]]) else "replays do not answer as the network does"
        except RuntimeError as error:  # it asks the device, or the host, what no graph can hold; or there is no memory
            graphed.forget()
            return f"{type(error).__name__}: {error}".splitlines()[0]


def replay(
    network: nn.Module, reduced: Reduced | None, x: Tensor, capture: Capture = Captured, film: Film = filmed
) -> tuple[Graphed | None, str]:
    """A network as CUDA graphs, and what is not replayed and why, in words; of its form in 16 bits both or none.

    Args:
        network: images (B, C, H, W) -> logits (B, K).
        reduced: its form in 16 bits, if it has one; asks the graphs from here on.
        x: images (B, C, H, W) on which all are tried, five at least.
        capture: makes the graphs.
        film: makes those of whole steps.
    """
    found = graph(network, x, capture, film)
    if isinstance(found, str):
        return None, found
    if reduced is not None:
        quick = graph(reduced.quick, x, capture, film)
        if isinstance(quick, str):
            return found, f"in 16 bits: {quick}"
        reduced.whole, reduced.quick = found, quick
    return found, ""


def in_one_piece(network: Classifier, reduced: Reduced | None, x: Tensor) -> Fused | None:
    """On a CPU, a network of dense layers with its gradient in one piece, and its form in 16 bits as well.

    Args:
        network: images (B, C, H, W) -> logits (B, K).
        reduced: its form in 16 bits, if it has one; asks these from here on.
        x: images (B, C, H, W) on which they are tried.
    """
    found = fuse(network, x) if x.device.type == "cpu" else None
    if found is not None and reduced is not None:
        reduced.whole = found
        if isinstance(reduced.quick, Quick):
            reduced.quick = fuse(reduced.quick, x) or reduced.quick
    return found


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
    if x.device.type != "cpu" or not convolves(network):
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
