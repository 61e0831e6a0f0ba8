"""Pictures of ten animals and household objects, drawn by this package: colour images without a download."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path

import numpy as np

from eval.data.samples import Data, Index, Pixels, Samples
from eval.data.spec import Spec
from eval.errors import InputError

CLASSES = ("bird", "cat", "chair", "clock", "cup", "dog", "fish", "lamp", "toaster", "umbrella")
_LEAST, _MOST = 16, 1024  # pixels a side


@cache
def _origin() -> bytes:
    """What decides how a picture looks, beside its id and its side: the code that draws it."""
    sources = sorted((Path(__file__).parent / "drawing").glob("*.py"))
    versions = [f"{name} {version(name)}\n".encode() for name in ("numpy", "pillow")]
    return b"".join([*versions, *(source.read_bytes() for source in sources)])


class Pictures:
    """Pictures in memory, each drawn when it is first asked for; the classes take turns.

    Args:
        part: `train` or `test`, which have no picture in common.
        per_class: pictures of each class.
        side: of the square, in pixels.
    """

    def __init__(self, part: str, per_class: int, side: int) -> None:
        self.shape = (3, side, side)
        self.ids = [f"{part}/{name}/{i:05d}" for i in range(per_class) for name in CLASSES]
        self._pixels = np.empty((len(self.ids), *self.shape), np.uint8)
        self._drawn = np.zeros(len(self.ids), np.bool_)

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, rows: Index) -> Pixels:
        """A copy of the pictures `rows`."""
        from eval.data.drawing import scene

        for row in rows[~self._drawn[rows]]:
            self._pixels[row] = scene.picture(CLASSES[row % len(CLASSES)], self.ids[row], self.shape[1])
            self._drawn[row] = True
        return self._pixels[rows]

    def content(self, rows: Index) -> Iterator[bytes]:
        """What the pictures are drawn from; it takes no drawing, which would be seconds for a whole training set."""
        yield _origin()
        for row in rows:
            yield f"{self.ids[row]}\n".encode()


@lru_cache(maxsize=4)
def _pictures(part: str, per_class: int, side: int) -> Pictures:
    """The same for all runs of a sweep, so that they are drawn once."""
    return Pictures(part, per_class, side)


@dataclass(frozen=True, kw_only=True)
class Things(Spec):
    """Pictures of bird, cat, chair, clock, cup, dog, fish, lamp, toaster and umbrella, drawn in many variations.

    Each is drawn in a pose, size, colours and parts of its own before one of eight kinds of background, with light and
    shadow, sometimes partly covered. They stand in for photographs on a machine without downloads, and are far easier.
    A picture depends on its id and the side alone: all runs, of whatever seed, have the same ones, and a data set with
    more pictures a class has those of a smaller one among them.

    Attributes:
        size: side of the square pictures, in pixels.
        train_per_class: pictures of each class to train on.
        test_per_class: the same to attack.
    """

    size: int = 64
    train_per_class: int = 400
    test_per_class: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _LEAST <= self.size <= _MOST:
            raise InputError(f"size: must be in {_LEAST}..{_MOST} pixels, got {self.size}")
        for key in ("train_per_class", "test_per_class"):
            if getattr(self, key) < 1:
                raise InputError(f"{key}: must be at least 1 picture, got {getattr(self, key)}")

    def read(self, seed: int) -> Data:
        """All pictures, not yet drawn; they do not depend on the seed."""
        train, test = self._part("train", self.train_per_class), self._part("test", self.test_per_class)
        description = (
            f"Pictures of ten animals and household objects drawn by Toastproof, a stand-in for photographs where "
            f"nothing can be downloaded: RGB, {self.size}x{self.size} pixels, {len(train):,} to train on and "
            f"{len(test):,} held out"
        )
        return Data(self.name, description, train, test)

    def _part(self, part: str, per_class: int) -> Samples:
        store = _pictures(part, per_class, self.size)
        rows = np.arange(len(store))
        return Samples(np.array(store.ids), rows % len(CLASSES), CLASSES, store, rows)
