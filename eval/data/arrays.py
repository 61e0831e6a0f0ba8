"""Images in `.npz` archives of NumPy arrays. Nothing is ever unpickled."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from eval.data.decode import SUFFIXES
from eval.data.groups import by_order
from eval.data.samples import Data, Labels, Pixels, Samples, check_labels
from eval.data.spec import Spec
from eval.data.subset import TEST_FRACTION, split
from eval.errors import InputError

LAYOUTS = ("auto", "nhwc", "nchw")
_CHANNELS = (1, 2, 3, 4)  # numbers of channels that `auto` recognises

_START, _ZIP = 256, b"PK"  # bytes that tell what a file is, and those that every archive begins with
_ACCEPTED = "numpy.savez(FILE, x=images, y=labels) writes one, and folders of images are data=images"

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Arrays(Spec):
    """Arrays `x` and `y` in one archive or two. `x` is uint8, or floating-point in [0, 1].

    Attributes:
        path: one archive: `x_train`, `y_train`, `x_test`, `y_test`, or `x`, `y` to be split by the seed.
        train, test: or two archives with `x` and `y`; `train` may be absent.
        classes: names; by default the archive's array `classes`, else the numbers up to the largest label.
        num_classes: how many there are, where there are no names and not every class occurs.
        layout: of four-dimensional `x`: `nhwc`, `nchw`, or `auto`, which looks for an axis of 1..4 channels.
        test_fraction: share of test samples where the archive is not split; None for 0.2, 1 for all, none to
            train on.
        groups: to which group each image belongs: the name of an array of the same archive (`g` means `g_train` and
            `g_test` where `x` and `y` have these endings), or, of an archive with one part, a `.npy` file or
            `FILE.csv:COLUMN` in the order of its images.
    """

    path: str | None = None
    train: str | None = None
    test: str | None = None
    classes: list[str] | None = None
    num_classes: int | None = None
    layout: str = "auto"
    test_fraction: float | None = None
    groups: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.path is None) == (self.test is None) or (self.path is not None and self.train is not None):
            raise InputError(
                "path: must be an .npz file, or else data.test must (data.train is optional), "
                f"got path={self.path}, train={self.train}, test={self.test}"
            )
        if self.layout not in LAYOUTS:
            raise InputError(f"layout: must be one of {', '.join(LAYOUTS)}, got {self.layout!r}")
        if self.test_fraction is not None and not 0 < self.test_fraction <= 1:
            raise InputError(f"test_fraction: must be in (0, 1], got {self.test_fraction:g}")
        if self.classes is not None and self.num_classes is not None:
            raise InputError("num_classes: must be null where data.classes names them, got both")
        if self.num_classes is not None and self.num_classes < 1:
            raise InputError(f"num_classes: must be at least 1, got {self.num_classes}")

    def read(self, seed: int) -> Data:
        """Both parts of one archive or two, or one part split by `seed`."""
        if self.path is not None:
            file = self.place(self.path)
            archive = open_npz(file)
            split_already = "x_test" in archive or "x_train" in archive
            suffixes = {part: f"_{part}" for part in ("train", "test") if f"x_{part}" in archive}
            sources = {p: (file, archive, s) for p, s in (suffixes if split_already else {"all": ""}).items()}
        else:
            named = {"train": self.train, "test": self.test}
            files = {part: self.place(name) for part, name in named.items() if name is not None}
            sources = {part: (file, open_npz(file), "") for part, file in files.items()}
        parts = assemble(sources, self.classes, self.num_classes, self.layout)
        if self.groups is not None:
            parts = {
                part: replace(samples, groups=by_order(self.groups, self.place, *sources[part][1:], len(samples)))
                for part, samples in parts.items()
            }
        where = " and ".join(sorted({str(file) for file, _, _ in sources.values()}, reverse=True))
        fraction = TEST_FRACTION if self.test_fraction is None else self.test_fraction
        if "all" in parts and fraction < 1:
            train, test = split(parts["all"], fraction, seed)
            share = f"{len(test)} of {len(parts['all'])} images, the rest to train on (data.test_fraction)"
            told = f"images of {where}, split by the seed: {share}"
            return Data(self.name, told, train, test, grouping=self._grouping)
        if "test" not in parts and "all" not in parts:
            raise InputError(f"{self.path}: must hold x_test and y_test beside x_train and y_train, but does not")
        test = parts["test" if "test" in parts else "all"]
        return Data(self.name, f"images of {where}", parts.get("train"), test, grouping=self._grouping)

    @property
    def _grouping(self) -> str:
        """What the groups are called: the column, the array, or the file without its ending."""
        name = (self.groups or "").rpartition(":")[2]
        return Path(name).stem if name.lower().endswith(".npy") else name


def open_npz(file: Path) -> dict[str, Array]:
    """All arrays of an archive.

    Raises:
        InputError: it is no whole archive of plain arrays.
    """
    if not file.is_file():
        raise InputError(f"{file}: must be an .npz file here or under data.root, but there is none")
    with file.open("rb") as stream:
        start = stream.read(_START)
    if not start.startswith(_ZIP):
        raise InputError(f"{file}: must be an .npz archive, but is {_kind(file, start)}")
    try:
        with file.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it is a single array")
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        cause = " ".join(str(error).partition(". ")[0].split())  # NumPy goes on to advise unpickling
        raise InputError(
            f"{file}: must be a whole .npz of plain arrays, but: {cause}; write it by numpy.savez"
        ) from None


def _kind(file: Path, start: bytes) -> str:
    """What a file is that is no archive, by its first bytes, and what to do with it."""
    if start.startswith(b"\x93NUMPY"):
        return "a single array; write images and labels by numpy.savez(FILE, x=images, y=labels)"
    if not start:
        return f"empty; {_ACCEPTED}"
    if file.suffix.lower() in SUFFIXES:
        return "an image; write data=images data.root=FOLDER for a folder of them, or data=photo image=FILE for one"
    if file.suffix.lower() in (".pkl", ".pickle", ".pt", ".pth") or start.startswith(b"\x80"):
        return f"a pickle, which is never loaded; {_ACCEPTED}"
    try:
        start.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3:  # else a character is cut in two
            return f"none; {_ACCEPTED}"
    return f"a text file; {_ACCEPTED}"


def assemble(
    sources: Mapping[str, tuple[Path, Mapping[str, Array], str]],
    names: Sequence[str] | None,
    num_classes: int | None,
    layout: str,
) -> dict[str, Samples]:
    """Samples of each part.

    Args:
        sources: part -> file, its arrays, and what follows `x` and `y` in their names.
        names: of the classes; None to find them in the archives, or to count them.
        num_classes: where there are no names; None to count them.
        layout: one of LAYOUTS.

    Raises:
        InputError: something does not fit; named with its file.
    """
    pairs: dict[str, tuple[str, Pixels, Labels]] = {}
    for part, (file, archive, suffix) in sources.items():
        for key in (f"x{suffix}", f"y{suffix}"):
            if key not in archive:
                raise InputError(f"{file}: must hold an array {key}, but holds {', '.join(archive) or 'nothing'}")
        x, y = archive[f"x{suffix}"], archive[f"y{suffix}"]
        pairs[part] = (
            str(file),
            _pixels(x, f"{file}: x{suffix}", layout),
            _labels(y, len(x), f"{file}: y{suffix}"),
        )
        if names is None and num_classes is None and "classes" in archive:
            names = [str(name) for name in archive["classes"].ravel()]
    if names is None:
        count = num_classes or 1 + max(int(labels.max()) for _, _, labels in pairs.values())
        names = [str(number) for number in range(count)]
    shapes = {part: pixels.shape[1:] for part, (_, pixels, _) in pairs.items()}
    if len(set(shapes.values())) > 1:
        raise InputError(f"data: train and test images must have one shape (C, H, W), got {shapes}")
    for where, _, labels in pairs.values():
        check_labels(labels, len(names), where)
    return {part: Samples.of(pixels, labels, names, part) for part, (_, pixels, labels) in pairs.items()}


def _pixels(x: Array, where: str, layout: str) -> Pixels:
    """Pixels (N, C, H, W), uint8 or float32 in [0, 1]."""
    if x.ndim not in (3, 4) or 0 in x.shape:
        raise InputError(f"{where}: must be (N, H, W), (N, H, W, C) or (N, C, H, W), got shape {x.shape}")
    if x.dtype != np.uint8:
        if not np.issubdtype(x.dtype, np.floating):
            raise InputError(
                f"{where}: pixels must be uint8, or floats in [0, 1], got {x.dtype}; store x.astype('uint8')"
            )
        low, high = float(x.min()), float(x.max())  # NaN if any is
        if np.isnan(low):
            raise InputError(f"{where}: pixels must be numbers in [0, 1], got NaN; remove those images")
        if not 0 <= low <= high <= 1:
            remedy = "store uint8 or divide by 255" if low >= 0 else "undo the normalisation; models have their own"
            came = f"max {high:g}" if low >= 0 else f"min {low:g}"
            raise InputError(f"{where}: pixels must lie in [0, 1], got {came} as {x.dtype}; {remedy}")
        x = x.astype(np.float32)
    if x.ndim == 3:
        return x[:, None]
    first, last = x.shape[1] in _CHANNELS, x.shape[3] in _CHANNELS
    if layout == "auto" and first == last:
        raise InputError(
            f"{where}: axis of channels must be clear, got shape {x.shape}; write data.layout=nhwc or nchw"
        )
    if layout == "nchw" or (layout == "auto" and first):
        return x
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def _labels(y: Array, count: int, where: str) -> Labels:
    """Labels (N,) int64 from integers (N,) or (N, 1)."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
        raise InputError(f"{where}: labels must be integers (N,), got {y.dtype} {y.shape}; of one-hot: y.argmax(1)")
    if len(y) != count:
        raise InputError(f"{where}: must have one label an image, got {len(y)} labels of {count} images")
    if int(y.min()) < 0:
        raise InputError(f"{where}: labels must be at least 0, got {y.min()}; number the classes from 0")
    return y.astype(np.int64)
