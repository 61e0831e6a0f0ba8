"""What the tables of a study's charts have."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from eval.studies.reading import Curves
from reports.charts import drawn
from reports.figures import log_ticks


def test_the_table_of_a_logarithmic_chart_has_the_numbers_themselves():
    points = np.array([[math.log10(4), math.log2(0.5)], [math.log10(500), math.log2(3.0)]])
    one = Curves("few", "few", "", "images", "fooled", (("a", points),))
    rows = {bases: drawn(Curves(**(vars(one) | {"bases": bases}))).rows for bases in ((0, 0), (10, 0), (10, 2))}
    assert rows[0, 0] == (("a", "0.6021", "-1"), ("a", "2.699", "1.58"))
    assert rows[10, 0] == (("a", "4", "-1"), ("a", "500", "1.58"))
    assert rows[10, 2] == (("a", "4", "0.5"), ("a", "500", "3"))


def test_a_logarithmic_axis_is_labelled_with_the_numbers_and_says_so():
    points = np.array([[0.0, math.log2(0.5)], [3.0, math.log2(6.0)]])
    one = Curves("few", "few", "", "queries", "distance", (("a", points),), bases=(10, 2))
    chart = drawn(one)
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", chart.svg)
    assert [t for t in texts if t.replace(".", "").isdigit()] == ["0.5", "1", "2", "5", "1", "10", "100", "1000"]
    assert {"queries (logarithmic)", "distance (logarithmic)"} <= set(texts)
    assert chart.head == ("curve", "queries", "distance")
    plain = drawn(replace(one, bases=(0, 0))).svg
    assert "logarithmic" not in plain


@pytest.mark.parametrize(
    ("low", "high", "base", "texts"),
    [
        (-4.0, 1.0, 10, ["0.0001", "0.001", "0.01", "0.1", "1", "10"]),
        (0.0, 12.0, 10, ["1", "100", "10000", "1e+06", "1e+08", "1e+10", "1e+12"]),
        (math.log2(3), math.log2(9), 2, ["4", "6", "8"]),
        (0.0, 0.0, 10, ["1"]),
    ],
)
def test_log_ticks_are_round_numbers_at_their_logarithms(low: float, high: float, base: int, texts: list[str]):
    found = log_ticks(low, high, base)
    assert [text for _, text in found] == texts
    for value, text in found:
        assert base**value == pytest.approx(float(text), rel=1e-6)
        assert low - 1e-6 <= value <= high + 1e-6
