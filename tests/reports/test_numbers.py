"""How the values of a study's tables read."""

from __future__ import annotations

import numpy as np

from eval.studies.cells import average, share
from reports.numbers import interval


def test_the_mean_of_one_number_has_no_interval() -> None:
    assert interval(average("number", np.array([0.5]))) == ""
    assert interval(average("number", np.array([]))) == "no samples"
    assert interval(share(np.array([True, False]))) == "9.5 to 90.5%"
