"""Several processes in one folder: one leads, and each part is made by one of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from eval.claim import Claims, Lead

ROOT = Path(__file__).parents[2]
LEADS = "with Lead(folder) as lead: {}"
HOLDS = "with Claims(folder, lambda part: False) as claims:\n    assert claims.take('p') == 'mine'; {}"


def held(folder: Path, what: str, then: str = "print('in', flush=True); input()") -> subprocess.Popen:
    begin = "import sys; from pathlib import Path; from eval.claim import Claims, Lead; folder = Path(sys.argv[1])\n"
    return subprocess.Popen(
        [sys.executable, "-c", begin + what.format(then), str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def none_made(part: str) -> bool:
    return False


def test_the_first_process_leads_and_the_next_one_after_it(tmp_path):
    with held(tmp_path, LEADS) as first:
        assert first.stdout.readline() == "in\n"
        with Lead(tmp_path) as lead:
            assert not lead.mine
            assert not lead.take()
            first.communicate("\n")
            assert not lead.mine
            assert lead.take()
            assert lead.mine
    assert not list(tmp_path.iterdir())


def test_a_process_that_died_leads_nobody_and_holds_nothing(tmp_path):
    with held(tmp_path, LEADS) as first, held(tmp_path, HOLDS) as second:
        for one in (first, second):
            assert one.stdout.readline() == "in\n"
        with Claims(tmp_path, none_made) as claims:
            assert claims.take("p") == "theirs"
            assert claims.take("q") == "mine"
            for one in (first, second):
                one.kill()
                one.wait()
            assert claims.take("p") == "mine"
        with Lead(tmp_path) as lead:
            assert lead.mine
    assert not list(tmp_path.iterdir())


def test_a_part_is_let_go_when_it_is_made_and_by_whoever_ends(tmp_path):
    made = set()
    with Claims(tmp_path, made.__contains__) as one, Claims(tmp_path, made.__contains__) as other:
        assert one.take("p") == "mine"
        assert other.take("p") == "theirs"
        made.add("p")
        assert other.take("p") == "there"
        one.release("p")
        assert one.take("q") == "mine"
    with Claims(tmp_path, made.__contains__) as third:
        assert third.take("q") == "mine"
        third.release("q")
        assert third.take("q") == "mine"
    assert not list(tmp_path.iterdir())


def test_a_part_that_is_made_between_two_looks_is_not_made_again(tmp_path):
    looks = iter([False, True])
    with Claims(tmp_path, lambda part: next(looks)) as claims:
        assert claims.take("p") == "there"
    assert not list(tmp_path.iterdir())


posix = pytest.mark.skipif(os.name != "posix", reason="elsewhere a file that is open cannot be removed")


@posix
def test_a_lock_whose_file_is_removed_while_it_is_taken_keeps_nobody_out_and_so_is_none(tmp_path, monkeypatch):
    import fcntl

    real, files = fcntl.flock, [tmp_path / ".claims" / "p"]

    def flock(file, operation):
        if files:  # whoever held it lets go between our opening and our locking
            files.pop().unlink()
        return real(file, operation)

    with Claims(tmp_path, none_made) as one, Claims(tmp_path, none_made) as other:
        monkeypatch.setattr(fcntl, "flock", flock)
        states = [one.take("p"), other.take("p")]
        assert not files
        assert states.count("mine") == 1


@posix
def test_who_lets_go_leaves_the_lock_of_the_next_one(tmp_path, monkeypatch):
    real, taken = Path.unlink, []
    with Claims(tmp_path, none_made) as one, Claims(tmp_path, none_made) as other, Claims(tmp_path, none_made) as third:

        def unlink(self, *arguments, **keywords):
            real(self, *arguments, **keywords)
            if not taken:  # the next one comes as soon as the name is free
                taken.append("")
                taken[0] = other.take("p")

        assert one.take("p") == "mine"
        monkeypatch.setattr(Path, "unlink", unlink)
        one.release("p")
        assert taken == ["mine"]
        assert third.take("p") == "theirs"
