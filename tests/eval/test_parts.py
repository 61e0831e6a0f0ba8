"""Parts are as they were written, or absent, or known to be damaged."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eval.errors import InputError
from eval.parts import (
    ARROW,
    COLUMNS,
    NAMES,
    has_part,
    part_file,
    read_part,
    read_table,
    whole_part,
    write_part,
)

N = 60


def columns(seed=0):
    rng = np.random.default_rng(seed)
    kinds = {
        pa.string(): lambda: np.array(["", "a", "zwölf"])[rng.integers(0, 3, N)],
        pa.bool_(): lambda: rng.random(N) < 0.5,
        pa.int32(): lambda: rng.integers(-1, 1000, N).astype(np.int32),
        pa.float32(): lambda: rng.random(N).astype(np.float32),
        pa.float64(): lambda: np.where(rng.random(N) < 0.2, np.inf, rng.random(N)),
    }
    return {name: kinds[kind]() for name, kind in COLUMNS.items()}


@pytest.fixture
def part(tmp_path):
    write_part(tmp_path, "a", columns())
    return part_file(tmp_path, "a")


def without_checksum(part):
    """The rows of a part, to be written by others."""
    return pq.read_table(part).replace_schema_metadata(None)


def same(found, expected):
    return all(np.array_equal(found[name], expected[name]) for name in COLUMNS)


def test_what_was_written_is_read(tmp_path, part):
    assert same(read_part(tmp_path, "a"), columns())
    assert {name: values.dtype for name, values in read_part(tmp_path, "a").items() if name not in NAMES} == {
        name: values.dtype for name, values in columns().items() if name not in NAMES
    }
    assert has_part(tmp_path, "a")
    assert whole_part(tmp_path, "a")
    assert not has_part(tmp_path, "b")
    assert not whole_part(tmp_path, "b")


def test_other_programs_read_it_too(part):
    table = pq.read_table(part)
    assert table.schema == ARROW
    assert table["sample"].to_pylist() == columns()["sample"].tolist()


def test_a_flipped_bit_is_noticed_wherever_it_is(tmp_path, part):
    content, rng = part.read_bytes(), np.random.default_rng(0)
    noticed = 0
    for place in rng.choice(len(content), 60, replace=False):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        part.write_bytes(damaged)
        whole = whole_part(tmp_path, "a")
        noticed += not whole
        if whole:  # the flip is in the words that stand before the checksum
            assert same(read_part(tmp_path, "a"), columns()), place
        else:
            with pytest.raises(InputError, match=r"a\.parquet: must be a whole .*; delete it and run again") as caught:
                read_table(tmp_path)
            assert "\n" not in str(caught.value)
    assert noticed >= 57


def test_the_head_of_a_page_is_guarded_too(tmp_path, part):
    """A dictionary said to be shorter than it is has codes that point beyond its end; Parquet's checksums pass that."""
    content = part.read_bytes()
    for place in range(4, 40):
        for bit in range(8):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            part.write_bytes(damaged)
            assert not whole_part(tmp_path, "a"), (place, bit)


@pytest.mark.parametrize("left", [0, 3, 11, 500, -1])
def test_a_torn_part_is_noticed(tmp_path, part, left):
    part.write_bytes(part.read_bytes()[:left])
    assert has_part(tmp_path, "a")
    assert not whole_part(tmp_path, "a")
    with pytest.raises(InputError, match="must be a whole Parquet part"):
        read_part(tmp_path, "a")


def test_where_memory_runs_out_a_part_with_its_checksum_is_not_taken_for_a_torn_one(tmp_path, part, monkeypatch):
    def full(*arguments, **keywords):
        raise pa.ArrowMemoryError("malloc of size 64 failed")

    monkeypatch.setattr(pq.ParquetFile, "read", full)
    with pytest.raises(MemoryError):
        whole_part(tmp_path, "a")


def test_parts_of_earlier_versions_without_a_checksum_are_read(tmp_path, part):
    pq.write_table(without_checksum(part), part, compression="lz4")
    assert same(read_part(tmp_path, "a"), columns())


def test_damaged_names_of_columns_are_told_in_one_line(tmp_path, part):
    pq.write_table(without_checksum(part), part)
    part.write_bytes(part.read_bytes().replace(b"sample", b"s\xe1mple"))
    with pytest.raises(InputError, match=r"must be a whole Parquet part|must be those of schema"):
        read_table(tmp_path)


@pytest.mark.parametrize("column", ["label", "stage"])
def test_another_schema_is_refused(tmp_path, part, column):
    table = without_checksum(part)
    pq.write_table(table.drop_columns([column]), part)
    with pytest.raises(InputError, match="columns must be those of schema 3"):
        read_table(tmp_path, columns=["sample", column])
    pq.write_table(table.set_column(1, "label", table["label"].cast(pa.int64())), part)
    assert not whole_part(tmp_path, "a")


def test_parts_come_in_the_order_of_their_names_whatever_how_many_become_one(tmp_path, monkeypatch):
    monkeypatch.setattr("eval.parts._TOGETHER", 2)
    for seed, name in enumerate("cabed"):
        write_part(tmp_path, name, columns(seed))
    found = read_table(tmp_path, columns=["label", "sample"])
    expected = [columns("cabed".index(name)) for name in "abcde"]
    assert found["label"].to_pylist() == [value for one in expected for value in one["label"]]
    assert found["sample"].to_pylist() == [value for one in expected for value in one["sample"]]
    part_file(tmp_path, "d").write_bytes(b"torn")
    with pytest.raises(InputError, match=r"d\.parquet: must be a whole Parquet part"):
        read_table(tmp_path)
    assert read_table(tmp_path, ["b"])["label"].to_pylist() == columns(2)["label"].tolist()
    assert read_table(tmp_path / "nowhere").num_rows == 0
