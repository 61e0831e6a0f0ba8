"""Image files to 8-bit pixels, the same for every file format.

EXIF orientation is applied; transparency is laid over white; palettes, CMYK and 16-bit grey are converted; of an
animation the first frame is taken. 16-bit colour is cut to 8 bits by Pillow itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from eval.data.samples import Index
from eval.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

Frame = npt.NDArray[np.uint8]

SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("png", "jpg", "jpeg", "jpe", "jfif", "bmp", "dib", "gif", "webp", "tif", "tiff", "avif"),
        *("ppm", "pgm", "pbm", "pnm", "tga", "ico", "jp2"),
        *("heic", "heif", "jxl"),  # Pillow has no decoder for these: they are named, not passed over
    )
)
"""Files with other suffixes are no images; lower case."""


@dataclass(frozen=True)
class Decoder:
    """How a file becomes an array.

    Attributes:
        channels: 1 (grey) or 3 (RGB).
        size: to which the shorter side is resized (bicubic, antialiased) before the centre is cut out, in
            pixels; None leaves the image as it is.
    """

    channels: int
    size: int | None

    def __call__(self, path: Path) -> Frame:
        """Pixels (C, H, W).

        Raises:
            InputError: the file cannot be decoded; names it and the cause.
        """
        from PIL import Image, ImageOps

        try:
            with Image.open(path) as image:
                upright = ImageOps.exif_transpose(image)
                plain = _opaque(upright).convert("L" if self.channels == 1 else "RGB")
            if self.size is not None:
                plain = _square(plain, self.size)
            pixels = np.asarray(plain)
        except Exception as error:  # decoders raise whatever a damaged file makes them stumble over
            cause = " ".join(str(error).split()) or type(error).__name__
            raise InputError(
                f"{path}: must be a readable image, but: {cause}; repair it, or write data.skip_broken=true"
            ) from None
        return pixels[None] if self.channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def all(self, files: Sequence[Path]) -> Iterator[Frame | InputError]:
        """The frames of many files, in order, or what is wrong with one; on all cores."""

        def attempt(path: Path) -> Frame | InputError:
            try:
                return self(path)
            except InputError as error:
                return error

        workers = os.cpu_count() or 1
        with ThreadPoolExecutor(workers) as pool:
            for start in range(0, len(files), 4 * workers):  # few frames wait to be taken, none after the last one
                yield from list(pool.map(attempt, files[start : start + 4 * workers]))


def _opaque(image: Image) -> Image:
    """The image without transparency, 8 bits a channel."""
    from PIL import Image as Pillow

    if image.mode in ("I", "I;16", "I;16B", "I;16L", "I;16N"):
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise ValueError("grey values must fit in 16 bits")
        return Pillow.fromarray(np.rint(grey / 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        colour = image.convert("RGBA")
        return Pillow.alpha_composite(Pillow.new("RGBA", colour.size, "white"), colour)
    return image


def _square(image: Image, size: int) -> Image:
    """The centre of the image, after its shorter side has been resized to `size`."""
    from PIL import Image as Pillow

    width, height = image.size
    scale = size / min(width, height)
    width, height = max(size, round(width * scale)), max(size, round(height * scale))
    left, top = (width - size) // 2, (height - size) // 2
    resized = image.resize((width, height), Pillow.Resampling.BICUBIC)
    return resized.crop((left, top, left + size, top + size))


@dataclass(frozen=True, eq=False)
class FileStore:
    """Image files, decoded when they are asked for.

    Attributes:
        files: one an image.
        decoder: how.
        shape: (C, H, W) of every image.
        decoded: frames that are kept in memory, by row.
    """

    files: Sequence[Path]
    decoder: Decoder
    shape: tuple[int, int, int]
    decoded: Mapping[int, Frame] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.files)

    def read(self, rows: Index) -> Frame:
        """The images `rows` as uint8 (b, C, H, W).

        Raises:
            InputError: a file has become unreadable, or has changed its size.
        """
        frames = np.empty((len(rows), *self.shape), dtype=np.uint8)
        absent = []
        for i, row in enumerate(rows):
            if row in self.decoded:
                frames[i] = self.decoded[row]
            else:
                absent.append(i)
        files = [self.files[rows[i]] for i in absent]
        for i, file, frame in zip(absent, files, self.decoder.all(files), strict=True):
            if isinstance(frame, InputError):
                raise frame
            if frame.shape != self.shape:
                raise InputError(f"{file}: must still be {self.shape}, got {frame.shape}; run again")
            frames[i] = frame
        return frames

    def content(self, rows: Index) -> Iterator[bytes]:
        """Each file's length and bytes; how they are decoded shows in the shape."""
        for row in rows:
            content = self.files[row].read_bytes()
            yield len(content).to_bytes(8, "little")
            yield content
