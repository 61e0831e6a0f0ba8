"""Scalars of a fit for TensorBoard: the extra `tensorboard`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from models.errors import ModelError

if TYPE_CHECKING:
    from models.train import Log


@contextmanager
def tensorboard(folder: Path) -> Iterator[Log]:
    """A log that writes event files into `folder`, for `fit`.

    Raises:
        ModelError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ModelError(
            f"tensorboard: needs the extra `tensorboard`, got {error}; pip install 'toastproof[tensorboard]'"
        ) from error
    writer = SummaryWriter(folder)
    try:
        yield writer.add_scalar
    finally:
        writer.close()
