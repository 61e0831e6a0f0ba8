"""Photos of the user's own, or of a cat, for networks that know the classes of ImageNet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.data.classes import class_number, imagenet_classes
from eval.data.decode import Decoder, Frame
from eval.data.samples import Data, Samples
from eval.data.spec import Spec
from eval.errors import InputError

CAT = "Egyptian cat"


@dataclass(frozen=True, kw_only=True)
class Photo(Spec):
    """One photo or several, resized and cut to a square; without any, the cat of scikit-image.

    Attributes:
        path: an image file, or a list of them; None for the cat.
        size: side of the square in pixels: the shorter side of the photo is resized to it (bicubic, antialiased) and
            the centre is cut out. Inception v3 was made for 299.
        label: what the photos show, a class of ImageNet by name or number; None for what the first network says.
    """

    path: Any = None
    size: int = 299
    label: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size < 1:
            raise InputError(f"size: must be at least 1 pixel, got {self.size}")

    def read(self, seed: int) -> Data:
        """The photos, all of them to be attacked.

        Raises:
            InputError: a file is missing or no image, or there is no such class.
        """
        classes = imagenet_classes()
        decoder = Decoder(3, self.size)
        if self.path is None:
            label: str | None = self.label or CAT
            frames = [_cat(decoder)]
            ids = ["chelsea"]
            description = "Chelsea, a cat: photo by Stefan van der Walt, CC0, from scikit-image"
        else:
            label = self.label
            frames, ids = self._decoded(decoder)
            description = self._named(ids)
        number = 0 if label is None else class_number(str(label), classes, "data.label")
        how = f"{description}; shorter side resized to {self.size} pixels, centre cut out"
        return Data(self.name, how, None, _samples(frames, ids, number, classes), unlabelled=label is None)

    def among(self, data: Data) -> Data:
        """The photos as images of a data set: in its shape, for its classes, beside its training samples.

        Raises:
            InputError: a file is missing or no image, or the images of the data set are not square.
        """
        channels, height, width = data.test.shape
        square = height == width
        if channels not in (1, 3):
            raise self._misfit(data)
        frames, ids = self._decoded(Decoder(channels, height if square else None))
        if any(frame.shape != data.test.shape for frame in frames):
            raise self._misfit(data)
        how = self._named(ids) + (f"; shorter side resized to {height} pixels, centre cut out" if square else "")
        return Data(data.name, how, data.train, _samples(frames, ids, 0, data.test.classes), unlabelled=True)

    @staticmethod
    def _misfit(data: Data) -> InputError:
        size = " x ".join(map(str, data.test.shape))
        return InputError(
            f"image: must be shown to networks for square images with 1 or 3 channels, or be of their size, got "
            f"{data.name} with {size}; leave data= away"
        )

    def _decoded(self, decoder: Decoder) -> tuple[list[Frame], list[str]]:
        """The photos and their ids."""
        files = [self._file(str(path)) for path in (self.path if _listed(self.path) else [self.path])]
        if not files:
            raise InputError("image: must name at least one file, got none")
        ids = [file.name for file in files]
        if len(set(ids)) < len(ids):
            ids = [str(file) for file in files]
        return [_decoded(decoder, file) for file in files], ids

    @staticmethod
    def _named(ids: Sequence[str]) -> str:
        return f"{len(ids)} photo{'s' if len(ids) > 1 else ''}: {', '.join(ids[:4])}"

    def _file(self, path: str) -> Path:
        file = self.place(path)
        if file.is_dir():
            raise InputError(f"image: must be an image file, got {path}, which is a folder; name its files")
        if not file.is_file():
            raise InputError(f"image: must be an image file, got {path}, which does not exist")
        return file


def _samples(frames: Sequence[Frame], ids: Sequence[str], label: int, classes: Sequence[str]) -> Samples:
    samples = Samples.of(np.stack(frames), np.full(len(frames), label), classes, "photo")
    return Samples(np.array(ids), samples.labels, samples.classes, samples.store, samples.rows)


def _listed(path: Any) -> bool:
    return isinstance(path, Sequence) and not isinstance(path, str)


def _decoded(decoder: Decoder, file: Path) -> Frame:
    try:
        return decoder(file)
    except InputError as error:
        raise InputError(str(error).partition("; repair it")[0] + "; give another file") from None


def _cat(decoder: Decoder) -> Frame:
    import skimage.data

    return decoder(Path(skimage.data.__file__).parent / "chelsea.png")
