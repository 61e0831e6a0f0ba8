"""The same images at another size: averaged down, replicated or interpolated up, when they are read.

Averaging over s x s blocks and replicating each pixel s x s times are each other's inverse in one direction: an image
that was enlarged by `nearest` comes back exactly. Replicating multiplies every L2 distance between two images by s, the
square root of the number of copies, and leaves its root mean square as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from eval.data.samples import Index, Pixels, Samples, Store
from eval.errors import InputError

MODES = ("nearest", "bilinear")


@dataclass(frozen=True, eq=False)
class ResizedStore:
    """Images of another store at another side.

    Attributes:
        store: of square images.
        side: pixels a side, a divisor or a multiple of the store's.
        mode: `nearest` or `bilinear`, where they grow.
    """

    store: Store
    side: int
    mode: str = "nearest"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, side, side)."""
        return self.store.shape[0], self.side, self.side

    def __len__(self) -> int:
        return len(self.store)

    def read(self, rows: Index) -> Pixels:
        """Float32 images of the rows."""
        read = self.store.read(rows)
        pixels = read.astype(np.float32) / 255 if read.dtype == np.uint8 else read.astype(np.float32)
        found: np.ndarray[Any, np.dtype[np.float32]] = self._resize(pixels)
        return found

    def content(self, rows: Index) -> Iterator[bytes]:
        """What the images are made of, and how."""
        yield f"{self.side} {self.mode}".encode()
        yield from self.store.content(rows)

    def _resize(self, pixels: Any) -> Any:
        n, channels, native, _ = pixels.shape
        if self.side <= native:
            block = native // self.side
            return pixels.reshape(n, channels, self.side, block, self.side, block).mean(axis=(3, 5), dtype=np.float32)
        if self.mode == "nearest":
            return pixels.repeat(self.side // native, axis=2).repeat(self.side // native, axis=3)
        weights = interpolation(native, self.side)  # (side, native)
        return np.clip(weights @ pixels @ weights.T, 0, 1)


def interpolation(native: int, side: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Weights (side, native) of linear interpolation between pixels' centres, the outermost of them held beyond.

    >>> interpolation(2, 4).tolist()
    [[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]]
    """
    places = np.clip((np.arange(side) + 0.5) * native / side - 0.5, 0, native - 1)
    distance = np.abs(places[:, None] - np.arange(native)[None])
    weights: np.ndarray[Any, np.dtype[np.float32]] = np.clip(1 - distance, 0, 1).astype(np.float32)
    return weights


def resized(samples: Samples, side: int, mode: str = "nearest") -> Samples:
    """The same samples, under the same ids, at `side` pixels a side.

    Raises:
        InputError: the images are not square, or the side neither divides theirs nor is a multiple of it.
    """
    _, height, width = samples.shape
    if height != width:
        raise InputError(f"data: images must be square to be resized, got {height} x {width}")
    if side < 1 or (height % side and side % height):
        raise InputError(f"study.sides: must divide {height}, the images' side, or be a multiple of it, got {side}")
    if mode not in MODES:
        raise InputError(f"study.resize: must be one of {', '.join(MODES)}, got {mode!r}")
    return samples if side == height else replace(samples, store=ResizedStore(samples.store, side, mode))
