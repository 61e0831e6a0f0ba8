"""Pictures of a run as PNG files beside its records, and what is on them when they are read back.

A file holds 8 bits a channel and nothing else: what is read back is the image rounded to 256 levels of its box.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from eval.data.decode import SUFFIXES, Decoder
from eval.records import replace

ORIGINAL = "original"
_LONGEST = 80  # characters of a part of a name
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Album:
    """A folder of PNG files, `<sample>_original.png` and `<sample>_<network>_<search>.png`.

    Attributes:
        folder: where they are; made when the first is written.
        names: of the files, under (sample, original) and (sample, network, search).
    """

    folder: Path
    names: Mapping[tuple[str, ...], str]

    @classmethod
    def of(cls, folder: Path, samples: Iterable[str], networks: Sequence[str], searches: Sequence[str]) -> Album:
        """An album of all pictures that searches make of samples for networks.

        The names hold nothing that a file system or a shell would mind, and depend on nothing but what is given; those
        that would be the same, also where upper and lower case are one, end with a hash of what they stand for.
        """
        keys: list[tuple[str, ...]] = []
        for sample in samples:
            keys.append((sample, ORIGINAL))
            keys += [(sample, network, search) for network in networks for search in searches]
        plain = {key: "_".join([_safe(_bare(key[0])), *map(_safe, key[1:])]) for key in keys}
        often = Counter(name.lower() for name in plain.values())
        return cls(folder, {k: f"{v if often[v.lower()] == 1 else _apart(k, v)}.png" for k, v in plain.items()})

    def keep(self, key: tuple[str, ...], image: Array, box: tuple[float, float] = (0.0, 1.0)) -> Array | None:
        """Write an image (C, H, W) under a key of `names`, in one step, and read the file back.

        Args:
            key: whose picture it is.
            image: float, in box units; what lies outside the box is cut to it.
            box: least and greatest value of a pixel: black and white of the file.

        Returns:
            What is read back (C, H, W), float32 in box units. None, and nothing is written, where there is no PNG that
            holds the image: its box is unbounded, or it has other than 1 or 3 channels.
        """
        low, width = box[0], box[1] - box[0]
        if image.shape[0] not in (1, 3) or not np.isfinite(width):
            return None
        exact = (image.astype(np.float32) - np.float32(low)) * np.float32(255.0 / width)  # as `attacks.threat.quantize`
        levels = np.rint(np.clip(np.nan_to_num(exact), 0.0, 255.0)).astype(np.uint8)
        picture = Image.fromarray(levels[0] if len(levels) == 1 else np.ascontiguousarray(levels.transpose(1, 2, 0)))
        path = self.folder / self.names[key]
        replace(path, lambda beside: picture.save(beside, "PNG"))
        seen = Decoder(len(levels), None)(path).astype(np.float32) / np.float32(255)
        return seen if box == (0.0, 1.0) else (seen * np.float32(width) + np.float32(low)).astype(np.float32)


def _bare(sample: str) -> str:
    """The sample without the ending of an image file."""
    return sample[: -len(suffix)] if (suffix := PurePosixPath(sample).suffix).lower() in SUFFIXES else sample


def _safe(part: str) -> str:
    return _UNSAFE.sub("-", part).lstrip(".-")[-_LONGEST:] or "x"


def _apart(key: tuple[str, ...], name: str) -> str:
    return f"{name}-{hashlib.sha256(repr(key).encode()).hexdigest()[:12]}"
