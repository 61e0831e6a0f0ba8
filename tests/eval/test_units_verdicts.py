"""What answers about units conclude: both sides of each verdict."""

from __future__ import annotations

import numpy as np
import pytest

from eval.studies import unit_tops
from eval.studies.cells import Value
from eval.studies.unit_firing import _fires
from eval.studies.unit_tables import _findings
from eval.studies.unit_twins import _stronger, _without
from tests.eval.test_units_said import seen, told


def value(ours: float) -> Value:
    return Value("number", ours, ours - 0.1, ours + 0.1, 20)


@pytest.mark.parametrize(
    ("true", "named", "above", "says"),
    [
        (0.2, 1.4, 0.9, "Yes: "),
        (0.2, 0.9, 0.9, "In part: the units of the true class fall and those of the named class rise, but not to"),
        (0.2, 1.4, 0.5, "In part: the units of the true class fall and those of the named class rise, but not clearly"),
        (0.2, 0.5, 0.1, "In part: the units of the true class fall alone"),
        (1.4, 0.9, 0.1, "In part: those of the named class rise alone"),
        (1.4, 0.5, 0.1, "No: "),
    ],
)
def test_whether_the_unit_fires_is_yes_no_or_in_part(true: float, named: float, above: float, says: str) -> None:
    by = (1.5, true, 1.45, 0.4, named, 0.45, 1.5, 0.0, above, 0.0)
    assert _fires(tuple(map(value, by))).startswith(says)


def test_stimuli_of_units_are_told_from_those_of_random_directions() -> None:
    assert _stronger(value(0.2)) == "units are moved further"
    assert _stronger(value(-0.2)) == "units are moved less far"
    assert _stronger(value(0.04)) == "no difference can be told"
    rows = [("trained", (value(1.6),)), ("untrained", (value(2.9),)), ("untrained, another seed", (value(5.9),))]
    assert _without(rows) == (
        "; units of networks that learnt nothing: untrained 2.90 (2.80 to 3.00), untrained, another seed 5.90 (5.80 to "
        "6.00)"
    )
    assert not _without(rows[:1])


def test_networks_of_other_seeds_are_called_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("cnn", "cnn_seed1", "cnn_seed2", "cnn_untrained", "cnn_untrained_seed1")
    found = told(monkeypatch, **dict.fromkeys(names, seen()))
    assert {one.name: one.label for one in found.networks} == {
        "cnn": "trained",
        "cnn_seed1": "trained, another seed (cnn_seed1)",
        "cnn_seed2": "trained, another seed (cnn_seed2)",
        "cnn_untrained": "untrained",
        "cnn_untrained_seed1": "untrained, another seed (cnn_untrained_seed1)",
    }


LEFT = "units respond alike to all images of one half, or of both, and are left out; "
ASKED = "random, sparse and rotated directions are as many as study.directions asks for, or as there are such units, if"


@pytest.mark.parametrize(
    ("live", "shown", "says"),
    [
        (10, 10, f"Counts differ: 2 of 12 {LEFT}{ASKED}"),
        (
            11,
            11,
            "Counts differ: 1 of 12 units responds alike to all images of one half, or of both, and is left out; ",
        ),
        (12, 11, "Counts differ: of all 12, 11 are drawn, and of no basis are there more; components are those"),
        (
            10,
            7,
            f"Counts differ: 2 of 12 {LEFT}of the other 10, 7 are drawn, and of no basis are there more; components",
        ),
        (12, 12, f"Counts differ: {ASKED}"),
    ],
)
def test_why_bases_differ_in_their_counts_is_said(
    monkeypatch: pytest.MonkeyPatch, live: int, shown: int, says: str
) -> None:
    found = told(monkeypatch, cnn=seen(live=live) | {"v_natural": np.zeros((shown, 12)), "v_pca": np.zeros((3, 12))})
    assert says in unit_tops.section(found).measured
    assert says in _findings(found, [])[0]


def test_counts_that_do_not_differ_need_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    found = told(monkeypatch, cnn=seen(live=12))
    assert not found.counts
    assert "Counts" not in unit_tops.section(found).measured
