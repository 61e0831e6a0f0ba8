from __future__ import annotations

import pytest

from eval.studies.folded import fold


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (("34.0% to 92.0%", "31.5% to 92.0%"), "31.5\u201334.0% to 92.0%"),
        (("-2.9% to 0.0%", "1.0% to 0.3%"), "-2.9 \u2026 1.0% to 0.0\u20130.3%"),
        (("1,200 queries.", "980 queries."), "980\u20131,200 queries."),
        (("x at 3/255 a pixel (20.3%).", "x at 2/255 a pixel (9%)."), "x at 2\u20133/255 a pixel (9\u201320.3%)."),
        (("same", "same"), "same"),
    ],
)
def test_numbers_become_ranges(lines, says):
    assert fold([[line] for line in lines]) == ((says,), ((), ()))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("FC10(1) is first", "FC10(2) is first"),
        ("FC100-100-10: 5%", "FC100-200-10: 5%"),
        ("8-bit", "7-bit"),
        ("of L2 size", "of L1 size"),
        ("rises", "falls"),
    ],
)
def test_what_differs_in_more_than_numbers_stays_apart(one, other):
    assert fold([[one], [other]]) == ((), ((one,), (other,)))


def test_what_not_all_say_is_left_in_its_place():
    common, left = fold([["a 1", "b", "a 3"], ["a 2", "c", "a 5"], ["a 0"]])
    assert common == ("a 0\u20132",)
    assert left == (("b", "a 3"), ("c", "a 5"), ())
