"""What N steps of a gradient attack cost at least: N forwards and N gradients by the images, and how times are taken.

Times are taken in turns: each round runs every contender once, beginning with another one each time, so that what else
the machine does falls on all alike. What is compared are ratios within a round. On a CPU the clock is that of the
process, all its threads together, which other processes do not stop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eval.device import synchronize

Seconds = dict[str, np.ndarray[Any, Any]]


def floor(network: Callable[[Tensor], Tensor], x: Tensor, steps: int) -> None:
    """`steps` forwards and gradients by the images `x` (B, C, H, W), and nothing else."""
    cotangent: Tensor | None = None
    for _ in range(steps):
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            logits = network(leaf)
        cotangent = torch.ones_like(logits) if cotangent is None else cotangent
        torch.autograd.grad(logits, leaf, cotangent)


def in_turns(
    contenders: Mapping[str, Callable[[], object]],
    rounds: int,
    device: torch.device,
    tell: Callable[[str], None] = lambda name: None,
) -> Seconds:
    """Seconds (rounds,) of each contender, by name; what they return is dropped.

    Args:
        contenders: called without arguments.
        rounds: how often each is called.
        device: to be waited for.
        tell: is called with the name of each before it begins.
    """
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    names = list(contenders)
    seconds: Seconds = {name: np.full(rounds, np.nan) for name in names}
    for turn in range(rounds):
        for k in range(len(names)):
            name = names[(turn + k) % len(names)]
            tell(name)
            synchronize(device)
            began = clock()
            contenders[name]()
            synchronize(device)
            seconds[name][turn] = clock() - began
    return seconds
