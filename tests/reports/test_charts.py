"""What the tables of a study's charts have."""

from __future__ import annotations

import math

import numpy as np

from eval.studies.reading import Curves
from reports.charts import drawn


def test_the_table_of_a_logarithmic_chart_has_the_numbers_themselves():
    points = np.array([[math.log10(4), math.log2(0.5)], [math.log10(500), math.log2(3.0)]])
    one = Curves("few", "few", "", "images", "fooled", (("a", points),))
    rows = {bases: drawn(Curves(**(vars(one) | {"bases": bases}))).rows for bases in ((0, 0), (10, 0), (10, 2))}
    assert rows[0, 0] == (("a", "0.6021", "-1"), ("a", "2.699", "1.58"))
    assert rows[10, 0] == (("a", "4", "-1"), ("a", "500", "1.58"))
    assert rows[10, 2] == (("a", "4", "0.5"), ("a", "500", "3"))
