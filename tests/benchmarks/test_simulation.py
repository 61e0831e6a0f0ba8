"""A simulated cluster of 1,000 workers that die checks how parts are handed out, and is itself checked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from eval.schedule import Ended
from tests.benchmarks import simulation
from tests.benchmarks.simulated_cluster import World
from tests.benchmarks.simulation import Work, simulate

WORK = Work(20_000, (0.2, 0.5, 0.8), (1.0, 0.7, 0.5), 128)
LARGE = World(1000, begin=0.001, finish=0.002)
FRAIL = replace(LARGE, worker_lives=600.0, node_lives=1800.0)
PARTS = WORK.parts(0)
LONGEST = max(part.seconds for part in PARTS)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_thousand_workers_that_die_make_each_part_once_and_repeat_one_for_each_death(seed):
    found = simulate(PARTS, replace(FRAIL, seed=seed, changes=((60.0, -20), (120.0, 30))))
    assert found.faults == ()
    assert found.made + found.given_up == len(PARTS)
    deaths, at_work = found.deaths
    assert at_work > 100
    assert deaths >= at_work
    assert found.given_up <= 0.01 * len(PARTS)
    assert 0 < found.lost <= at_work * (LONGEST + FRAIL.start)
    assert found.most <= 1000 + 30 * 8 + 1


def test_the_same_seed_gives_the_same_and_another_one_does_not():
    first, second = simulate(PARTS, FRAIL), simulate(PARTS, FRAIL)
    assert first == second
    assert simulate(PARTS, replace(FRAIL, seed=1)).digest != first.digest
    assert WORK.parts(0) == PARTS
    assert WORK.parts(1) != PARTS


def test_without_retries_each_death_at_work_costs_a_part_and_what_builds_on_it_is_made_all_the_same():
    found = simulate(PARTS, replace(FRAIL, retries=0))
    assert found.faults == ()
    assert found.given_up == found.deaths[1] > 100
    assert found.made + found.given_up == len(PARTS)


def test_one_worker_takes_the_sum_of_all_and_one_start():
    work = Work(1000, (0.5,), (1.0, 0.4), 100)
    parts = work.parts(3)
    found = simulate(parts, World(1, start=7.0, begin=0.0, finish=0.0))
    assert found.seconds == pytest.approx(7.0 + sum(part.seconds for part in parts))
    assert found.work == pytest.approx(sum(part.seconds for part in parts))
    assert (found.made, found.given_up, found.deaths) == (20, 0, (0, 0))


def test_the_driver_is_one_process():
    parts = Work(4000, (0.01,), (1.0,), 10).parts(0)
    found = simulate(parts, World(1000, start=0.0, begin=0.2, finish=0.3))
    assert found.driver == pytest.approx(0.5 * len(parts))
    assert found.driver <= found.seconds <= found.driver + 2.0


def test_workers_that_come_later_are_used_and_those_that_leave_are_missed():
    few, many = World(80), World(80, changes=((30.0, 40),))
    assert simulate(PARTS, many).seconds < 0.5 * simulate(PARTS, few).seconds
    assert simulate(PARTS, World(400, changes=((30.0, -40),))).seconds > 2 * simulate(PARTS, World(400)).seconds


def test_looking_for_workers_while_nothing_is_done_finds_them_before_a_long_part_ends():
    parts = Work(20_000, (5.0,), (1.0,), 512).parts(0)
    grown = World(1, changes=((60.0, 100),))
    patient, impatient = simulate(parts, grown), simulate(parts, replace(grown, impatient=True))
    assert impatient.seconds < 0.75 * patient.seconds
    assert impatient.faults == patient.faults == ()


def test_what_a_shard_takes_is_as_it_is_said_and_varies_less_in_larger_ones():
    def spread(shard: int) -> float:
        seconds = [p.seconds for p in Work(shard * 2000, (1.0,), (1.0,), shard, spread=2.0, noise=0.0).parts(0)]
        mean = sum(seconds) / len(seconds)
        assert mean == pytest.approx(shard, rel=0.1)
        return (sum((s - mean) ** 2 for s in seconds) / len(seconds)) ** 0.5 / mean

    assert spread(16) == pytest.approx(2.0 / 4, rel=0.1)
    assert spread(100) == pytest.approx(2.0 / 10, rel=0.1)


def _all_at_once(tasks, crew, claims, wait):
    crew.slots()
    for task in tasks:
        claims.take(task.part)
        crew.begin(task)
    for _ in tasks:
        for task, result in crew.finished(None):
            yield Ended(task, result)
            claims.release(task.part)


def _twice(tasks, crew, claims, wait):
    crew.slots()
    claims.take(tasks[0].part)
    crew.begin(tasks[0])
    crew.begin(tasks[0])
    yield Ended(*crew.finished(None)[0])


@pytest.mark.parametrize(
    ("loop", "fault"),
    [(_all_at_once, "no room"), (_all_at_once, "before 0/0/0 was done"), (_twice, "while somebody was at it"),
     (_twice, "forgotten"), (_twice, "not let go of")],
)  # fmt: skip
def test_a_bad_schedule_is_found_out(monkeypatch, loop, fault):
    monkeypatch.setattr(simulation, "in_turn", loop)
    found = simulate(Work(30, (1.0,), (1.0, 0.5), 10).parts(0), World(2))
    assert any(fault in line for line in found.faults), found.faults
