"""A run on a cluster that is made up: its parts, in the order of a real run, and what comes of them.

The networks, attacks and budgets of a run follow one another as `eval.jobs.jobs` has it: network by network, budget by
budget, shard by shard, a larger budget after the smaller one. What a shard takes is drawn around the mean of its
network and budget, log-normally, and less widely the more samples there are in it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eval.forecast import Chain, Job
from eval.schedule import in_turn
from tests.benchmarks.simulated_cluster import GIVEN_UP, MADE, Cluster, Part, World

LEVELS = (1.0, 0.7, 0.5, 0.3)
"""Of four budgets, each built on the one before: larger ones have fewer samples left."""
_UNEQUAL = 2.5  # how far the slowest and the fastest network are from the middle


@dataclass(frozen=True)
class Work:
    """A run.

    Attributes:
        samples: of each network.
        models: seconds a sample of each network, within the smallest budget.
        levels: of each budget, ascending, the share of that which it takes; each builds on the one before.
        shard: samples of a part.
        spread: standard deviation of the seconds of single samples, over their mean.
        noise: the same of a worker's speed from part to part.
    """

    samples: int
    models: tuple[float, ...]
    levels: tuple[float, ...] = (1.0,)
    shard: int = 512
    spread: float = 1.5
    noise: float = 0.05

    def parts(self, seed: int) -> list[Part]:
        """Its parts, in the order in which a run hands them out."""
        rng = np.random.default_rng(seed)
        starts = range(0, self.samples, self.shard)
        sizes = np.array([min(self.shard, self.samples - start) for start in starts])
        wide = np.sqrt(np.log1p(self.spread**2 / sizes + self.noise**2))
        found: list[Part] = []
        for model, cost in enumerate(self.models):
            for level, share in enumerate(self.levels):
                seconds = cost * share * sizes * np.exp(wide * rng.standard_normal(len(sizes)) - wide**2 / 2)
                for place, takes in enumerate(seconds.tolist()):
                    after = f"{model}/{level - 1}/{place}" if level else None
                    found.append(Part(f"{model}/{level}/{place}", after, takes))
        return found


def networks(number: int, seconds: float, order: str) -> tuple[float, ...]:
    """Seconds a sample of each network: unequal ones, `ascending` or `descending`, or `equal` ones."""
    if order == "equal":
        return (seconds,) * number
    raw = np.geomspace(1 / _UNEQUAL, _UNEQUAL, number)
    costs = tuple((raw * seconds / raw.mean()).tolist())
    return costs if order == "ascending" else costs[::-1]


def job(work: Work, world: World) -> Job:
    """What `eval.forecast` is told of the same."""
    total = sum(work.levels)
    single = math.sqrt(work.spread**2 + work.noise**2 * work.shard)
    wide = single * math.sqrt(sum(level**2 for level in work.levels)) / total
    chains = tuple(Chain(cost * total, wide, len(work.levels)) for cost in work.models)
    return Job(work.samples, chains, start=world.start, driver=world.begin + world.finish)


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        seconds: until everything was done.
        made, given_up: parts.
        work: seconds of workers on parts that were made.
        lost: seconds of workers on parts that they died at.
        deaths: of workers, and those of them that were at a part, which is then begun again.
        driver: seconds that the driver was busy.
        most: tasks in flight at once.
        faults: what a schedule must not do and this one did.
        digest: of what happened when.
    """

    seconds: float
    made: int
    given_up: int
    work: float
    lost: float
    deaths: tuple[int, int]
    driver: float
    most: int
    faults: tuple[str, ...]
    digest: str

    def efficiency(self, workers: int) -> float:
        """Share of the workers' time that went into parts that were made."""
        return self.work / (workers * self.seconds)


class Lone:
    """Claims in a folder that nobody else is at."""

    def __init__(self) -> None:
        self.held: set[str] = set()

    def take(self, part: str) -> str:
        """Whatever it is, it is ours."""
        self.held.add(part)
        return "mine"

    def release(self, part: str) -> None:
        """Let go."""
        self.held.remove(part)


def simulate(tasks: Sequence[Part], world: World) -> Outcome:
    """Have all tasks done in a cluster like that."""
    crew, claims = Cluster(world), Lone()
    ends: dict[str, str] = {}
    for ended in in_turn(tasks, crew, claims, wait=lambda _: crew.faults.append("waited with nobody to wait for")):
        if ended.task.part in ends or ended.result is None:
            crew.faults.append(f"{ended.task.part} ended twice, or without anybody")
        ends[ended.task.part] = ended.result or ""
    if missing := len({task.part for task in tasks} - set(ends)):
        crew.faults.append(f"{missing} parts were forgotten")
    if claims.held:
        crew.faults.append(f"{len(claims.held)} parts were not let go of")
    return Outcome(
        seconds=crew.now,
        made=sum(end == MADE for end in ends.values()),
        given_up=sum(end == GIVEN_UP for end in ends.values()),
        work=crew.work,
        lost=crew.lost,
        deaths=(crew.deaths, crew.deaths_at_work),
        driver=crew.driver,
        most=crew.most,
        faults=tuple(crew.faults),
        digest=hashlib.sha256(repr(crew.log).encode()).hexdigest(),
    )
