from __future__ import annotations

import pytest

from reports.measure import Measure


@pytest.mark.parametrize(
    ("goal", "wanted"),
    [
        ("next", "the class that follows its label"),
        ("random", "another class, drawn for it"),
        ("least_likely", "the class that the model finds least likely"),
        ("1", "the class dog"),
        ("dog", "the class dog"),
        ("7", "the class 7"),
    ],
)
def test_the_wanted_class_is_named(goal, wanted):
    measure = Measure.of(goal, ["cat", "dog"])
    assert measure.targeted
    assert f"({wanted})" in measure.definition
    assert f"({wanted})" in measure.question


def test_without_a_target_it_is_robust_accuracy():
    measure = Measure.of("untargeted", ["cat"])
    assert not measure.targeted
    assert measure.heading == "Robust accuracy"
