"""How often the gate raises a false alarm, and how often it finds a true loss, on the records of a real run.

`python -m tests.benchmarks.gate_power RUN...` takes the outcomes that runs have of their samples, and makes of them
many pairs of a baseline and a run:

1. n samples are drawn with replacement, each with its outcomes in all cells: they depend on each other as they do.
2. The run is the baseline with some samples changed by chance, as training again or other rounding does: they take the
   outcomes of another sample, drawn at random. Neither of the two is better then. `churn` is the share of the n samples
   that falls in the headline cell; as many come back.
3. To lose `drop`, samples that hold in the headline cell of the first network take, with that chance on top, its
   outcomes on one that does not.

The gate has its own defaults; the more networks share them, the less is found in each. Beside it stand the two rules
that are in use: a z-test of two independent shares at the same alpha, and a fixed threshold of 2 points, both on the
headline cell.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from eval.errors import InputError
from eval.gate.compare import compare
from eval.gate.outcomes import BROKEN, HELD, Cell, Outcomes
from eval.gate.paired import Rules
from eval.gate.snapshot import Snapshot, read_run
from eval.intervals import wilson

Generator = np.random.Generator
Held = npt.NDArray[np.bool_]

FALSE, FOUND = 0.01, 0.90
SCENARIOS = ((1000, 0.0, 0.03), (200, 0.0, 0.03), (1000, 0.02, 0.005), (5000, 0.01, 0.005))
"""Samples, true loss, churn."""
_THRESHOLD = 0.02


@dataclass(frozen=True)
class Line:
    """How often each rule raised an alarm in a scenario, of `trials`."""

    run: str
    networks: int
    cells: int
    n: int
    drop: float
    churn: float
    trials: int
    gate: int
    unpaired: int
    threshold: int

    @property
    def held(self) -> bool:
        """Whether the gate does what it must: false alarms at most 1%; of one network losses found in 90%."""
        if self.networks > 1 and self.drop:
            return True
        return self.gate / self.trials <= FALSE if self.drop == 0 else self.gate / self.trials >= FOUND

    def __str__(self) -> str:
        low, high = wilson(self.gate, self.trials)
        what = "false alarms" if self.drop == 0 else "found"
        drop = "0" if self.drop == 0 else f"{100 * self.drop:g} points"
        shares = [f"{k / self.trials:.3f}" for k in (self.gate, self.unpaired, self.threshold)]
        return (
            f"| {self.run} | {self.networks} | {self.cells} | {self.n}, {drop}, {self.churn:.1%} "
            f"| {shares[0]} [{low:.3f}, {high:.3f}] {what} | {shares[1]} | {shares[2]} |"
        )


HEADER = (
    "| records | networks | cells | n, true drop, churn | gate | unpaired z | fixed 2-point threshold |\n"
    "|---|---|---|---|---|---|---|"
)


class Records:
    """The outcomes of a run: held (S, k) by sample and cell, without samples that lack one."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.model = next(iter(snapshot.models))  # the one that gets worse
        self.cells = list(snapshot.cells)
        self.mine = np.array([cell.model == self.model for cell in self.cells])
        outcomes = np.stack([snapshot.cells[cell] for cell in self.cells], axis=1)
        self.held: Held = outcomes[(outcomes <= HELD).all(1)] == HELD
        self.headline = self.cells.index(snapshot.foremost(self.model))

    def pair(self, n: int, drop: float, churn: float, rng: Generator) -> tuple[Held, Held]:
        """Outcomes (n, k) of a baseline and of a run."""
        before = self.held[rng.integers(len(self.held), size=n)]
        after, up = before.copy(), self.held[:, self.headline]
        share, broken = float(up.mean()), np.flatnonzero(~up)
        changed = np.flatnonzero(rng.random(n) < churn / (share * (1 - share)))
        after[changed] = self.held[rng.integers(len(self.held), size=len(changed))]
        lost = np.flatnonzero(before[:, self.headline] & (rng.random(n) < drop / share))
        instead = self.held[broken[rng.integers(len(broken), size=len(lost))]]
        after[lost] = np.where(self.mine, instead, after[lost])
        return before, after

    def as_snapshot(self, held: Held) -> Snapshot:
        """A snapshot with these outcomes."""
        names = tuple(map(str, range(len(held))))
        cells: dict[Cell, Outcomes] = {
            cell: np.where(held[:, i], HELD, BROKEN).astype(np.uint8) for i, cell in enumerate(self.cells)
        }
        one = self.snapshot
        return Snapshot(one.where, one.question, {}, dict.fromkeys(one.models, ""), names, cells)


def _unpaired(before: Held, after: Held, alpha: float) -> bool:
    p, q, n = before.mean(), after.mean(), len(before)
    spread = ((p * (1 - p) + q * (1 - q)) / n) ** 0.5
    return bool(spread > 0 and (p - q) / spread > NormalDist().inv_cdf(1 - alpha))


def simulate(records: Records, name: str, scenario: tuple[int, float, float], trials: int, seed: int = 0) -> Line:
    """How often the rules raise an alarm in a scenario."""
    n, drop, churn = scenario
    rng, rules = np.random.default_rng([seed, n, round(drop * 1e4), round(churn * 1e4)]), Rules()
    counts = np.zeros(3, dtype=int)
    for _ in range(trials):
        before, after = records.pair(n, drop, churn, rng)
        found = compare(records.as_snapshot(before), records.as_snapshot(after), rules)
        was, now = before[:, records.headline], after[:, records.headline]
        counts += [not found.passed, _unpaired(was, now, rules.alpha), was.mean() - now.mean() >= _THRESHOLD]
    gate, unpaired, threshold = map(int, counts)
    return Line(
        name, len(records.snapshot.models), len(records.cells), n, drop, churn, trials, gate, unpaired, threshold
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if the gate does not do what it must."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", nargs="+", type=Path, help="folders of runs")
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    try:
        subjects = {run.name: Records(read_run(run)) for run in chosen.run}
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(HEADER, flush=True)
    lines = []
    for name, records in subjects.items():
        for scenario in SCENARIOS:
            lines.append(simulate(records, name, scenario, chosen.trials, chosen.seed))
            print(lines[-1], flush=True)
    return 0 if all(line.held for line in lines) else 1


if __name__ == "__main__":
    raise SystemExit(main())
