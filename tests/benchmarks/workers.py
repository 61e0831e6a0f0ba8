"""What workers give, and what it costs to have them: the same run by this process, by one worker, by two.

    python -m tests.benchmarks.workers [--workers 1,2] [--rounds 2] -- OVERRIDES...

Every run is a process of its own, one thread each, in turn, so that what else the machine does falls on all alike. What
is timed is the stage of attacks as run.json has it: for workers it begins before Ray is started and ends when the last
part is written. The records must be the same, outcome for outcome. `one part` is the local run with all samples of an
attack in one part: what is beyond it is what parts cost.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from eval.records import Run, read_records

ROOT = Path(__file__).parents[2]
USUAL = (
    "model=factory", "model.path={data}/nets.py:mnist_lenet5_adv", "data=mnist", "paths.data={data}", "data.limit=3072",
    "threat=linf_0_3", "threat.curve=[]", "attack=[pgd]", "attack.pgd.steps=100", "attack.pgd.restarts=2",
    "attack.pgd.early_stop=false", "controls=false",
)  # fmt: skip


def timed(folder: Path, overrides: Sequence[str]) -> float:
    """Seconds that the stage of attacks took, by the clock."""
    done = subprocess.run(
        [sys.executable, "-m", "eval", *overrides, f"run.dir={folder}"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stdout)
    return Run.read(folder).wall_seconds["attacks"]


def main() -> None:
    """Time all ways, and print their medians, and ratios of the same round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", default="1,2", help="numbers of workers, the first 1")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--shard", type=int, default=128, help="samples of a part")
    parser.add_argument("overrides", nargs="*", default=list(USUAL))
    asked = parser.parse_args()
    data = os.environ.get("TOASTPROOF_DATA", "data")
    overrides = [text.format(data=data) for text in asked.overrides]
    ways = {"one part": ["run.shard=1000000"], "local": [f"run.shard={asked.shard}"]}
    for count in map(int, asked.workers.split(",")):
        ways[f"{count} on Ray"] = [f"run.shard={asked.shard}", "run.backend=ray", f"run.workers={count}"]
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as place:
        for turn in range(asked.rounds):
            frames = {}
            for name, more in ways.items():
                folder = Path(place) / f"{turn} {name}".replace(" ", "_")
                seconds[name].append(timed(folder, [*overrides, *more]))
                frames[name] = read_records(folder).drop(columns="seconds")
                print(f"round {turn + 1}: {name}: {seconds[name][-1]:.1f} s", flush=True)
            for name, frame in frames.items():
                pd.testing.assert_frame_equal(frame, frames["local"], check_categorical=False, obj=name)
    pairs = [
        ("local", "one part"),
        ("1 on Ray", "local"),
        *((f"{c} on Ray", "1 on Ray") for c in asked.workers.split(",")[1:]),
    ]
    ratios = {f"{a} / {b}": [x / y for x, y in zip(seconds[a], seconds[b], strict=True)] for a, b in pairs}
    told = {"seconds": seconds, "ratios": {k: [round(r, 3) for r in v] for k, v in ratios.items()}}
    print(json.dumps(told, indent=2))
    for name, found in ratios.items():
        print(f"{name}: {statistics.median(found):.3f} ({min(found):.3f} to {max(found):.3f}, {len(found)} rounds)")


if __name__ == "__main__":
    main()
