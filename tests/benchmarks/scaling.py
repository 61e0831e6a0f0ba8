"""Where a run stops scaling: what the driver spends on a part, measured, and clusters of up to 3,000 workers on paper.

    python -m tests.benchmarks.scaling                 # about a minute
    python -m tests.benchmarks.scaling --seconds 0.05  # a sample takes less: the driver is at its limit sooner
    python -m tests.benchmarks.scaling --ray           # what Ray itself takes on this machine, too

The driver's part is `in_turn` with real locks, real files and parts of a real size, and Ray's on request. All else is
simulated with `tests.benchmarks.simulated_cluster`, and the same for the same seed: efficiency is the share of the
workers' time that went into parts that were made. Beside it stands what `eval.forecast` says without any simulation.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from eval.claim import Claims
from eval.cluster.parcel import Sent, before
from eval.forecast import predict
from eval.records import has_part, part_file, write_part
from eval.schedule import in_turn
from tests.benchmarks.made_parts import part
from tests.benchmarks.simulated_cluster import World
from tests.benchmarks.simulation import LEVELS, Outcome, Work, job, networks, simulate

WORKERS = (1, 10, 100, 300, 1000, 3000)
SHARDS = (512, 128, 32)


@dataclass(frozen=True)
class _Job:
    part: str
    after: str | None


class _Instant:
    """A crew whose workers take no time: only the driver works."""

    def __init__(self, folder: Path, files: bytes, room: int) -> None:
        self._folder, self._files, self._room = folder, files, room
        self._pending: list[_Job] = []

    def slots(self) -> int:
        return self._room

    def begin(self, task: _Job) -> None:
        before(task, self._folder)  # type: ignore[arg-type] - its names are all that is read
        self._pending.append(task)

    def finished(self, patience: float | None) -> Sequence[tuple[_Job, str]]:
        task = self._pending.pop(0)
        Sent("", {f"parts/{task.part}.parquet": self._files}).unpack(self._folder)
        return [(task, "")]


@dataclass(frozen=True)
class Spent:
    """By the driver on a part: seconds of CPU and on the clock; and the bytes of the part."""

    cpu: float
    wall: float
    bytes: int


def driver(parts: int, samples: int, room: int = 100) -> Spent:
    """What handing out and taking back costs, half of the parts built on another one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_part(folder, "typical", part(0, np.full(samples, 0.5)))
        files = part_file(folder, "typical").read_bytes()
        tasks = [_Job(f"{i:032x}", f"{i - 1:032x}" if i % 2 else None) for i in range(parts)]
        with Claims(folder, lambda part: has_part(folder, part)) as claims:
            cpu, wall = time.process_time(), time.perf_counter()
            for _ in in_turn(tasks, _Instant(folder, files, room), claims):
                pass
            return Spent((time.process_time() - cpu) / parts, (time.perf_counter() - wall) / parts, len(files))


def of_ray(parts: int, size: int) -> dict[str, float]:
    """Milliseconds of this process's CPU for a task with Ray: calling it and getting its bytes, and asking for some."""
    import ray

    ray.init(num_cpus=1, include_dashboard=False, configure_logging=False, log_to_driver=False)
    try:
        made = ray.remote(num_cpus=1, max_retries=3)(lambda _, content: content)
        ray.get(made.remote("", b""))
        known, content = [ray.put(b"")], b"0" * size
        cpu = time.process_time()
        for reference in [made.options(name="net: standard 8/255").remote(known, content) for _ in range(parts)]:
            ray.get(reference)
        found = {"a task": 1e3 * (time.process_time() - cpu) / parts}
        sleep = ray.remote(num_cpus=1)(lambda: time.sleep(3600))
        for many in (100, 1000, 3000):
            pending = [sleep.remote() for _ in range(many)]
            cpu = time.process_time()
            for _ in range(10):
                ray.wait(pending, num_returns=1, timeout=0)
            found[f"ray.wait of {many:,}"] = 1e3 * (time.process_time() - cpu) / 10
            for reference in pending:
                ray.cancel(reference, force=True)
        return found
    finally:
        ray.shutdown()


def table(works: dict[str, Work], world: World, seed: int, workers: Sequence[int] = WORKERS) -> list[str]:
    """Efficiency of each run on clusters of each size, and what the forecast says of it."""
    lines = [f"{'':28}{'parts':>8}" + "".join(f"{number:>16,}" for number in workers)]
    for name, work in works.items():
        parts = work.parts(seed)
        cells = []
        for number in workers:
            this = replace(world, workers=number, seed=seed)
            found, said = simulate(parts, this), predict(job(work, this), number, work.shard)
            if found.faults:
                raise RuntimeError(f"{name}, {number} workers: {found.faults[0]}")
            cells.append(f"{found.efficiency(number):6.1%} ({said.busy:6.1%})")
        lines.append(f"{name:<28}{len(parts):>8,}" + "".join(f"{cell:>16}" for cell in cells))
    return lines


def told(name: str, outcome: Outcome, workers: int) -> str:
    """One line on what came of it."""
    dead, at_work = outcome.deaths
    lost = outcome.lost / (outcome.work + outcome.lost)
    return (
        f"{name:<44}{outcome.seconds / 60:8.1f} min{outcome.efficiency(workers):8.1%}  made {outcome.made:,}, given up "
        f"{outcome.given_up}, deaths {dead} ({at_work} at work, {lost:.2%} of the time), faults {len(outcome.faults)}"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--models", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=0.5, help="of a worker for a sample, mean of the networks")
    parser.add_argument("--parts", type=int, default=400, help="that the driver is timed on")
    parser.add_argument("--driver", type=float, help="seconds that it spends on a part, in place of the measured ones")
    parser.add_argument("--ray", action="store_true", help="measure Ray's share, too")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    """Print the tables."""
    options: Any = _options()
    spent = driver(options.parts, 512)
    print(f"driver, {options.parts} parts of 512 samples, {spent.bytes:,} bytes each: "
          f"{1e3 * spent.cpu:.2f} ms of CPU, {1e3 * spent.wall:.2f} ms on the clock for a part")  # fmt: skip
    each = spent.cpu
    if options.ray:
        asked = of_ray(options.parts, spent.bytes)
        for what, milliseconds in asked.items():
            print(f"Ray, {what}: {milliseconds:.2f} ms of CPU")
        each += 1e-3 * (asked["a task"] + 2 * asked["ray.wait of 1,000"])  # it is asked twice for each that is done
    each = options.driver if options.driver is not None else each
    world = World(workers=1, begin=each / 2, finish=each / 2)
    equal = networks(options.models, options.seconds, "equal")
    print(f"\n{options.samples:,} samples x {options.models} networks, {options.seconds:g} s a sample")
    print(f"{1e3 * each:.1f} ms of the driver for a part: efficiency (forecast)")
    one = {f"shard {s}": Work(options.samples, equal, (1.0,), s) for s in SHARDS}
    four = {f"4 eps chained, shard {s}": Work(options.samples, equal, LEVELS, s) for s in SHARDS}
    print("\n".join(table(one | four, world, options.seed)))
    print("\nnetworks that differ six times")
    orders = {"slowest last": "ascending", "slowest first": "descending"}
    costs = {name: networks(options.models, options.seconds, order) for name, order in orders.items()}
    rows = {f"{n}, shard {s}": Work(options.samples, c, (1.0,), s) for n, c in costs.items() for s in SHARDS}
    print("\n".join(table(rows, world, options.seed)))
    print("\n1,000 workers, 4 eps chained, shard 128")
    large = replace(world, workers=1000, seed=options.seed)
    parts = Work(options.samples, equal, LEVELS, 128).parts(options.seed)
    mortal = replace(large, worker_lives=6 * 3600.0, node_lives=48 * 3600.0)
    frail = replace(large, worker_lives=600.0, node_lives=3600.0)
    worlds = {
        "nobody dies": large,
        "a worker lives 6 h, a node 2 days": mortal,
        "a worker lives 10 min, a node 1 h": frail,
        "the same, no retries": replace(frail, retries=0),
        "500 workers leave after 5 min": replace(mortal, changes=((300.0, -62),)),
        "8 at first, 992 more after 1 min": replace(mortal, workers=8, changes=((60.0, 124),)),
        "the same, the driver looks every 5 s": replace(mortal, workers=8, changes=((60.0, 124),), impatient=True),
    }
    for name, this in worlds.items():
        print(told(name, simulate(parts, this), 1000))


if __name__ == "__main__":
    main()
