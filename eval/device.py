"""Where a run computes, and that it computes in float32 there."""

from __future__ import annotations

import platform
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from eval.errors import InputError
from models.spec import derive

_WHICH = re.compile(r", \d+ threads?| \(cuda(:\d+)?\)$")


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
        if device.index is not None:
            torch.cuda.set_device(device)  # what a library puts on "cuda" belongs there too
        rounding(False)
        torch.backends.cudnn.deterministic = True  # as far as convolutions go, a run that is made again repeats
    return device


def rounding(allowed: bool) -> None:
    """Let a GPU round the inputs of convolutions and products to 10 bits of mantissa (TF32), or not.

    PyTorch lets convolutions by default; a run does not, since records are to be right in float32.
    """
    with warnings.catch_warnings():
        # Flags that torch 2.9 warned of; those that it has besides leave these unreadable, which libraries do read.
        warnings.simplefilter("ignore")
        torch.backends.cudnn.allow_tf32 = allowed
        torch.backends.cuda.matmul.allow_tf32 = allowed


def describe(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({device})"
    threads = torch.get_num_threads()
    return f"{device.type}, {threads} thread{'s' if threads != 1 else ''}, {platform.machine()}"


def kinds(words: str) -> set[str]:
    """What of devices, as `describe` says them, joined by `; `, decides what they compute, up to rounding.

    That is neither the number of threads nor which of several GPUs it is.
    """
    return {_WHICH.sub("", device) for device in words.split("; ")}


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given; for timing."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def rounded(device: torch.device, allowed: bool) -> Iterator[None]:
    """Within this, PyTorch's own settings on a GPU if it is `allowed`: TF32, and convolutions that may not repeat."""
    if device.type != "cuda" or not allowed:
        yield
        return
    repeats, torch.backends.cudnn.deterministic = torch.backends.cudnn.deterministic, False
    rounding(True)
    try:
        yield
    finally:
        rounding(False)
        torch.backends.cudnn.deterministic = repeats


@contextmanager
def drawing(device: torch.device, seed: int, *labels: str | int) -> Iterator[None]:
    """Give networks that draw random numbers a generator seeded by what is being done, and put back what was there.

    Results of such a network then repeat, if the batches do.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(derive(seed, *labels))
        yield
