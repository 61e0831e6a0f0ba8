"""MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100 through torchvision, which downloads and checks them once."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from eval.data.arrays import assemble, open_npz
from eval.data.samples import Data, Samples
from eval.data.spec import Spec
from eval.errors import InputError


@dataclass(frozen=True)
class Source:
    """A data set of torchvision.

    Attributes:
        kind: its class in `torchvision.datasets`.
        folder: where its files lie under the root.
        title: for people.
        reference: whom it is from.
        classes: names.
    """

    kind: str
    folder: str
    title: str
    reference: str
    classes: tuple[str, ...]


_FASHION = "T-shirt/top Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag Ankle-boot"
_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy
porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""

SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        "mnist": Source("MNIST", "MNIST/raw", "MNIST", "LeCun et al. 1998", tuple("0123456789")),
        "fashion_mnist": Source(
            "FashionMNIST", "FashionMNIST/raw", "Fashion-MNIST", "Xiao et al. 2017", tuple(_FASHION.split())
        ),
        "cifar10": Source("CIFAR10", "cifar-10-batches-py", "CIFAR-10", "Krizhevsky 2009", tuple(_CIFAR10.split())),
        "cifar100": Source("CIFAR100", "cifar-100-python", "CIFAR-100", "Krizhevsky 2009", tuple(_CIFAR100.split())),
    }
)
"""The data sets by name."""


@dataclass(frozen=True, kw_only=True)
class Torchvision(Spec):
    """The data set `name`: torchvision's files under `root`, or arrays `root/<name>/{train,test}*.npz`, or a download.

    Attributes:
        name: `mnist`, `fashion_mnist`, `cifar10` or `cifar100`.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name not in SOURCES:
            raise InputError(f"name: must be one of {', '.join(SOURCES)}, got {self.name!r}")

    def read(self, seed: int) -> Data:
        """The official training and test samples; `seed` decides nothing."""
        del seed
        source, root = SOURCES[self.name], Path(self.root).expanduser()
        try:
            return self._data(_open(source, root), f"torchvision's files in {root / source.folder}")
        except _UNREADABLE as error:
            absent = _line(error)
        arrays = self._arrays(root)
        if arrays is not None:
            return arrays
        _datasets()
        try:
            _fetch(source, root)
            return self._data(_open(source, root), "downloaded by torchvision")
        except _UNREADABLE as error:
            raise InputError(
                f"data.root: torchvision's files of {source.title} must lie in {root / source.folder} or be "
                f"downloadable, but: {absent}; {_line(error)}; put them there, or use data=digits, which needs neither"
            ) from None

    def _data(self, parts: Mapping[str, Samples], origin: str) -> Data:
        source = SOURCES[self.name]
        description = f"{source.title} ({source.reference}), {origin}"
        return Data(self.name, description, parts["train"], parts["test"])

    def _arrays(self, root: Path) -> Data | None:
        """What lies under the root as arrays, if anything does."""
        found = {part: sorted((root / self.name).glob(f"{part}*.npz")) for part in ("train", "test")}
        if not found["test"]:
            return None
        for part, files in found.items():
            if len(files) != 1:
                raise InputError(
                    f"data.root: {root / self.name} must hold one {part}*.npz, got {len(files)}; choose by "
                    "data=arrays data.train=FILE.npz data.test=FILE.npz"
                )
        chosen = {part: files[0] for part, files in found.items()}
        parts = assemble(
            {part: (file, open_npz(file), "") for part, file in chosen.items()},
            SOURCES[self.name].classes,
            None,
            "auto",
        )
        counts = " and ".join(f"{len(parts[part]):,} of {part} from {file.name}" for part, file in chosen.items())
        return self._data(parts, f"read from arrays in {root / self.name} ({counts})")


# What torchvision raises for files that are absent, torn or out of reach.
_UNREADABLE = (OSError, RuntimeError, ValueError, AssertionError, EOFError, LookupError, TypeError)


def _datasets() -> Any:
    """The data sets of torchvision.

    Raises:
        InputError: it cannot be imported.
    """
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError) as error:  # RuntimeError: its operators are of another torch
        raise InputError(
            f"torchvision: must be of the release that belongs to torch {version('torch')}, got one that cannot be "
            f"imported: {_line(error)}; install both together, or use data=digits"
        ) from None
    return datasets


def _open(source: Source, root: Path) -> dict[str, Samples]:
    """Both parts from files under `root`."""
    kind: Callable[..., Any] = getattr(_datasets(), source.kind)
    return {part: _samples(kind(root, train=part == "train"), source, part) for part in ("train", "test")}


def _samples(dataset: Any, source: Source, part: str) -> Samples:
    pixels = np.asarray(dataset.data)
    pixels = pixels[:, None] if pixels.ndim == 3 else np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    return Samples.of(pixels, np.asarray(dataset.targets), source.classes, part)


def _fetch(source: Source, root: Path) -> None:
    """Download beside, check, and move the files in place one by one: an interruption leaves nothing torn."""
    absent = [folder for folder in (root, *root.parents) if not folder.exists()]
    root.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as beside:
            getattr(_datasets(), source.kind)(beside, download=True)
            for file in sorted((Path(beside) / source.folder).iterdir()):
                if file.suffix != ".gz":
                    (root / source.folder).mkdir(parents=True, exist_ok=True)
                    file.replace(root / source.folder / file.name)
    finally:
        for folder in absent:
            if folder.exists() and not any(folder.iterdir()):
                folder.rmdir()


def _line(error: Exception) -> str:
    """An error in one line, without torchvision's advice to its programmer."""
    return " ".join(str(error).partition(" You can use download")[0].split()) or type(error).__name__
