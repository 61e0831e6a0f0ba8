"""Ordered, immutable, fingerprinted images with labels.

Nothing here imports torch before a batch is asked for: a configuration can be composed without it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from eval.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

Index = npt.NDArray[np.integer[Any]]
Labels = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.float32]

_CHUNK = 1 << 24  # bytes of pixels hashed at once


class Store(Protocol):
    """Where pixels come from: memory, or files that are decoded when they are asked for."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""

    def __len__(self) -> int:
        """Number of images."""

    def read(self, rows: Index) -> Pixels:
        """A fresh array (b, C, H, W): uint8, or float32 in [0, 1]."""

    def content(self, rows: Index) -> Iterator[bytes]:
        """The bytes that identify the images `rows`, in order, in pieces of any size."""


@dataclass(frozen=True, eq=False)
class ArrayStore:
    """Pixels (N, C, H, W) in memory, uint8 or float32 in [0, 1]."""

    pixels: Pixels

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        _, c, h, w = self.pixels.shape
        return c, h, w

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, rows: Index) -> Pixels:
        """A copy of the images `rows`."""
        return self.pixels[rows]

    def content(self, rows: Index) -> Iterator[bytes]:
        """Raw little-endian pixels."""
        little = self.pixels.dtype.newbyteorder("<")
        step = max(1, _CHUNK // self.pixels[0].nbytes)
        for start in range(0, len(rows), step):
            yield self.pixels[rows[start : start + step]].astype(little, copy=False).tobytes()


@dataclass(frozen=True, eq=False)
class Samples:
    """Images in a fixed order. The arrays are read-only; `labels[index]` with an index array is a fresh copy.

    Attributes:
        ids: (N,) str, stable under splits and limits, such as `test/00042` or a relative POSIX path.
        labels: (N,) int64 in 0..len(classes)-1.
        classes: names.
        store: where the pixels come from.
        rows: (N,) which image of the store is sample i.
        groups: (N,) str, to which group sample i belongs, empty for none; None where nobody says. Outcomes do not
            depend on it, and so the fingerprint does not either.

    Raises:
        InputError: no samples, a label without a class, or counts that differ.
    """

    ids: npt.NDArray[np.str_]
    labels: Labels
    classes: tuple[str, ...]
    store: Store
    rows: Index
    groups: npt.NDArray[np.str_] | None = None

    def __post_init__(self) -> None:
        if not len(self.ids) == len(self.labels) == len(self.rows):
            raise InputError(
                f"data: ids, labels and images must be as many, got {len(self.ids)}, {len(self.labels)} and "
                f"{len(self.rows)}"
            )
        if len(self.ids) == 0:
            raise InputError("data: must hold at least one sample, got none")
        if self.groups is not None and len(self.groups) != len(self.ids):
            raise InputError(f"data: must have one group a sample, got {len(self.groups)} of {len(self.ids)} samples")
        check_labels(self.labels, len(self.classes), "data")
        for name, dtype in (("ids", np.str_), ("labels", np.int64), ("rows", np.int64), ("groups", np.str_)):
            if getattr(self, name) is None:
                continue
            fixed = np.array(getattr(self, name), dtype=dtype)
            fixed.setflags(write=False)
            object.__setattr__(self, name, fixed)

    @classmethod
    def of(cls, pixels: Pixels, labels: Sequence[int] | Labels, classes: Sequence[str], prefix: str) -> Samples:
        """Samples of pixels (N, C, H, W) in memory, with ids `prefix/00000` and so on."""
        width = max(5, len(str(len(pixels) - 1)))
        ids = np.array([f"{prefix}/{i:0{width}d}" for i in range(len(pixels))], dtype=np.str_)
        rows = np.arange(len(pixels))
        pixels = pixels.view()
        pixels.setflags(write=False)
        return cls(ids, np.asarray(labels, dtype=np.int64), tuple(classes), ArrayStore(pixels), rows)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return self.store.shape

    def batch(self, index: Index) -> Tensor:
        """The images `index` (b,) as float32 (b, C, H, W) in [0, 1], on the CPU."""
        import torch

        pixels = torch.from_numpy(self.store.read(self.rows[index]))
        return pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels

    def select(self, index: Index) -> Samples:
        """The samples `index` (b,), in that order, without copying pixels."""
        groups = None if self.groups is None else self.groups[index]
        return Samples(self.ids[index], self.labels[index], self.classes, self.store, self.rows[index], groups)

    def relabelled(self, labels: Labels) -> Samples:
        """The same images with other labels (N,)."""
        return Samples(self.ids, labels, self.classes, self.store, self.rows, self.groups)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, over ids, labels and pixels (of files: their bytes)."""
        digest = hashlib.sha256()
        for part in ("\n".join(self.ids.tolist()).encode(), self.labels.astype("<i8").tobytes()):
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
        digest.update(repr(self.shape).encode())
        for piece in self.store.content(self.rows):
            digest.update(piece)
        return digest.hexdigest()


@dataclass(frozen=True)
class Data:
    """What a run works on.

    Attributes:
        name: of the data set, for display.
        description: what it is and where it came from, in a sentence or two.
        train: to fit networks to; None where there are no training samples.
        test: to attack.
        warnings: lines that a report must show.
        unlabelled: nobody said what the test samples are: their labels are to be what the first network says.
        grouping: what the groups of the samples are called; empty where they have none.
    """

    name: str
    description: str
    train: Samples | None
    test: Samples
    warnings: tuple[str, ...] = ()
    unlabelled: bool = False
    grouping: str = ""


def check_labels(labels: Labels, classes: int, where: str) -> None:
    """Refuse labels that have no class.

    Raises:
        InputError: naming the first such label.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise InputError(
            f"{where}: labels must be in 0..{classes - 1} for {classes} classes, got {labels[wrong[0]]} at "
            f"sample {wrong[0]}; relabel, or name all classes"
        )
