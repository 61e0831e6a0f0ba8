"""How much memory a network takes for each image, and how many images fit.

The peak of a forward and a gradient is measured at two batch sizes; the difference is what an image takes, the rest is
there for any batch. On a CPU every operation is watched and the storages are summed that live when it returns; what an
operation takes for itself and gives back before that is not seen. On a GPU the allocator is asked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log2
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from eval.floor import floor

_CGROUPS = (  # limit and use of a container, of version 2 and 1
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
_SHARE = 0.5  # of what is free that a batch may take
_ROWS = 4  # searches of an image that go side by side
_COPIES = 64  # copies of an image that a search keeps: history, directions, bounds
_MOST = 256  # images at once; more are no faster


class LiveStorage(TorchDispatchMode):
    """Sums the bytes of the storages that operations below it make, as long as they live.

    Attributes:
        peak: the most bytes alive when an operation returned.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._alive: dict[int, tuple[Any, int]] = {}  # a weak reference of the storage, and its bytes

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """PyTorch would wrap the method below for its compiler, and import that, which takes longer than PyTorch."""
        return False

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
                    self._alive[key] = StorageWeakRef(storage), storage.nbytes()  # type: ignore[no-untyped-call]
        self.peak = max(self.peak, self.live)
        return out

    @property
    def live(self) -> int:
        """Bytes alive now."""
        return sum(size for reference, size in self._alive.values() if not reference.expired())


def peak(call: Callable[[], object], device: torch.device) -> int:
    """The most bytes that a call held on the device, beyond what was there before it."""
    if device.type == "cuda":
        call()  # so that libraries have taken their workspaces
        torch.cuda.reset_peak_memory_stats(device)
        before = int(torch.cuda.memory_allocated(device))
        call()
        return int(torch.cuda.max_memory_allocated(device) - before)
    watch = LiveStorage()
    with watch:
        call()
    return watch.peak


@dataclass(frozen=True)
class Footprint:
    """What a forward and a gradient take, in bytes.

    Attributes:
        image: for each image of a batch.
        fixed: for any batch.
        values: numbers in an image.
    """

    image: float
    fixed: float
    values: int

    def fits(self, free: int) -> int:
        """How many images a batch may have where so many bytes are free: a power of two, 1 to 256."""
        each = _ROWS * self.image + _COPIES * 4 * self.values
        count = (_SHARE * free - self.fixed) / max(each, 1.0)
        return 1 if count < 2 else min(_MOST, 1 << int(log2(count)))


def footprint(network: Callable[[Tensor], Tensor], x: Tensor) -> Footprint:
    """Measure a network on two images or more (B, C, H, W): at half the batch, and at all of it."""
    half, whole = max(1, len(x) // 2), len(x)
    if whole < 2:
        x, half, whole = x.expand(2, *x.shape[1:]).contiguous(), 1, 2
    less, more = (peak(lambda n=n: floor(network, x[:n], 1), x.device) for n in (half, whole))  # type: ignore[misc]
    image = max((more - less) / (whole - half), 0.0)
    return Footprint(image, max(less - half * image, 0.0), x[0].numel())


def free(device: torch.device) -> int:
    """Bytes that are free on the device: of a CPU what the system can give, and the container allows."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    found = [_system(), *(_left(Path(limit), Path(use)) for limit, use in _CGROUPS)]
    return min(f for f in found if f is not None)


def _system() -> int:
    """What the system can give; where it does not say, what the machine has, or else 4 GiB."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf, and some systems not these names
        return 4 << 30


def _left(limit: Path, use: Path) -> int | None:
    """What a control group has left; None where there is none, or it has no limit."""
    try:
        said = limit.read_text(encoding="ascii").strip()
        return None if said == "max" else max(0, int(said) - int(use.read_text(encoding="ascii")))
    except (OSError, ValueError):  # no such group, or not ours to read
        return None
