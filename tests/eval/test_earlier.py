"""What of an earlier run is whole: no damage goes unnoticed, and none ends in anything but a file that is made anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from eval.earlier import mended
from eval.errors import InputError
from eval.records import example_file, read_example, write_examples


@pytest.fixture
def damaged(tmp_path) -> Iterator[Path]:
    """A folder with two arrays, again and again, each time with another bit of their file flipped."""

    def flips() -> Iterator[Path]:
        write_examples(tmp_path, "p", x=np.arange(12, dtype=np.float32), sample=np.array(["a", "b"]))
        path = example_file(tmp_path, "p")
        whole = path.read_bytes()
        for bit in range(8 * len(whole)):
            content = bytearray(whole)
            content[bit // 8] ^= 1 << bit % 8
            path.write_bytes(content)
            yield tmp_path

    return flips()


def test_arrays_with_one_bit_flipped_are_made_anew_or_say_the_same(damaged):
    told = 0
    for folder in damaged:
        if lines := mended(folder):
            assert lines == ["examples/p.npz was not whole and is made anew"]
            assert not example_file(folder, "p").exists()
            told += 1
            continue
        arrays = read_example(folder, "p")
        assert arrays is not None
        assert arrays.keys() == {"x", "sample"}
        assert (arrays["x"] == np.arange(12, dtype=np.float32)).all()
        assert list(arrays["sample"]) == ["a", "b"]
    assert told > 1000  # else times and the like


def test_who_reads_them_is_told_in_one_line(damaged):
    said = []
    for folder in damaged:
        try:
            read_example(folder, "p")
        except InputError as error:
            said.append(str(error))
    assert len(said) > 1000
    assert all("must be a whole file of arrays, got: " in line for line in said)


def test_a_file_that_cannot_be_read_is_not_taken_for_a_damaged_one(tmp_path):
    example_file(tmp_path, "p").mkdir(parents=True)  # whoever runs this may read any file
    with pytest.raises(OSError, match="directory"):
        mended(tmp_path)
    assert example_file(tmp_path, "p").exists()
