"""What a larger run will take, from what a smaller one took: hours of workers, hours on the clock, bytes on disk.

    work    = sum over chains of their seconds
    wall    = lead + start + max(work / workers + tail, longest chain, parts x driver)
    tail    = longest part under way at the end, less half of a mean one

A chain is what has to be done in turn: a shard, or the same shard within all budgets where each builds on the one
before. Chains advance together, so that all are in their last part at the end. While there are parts left, nobody
waits; then the workers end one by one, the last with the longest of theirs, while on average half of one is left when
the first finds nothing. Shards last log-normally long, the less alike the
fewer samples they have. The process that leads builds the networks and asks them for the unperturbed images alone.

Departures: workers that die are not foreseen, nor workers that slow one another down. Where networks differ in what
they take, the tail is that of the slowest, as if it came last. Free of torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

SHARDS = (512, 256, 128, 64, 32, 16, 8)
"""Sizes of shards that advice chooses from."""
ENOUGH = 0.95
"""Share of the time that workers should be busy."""


@dataclass(frozen=True)
class Chain:
    """What has to be done in turn on each shard.

    Attributes:
        seconds: of a worker, per sample.
        spread: standard deviation of the seconds of single samples, over their mean.
        parts: that it is written in.
    """

    seconds: float
    spread: float
    parts: int = 1

    def longest(self, shard: int, of: float) -> float:
        """Seconds that the longest of so many of these takes; never less than their mean."""
        wide = math.sqrt(math.log1p(self.spread**2 / shard))
        quantile = wide * NormalDist().inv_cdf(of / (of + 1.0)) - wide**2 / 2
        return self.seconds * shard * math.exp(max(quantile, 0.0))


@dataclass(frozen=True)
class Job:
    """What is to be done: each of the chains on all samples.

    Attributes:
        samples: of each network.
        chains: of all attacks on all networks.
        start: seconds until a worker has built its networks.
        lead: seconds that the leading process works before there is anything to hand out.
        driver: seconds that it spends on a part.
    """

    samples: int
    chains: Sequence[Chain]
    start: float = 0.0
    lead: float = 0.0
    driver: float = 0.0

    @property
    def work(self) -> float:
        """Seconds of workers."""
        return self.samples * sum(chain.seconds for chain in self.chains)


@dataclass(frozen=True)
class Forecast:
    """What so many workers will take.

    Attributes:
        workers: at once.
        shard: samples in a part.
        parts: that are written.
        work: seconds of all workers together.
        wall: seconds on the clock.
        limit: what another worker would not help against: `work` where it would, `tail`, `longest chain`, `driver` or
            `lead`.
    """

    workers: int
    shard: int
    parts: int
    work: float
    wall: float
    limit: str

    @property
    def busy(self) -> float:
        """Share of the workers' time that goes into the work."""
        return self.work / (self.workers * self.wall)


def predict(job: Job, workers: int, shard: int) -> Forecast:
    """What a number of workers takes with shards of that size."""
    shard = min(shard, job.samples)
    shards = math.ceil(job.samples / shard)
    parts = shards * sum(chain.parts for chain in job.chains)
    even, mean = job.work / workers, job.work / parts
    under_way = job.chains[-math.ceil(workers / shards) :]  # at the end
    last = max(chain.longest(shard, min(workers, shards)) / chain.parts for chain in under_way)
    tail = 0.0 if workers == 1 else max(0.0, last - mean / 2)
    crowded = shards * len(job.chains) > workers
    limits = {
        "work" if tail < even else "tail": even + tail if crowded else 0.0,
        "longest chain": max(chain.longest(shard, shards) for chain in job.chains),
        "driver": parts * job.driver + mean if job.driver else 0.0,
    }
    limit = max(limits, key=lambda name: limits[name])
    wall = job.lead + job.start + limits[limit]
    return Forecast(workers, shard, parts, job.work, wall, "lead" if job.lead > wall / 2 else limit)


def advise(job: Job, workers: int) -> Forecast:
    """The largest shards that keep so many workers busy enough, or else hardly less than any others."""
    found = [predict(job, workers, shard) for shard in SHARDS if shard <= job.samples] or [
        predict(job, workers, job.samples)
    ]
    for forecast in found:
        if forecast.busy >= ENOUGH:
            return forecast
    most = max(forecast.busy for forecast in found)
    return next(forecast for forecast in found if forecast.busy > most - 0.01)
