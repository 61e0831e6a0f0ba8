"""Two processes that are started in the same folder share its work, and end with the records of one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pandas as pd

from eval.records import Run, read_records

ROOT = Path(__file__).parents[2]
SMALL = ["debug=quick", "model=[softmax]", "attack=[fgsm,pgd,noise_uniform]", "run.shard=5", "controls=false"]
PROGRAM = """
import sys, time
from pathlib import Path
import eval.make, eval.task
from eval.__main__ import main
real, log, other = eval.make.craft, Path(sys.argv.pop(1)), Path(sys.argv.pop(1))
def craft(bench, unit, *rest):
    with log.open("a") as file:
        file.write(f"{unit.attack_name} {unit.index[0]}\\n")
    patience = time.monotonic() + 120
    while not other.exists():
        assert time.monotonic() < patience, "the other process did not begin"
        time.sleep(0.05)
    time.sleep(0.05)
    return real(bench, unit, *rest)
eval.make.craft = craft
main()
"""


def begin(home: Path, log: str, *arguments: str, waits_for: str = "") -> subprocess.Popen:
    """A run as a process of its own, which notes what it makes; it waits until another one has begun with something."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(home / log), str(home / (waits_for or log)), *SMALL, *arguments],
        cwd=home,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TOASTPROOF_CHECKPOINTS": str(home / "checkpoints")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process: subprocess.Popen) -> tuple[int, str]:
    """The exit status, and all that it said."""
    with process:
        said = process.communicate()[0]
    return process.returncode, said


def made(home: Path, log: str) -> list[str]:
    return (home / log).read_text().splitlines() if (home / log).exists() else []


def records(folder: Path) -> pd.DataFrame:
    return read_records(folder).drop(columns="seconds")


def until(condition, process: subprocess.Popen) -> None:
    while not condition():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)


def test_two_processes_make_every_part_once_between_them(tmp_path):
    both = [begin(tmp_path, log, "run.dir=out", waits_for=other) for log, other in (("one", "other"), ("other", "one"))]
    codes, said = zip(*map(ended, both), strict=True)
    assert codes == (0, 0), said
    counts = Counter(made(tmp_path, "one") + made(tmp_path, "other"))
    assert len(counts) == 3 * 8
    assert set(counts.values()) == {1}
    assert min(len(made(tmp_path, log)) for log in ("one", "other")) > 0
    assert sum("this one helps it" in text for text in said) == 1
    assert sum("Report: " in text for text in said) == 1
    assert Run.read(tmp_path / "out").status == "complete"
    assert ended(begin(tmp_path, "alone", "run.dir=quiet"))[0] == 0
    pd.testing.assert_frame_equal(records(tmp_path / "out"), records(tmp_path / "quiet"))
    assert len(made(tmp_path, "alone")) == 3 * 8
    assert not list((tmp_path / "out").glob(".*"))


def test_whoever_helps_ends_what_the_first_one_left_when_it_was_killed(tmp_path):
    first = begin(tmp_path, "one", "run.dir=out", waits_for="other")
    until(lambda: made(tmp_path, "one"), first)
    second = begin(tmp_path, "other", "run.dir=out")
    until(lambda: made(tmp_path, "other"), second)
    first.kill()
    ended(first)
    code, said = ended(second)
    assert code == 0, said
    assert "Report: " in said
    assert Run.read(tmp_path / "out").status == "complete"
    rows = read_records(tmp_path / "out")
    assert len(rows) == 4 * 40
    assert len(set(made(tmp_path, "one")) & set(made(tmp_path, "other"))) <= 1  # what was being made


def test_a_process_with_another_question_is_refused(tmp_path):
    first = begin(tmp_path, "one", "run.dir=out", waits_for="asked")
    until(lambda: made(tmp_path, "one"), first)
    other = begin(tmp_path, "other", "run.dir=out", "seed=1")
    code, said = ended(other)
    assert code == 2
    assert "run.dir: " in said
    assert "holds another run (differs in: seed, the data themselves); choose another folder" in said
    assert not made(tmp_path, "other")
    (tmp_path / "asked").touch()
    assert ended(first)[0] == 0
