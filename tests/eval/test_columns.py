from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.columns import arrays, coded, grouped, plain

TEXTS = [["b", "a"], ["a", None, "c"], [], ["", "b"]]


def chunked(chunks):
    return pa.chunked_array([pa.array(c, pa.string()).dictionary_encode() for c in chunks])


def test_names_are_sorted_and_codes_point_at_them_what_is_missing_being_empty():
    names, codes = coded(chunked(TEXTS))
    assert names == ["", "a", "b", "c"]
    assert [names[code] for code in codes] == ["b", "a", "a", "", "c", "", "b"]
    assert codes.dtype == np.int8


@given(st.lists(st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=5), min_size=1, max_size=4))
def test_any_texts_can_be_coded(chunks):
    names, codes = coded(chunked(chunks))
    assert [names[code] for code in codes] == [text or "" for chunk in chunks for text in chunk]
    assert names == sorted(set(names))


@pytest.mark.parametrize(("n", "dtype"), [(128, np.int8), (129, np.int16), (40_000, np.int32)])
def test_codes_are_no_larger_than_needed(n, dtype):
    names, codes = coded(chunked([[f"{i:05d}" for i in range(n)]]))
    assert codes.dtype == dtype
    assert codes.tolist() == list(range(n))
    assert len(names) == n


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([1, -2], pa.int32(), np.array([1, -2], np.int32)),
        ([1, None], pa.int32(), np.array([1, np.nan])),
        ([0.5, None], pa.float32(), np.array([0.5, np.nan], np.float32)),
        ([True, False, None], pa.bool_(), np.array([True, False, False])),
    ],
)
def test_numbers_and_truth_values(values, kind, expected):
    found = plain(pa.chunked_array([pa.array([], kind), pa.array([values[0], *values], kind)[1:]]))
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == expected.dtype


def test_a_table_becomes_arrays():
    table = pa.table({"n": pa.array([3, 4], pa.int32()), "t": chunked([["x"], ["w"]])})
    names, found = arrays(table)
    assert names == {"t": ["w", "x"]}
    assert {name: values.tolist() for name, values in found.items()} == {"n": [3, 4], "t": [1, 0]}


@given(st.lists(st.integers(0, 5), max_size=30), st.integers(6, 200))
def test_places_are_grouped_by_their_code(codes, n):
    found = grouped(np.array(codes, dtype=np.int64), n)
    assert [places.tolist() for places in found] == [[i for i, c in enumerate(codes) if c == k] for k in range(n)]


def test_places_ascend_however_many_there_are():
    codes = np.random.default_rng(0).integers(0, 300, 20_000)
    assert all(
        (np.diff(places) > 0).all() and (codes[places] == k).all() for k, places in enumerate(grouped(codes, 300))
    )
