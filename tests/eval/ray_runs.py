"""Runs whose parts are made by workers on Ray, for the tests of them, and the processes that these workers are."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from tests.eval.swept_jobs import marked

SMALL = (
    "debug=quick", "model=[softmax,mlp_relu]", "attack=[fgsm,pgd]", "transfer=false", "run.shard=16",
    "debug.curve=true", "threat.curve=['0.02','0.2']",
)  # fmt: skip
"""Chains of three eps on three shards, of two attacks and two networks."""

SLOW = ("debug=quick", "model=[softmax]", "attack=[pgd]", "attack.pgd.steps=400", "debug.attack={}", "run.shard=2")
"""Twenty parts of a second or so."""


def parts(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "parts").glob("*.parquet"))


def listening() -> Console:
    """A console whose `export_text` says what was told."""
    return Console(record=True, file=io.StringIO(), width=300)


def workers(mark: str, of: str) -> list[int]:
    """The processes of workers, started with the mark in their environment, at parts whose names begin like this."""
    return [pid for pid, command in marked(mark).items() if command.startswith(f"ray::{of}")]


def when(condition: Callable[[], object], act: Callable[[], object]) -> threading.Thread:
    """Do something as soon as a condition holds, beside what is done meanwhile."""

    def wait() -> None:
        while not condition():
            time.sleep(0.05)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread
