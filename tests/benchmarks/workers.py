"""What workers give, and what it costs to have them: the same run by this process, by one worker, by two.

    python -m tests.benchmarks.workers [--workers 1,2] [--rounds 2] -- OVERRIDES...

Every run is a process of its own, one thread each, in turn, so that what else the machine does falls on all alike. What
is timed is the stage of attacks as run.json has it: for workers it begins before Ray is started and ends when the last
part is written. The same parts must hold the same records, number by number. `one part` is the local run with all
samples of an attack in one part, and so in larger batches, which round otherwise: how many outcomes that changes is
told. What is beyond it is what parts cost. `2 side by side` are as many local runs at the same time as there are
workers, each of everything, their mean time divided by their number: what the machine allows, whose cores share caches
and memory, as far as its speed was the same.
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


def begun(folder: Path, overrides: Sequence[str]) -> subprocess.Popen[str]:
    """A run, in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "eval", *overrides, f"run.dir={folder}"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def timed(folders: Sequence[Path], overrides: Sequence[str]) -> float:
    """Seconds by the clock that the stage of attacks took, of runs side by side: their mean, over their number."""
    processes = [begun(folder, overrides) for folder in folders]
    said = [process.communicate()[0] for process in processes]
    for process, text in zip(processes, said, strict=True):
        if process.returncode:
            raise SystemExit(text)
    return statistics.mean(Run.read(folder).wall_seconds["attacks"] for folder in folders) / len(folders)


def main() -> None:
    """Time all ways, and print their medians, and ratios of the same round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", default="1,2", help="numbers of workers, the first 1")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--shard", type=int, default=128, help="samples of a part")
    parser.add_argument("--ways", help="these alone, and `local`: 'one part', '1 on Ray', '2 side by side', ...; all")
    parser.add_argument("overrides", nargs="*", default=list(USUAL))
    asked = parser.parse_args()
    data = os.environ.get("TOASTPROOF_DATA", "data")
    overrides = [text.format(data=data) for text in asked.overrides]
    counts = list(map(int, asked.workers.split(",")))
    shard = [f"run.shard={asked.shard}"]
    ways = {"one part": (1, ["run.shard=1000000"]), "local": (1, shard)}
    for count in counts:
        if count > 1:
            ways[f"{count} side by side"] = (count, shard)
        ways[f"{count} on Ray"] = (1, [*shard, "run.backend=ray", f"run.workers={count}"])
    if asked.ways is not None:
        ways = {name: way for name, way in ways.items() if name in ("local", *asked.ways.split(","))}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as place:
        for turn in range(asked.rounds):
            frames = {}
            for name, (many, more) in ways.items():
                folders = [Path(place) / f"{turn} {name} {k}".replace(" ", "_") for k in range(many)]
                seconds[name].append(timed(folders, [*overrides, *more]))
                frames[name] = read_records(folders[0]).drop(columns="seconds")
                print(f"round {turn + 1}: {name}: {seconds[name][-1]:.1f} s", flush=True)
            whole = frames.pop("one part", None)
            for name, frame in frames.items():
                pd.testing.assert_frame_equal(frame, frames["local"], obj=name)
            if whole is not None:
                searched = whole["role"] == "attack"
                other = (whole["success"] != frames["local"]["success"])[searched].sum()
                print(f"in one part {other} of {searched.sum()} outcomes are others")
    pairs = [("local", "one part"), (f"{counts[0]} on Ray", "local")]
    for count in counts:
        pairs += [(f"{counts[0]} on Ray", f"{count} on Ray")] if count != counts[0] else []
        pairs += [("local", f"{count} on Ray"), ("local", f"{count} side by side")] if count > 1 else []
    ratios = {
        f"{a} / {b}": [x / y for x, y in zip(seconds[a], seconds[b], strict=True)]
        for a, b in pairs
        if {a, b} <= set(ways)
    }
    told = {"seconds": seconds, "ratios": {k: [round(r, 3) for r in v] for k, v in ratios.items()}}
    print(json.dumps(told, indent=2))
    for name, found in ratios.items():
        print(f"{name}: {statistics.median(found):.3f} ({min(found):.3f} to {max(found):.3f}, {len(found)} rounds)")


if __name__ == "__main__":
    main()
