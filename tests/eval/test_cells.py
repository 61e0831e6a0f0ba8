"""Our numbers beside the paper's: intervals, and when both cannot be the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from eval.studies.cells import (
    Table,
    Value,
    average,
    confidence,
    excess,
    joined,
    overlap,
    share,
    size,
    spread,
    told,
)


def hits(k: int, n: int) -> np.ndarray:
    return np.arange(n) < k


def test_a_share_has_wilsons_interval():
    value = share(hits(26, 100))
    expected = stats.binomtest(26, 100).proportion_ci(method="wilson")

    assert (value.ours, value.n, value.paper, value.apart) == (0.26, 100, None, False)
    assert (value.low, value.high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(
    ("k", "n", "paper", "apart"),
    [
        (26, 100, 26.0, False),
        (10, 100, 26.0, True),
        (205, 2560, 5.9, False),  # 8.0% beside 15 of 256
        (512, 2560, 5.9, True),
        (2560, 2560, 100.0, False),
        (0, 2560, 0.0, False),
        (1280, 2560, 0.0, True),
    ],
)
def test_shares_are_apart_when_their_intervals_are(k, n, paper, apart):
    assert share(hits(k, n), paper).apart is apart


def test_more_images_behind_the_papers_number_tell_more_apart():
    assert not share(hits(180, 10_000), 1.64, 10_000, digits=2).apart
    assert share(hits(230, 10_000), 1.64, 10_000, digits=2).apart
    assert not share(hits(230, 10_000), 1.64).apart


def test_an_excess_is_a_paired_difference():
    rng = np.random.default_rng(0)
    before, after = rng.random(2000) < 0.1, rng.random(2000) < 0.4
    value = excess(after, before)
    expected = stats.bootstrap(
        (after.astype(float) - before,), np.mean, n_resamples=2000, rng=rng, method="percentile"
    ).confidence_interval

    assert value.ours == pytest.approx(after.mean() - before.mean())
    assert (value.low, value.high) == pytest.approx((expected.low, expected.high), abs=3e-3)
    assert excess(before, before).ours == 0


def test_a_size_has_the_interval_of_a_mean_and_the_papers_sample_counts_too():
    values = np.random.default_rng(0).normal(0.06, 0.02, 2560)
    value = size(values, 0.062)
    expected = stats.norm.interval(0.95, values.mean(), stats.sem(values))

    assert (value.low, value.high) == pytest.approx(expected, rel=1e-4)
    assert not value.apart
    assert size(values, 0.066).apart
    assert size(values, 0.056).apart


@pytest.mark.parametrize(
    ("paper", "paper_n", "apart"),
    [
        (80.0, 10_000, False),
        (80.9, 10_000, False),  # 0.0105 is what chance explains of 400 and 10,000 values that spread by 0.1
        (81.5, 10_000, True),
        (78.5, 10_000, True),
        (81.5, 100, False),  # 0.0224 of 400 and 100
        (97.6, 100, True),
    ],
)
def test_a_confidence_is_a_mean_probability_beside_percents(paper, paper_n, apart):
    value = confidence(np.tile([0.7, 0.9], 200), paper, paper_n)

    assert (value.kind, value.paper) == ("confidence", pytest.approx(paper / 100))
    assert value.ours == pytest.approx(0.8)
    assert value.apart is apart


def test_a_share_with_two_decimals_is_a_rate_and_counts_as_a_share():
    value = share(hits(94, 10_000), 0.94, 10_000, digits=2)
    table = Table("t", "T", "", ("a", "b"), (("r", (value, average("number", np.ones(3)))),))

    assert (value.kind, value.ours, value.apart) == ("rate", 0.0094, False)
    assert table.n == 10_000


def test_nothing_measured_is_not_a_number_and_apart_from_nothing():
    empty = np.array([], dtype=bool)
    for value in (share(empty, 5.0), excess(empty, empty), size(np.array([]), 0.1), confidence(np.array([]), 80.0)):
        assert math.isnan(value.ours)
        assert value.n == 0
        assert not value.apart


def test_a_share_is_told_with_its_interval():
    assert told(share(hits(0, 4))) == "0.0% (0.0 to 49.0%)"


def test_tables_become_one_frame():
    table = Table("t", "T", "", ("a", "b"), (("r", (share(hits(1, 2), 50.0), None)),))
    frame = joined([table, table])

    assert len(frame) == 2
    assert frame.loc[0].to_dict() | {"low": 0, "high": 0} == {
        "table": "t", "row": "r", "column": "a", "kind": "share", "ours": 0.5, "low": 0, "high": 0, "n": 2,
        "paper": 0.5, "apart": False,
    }  # fmt: skip
    assert table.n == 2


def test_intervals_overlap_where_they_touch_and_where_one_is_unknown():
    one, touches, apart, unknown = (
        Value("share", 0.0, low, high, 9) for low, high in ((0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (math.nan, math.nan))
    )
    assert overlap(one, touches)
    assert overlap(touches, one)
    assert not overlap(one, apart)
    assert not overlap(apart, one)
    assert overlap(one, unknown)


def grid(name: str, columns: str, rows: dict[str, str]) -> Table:
    """A table with letters for columns, and numbers for values, `-` for none."""
    cells = {
        label: tuple(None if v == "-" else Value("number", float(v), math.nan, math.nan, 9) for v in values.split())
        for label, values in rows.items()
    }
    return Table(name, name, "N.", tuple(columns.split()), tuple(cells.items()))


def numbers(table: Table) -> dict[str, list[tuple[float, int] | None]]:
    return {label: [None if v is None else (v.ours, v.n) for v in row] for label, row in table.rows}


@pytest.mark.parametrize("swapped", [False, True])
def test_rows_of_several_seeds_are_joined_by_their_labels_and_what_one_lacks_is_named(swapped):
    whole = grid("t", "a", {"trained": "1", "shuffled": "2", "untrained": "4"})
    less = grid("t", "a", {"trained": "3", "untrained": "8"})
    runs, seeds = ([[whole], [less]], [5, 6]) if not swapped else ([[less], [whole]], [6, 5])
    (both,) = spread(runs, seeds)
    assert numbers(both) == {"trained": [(2, 2)], "shuffled": [(2, 1)], "untrained": [(6, 2)]}
    assert list(numbers(both)) == ["trained", "shuffled", "untrained"]
    assert both.note == "N. Seed 6 lacks shuffled."


def test_columns_are_joined_by_their_names():
    one, other = grid("t", "m1 m8", {"r": "1 2"}), grid("t", "m8 m64", {"r": "4 -"})
    (both,) = spread([[one], [other]], [0, 1])
    assert both.columns == ("m1", "m8", "m64")
    assert numbers(both) == {"r": [(1, 1), (3, 2), None]}
    assert both.note == "N. Seed 0 lacks m64. Seed 1 lacks m1."


def test_a_table_that_one_seed_lacks_is_that_of_the_others():
    first, second = grid("a", "x", {"r": "1"}), grid("b", "x", {"r": "2"})
    both = spread([[second], [first, second]], [3, 4])
    assert [(t.name, numbers(t)["r"], t.note) for t in both] == [
        ("a", [(1, 1)], "N. Seed 3 lacks this table."),
        ("b", [(2, 2)], "N."),
    ]


def test_rows_of_one_label_stay_apart():
    table = Table("t", "T", "", ("x",), tuple(("r", (Value("number", v, v, v, 1),)) for v in (1.0, 5.0)))
    (both,) = spread([[table], [table]])
    assert [row[0].ours for _, row in both.rows if row[0] is not None] == [1.0, 5.0]
