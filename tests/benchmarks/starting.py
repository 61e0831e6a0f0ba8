"""What commands take from their start: help, a report of 100,068 records, and a run up to its first attack step.

Whole processes, files in the system's cache; medians of wall and CPU time (user and system). Importing what a command
cannot do without stands beside it: other work on the machine slows down both.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
_CODE = """
import os, sys, time
began = time.perf_counter()

def told(*_):
    print(f"\\n[{time.perf_counter() - began}, {time.process_time()}]", flush=True)
    os._exit(0)

what, *sys.argv[1:] = sys.argv[1:]
if what == "import":
    for name in sys.argv[1:]:
        __import__(name)
    told()
if what == "first":
    import eval.meter
    eval.meter.Meter._asked = told
    what = "eval.__main__"
try:
    __import__(what, fromlist=["main"]).main()
except SystemExit as end:
    assert not end.code, end.code
told()
"""


def timed(arguments: list[str], runs: int) -> tuple[float, float]:
    """Median wall and CPU seconds of a process, after one that is not counted."""
    found = []
    for _ in range(runs + 1):
        done = subprocess.run(
            [sys.executable, "-c", _CODE, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        )
        found.append(json.loads(done.stdout.splitlines()[-1]))
    return median(wall for wall, _ in found[1:]), median(cpu for _, cpu in found[1:])


def made(folder: Path) -> Path:
    """A run of 1,076 samples, three networks and three attacks, judged on all networks, with controls: 93 parts."""
    spec = importlib.util.spec_from_file_location("made_runs", ROOT / "tests" / "reports" / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return Path(module.build_run(folder, n=1076))


def main() -> None:
    """Print one line per command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kept = [f"paths.checkpoints={folder / 'checkpoints'}"]
        default = [*kept, f"hydra.run.dir={folder / 'default'}"]
        one = [*kept, f"hydra.run.dir={folder / 'one'}", "model=softmax"]
        subprocess.run([sys.executable, "-m", "eval", *default, "attack=fgsm"], cwd=ROOT, check=True)  # trains
        default[-1] += "-again"
        run = str(made(folder / "run"))
        commands = {
            "toastproof --help": ["eval.__main__", "--help"],
            "toastproof experiment=transfer --help": ["eval.__main__", "experiment=transfer", "--help"],
            "toastproof-report --help": ["reports.__main__", "--help"],
            "toastproof-gate --help": ["reports.gate.__main__", "--help"],
            "toastproof-report, 100,068 records": ["reports.__main__", run],
            "  imports of pandas, pyarrow, jinja2": ["import", "pandas", "pyarrow.parquet", "jinja2"],
            "toastproof model=softmax, first step": ["first", *one],
            "toastproof, first step": ["first", *default],
            "  import of torch": ["import", "torch"],
        }
        print(f"{'':42}{'wall s':>8}{'CPU s':>8}   n = {runs}")
        for text, arguments in commands.items():
            wall, cpu = timed(arguments, runs)
            print(f"{text:42}{wall:8.2f}{cpu:8.2f}", flush=True)


if __name__ == "__main__":
    main()
