"""Whether a folder can be written. Free of everything but the standard library."""

from __future__ import annotations

import tempfile
from pathlib import Path


def unwritable(folder: Path) -> str:
    """Why nothing can be written into a folder, or why it cannot be made, in words; empty where it can. Leaves nothing.

    Rights alone do not tell: a file is written where the folder is, or will be.
    """
    try:
        there = next(path for path in (folder, *folder.parents) if path.exists() or path.is_symlink())
        with tempfile.TemporaryFile(dir=there):
            return ""
    except OSError as error:
        return error.strerror or str(error)
