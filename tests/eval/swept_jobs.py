"""Sweeps for the tests of launchers: networks of a user's, and what is left when the command has ended."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

from eval.records import read_records

ROOT = Path(__file__).parents[2]
QUICK = ["-m", "debug=quick", "attack=[fgsm]"]
RAY = ["hydra/launcher=ray", "hydra.launcher.cpus=0.5"]  # two at a time on any machine
NETS = """
import os
import signal
import sys
import time
from pathlib import Path

from torch import nn


class Net(nn.Module):
    def __init__(self, pause=0):
        super().__init__()
        self.layer, self.pause = nn.Linear(64, 10), pause

    def forward(self, x):
        time.sleep(self.pause)
        return self.layer(x.flatten(1))


def crash(*arguments, **keywords):
    raise RuntimeError("no kernel for this")


def good():
    return Net()


def slow():
    return Net(0.1)


def crashing():  # after `good`, which may be in the same process
    sys.modules["attacks.fgsm"].FGSM.__call__ = crash
    return Net()


def once():
    if not Path("died").exists():
        Path("died").touch()
        print("its last words", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return Net()


def always():
    os.kill(os.getpid(), signal.SIGKILL)
"""


def networks(folder: Path, *names: str) -> list[str]:
    """The overrides of a sweep over networks of the user's."""
    (folder / "nets.py").write_text(NETS)
    return [*QUICK, "model=factory", f"model.path={','.join(f'nets.py:{name}' for name in names)}"]


COMMAND = [sys.executable, "-c", "from eval.__main__ import main; main()"]


ASKED = ("HYDRA_FULL_ERROR", "TOASTPROOF_TRACEBACK")
"""The variables of a user who wants tracebacks in place of one line."""


def env(checkpoints: Path, **more: str) -> dict[str, str]:
    """The environment of a command in a process of its own, which gets no tracebacks whatever the tests' own asks."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "eval" / "plugin")])
    shell = {name: value for name, value in os.environ.items() if name not in ASKED}
    return {**shell, "PYTHONPATH": path, "TOASTPROOF_CHECKPOINTS": str(checkpoints), **more}


def run(arguments: list[str], folder: Path, checkpoints: Path) -> tuple[int, str]:
    """The exit status of a command in a process of its own, and what it said to standard error."""
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=folder, env=env(checkpoints), capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


def told(folder: Path) -> dict[str, list[str]]:
    """The columns of a combined report that say what became of the jobs."""
    table = pd.read_csv(folder / "sweep.csv", keep_default_na=False).drop_duplicates("job")
    return {column: list(table[column]) for column in ("job", "status", "error")}


def same_records(one: Path, other: Path) -> None:
    found = [read_records(folder) for folder in (one, other)]
    timed = [column for column in found[0].columns if "seconds" in column]
    assert timed
    pd.testing.assert_frame_equal(*(records.drop(columns=timed) for records in found))


def left_over(mark: str) -> list[str]:
    """The command lines of the processes that were started with this in their environment and are still there."""
    return list(marked(mark).values())


def marked(mark: str) -> dict[int, str]:
    """The command lines of the processes that were started with this in their environment, by their numbers."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes():
                found[int(path.parent.name)] = (path.parent / "cmdline").read_text().replace("\0", " ")
        except OSError:  # gone, or another user's
            continue
    return found
