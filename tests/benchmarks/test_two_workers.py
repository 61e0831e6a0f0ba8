"""Blocks of parts: what is handed out when, and what is made of their times."""

from __future__ import annotations

import pytest

pytest.importorskip("ray")
from tests.benchmarks.two_workers import Blocks, ratios


def test_neighbours_are_compared_whichever_comes_first():
    seconds = [(1, 9.0), (2, 9.0), (2, 5.0), (1, 4.0), (1, 3.0), (2, 4.0), (2, 8.0)]
    assert ratios(seconds) == [2 * 4 / 5, 2 * 3 / 4]


def test_nothing_is_handed_out_within_a_block(monkeypatch):
    blocks = object.__new__(Blocks)
    monkeypatch.setattr(Blocks, "seconds", [])
    blocks._begun, blocks._left, blocks._from = 0, 0, 0.0
    handed: list[int] = []
    monkeypatch.setattr("eval.cluster.workers.Cluster.begin", lambda self, task: handed.append(task))
    monkeypatch.setattr("eval.cluster.workers.Cluster.finished", lambda self, patience: [(0, None)])
    waves, at_work = [], 0
    for _ in range(12):
        wave = 0
        while at_work < blocks.slots():
            blocks.begin(0)
            at_work, wave = at_work + 1, wave + 1
        waves.append(wave)
        at_work -= len(blocks.finished(None))
    assert waves == [1, 2, 0, 2, 0, 1, 1, 2, 0, 2, 0, 1]
    assert [parts for parts, _ in Blocks.seconds] == [1, 2, 2, 1, 1, 2, 2, 1]
    assert len(handed) == sum(waves)
