"""What a larger run will take: limits that hold for any schedule, and the simulated cluster."""

from __future__ import annotations

import math

import pytest

from eval.forecast import ENOUGH, Chain, Job, advise, predict
from tests.benchmarks.simulated_cluster import World
from tests.benchmarks.simulation import LEVELS, Work, job, networks, simulate

ONE = Job(1000, (Chain(2.0, 1.5), Chain(1.0, 1.0)), start=20.0, lead=100.0)


def test_one_worker_does_everything_after_its_start():
    found = predict(ONE, 1, 100)
    assert found.wall == pytest.approx(100 + 20 + 3000)
    assert found.work == pytest.approx(3000)
    assert (found.parts, found.limit) == (20, "work")
    assert found.busy == pytest.approx(3000 / 3120)


def test_no_schedule_is_faster_than_its_work_and_its_longest_chain():
    for workers in (1, 2, 5, 20, 100, 10_000):
        for shard in (1, 10, 100, 1000):
            found = predict(ONE, workers, shard)
            assert found.wall >= 120 + max(3000 / workers, 2.0 * shard) - 1e-9
            assert 0 < found.busy <= 1
            assert found.wall >= predict(ONE, workers * 2, shard).wall * 0.99


@pytest.mark.parametrize("order", ["equal", "ascending", "descending"])
@pytest.mark.parametrize("levels", [(1.0,), LEVELS])
@pytest.mark.parametrize(("workers", "shard"), [(10, 512), (100, 512), (300, 128), (1000, 512), (1000, 128)])
def test_it_is_near_what_the_simulated_cluster_takes(order, levels, workers, shard):
    work = Work(50_000, networks(10, 0.5, order), levels, shard)
    world = World(workers, begin=0.001, finish=0.002)
    found = simulate(work.parts(0), world)
    assert found.faults == ()
    said = predict(job(work, world), workers, shard)
    assert said.parts == found.made
    assert said.work == pytest.approx(found.work, rel=0.03)
    assert 0.85 < said.wall / found.seconds < 1.2


def test_it_says_what_another_worker_would_not_help_against():
    many = (Chain(0.5, 1.5),) * 10
    assert predict(Job(50_000, many), 16, 128).limit == "work"
    assert predict(Job(50_000, many), 5000, 512).limit == "longest chain"
    assert predict(Job(50_000, many, driver=0.1), 1000, 32).limit == "driver"
    assert predict(Job(50_000, many, lead=1e5), 64, 128).limit == "lead"
    slow_last = (*many, Chain(20.0, 1.5))
    assert predict(Job(50_000, slow_last), 700, 256).limit in ("tail", "longest chain")


def test_the_driver_bounds_the_time_whatever_the_workers():
    found = predict(Job(51_200, (Chain(0.01, 1.0),), driver=0.2), 10_000, 8)
    assert found.wall >= 0.2 * 6400


def test_advice_is_the_largest_shard_that_keeps_workers_busy():
    job = Job(50_000, (Chain(0.5, 1.5),) * 10, start=20.0, driver=0.003)
    found = advise(job, 64)
    assert found.busy >= ENOUGH
    assert predict(job, 64, found.shard * 2).busy < ENOUGH
    assert advise(job, 1).shard == 512
    hopeless = advise(job, 100_000)
    assert hopeless.busy < 0.1
    best = max(predict(job, 100_000, shard).busy for shard in (8, 16, 32, 64, 128, 256, 512))
    assert hopeless.busy > best - 0.01


def test_the_longest_of_many_is_longer_than_one_and_less_so_in_larger_shards():
    chain = Chain(1.0, 1.5)
    assert chain.longest(100, 1000) > chain.longest(100, 10) > chain.longest(100, 1)
    assert chain.longest(1000, 1000) / 1000 < chain.longest(100, 1000) / 100
    assert Chain(1.0, 0.0).longest(100, 1000) == pytest.approx(100)
    # of 999 draws from a log-normal the quantile 0.999, by its closed form
    wide = math.sqrt(math.log1p(1.5**2 / 100))
    assert chain.longest(100, 999) == pytest.approx(100 * math.exp(3.0902 * wide - wide**2 / 2), rel=1e-4)


def test_fewer_samples_than_a_shard_are_one_part():
    assert predict(Job(10, (Chain(1.0, 1.0),)), 4, 512).parts == 1
    assert advise(Job(5, (Chain(1.0, 1.0),)), 4).shard == 5
