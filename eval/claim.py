"""Who writes what, where several processes work in one folder.

The first process in a folder leads: it writes the header and what is written once. Others help it with the parts.
Each part is made by whoever locks it first. The locks are the system's: it lets go of them when a process ends, however
it does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

LEAD, PARTS = ".lock", ".claims"
"""The lock of the process that leads a run, and the folder of the locks of its parts, within the run's folder."""


class Lead:
    """The lead of a folder, while this is open, unless another process has it.

    Args:
        folder: of the run; it must be there.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LEAD
        self._lock = FileLock(self._path)

    def take(self) -> bool:
        """Whether this process leads from now on."""
        return self._lock.is_locked or _locked(self._lock)

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock.is_locked:
            _unlock(self._lock, self._path)

    @property
    def mine(self) -> bool:
        """Whether this process leads."""
        return self._lock.is_locked


class Claims:
    """Parts of a run that this process makes.

    Args:
        folder: of the run.
        made: whether a part is there.
    """

    def __init__(self, folder: Path, made: Callable[[str], bool]) -> None:
        self._root = folder / PARTS
        self._made = made
        self._held: dict[str, FileLock] = {}

    def __enter__(self) -> Self:
        self._root.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for part in list(self._held):
            self.release(part)
        try:
            self._root.rmdir()
        except OSError:  # others are at work, or were killed at it: whoever comes next takes their locks
            return

    def take(self, part: str) -> str:
        """`mine` from now on; `there`: it is made already; or `theirs`: another process is at it."""
        if self._made(part):
            return "there"
        self._root.mkdir(parents=True, exist_ok=True)  # another process may have left as the last one
        lock = FileLock(self._root / part)
        if not _locked(lock):
            return "theirs"
        self._held[part] = lock
        if self._made(part):  # between the two looks
            self.release(part)
            return "there"
        return "mine"

    def release(self, part: str) -> None:
        """Let go of a part that was taken."""
        _unlock(self._held.pop(part), self._root / part)


def _locked(lock: FileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True


def _unlock(lock: FileLock, path: Path) -> None:
    """Let go, and leave no file: who opened it before it was removed finds that it has no name, and opens anew."""
    if os.name == "posix":  # elsewhere a file that is open cannot be removed
        path.unlink(missing_ok=True)
    lock.release()
