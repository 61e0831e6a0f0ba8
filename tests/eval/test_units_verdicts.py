"""What answers about units conclude: both sides of each verdict."""

from __future__ import annotations

import pytest

from eval.studies.cells import Value
from eval.studies.unit_firing import _fires
from eval.studies.unit_twins import _stronger, _without


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
    rows = [("trained", (value(1.6),)), ("untrained", (value(2.9),)), ("untrained, seed 2", (value(5.9),))]
    assert _without(rows) == (
        "; units of networks that learnt nothing: untrained 2.90 (2.80 to 3.00), untrained, seed 2 5.90 (5.80 to 6.00)"
    )
    assert not _without(rows[:1])
