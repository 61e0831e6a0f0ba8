from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.texts import duration

UNITS = {"\u00b5s": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}


@settings(deadline=None)
@given(st.floats(1e-9, 1e6))
def test_a_time_keeps_three_digits_in_a_unit_that_suits_it(seconds):
    number, unit = duration(seconds).split()
    assert math.isclose(float(number.replace(",", "")) * UNITS[unit], seconds, rel_tol=0.0051)
    assert len(number.replace(",", "").replace(".", "").strip("0")) <= 3 or seconds >= 1000


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0 s"), (math.nan, "\u2013"), (3.303e-6, "3.3 \u00b5s"), (0.04215, "42.1 ms"), (200.0, "200 s")],
)
def test_times_read_as_people_write_them(seconds, text):
    assert duration(seconds) == text
