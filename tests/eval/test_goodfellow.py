"""What is said of the numbers of Goodfellow et al. and of rays, from made-up values."""

from __future__ import annotations

import numpy as np
import pytest

from eval.studies.cells import Table, Value
from eval.studies.goodfellow import _apart
from eval.studies.traced import straightness


def test_each_number_of_the_paper_is_counted_once():
    def table(*values: tuple[float, bool]) -> Table:
        made = tuple(Value("share", 0.5, 0.4, 0.6, 100, paper, apart) for paper, apart in values)
        return Table("t", "T", "", tuple(map(str, range(len(made)))), (("r", (*made,)),))

    said = _apart([table((0.894, True), (0.179, True), (0.999, True)), table((0.894, True), (0.179, False))])
    assert said.startswith("Of 3 numbers of the paper 2 lie further from each of ours")
    assert "10,000 or the 2,038 of the pair" in said


def test_images_without_a_gradient_are_left_out():
    nan = np.nan
    rays = {
        "r2": np.array([[1.0, 0.5, nan], [nan, nan, nan], [0.99, nan, nan]]),
        "predicted": np.array([2.0, 0.0, 4.0]),
        "measured": np.array([1.0, 0.0, 3.0]),
    }
    ((_, values),) = straightness({"m": rays}, {"m": "M"}).rows
    mean, median, straight, _, _, ratio = values

    assert (mean.ours, mean.n) == (pytest.approx((0.75 + 0.99) / 2), 2)
    assert (median.ours, median.n) == (0.99, 2)
    assert (straight.ours, straight.n) == (0.75, 2)  # one of two logits, and the only one of another
    assert (ratio.ours, ratio.n) == (pytest.approx((0.5 + 0.75) / 2), 2)

    flat = {"r2": np.full((2, 3), nan), "predicted": np.zeros(2), "measured": np.zeros(2)}
    ((_, values),) = straightness({"m": flat}, {"m": "M"}).rows
    assert [v.n for v in values] == [0, 0, 0, 2, 2, 0]
