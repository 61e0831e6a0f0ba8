"""Whether a process is at work in the folder of a run, by the locks that it holds. Free of torch and pandas."""

from __future__ import annotations

import errno
from pathlib import Path

from filelock import FileLock, Timeout

from eval.claim import LEAD, PARTS


def alive(folder: Path) -> bool:
    """Whether a process holds a lock in the folder.

    A process that was killed leaves its files but holds none. Locks that belong to somebody else and cannot be asked
    count as held. A file system that is mounted read-only here may be written elsewhere, so that its locks are asked
    too, by reading. On one that does not share locks, nothing is known of processes on other machines, and on one that
    has none, nobody is at work.
    """
    return any(_held(path) for pattern in (LEAD, f"{PARTS}/*") for path in folder.glob(pattern))


def _held(path: Path) -> bool:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except (Timeout, PermissionError):
        return True
    except OSError as error:
        if error.errno == errno.EROFS:
            return _held_by_a_writer(path)
        raise
    lock.release()  # the file stays: whoever comes next takes it
    return False


def _held_by_a_writer(path: Path) -> bool:
    """The same where nothing can be written from here: whoever may read the file may ask to share its lock."""
    import fcntl  # where a file system is read-only by this error, there is one

    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return True
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):  # let go by now, or no locks
            return False
        raise
    return False
