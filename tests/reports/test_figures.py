from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.figures import WIDTH, Axis, Box, Point, Series, boxes, curves, nice_ticks, shorten, spaced, standalone

AXIS = Axis("eps", 0.0, 0.5, nice_ticks(0.0, 0.5), (0.3, "eps = 0.3"))


def line(*ys, steps=False, name="a"):
    return Series(name, tuple(Point(i / 10, y, y - 0.1, y + 0.1) for i, y in enumerate(ys)), steps)


@settings(deadline=None)
@given(st.floats(1e-6, 1e6), st.integers(3, 8))
def test_ticks_are_few_and_inside(high, count):
    ticks = nice_ticks(0.0, high, count)
    assert 2 <= len(ticks) <= 2 * count + 1
    assert all(-1e-9 <= value <= high * (1 + 1e-9) for value, _ in ticks)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_labels_do_not_run_into_one_another(values):
    kept = spaced([(v, f"{v:.3f}") for v in values], 0.0, 1.0)
    places = [46 + v * (WIDTH - 62) for v, _ in kept]
    assert all(b - a > 5 * 6.6 for a, b in pairwise(places))
    assert kept[-1][0] == max(values)


@settings(deadline=None)
@given(st.text(max_size=200), st.integers(8, 60))
def test_a_shortened_name_fits(text, characters):
    assert len(shorten(text, characters)) <= characters


def test_steps_hold_their_value_and_reach_the_edge():
    path = re.search(r'class="line" d="M([^"]+)"', curves("x", [line(1.0, 0.5, steps=True)], AXIS)).group(1)
    points = [tuple(map(float, p.split())) for p in path.split("L")]
    assert all(a[0] == b[0] or a[1] == b[1] for a, b in pairwise(points))
    assert points[-1][0] == pytest.approx(WIDTH - 16)


def test_points_beyond_the_axis_are_left_out():
    inside = curves("x", [line(1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)], AXIS)
    assert max(float(x) for x in re.findall(r'cx="([\d.]+)"', inside)) <= WIDTH


@pytest.mark.parametrize("count", [0, 1, 9, 20])
def test_any_number_of_series_is_well_formed(count):
    svg = curves("x & y", [line(1.0, 0.2, name=f"<{i}>") for i in range(count)], AXIS)
    ElementTree.fromstring(standalone(svg))
    assert svg.count('class="series') == count


def test_labels_stay_inside_the_picture():
    svg = curves("x", [line(1.0)], Axis("e", 0.0, 1.0, ((0.0, "0"), (1.0, "a rather long label")), (1.0, "mark" * 5)))
    for x, text in re.findall(r'<text[^>]* x="([\d.]+)"[^>]*text-anchor="middle">([^<]*)', svg):
        assert float(x) - 3.1 * len(text) >= 0
        assert float(x) + 3.1 * len(text) <= WIDTH


def test_boxes_of_nothing_and_of_a_single_value():
    ElementTree.fromstring(boxes("x", [], "L2"))
    ElementTree.fromstring(boxes("x", [Box("<a>", (0.0, 0.0, 0.0, 0.0, 0.0), 0)], "L2"))


def test_no_two_of_many_series_look_alike():
    svg = curves("x", [line(1.0, 0.5, name=str(i)) for i in range(20)], AXIS)
    marks = re.findall(r'class="key k\d ([^"]+)">.*?<(circle|polygon) class="(dot[^"]*)"', svg)
    assert len(marks) == len(set(marks)) == 20


def test_a_vertical_axis_of_its_own_takes_any_values():
    up = Axis("logit", -4.0, 6.0, nice_ticks(-4.0, 6.0))
    one = Series(
        "a", tuple(Point(x, y, y, y) for x, y in ((-1.0, -4.0), (0.0, 1.0), (1.0, 6.0))), band=False, dots=False
    )
    svg = curves("x", [one], Axis("e", -1.0, 1.0, nice_ticks(-1.0, 1.0)), up)
    path = re.search(r'class="line" d="M([^"]+)"', svg).group(1)
    places = [tuple(map(float, p.split())) for p in path.split("L")]

    assert places == [(46.0, 264.0), (245.0, 154.0), (444.0, 44.0)]
    assert ">-4</text>" in svg
    assert "%" not in svg
    assert "circle" not in svg
    ElementTree.fromstring(standalone(svg))
