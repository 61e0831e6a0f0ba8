from __future__ import annotations

import gc
import weakref

import pytest

from eval.importing import importing


class Ring:
    def __init__(self):
        self.itself = self


def test_nothing_is_collected_meanwhile_and_what_is_made_afterwards_is():
    with importing():
        assert not gc.isenabled()
        before = gc.get_freeze_count()
    assert gc.isenabled()
    assert gc.get_freeze_count() > before
    seen = weakref.ref(Ring())
    gc.collect()
    assert seen() is None


def test_a_failure_turns_it_on_again():
    with pytest.raises(ImportError), importing():
        raise ImportError
    assert gc.isenabled()


def test_who_turned_it_off_finds_it_off():
    gc.disable()
    try:
        with importing():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
