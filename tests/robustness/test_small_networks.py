"""Our attacks on small networks that never change: what they find and what it costs, beside what they found before.

What breaks these tests on purpose is accepted by `python -m tests.robustness.refresh`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eval.gate.baseline import Baseline
from eval.gate.compare import Comparison, against
from eval.gate.snapshot import read_run
from eval.gate.told import name
from tests.robustness.refresh import COUNTS, OUTCOMES, counts, evaluate

BASELINE = Baseline.read(OUTCOMES)
COSTS = json.loads(COUNTS.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("regression")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(OUTCOMES.parents[2])  # the paths of the networks begin there
        evaluate(place)
    return place


@pytest.fixture(scope="module")
def found(folder) -> Comparison:
    return against(BASELINE, read_run(folder))


@pytest.mark.parametrize("cell", BASELINE.snapshot.cells, ids=name)
def test_an_attack_finds_what_it_found(found, cell):
    finding = next(f for f in found.findings if f.cell == cell)
    assert not finding.regressed, f"the attack became stronger, or the judge milder: {finding.sentence}"
    assert not finding.improved, f"the attack became weaker, or the judge stricter: {finding.sentence}"


@pytest.fixture(scope="module")
def counted(folder) -> dict[str, dict[str, int]]:
    return counts(folder)


@pytest.mark.parametrize("cell", COSTS)
def test_an_attack_asks_the_network_as_often_as_it_did(counted, cell):
    assert counted[cell] == COSTS[cell]


def test_no_cell_is_without_its_count(counted):
    assert counted.keys() == COSTS.keys()
