"""What every data set's configuration has in common."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from eval.data.samples import Data
from eval.data.subset import limited
from eval.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Spec:
    """The fields of every data set.

    Attributes:
        name: for display.
        root: folder under which data sets lie.
        limit: number of test samples, balanced by class and chosen by the seed; None for all.
        train_limit: the same for training samples.
        epochs: passes over the training samples that suit the data set.
    """

    name: str
    root: str
    limit: int | None = None
    train_limit: int | None = None
    epochs: int = 30

    def __post_init__(self) -> None:
        # The configuration puts `data.` before the key.
        for key in ("limit", "train_limit", "epochs"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise InputError(f"{key}: must be at least 1, got {value}")

    def place(self, name: str) -> Path:
        """The file or folder `name`: in the current folder, or else under the root."""
        here = Path(name).expanduser()
        return here if here.exists() else Path(self.root).expanduser() / here

    def read(self, seed: int) -> Data:
        """All samples, split by `seed` where the data set itself is not."""
        raise NotImplementedError

    def load(self, seed: int) -> Data:
        """The samples of a run.

        Args:
            seed: decides splits and limits; non-negative.

        Raises:
            InputError: the data cannot be found, read or trusted.
        """
        data = self.read(seed)
        train = data.train
        if train is not None:
            train = limited(train, self.train_limit, seed, "data.train_limit")
        return replace(data, train=train, test=limited(data.test, self.limit, seed, "data.limit"))
