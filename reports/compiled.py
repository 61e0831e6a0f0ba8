"""Templates are compiled once, and kept where Python keeps its own bytecode: a tenth of what a report takes."""

from __future__ import annotations

import hashlib
import pickle
import sys
from contextlib import suppress
from importlib.util import MAGIC_NUMBER, cache_from_source
from pathlib import Path

import jinja2
from jinja2 import FileSystemBytecodeCache
from jinja2.bccache import Bucket

_TORN = (pickle.UnpicklingError, AttributeError, EOFError, ImportError, IndexError, TypeError, ValueError)
"""What reading a file that was damaged raises, by the documentation of `pickle` and `marshal`."""


class Compiled(FileSystemBytecodeCache):
    """Compiled templates in a folder; where that cannot be, they are compiled each time, as Python's own files are."""

    def load_bytecode(self, bucket: Bucket) -> None:
        """Take what was compiled, if it is there and whole."""
        try:
            super().load_bytecode(bucket)
        except (OSError, *_TORN):  # it is compiled anew
            bucket.reset()

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep what was compiled, if that is possible."""
        with suppress(OSError):
            Path(self.directory).mkdir(parents=True, exist_ok=True)
            super().dump_bytecode(bucket)


def compiled(templates: Path, settings: Path) -> Compiled | None:
    """Where the compiled form of the files in `templates` is kept; None where Python is told to keep no bytecode.

    Args:
        templates: their folder.
        settings: the file that says how they are compiled, of which, as of Jinja, another one asks for another form.
    """
    if sys.dont_write_bytecode or sys.implementation.cache_tag is None:
        return None
    folder = Path(cache_from_source(str(templates / "any.py"))).parent
    known = hashlib.sha256(settings.read_bytes() + MAGIC_NUMBER + jinja2.__version__.encode()).hexdigest()[:16]
    return Compiled(str(folder), f"%s.{known}.jinja")
