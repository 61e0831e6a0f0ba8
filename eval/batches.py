"""How many images a network is shown at once, and what becomes of that where memory runs out.

The batch is halved, memory is given back, and exactly what was asked of the batch is asked again; the network keeps to
the smaller one. What was broken, how and at what cost does not depend on it, but for networks that draw random numbers:
they draw others, in batches of another size.

An abandoned try is charged to its samples by the clock. Its forwards and backwards are not counted: they are no part of
the search that answered, and another machine, with more memory, has to do without them.

On a GPU, and on a CPU under a limit on its addresses (`ulimit -v`), memory that there is not is refused, and all this
happens. A system that lends more than it has refuses nothing, but ends the process: there a batch that fits, as
`batch_size=auto` measures it, is all that helps.
"""

from __future__ import annotations

import gc
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

import torch

from models.errors import ModelError
from models.graphed import forget

log = logging.getLogger(__name__)
T = TypeVar("T")

REMEDY = "take smaller images, a smaller network, or a device with more free memory"

_SAYS = re.compile(
    r"out of memory"  # CUDA, HIP, MPS
    r"|(can't|cannot|not enough memory to) allocate memory|not enough memory"  # PyTorch's allocator on a CPU, by system
    r"|(alloc|allocation)_failed"  # CUBLAS_STATUS_ALLOC_FAILED, and cuDNN's
    r"|bad_alloc"
    r"|could not create a (primitive(?! desc)|memory)",  # oneDNN, whose descriptors fail for other reasons
    re.IGNORECASE,
)


def shortage(error: BaseException) -> str:
    """What was said of memory that ran out, by the error or by one that led to it, in one line; "" for other errors.

    Libraries, and networks that are somebody else's code, raise errors of their own in place of the one that they met.
    """
    seen: list[BaseException] = []
    place: BaseException | None = error
    while place is not None and not any(place is one for one in seen):
        refused = isinstance(place, MemoryError | torch.cuda.OutOfMemoryError)
        if refused or (isinstance(place, RuntimeError) and _SAYS.search(str(place))):
            return f"{type(place).__name__}: {place}".splitlines()[0].removesuffix(": ")
        seen.append(place)
        place = place.__cause__ or place.__context__
    return ""


class Batch:
    """How many images a network is shown at once: fewer from when memory ran out.

    Attributes:
        network: its name.
        size: images at once from now on.
        first: images at once before memory ran out, as they were asked for or measured.
        measured: whether `first` is what was measured to fit, not what somebody asked for.
    """

    def __init__(self, network: str, size: int, *, measured: bool = False) -> None:
        self.network, self.size, self.first, self.measured = network, size, size, measured

    def about(self) -> dict[str, object]:
        """What the header of a run says of it: `batch_size_first` is more than `batch_size` where memory ran out."""
        return {"batch_size": self.size, "batch_size_first": self.first}

    def go_on(self, earlier: Mapping[str, Any]) -> None:
        """Begin with what `earlier`, the header's lines on this network, ended with, if memory ran out then.

        Who asks for another number than then is given it.
        """
        first = earlier.get("batch_size_first")
        if self.measured or self.first == first:
            self.follow(earlier)

    def follow(self, other: Mapping[str, Any]) -> bool:
        """Show no more at once than another process of the same run was left with, if memory ran out there.

        Args:
            other: what `about` said there.

        Returns:
            Whether it is fewer from now on.
        """
        first, size = other.get("batch_size_first"), other.get("batch_size")
        if first is None or size is None or not 0 < size < min(first, self.size):  # None: of an earlier version
            return False
        self.size, self.first = size, first
        forget()
        return True

    def halve(self, tried: int) -> None:
        """Give back memory after `tried` images were too many; half of them are shown at once from now on.

        CUDA graphs of all networks go: they are captured again when they are next met.

        Whoever calls this holds nothing of the try any more, the error with the frames of its traceback included.
        """
        self.size = max(1, min(self.size, tried) // 2)
        log.warning("%s: memory ran out with %d images at once; going on with %d", self.network, tried, self.size)
        forget()
        gc.collect()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()
        if torch.backends.mps.is_available():
            torch.mps.empty_cache()


def halving(batch: Batch, call: Callable[[int], T], most: int | None = None) -> T:
    """What comes of a call with the size of the batch, which is made again with half as many where memory runs out.

    Args:
        batch: is halved, and stays so.
        call: is given how many images it may show at once; it leaves nothing behind where it fails.
        most: images that there are; None where the call knows.

    Raises:
        ModelError: memory ran out with one image at once.
    """
    while True:
        size = batch.size if most is None else min(batch.size, most)
        try:
            return call(size)
        except Exception as error:
            said = shortage(error)
            if not said:
                raise
            if batch.size == 1:
                line = f"model {batch.network}: one image at once must fit into memory, got {said}; {REMEDY}"
                raise ModelError(line) from error
        batch.halve(size)  # past the `except`, which holds the error, whose frames hold the tensors


def in_batches(batch: Batch, n: int, call: Callable[[slice], T]) -> Iterator[T]:
    """What comes of `n` samples, slice by slice, in order; a slice that memory does not suffice for is done in parts.

    Args:
        batch: how many samples a slice has.
        n: samples.
        call: is given which of them.

    Raises:
        ModelError: memory ran out with one sample.
    """
    start = 0
    while start < n:
        found, start = halving(batch, partial(_next, call, start), n - start)
        yield found
        del found  # it is not kept while the next is made


def _next(call: Callable[[slice], T], start: int, size: int) -> tuple[T, int]:
    return call(slice(start, start + size)), start + size
