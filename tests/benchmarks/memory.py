"""Peak memory of `attacks.quasinewton.minimise`, in numbers a row and dimension.

On a CPU every operation is watched, and the storages are summed that live when it returns; what an operation takes for
itself and gives back before it returns is not seen. On a GPU the allocator is asked. The arguments of the search
(start and bounds) are left out; the value and gradient that the objective returns count.

The claim is (2 m + k) B D with a constant k, for a memory of m pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from attacks.quasinewton import Settings, minimise


class LiveStorage(TorchDispatchMode):
    """Sums the bytes of the storages that operations below it make, as long as they live.

    Attributes:
        peak: the most bytes alive when an operation returned.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        taken = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        out = func(*args, **(kwargs or {}))
        self._alive = {key: kept for key, kept in self._alive.items() if not kept[0].expired()}
        for t in tree_leaves(out):
            if isinstance(t, Tensor):
                storage = t.untyped_storage()
                key = storage._cdata
                if key not in self._alive and key not in taken:
                    self._alive[key] = StorageWeakRef(storage), storage.nbytes()
        self.peak = max(self.peak, self.live)
        return out

    @property
    def live(self) -> int:
        """Bytes alive now."""
        return sum(0 if reference.expired() else size for reference, size in self._alive.values())


@dataclass(frozen=True)
class Peak:
    """The most memory that a search held.

    Attributes:
        memory: pairs kept a row, m.
        finishing: whether rows left the batch on the way.
        floats: in float32 numbers a row and dimension, beyond start and bounds.
    """

    memory: int
    finishing: bool
    floats: float


def problem(rows: int, dim: int, finishing: bool, device: torch.device) -> Callable[[Tensor, Tensor], Any]:
    """Separable quadratics; with `finishing`, every second one is solved in its first steps."""
    scale = torch.logspace(-1.0, 1.0, dim, device=device)
    easy = torch.arange(rows, device=device) % 2 == 0 if finishing else torch.zeros(rows, device=device) > 0

    def f(x: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        gradient = torch.where(easy[index][:, None], x - 0.3, (x - 0.3) * scale)
        return 0.5 * ((x - 0.3) * gradient).sum(1), gradient

    return f


def peak(memory: int, finishing: bool, rows: int, dim: int, device: torch.device, evaluations: int = 30) -> Peak:
    """Measure one search of `rows` problems in `dim` dimensions, long enough to fill its history."""
    f = problem(rows, dim, finishing, device)
    start, low, high = (torch.full((rows, dim), v, device=device) for v in (0.0, -1.0, 1.0))
    decrease, gradient = (1e-9, 1e-6) if finishing else (0.0, 0.0)
    settings = Settings(memory=memory, decrease=decrease, gradient=gradient)

    def search() -> None:
        minimise(f, start, low, high, evaluations=evaluations, settings=settings)

    if device.type == "cuda":
        search()  # so that libraries have taken their workspaces
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        search()
        most = torch.cuda.max_memory_allocated(device) - before
    else:
        with LiveStorage() as watch:
            search()
        most = watch.peak
    return Peak(memory, finishing, most / (4 * rows * dim))


def fit(peaks: Sequence[Peak]) -> tuple[float, float, float]:
    """Slope and constant of floats = slope * m + k by least squares, and the largest deviation from the line."""
    m, floats = np.array([p.memory for p in peaks]), np.array([p.floats for p in peaks])
    slope, constant = np.polyfit(m, floats, 1)
    return float(slope), float(constant), float(np.abs(slope * m + constant - floats).max())
