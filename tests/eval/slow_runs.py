"""Runs as processes of their own, which note what they make and take their time for it, so that things can happen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd

from eval.records import read_records
from tests.eval.swept_jobs import env

PROGRAM = """
import sys, time
from pathlib import Path
import eval.make
from eval.__main__ import main
real, log, other, pause = eval.make.craft, Path(sys.argv.pop(1)), Path(sys.argv.pop(1)), float(sys.argv.pop(1))
def craft(bench, unit, *rest):
    with log.open("a") as file:
        file.write(f"{unit.source} {unit.attack_name} {unit.text} {unit.index[0]}\\n")
    patience = time.monotonic() + 120
    while not other.exists():
        assert time.monotonic() < patience, f"{other} must be there by now"
        time.sleep(0.05)
    time.sleep(pause)
    return real(bench, unit, *rest)
eval.make.craft = craft
main()
"""


def begin(home: Path, *arguments: str, log: str = "log", waits_for: str = "", pause: float = 0.0) -> subprocess.Popen:
    """A run in the folder `home`.

    Args:
        home: where networks are kept, too.
        arguments: of the command.
        log: name of the file there that gets a line for each unit of work that is begun.
        waits_for: name of a file there that must be before the first unit is done.
        pause: seconds that each unit takes longer.
    """
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(home / log), str(home / (waits_for or log)), str(pause), *arguments],
        cwd=home,
        env=env(home / "checkpoints"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process: subprocess.Popen) -> tuple[int, str]:
    """The exit status, and all that it said."""
    with process:
        said = process.communicate()[0]
    return process.returncode, said


def begun(home: Path, log: str = "log") -> list[str]:
    """The units that a run began with."""
    return (home / log).read_text().splitlines() if (home / log).exists() else []


def records(folder: Path) -> pd.DataFrame:
    """What is the same whenever and wherever it is measured."""
    return read_records(folder).drop(columns="seconds")
