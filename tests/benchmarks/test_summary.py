from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks.markdown import brief, full
from tests.benchmarks.results import Row
from tests.benchmarks.summary import ratio_interval, table, text


def row(method, rms, reached=None, **changes):
    n = len(rms)
    made = {
        "network": "mlp", "goal": "untargeted", "method": method, "images": n, "first": 7000, "seed": 0, "settings": {},
        "package": "", "machine": {"device": "cpu", "processor": "Zen", "threads": 1, "torch": "2", "python": "3"},
        "weights": "w", "code": "c", "label": method, "reached": [True] * n if reached is None else reached,
        "rms": list(rms), "forwards": 50.0, "backwards": 60.0, "milliseconds": 2.0, "default_milliseconds": 1.0,
        "date": "2026-01-01",
    }  # fmt: skip
    return Row(**(made | changes))


def test_the_ratio_of_proportional_sizes_has_no_width():
    ours = np.linspace(1, 2, 9)
    assert ratio_interval(ours, 1.25 * ours) == pytest.approx((1.25, 1.25, 1.25))


def test_the_interval_of_the_ratio_agrees_with_its_normal_approximation():
    rng = np.random.default_rng(1)
    ours, theirs = 1 + 0.1 * rng.standard_normal(400), 1.1 + 0.1 * rng.standard_normal(400)
    ratio, low, high = ratio_interval(ours, theirs)
    residual = (theirs - ratio * ours) / ours.mean()
    half = 1.96 * residual.std() / 20
    assert low == pytest.approx(ratio - half, abs=0.1 * half)
    assert high == pytest.approx(ratio + half, abs=0.1 * half)
    assert ratio_interval(ours, theirs) == (ratio, low, high)


def test_a_ratio_of_nothing_is_not_a_number():
    assert np.isnan(ratio_interval(np.zeros(0), np.zeros(0))).all()


def test_means_and_medians_are_over_the_images_on_which_all_succeed():
    most = [True] * 19 + [False]
    made = table([row("default", np.arange(20.0)), row("cw", 2 * np.arange(20.0), most)])
    assert made.common == {20: 19}
    assert [line.mean for line in made.lines] == [9.0, 18.0]
    assert [line.median for line in made.lines] == [9.0, 18.0]
    assert made.lines[1].ratio[0] == pytest.approx(2)


def test_a_method_that_fails_often_does_not_narrow_the_others():
    made = table([row("default", np.ones(10)), row("cw", 2 * np.ones(10), [True] * 3 + [False] * 7)])
    assert made.common == {10: 10}
    assert made.lines[0].mean == 1
    assert np.isnan(made.lines[1].mean)
    assert made.lines[1].ratio[0] == 2
    assert made.lines[1].success[0] == pytest.approx(0.3)


def test_the_default_is_larger_where_it_is_so_by_more_than_a_percent():
    made = table([row("default", np.array([1.0, 1.005, 1.02, 3.0])), row("cw", np.ones(4))])
    assert made.lines[1].larger == 0.5


def test_images_that_only_others_fool_are_told():
    rows = [row("default", np.ones(4), [True, False, False, True]), row("cw", np.ones(4), [True, True, False, False])]
    assert table(rows).missed == 1
    assert "fails on 1 image" in text(rows)


def test_fewer_images_are_compared_with_the_default_on_the_same_ones():
    default = row("default", np.array([1.0, 1.0, 9.0, 9.0]))
    heavy = row("scipy-foolbox2", np.array([2.0, 2.0]), milliseconds=100.0, default_milliseconds=4.0)
    made = table([heavy, default])
    assert [line.row.images for line in made.lines] == [4, 2, 2]
    assert [line.mean for line in made.lines] == [5.0, 1.0, 2.0]
    assert made.lines[2].ratio[0] == 2
    assert made.lines[2].slowdown == 25
    assert made.lines[1].row.milliseconds == 4


def test_rows_stand_in_the_order_of_the_methods():
    made = table([row(name, np.ones(3)) for name in ("cw", "ddn-100", "default")])
    assert [line.row.method for line in made.lines] == ["default", "ddn-100", "cw"]


def test_markdown_holds_what_the_rows_hold():
    rows = [row("default", np.full(5, 0.02)), row("cw", np.full(5, 0.03), label="C&W", milliseconds=7.0)]
    lines = full(rows).splitlines()
    cells = [cell.strip() for cell in next(line for line in lines if "C&W" in line).strip("|").split("|")]
    assert cells[1] == "5"
    assert cells[3:6] == ["0.03000", "0.03000", "1.5000 [1.5000, 1.5000]"]
    assert cells[7:] == ["50.0", "60.0", "7.00", "7.00"]
    assert "Zen" in lines[0]


def test_the_brief_table_has_networks_across():
    rows = [
        row("default", np.full(5, 0.02)), row("cw", np.full(5, 0.03), [True] * 4 + [False]),
        row("default", np.full(5, 0.01), network="cnn"),
    ]  # fmt: skip
    lines = brief(rows).splitlines()
    assert "| method | mlp | cnn |" in lines
    assert "| ours, default | 0.02000, 60, 2.0 ms | 0.01000, 60, 2.0 ms |" in lines
    assert any(line.endswith("| 80%, 1.500, 60, 2.0x |  |") for line in lines)


def test_the_brief_table_tells_once_which_images_and_where_there_were_fewer():
    rows = [row("default", np.full(5, 0.02)), row("default", np.full(3, 0.02)), row("cw", np.full(3, 0.03))]
    head = brief(rows).splitlines()[0]
    assert head.startswith("**untargeted**: 5 test images from number ")
    assert "; 3 for C&W" in head.replace("cw", "C&W")
    assert head.count("thread") == 1
