from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from reports import tables


def test_a_file_is_written_with_its_folders_and_its_line_ends(tmp_path):
    path = tables.write_text(tmp_path / "a" / "b.txt", "1\r\n2\n")
    assert path.read_bytes() == b"1\r\n2\n"


def test_a_file_that_cannot_be_written_whole_leaves_the_earlier_one(tmp_path, monkeypatch):
    path = tables.write_text(tmp_path / "a.csv", "old")

    def full(self, text, **_):
        self.write_bytes(text[:1].encode())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        tables.write_csv(path, pd.DataFrame({"x": [1]}))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
