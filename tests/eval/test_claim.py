"""A folder belongs to one run at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from eval.claim import claimed
from eval.errors import InputError

HOLD = "import sys; from pathlib import Path; from eval.claim import claimed\nwith claimed(Path(sys.argv[1])): {}"


def held(folder: Path, what: str) -> subprocess.Popen:
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", HOLD.format(what), str(folder)],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_another_process_is_refused_until_the_first_lets_go(tmp_path):
    with held(tmp_path, "print('in', flush=True); input()") as first:
        assert first.stdout.readline() == "in\n"
        with (
            pytest.raises(InputError, match=r"hydra\.run\.dir: .* is being written to by another run"),
            claimed(tmp_path),
        ):
            pass
        first.communicate("\n")
    with claimed(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_process_that_died_holds_nothing(tmp_path):
    with held(tmp_path, "print('in', flush=True); input()") as first:
        assert first.stdout.readline() == "in\n"
        first.kill()
        first.wait()
    with claimed(tmp_path):
        pass
