"""When the host may ask the device.

A question (how many rows are left, which ones) waits until all that was queued has run. On a CPU nothing is queued, and
loops may ask in every step. Elsewhere they ask every few steps, and select by `torch.where` in between.
"""

from __future__ import annotations

from torch import Tensor

_PERIOD = 4


def waits(x: Tensor) -> bool:
    """Whether a question about `x` waits for its device."""
    return x.device.type != "cpu"


def period(x: Tensor) -> int:
    """Steps of a loop over `x` from one question to the next."""
    return _PERIOD if waits(x) else 1
