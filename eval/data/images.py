"""A folder of images with one sub-folder a class."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from eval.data.decode import SUFFIXES, Decoder, FileStore, Frame
from eval.data.groups import by_path, parse
from eval.data.samples import Data, Labels, Samples
from eval.data.spec import Spec
from eval.data.subset import TEST_FRACTION, balanced, stratified
from eval.errors import InputError

_PARTS = ("train", "val", "test")
_MEMORY = 1 << 30  # bytes of decoded images, per part, that are kept instead of decoding them for every batch
_SHOWN = 3  # broken files named in a warning


@dataclass(frozen=True, kw_only=True)
class Images(Spec):
    """Images `root/<class>/**`, or `root/{train,val,test}/<class>/**`; `test` is attacked, or `val` if there is none.

    Every image that a run uses is decoded once when it is loaded, so that a broken one stops it before it starts.

    Attributes:
        size: side of the square that images are resized and cropped to, in pixels; None if all have one size.
        channels: 1 (grey) or 3 (RGB).
        num_classes: how many there are, where sub-folders are named by class numbers `0`..`num_classes - 1`, leading
            zeros allowed, and not every class needs one; None where they are named by the classes themselves.
        test_fraction: share of the test samples where there are no sub-folders `test` or `val`; None for 0.2, 1 for
            all, none to train on.
        skip_broken: leave out images that cannot be decoded, with a warning, instead of stopping.
        groups: `FILE.csv:COLUMN`, to which group each image belongs; the first column holds paths relative to `root`.
    """

    size: int | None = None
    channels: int = 3
    num_classes: int | None = None
    test_fraction: float | None = None
    skip_broken: bool = False
    groups: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channels not in (1, 3):
            raise InputError(f"channels: must be 1 (grey) or 3 (RGB), got {self.channels}")
        if self.size is not None and self.size < 1:
            raise InputError(f"size: must be at least 1 pixel, got {self.size}")
        if self.num_classes is not None and self.num_classes < 1:
            raise InputError(f"num_classes: must be at least 1, got {self.num_classes}")
        if self.test_fraction is not None and not 0 < self.test_fraction <= 1:
            raise InputError(f"test_fraction: must be in (0, 1], got {self.test_fraction:g}")
        self._grouping()  # refuses what it cannot understand

    def _grouping(self) -> tuple[str, str]:
        """The file and the column of the groups, both empty without groups."""
        return ("", "") if self.groups is None else parse(self.groups)

    def load(self, seed: int) -> Data:
        """As for any data set; broken images are replaced by others of the same part, as far as there are any."""
        root = Path(self.root).expanduser()
        listings = self._divided(root)
        everything = listings.get("all")
        fraction = TEST_FRACTION if self.test_fraction is None else self.test_fraction
        share = ""
        if everything is not None and fraction < 1:
            chosen = stratified(everything.labels, fraction, seed)
            share = f", split by the seed: {chosen.sum()} of {len(chosen)} images, the rest to train on"
            share += " (data.test_fraction)"
            listings = {"train": everything.select(~chosen), "test": everything.select(chosen)}
        elif everything is not None:
            listings = {"test": everything}
        warnings: list[str] = []
        limits = {"train": self.train_limit, "test": self.limit}
        keys = {"train": "data.train_limit", "test": "data.limit"}
        parts = {p: self._samples(root, g, limits[p], keys[p], seed, warnings) for p, g in listings.items()}
        shapes = {part: samples.shape for part, samples in parts.items()}
        if len(set(shapes.values())) > 1:
            raise InputError(f"{root}: train and test images must have one size, got {shapes}; write data.size=PIXELS")
        how = "as they are" if self.size is None else f"resized and cropped to {self.size}x{self.size}"
        how += ", in grey" if self.channels == 1 else ""
        description = f"images of {root}, {how}{share}"
        file, column = self._grouping()
        if column:
            parts = {p: replace(s, groups=by_path(self.place(file), column, s.ids.tolist())) for p, s in parts.items()}
        return Data(self.name, description, parts.get("train"), parts["test"], tuple(warnings), grouping=column)

    def _divided(self, root: Path) -> dict[str, Listing]:
        """The files as they are divided on disk: `test` with or without `train`, or `all`."""
        if not root.is_dir():
            raise InputError(f"data.root: must be a folder with one sub-folder a class, got {root}, which is none")
        found = {part: root / part for part in _PARTS if (root / part).is_dir() and _folders(root / part)}
        if not found:
            return {"all": _list(root, root, self.num_classes)}
        strays = [folder.name for folder in _folders(root) if folder.name not in _PARTS]
        if strays:
            raise InputError(
                f"{root}: must hold either classes or {'/'.join(found)}, got {', '.join(strays)} beside them; move them"
            )
        test = found.get("test", found.get("val"))
        if test is None:
            raise InputError(
                f"{root}: must hold test or val beside train, got train alone; or write data.root={root}/train"
            )
        if "train" not in found:
            return {"test": _list(root, test, self.num_classes)}
        train = _list(root, found["train"], self.num_classes)
        return {"train": train, "test": _list(root, test, self.num_classes, train.classes)}

    def _samples(
        self, root: Path, listing: Listing, limit: int | None, key: str, seed: int, warnings: list[str]
    ) -> Samples:
        """The images chosen from a listing, all of which have been decoded once."""
        decoder = Decoder(self.channels, self.size)
        frames: dict[int, Frame] = {}
        sizes: dict[int, tuple[int, ...]] = {}
        broken: dict[int, InputError] = {}
        while True:
            sound = np.setdiff1d(np.arange(len(listing.labels)), list(broken))
            if len(sound) == 0:
                raise next(iter(broken.values()))
            chosen = sound if limit is None else sound[balanced(listing.labels[sound], limit, seed, key)]
            fresh = [int(row) for row in chosen if int(row) not in sizes]
            if not fresh:
                break
            for row, frame in zip(fresh, decoder.all([listing.files[row] for row in fresh]), strict=True):
                if isinstance(frame, InputError):
                    if not self.skip_broken:
                        raise frame
                    broken[row] = frame
                    continue
                sizes[row] = frame.shape
                if (len(frames) + 1) * frame.nbytes <= _MEMORY:
                    frames[row] = frame
        first = int(chosen[0])
        for row in chosen:
            if sizes[int(row)] != sizes[first]:
                raise InputError(
                    f"{listing.files[row]}: must have the size of {listing.files[first].name}, {_size(sizes[first])}, "
                    f"got {_size(sizes[int(row)])}; write data.size=PIXELS to resize and crop all"
                )
        if broken:
            names = [listing.files[row].relative_to(root).as_posix() for row in sorted(broken)]
            more = ", ..." if len(names) > _SHOWN else ""
            warnings.append(f"data: {len(names)} broken images skipped: {', '.join(names[:_SHOWN])}{more}")
        ids = np.array([listing.files[row].relative_to(root).as_posix() for row in chosen], dtype=np.str_)
        _, height, width = sizes[first]
        store = FileStore(listing.files, decoder, (self.channels, height, width), frames)
        return Samples(ids, listing.labels[chosen], listing.classes, store, chosen)


@dataclass(frozen=True, eq=False)
class Listing:
    """Image files (N) with their labels (N,), in natural order, and the names of the classes."""

    files: tuple[Path, ...]
    labels: Labels
    classes: tuple[str, ...]

    def select(self, mask: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Listing:
        """Those for which `mask` (N,) is true."""
        files = tuple(file for file, wanted in zip(self.files, mask, strict=True) if wanted)
        return Listing(files, self.labels[mask], self.classes)


def natural(text: str) -> tuple[list[str | int], str]:
    """A key that sorts `img2` before `img10`.

    >>> sorted(["img10", "img2", "img1"], key=natural)
    ['img1', 'img2', 'img10']
    """
    pieces = re.split(r"([0-9]+)", text)
    return [int(piece) if i % 2 else piece for i, piece in enumerate(pieces)], text


def _folders(folder: Path) -> list[Path]:
    """Sub-folders in natural order; hidden ones and those that archivers leave are none."""
    inside = (p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "__")))
    return sorted(inside, key=lambda p: natural(p.name))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _images(folder: Path) -> list[Path]:
    """Image files at any depth, in natural order."""
    return sorted(filter(_is_image, folder.rglob("*")), key=lambda p: natural(p.relative_to(folder).as_posix()))


def _list(root: Path, folder: Path, num_classes: int | None, classes: tuple[str, ...] | None = None) -> Listing:
    """The images of each class's sub-folder; with `num_classes` they are numbers, with `classes` no other may occur."""
    for stray in sorted(p for place in {root, folder} for p in place.iterdir() if _is_image(p)):
        raise InputError(f"{stray}: images must lie in {folder}/<class>/, but this one does not; move it or remove it")
    folders = _folders(folder)
    if not folders:
        raise InputError(f"{folder}: must hold one sub-folder a class, got none; put images in {folder}/<class>/")
    by_folder = {sub: _images(sub) for sub in folders}
    if num_classes is not None:
        labels, names = _numbers(folders, num_classes), tuple(map(str, range(num_classes)))
        if not any(by_folder.values()):
            raise InputError(f"{folder}: must hold at least one image in a sub-folder, got none; fill one")
    else:
        for sub, files in by_folder.items():
            if not files:
                raise InputError(f"{sub}: must hold at least one image, got none; remove it or fill it")
        names = classes if classes is not None else tuple(sub.name for sub in folders)
        unknown = [sub.name for sub in folders if sub.name not in names]
        if unknown:
            raise InputError(f"{folder}: classes must be those of {root / 'train'}, got {', '.join(unknown)} besides")
        labels = {sub: names.index(sub.name) for sub in folders}
    pairs = [(file, labels[sub]) for sub, files in by_folder.items() for file in files]
    return Listing(tuple(file for file, _ in pairs), np.array([label for _, label in pairs], dtype=np.int64), names)


def _numbers(folders: Sequence[Path], num_classes: int) -> dict[Path, int]:
    """The class number that each folder is named by."""
    labels: dict[int, Path] = {}
    for sub in folders:
        must = f"{sub}: must be named by a class number in 0..{num_classes - 1} (data.num_classes={num_classes})"
        if not (sub.name.isascii() and sub.name.isdigit()):
            raise InputError(f"{must}, got {sub.name!r}; rename it, or write data.num_classes=null")
        number = int(sub.name)
        if number >= num_classes:
            raise InputError(f"{must}, got {number}; rename it, or write a larger data.num_classes")
        if number in labels:
            raise InputError(
                f"{sub}: must be the only folder of class {number}, got {labels[number].name} too; join them"
            )
        labels[number] = sub
    return {sub: number for number, sub in labels.items()}


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[2]}x{shape[1]}"  # width first, as image viewers say it
