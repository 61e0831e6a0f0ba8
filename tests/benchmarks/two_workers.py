"""How much faster several workers on Ray are than one, on a machine whose speed drifts.

    python -m tests.benchmarks.two_workers [--workers 2] [-- OVERRIDES...]

One run on Ray, in blocks: one part alone, then as many parts at the same time as there are workers, twice, then one
alone again, and so on; within a block nothing else is handed out. A block lasts seconds, so that what else the machine
does falls on neighbours alike; `tests.benchmarks.workers` times whole runs, minutes apart. What is told is the speed of
each pair of neighbours: parts a second with all workers, over parts a second with one. Networks are built and warm by
then: the start of Ray is no part of it, and is told beside. The first pair is left out.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any, Self
from unittest.mock import patch

import numpy as np
from hydra import compose, initialize_config_dir
from rich.console import Console

from eval.cluster.workers import Cluster
from eval.jobs import Job
from eval.make import Made
from eval.run import run
from eval.schema import CONF, register
from tests.benchmarks.workers import USUAL

_DRAWS = 10_000  # of the bootstrap


class Blocks(Cluster):
    """A crew that works in blocks, and keeps how long each took.

    Attributes:
        most: parts of the blocks that are of several.
        seconds: of each block, with the number of its parts.
        started: seconds until Ray was there.
    """

    most = 2
    seconds: list[tuple[int, float]] = []  # noqa: RUF012 - of the one run
    started = 0.0

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._begun, self._left, self._from = 0, 0, 0.0

    def __enter__(self) -> Self:
        began = monotonic()
        super().__enter__()
        type(self).started = monotonic() - began
        return self

    @property
    def _parts(self) -> int:
        """Of the block that is under way: 1, all, all, 1, and again, so that a steady drift cancels."""
        return self.most if len(self.seconds) % 4 in (1, 2) else 1

    def slots(self) -> int:
        """No more than have been handed out, once the block is whole."""
        return self._parts if self._begun < self._parts else self._left

    def begin(self, task: Job) -> None:
        """Hand out a part of the block."""
        if self._begun == 0:
            self._from = monotonic()
        self._begun, self._left = self._begun + 1, self._left + 1
        super().begin(task)

    def finished(self, patience: float | None) -> Sequence[tuple[Job, Made]]:
        """What came of parts; notes the block where it is done."""
        done = super().finished(patience)
        self._left -= len(done)
        if done and self._left == 0:
            if self._begun == self._parts:  # the last block of a run may lack some
                self.seconds.append((self._begun, monotonic() - self._from))
            self._begun = 0
        return done


def ratios(seconds: Sequence[tuple[int, float]]) -> list[float]:
    """Speed of all workers over that of one, of each pair of neighbours, from the second pair on."""
    pairs = zip(seconds[2::2], seconds[3::2], strict=False)
    found = []
    for pair in pairs:
        (_, one), (parts, several) = sorted(pair)
        found.append(parts * one / several)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, and print what the blocks took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--shard", type=int, default=64, help="samples of a part")
    parser.add_argument("overrides", nargs="*", default=list(USUAL))
    asked = parser.parse_args(arguments)
    os.environ["OMP_NUM_THREADS"] = "1"
    Blocks.most, Blocks.seconds = asked.workers, []
    data = os.environ.get("TOASTPROOF_DATA", "data")
    overrides = [text.format(data=data) for text in asked.overrides]
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        more = [f"run.shard={asked.shard}", "run.backend=ray", f"run.workers={asked.workers}"]
        cfg = compose("config", [*overrides, *more])
    with tempfile.TemporaryDirectory() as place, patch("eval.cluster.workers.Cluster", Blocks):
        run(cfg, Path(place), overrides, Console(quiet=True))
    found = ratios(Blocks.seconds)
    if not found:
        raise SystemExit("two_workers: there must be parts for four blocks at least; write a smaller --shard")
    drawn = np.random.default_rng(0).choice(found, (_DRAWS, len(found)))
    low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
    for parts in (1, asked.workers):
        took = [s for n, s in Blocks.seconds[2:] if n == parts]
        print(
            f"{parts} at a time: {np.median(took):.2f} s a block ({min(took):.2f} to {max(took):.2f}, n = {len(took)})"
        )
    print(f"Ray was there after {Blocks.started:.1f} s")
    print(
        f"{asked.workers} workers are {np.median(found):.2f} times as fast as one "
        f"(median of {len(found)} pairs of blocks; 95% bootstrap interval {low:.2f} to {high:.2f}, seed 0)"
    )


if __name__ == "__main__":
    main()
