"""Two processes that are started in the same folder share its work, and end with the records of one."""

from __future__ import annotations

import subprocess
import time
from collections import Counter

import pandas as pd
import pytest

from eval.records import Run, parts_made, read_records
from tests.eval import slow_runs
from tests.eval.slow_runs import begun, ended, records

SMALL = ["debug=quick", "model=[softmax]", "attack=[fgsm,pgd,noise_uniform]", "run.shard=5", "controls=false"]


def begin(home, log, *arguments, waits_for=""):
    return slow_runs.begin(home, *SMALL, *arguments, log=log, waits_for=waits_for, pause=0.05)


def until(condition, process: subprocess.Popen) -> None:
    while not condition():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)


def test_two_processes_make_every_part_once_between_them(tmp_path):
    both = [begin(tmp_path, log, "run.dir=out", waits_for=other) for log, other in (("one", "other"), ("other", "one"))]
    codes, said = zip(*map(ended, both), strict=True)
    assert codes == (0, 0), said
    counts = Counter(begun(tmp_path, "one") + begun(tmp_path, "other"))
    assert len(counts) == 3 * 8
    assert set(counts.values()) == {1}
    assert min(len(begun(tmp_path, log)) for log in ("one", "other")) > 0
    assert sum("this one helps it" in text for text in said) == 1
    assert sum("Report: " in text for text in said) == 1
    assert Run.read(tmp_path / "out").status == "complete"
    assert ended(begin(tmp_path, "alone", "run.dir=quiet"))[0] == 0
    pd.testing.assert_frame_equal(records(tmp_path / "out"), records(tmp_path / "quiet"))
    assert len(begun(tmp_path, "alone")) == 3 * 8
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.slow
def test_whoever_helps_ends_what_the_first_one_left_when_it_was_killed(tmp_path):
    first = begin(tmp_path, "one", "run.dir=out", waits_for="other")
    until(lambda: begun(tmp_path, "one"), first)
    second = begin(tmp_path, "other", "run.dir=out")
    until(lambda: begun(tmp_path, "other"), second)
    first.kill()
    ended(first)
    code, said = ended(second)
    assert code == 0, said
    assert "Report: " in said
    about = Run.read(tmp_path / "out")
    assert about.status == "complete"
    assert about.parts == parts_made(tmp_path / "out")
    rows = read_records(tmp_path / "out")
    assert len(rows) == 4 * 40
    assert len(set(begun(tmp_path, "one")) & set(begun(tmp_path, "other"))) <= 1  # what was being made


@pytest.mark.slow
def test_a_process_with_another_question_is_refused(tmp_path):
    first = begin(tmp_path, "one", "run.dir=out", waits_for="asked")
    until(lambda: begun(tmp_path, "one"), first)
    other = begin(tmp_path, "other", "run.dir=out", "seed=1")
    code, said = ended(other)
    assert code == 2
    assert "run.dir: " in said
    assert "holds another run (differs in: seed, the data themselves); choose another folder" in said
    assert not begun(tmp_path, "other")
    (tmp_path / "asked").touch()
    assert ended(first)[0] == 0
