"""One run at a time in a folder: two that write into the same one would mix their records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from eval.errors import InputError

_NAME = ".lock"


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a folder; the system lets go of it when the process ends, however it does.

    Raises:
        InputError: another run holds it.
    """
    lock = FileLock(folder / _NAME)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"hydra.run.dir: {folder} is being written to by another run; wait for it, or choose another folder"
        ) from None
    try:
        yield
    finally:
        (folder / _NAME).unlink(missing_ok=True)
        lock.release()
