from __future__ import annotations

import errno
import os

import pytest
from filelock import FileLock

from eval.alive import alive
from eval.claim import Lead


def test_a_folder_that_a_process_leads_is_alive(tmp_path):
    assert not alive(tmp_path)
    with Lead(tmp_path):
        assert alive(tmp_path)
    assert not alive(tmp_path)


def test_so_is_one_of_whose_parts_a_process_makes_one(tmp_path):
    (tmp_path / ".claims").mkdir()
    with FileLock(tmp_path / ".claims" / "abc"):
        assert alive(tmp_path)
    assert not alive(tmp_path)


def test_a_lock_that_a_process_left_when_it_was_killed_is_not_taken_away(tmp_path):
    (tmp_path / ".lock").touch()
    assert not alive(tmp_path)
    assert (tmp_path / ".lock").exists()
    with Lead(tmp_path) as lead:
        assert lead.mine


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="what is forbidden to others")
def test_a_lock_that_cannot_be_asked_counts_as_held(tmp_path):
    (tmp_path / ".lock").touch(mode=0o000)
    assert alive(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="elsewhere no file system is read-only by this error")
@pytest.mark.parametrize(("locks", "expected"), [(True, True), (False, False)])
def test_where_nothing_can_be_written_the_locks_of_others_are_asked_by_reading(tmp_path, monkeypatch, locks, expected):
    import fcntl

    def refused(self, timeout):
        raise OSError(errno.EROFS, "Read-only file system")

    def none(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    with Lead(tmp_path):
        monkeypatch.setattr(FileLock, "acquire", refused)
        with monkeypatch.context() as patch:
            if not locks:
                patch.setattr(fcntl, "flock", none)
            assert alive(tmp_path) is expected
        (tmp_path / ".claims").mkdir()
        (tmp_path / ".claims" / "abc").touch(mode=0o444)
    (tmp_path / ".lock").touch()
    assert not alive(tmp_path)
