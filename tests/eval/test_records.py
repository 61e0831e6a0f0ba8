from __future__ import annotations

import numpy as np
import pytest

from eval.errors import InputError
from eval.records import read_measured, read_slices, write_measured


def test_what_was_measured_is_read_again_and_a_torn_file_is_told_in_one_line(tmp_path):
    write_measured(tmp_path, "a", "rays", "one", {"e": np.arange(3)})
    write_measured(tmp_path, "b", "rays", "two", {"e": np.arange(4)})
    write_measured(tmp_path, "c", "other", "one", {"e": np.arange(5)})
    found = read_measured(tmp_path, "rays")

    assert {name: len(arrays["e"]) for name, arrays in found.items()} == {"one": 3, "two": 4}
    path = tmp_path / "measured" / "b.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"b.npz: must be a whole file of arrays, got: .*; delete it") as caught:
        read_measured(tmp_path, "rays")
    assert "\n" not in str(caught.value)


def test_slices_are_read_in_the_order_of_their_samples(tmp_path):
    for name, first in (("a", 1024), ("b", 0), ("c", 512)):
        write_measured(tmp_path, name, "watched:pgd", "net", {"e": np.array([first])}, first)
    slices = read_slices(tmp_path, "watched:pgd")["net"]
    assert [int(arrays["e"][0]) for arrays in slices] == [0, 512, 1024]


def test_no_file_takes_the_place_of_another_in_silence(tmp_path):
    write_measured(tmp_path, "a", "rays", "net", {"e": np.arange(3)})
    write_measured(tmp_path, "b", "rays", "net", {"e": np.arange(3)}, 512)
    with pytest.raises(InputError, match="must hold one file of rays on net, got 2"):
        read_measured(tmp_path, "rays")
    write_measured(tmp_path, "c", "rays", "net", {"e": np.arange(3)}, 512)
    with pytest.raises(InputError, match="must be the only file of rays on net from sample 512"):
        read_slices(tmp_path, "rays")
