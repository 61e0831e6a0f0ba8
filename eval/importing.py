"""Importing much at once. Free of everything but the standard library."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Import without the garbage collector, and never let it see what was imported.

    What modules make stays to the end. To look for cycles among it again and again while it grows takes a sixth of the
    time that importing PyTorch takes, and to look through it later slows down a run.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)  # libraries that count their objects at the end find none left over
        gc.enable()
