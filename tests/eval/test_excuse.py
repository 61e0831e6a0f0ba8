from __future__ import annotations

import pytest

from eval.excuse import FILE, Excuse


def test_an_excuse_comes_back_as_it_was_left(tmp_path):
    Excuse("refused", "threat.eps: must be > 0", ("threat.eps=0",)).write(tmp_path / "0")
    assert Excuse.read(tmp_path / "0") == Excuse("refused", "threat.eps: must be > 0", ("threat.eps=0",))


def test_no_word_is_no_excuse(tmp_path):
    assert Excuse.read(tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", '{"status": "refused"', "{}"])
def test_a_torn_one_is_told(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    assert Excuse.read(tmp_path) == Excuse("crashed", "error.json cannot be read")
