"""Whether a process is at work in the folder of a run, by the locks that it holds. Free of torch and pandas."""

from __future__ import annotations

import errno
from pathlib import Path

from filelock import FileLock, Timeout

from eval.claim import LEAD, PARTS


def alive(folder: Path) -> bool:
    """Whether a process holds a lock in the folder.

    A process that was killed leaves its files but holds none. Locks that belong to somebody else and cannot be asked
    count as held; on a file system that is mounted read-only nobody is at work. On one that does not share locks,
    nothing is known of processes on other machines.
    """
    return any(_held(path) for pattern in (LEAD, f"{PARTS}/*") for path in folder.glob(pattern))


def _held(path: Path) -> bool:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except (Timeout, PermissionError):
        return True
    except OSError as error:
        if error.errno == errno.EROFS:  # nobody writes there
            return False
        raise
    lock.release()  # the file stays: whoever comes next takes it
    return False
