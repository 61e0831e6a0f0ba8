"""The folder of a run or of a sweep is refused, before anything is loaded or written, where it cannot be had."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from filelock import FileLock

from eval.errors import InputError
from eval.excuse import PLAN, Excuse
from eval.place import check
from eval.writable import unwritable

SMALL = ["debug=quick", "model=[softmax]", "attack=[fgsm]"]


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def left(folder: Path, what: str) -> None:
    """Leave in a folder what a run or a sweep does."""
    if what == "error.json":
        Excuse("refused", "why").write(folder / "3")
        return
    path = folder / what
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")


def test_a_run_is_refused_where_a_sweep_is(command, tmp_path, monkeypatch):
    monkeypatch.setattr("eval.run.load", None)  # nothing is loaded
    left(tmp_path / "S", PLAN)
    (tmp_path / "S" / "report.html").write_text("of the sweep")
    before = contents(tmp_path)
    done = command([*SMALL, "run.dir=S"])
    assert done.code == 2
    assert done.err.startswith(f"toastproof: run.dir: must be a folder without a sweep for a run, but S holds {PLAN}; ")
    assert done.err.count("\n") == 1
    assert contents(tmp_path) == before


@pytest.mark.parametrize("word", ["-m", "--multirun"])
def test_a_sweep_is_refused_where_a_run_is_and_its_word_may_stand_among_the_overrides(command, tmp_path, word):
    left(tmp_path / "R", "run.json")
    before = contents(tmp_path)
    done = command(["run.dir=R", word, *SMALL, "seed=0,1"])
    assert done.code == 2
    assert done.err.startswith(
        "toastproof: run.dir: must be a folder without a run for a sweep, but R holds run.json; "
    )
    assert done.err.count("\n") == 1
    assert contents(tmp_path) == before


@pytest.mark.parametrize("what", ["0/run.json", "error.json"])
def test_jobs_without_a_plan_are_a_sweep_too(tmp_path, what):
    left(tmp_path, what)
    with pytest.raises(InputError, match=r"holds \d/\w+\.json; choose another folder"):
        check(str(tmp_path), sweep=False)


def test_parts_without_a_header_are_a_run_too(tmp_path):
    left(tmp_path, "parts/abc.parquet")
    with pytest.raises(InputError, match=r"holds parts/abc\.parquet; choose another folder"):
        check(str(tmp_path), sweep=True)


def test_a_run_that_trains_still_keeps_a_sweep_out(tmp_path):
    with FileLock(tmp_path / ".lock"), pytest.raises(InputError, match="holds the lock of a process at work; choose"):
        check(str(tmp_path), sweep=True)
    check(str(tmp_path), sweep=True)


def test_a_job_may_be_done_alone_in_its_folder_and_each_goes_on_in_its_own(tmp_path):
    left(tmp_path, PLAN)
    left(tmp_path, "3/run.json")
    check(str(tmp_path / "3"), sweep=False)
    check(str(tmp_path), sweep=True)
    left(tmp_path / "runs", "today/run.json")  # among others, which are no jobs
    check(str(tmp_path / "runs"), sweep=False)


@pytest.mark.parametrize("sweep", [False, True])
@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("", "must name a folder, got an empty text; write run.dir=FOLDER, or leave it out"),
        ("/proc/x/y", "must be a folder that can be written, got /proc/x/y (No such file or directory); name another"),
        ("file", "must be a folder that can be written, got file (Not a directory); name another"),
        ("file/x", "must be a folder that can be written, got file/x (Not a directory); name another"),
        ("link", "must be a folder that can be written, got link (No such file or directory); name another"),
    ],
)
def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch, place, says, sweep):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("in the way")
    Path("link").symlink_to("nowhere")
    with pytest.raises(InputError) as told:
        check(place, sweep)
    assert str(told.value) == f"run.dir: {says}"


@pytest.mark.parametrize("arguments", [[], ["-m", "seed=0,1"]])
def test_a_variable_that_is_not_set_is_no_folder(command, tmp_path, arguments):
    done = command([*arguments, *SMALL, "run.dir="])
    assert done.code == 2
    assert done.err.startswith("toastproof: run.dir: must name a folder, got an empty text; ")
    assert not list(tmp_path.iterdir())


def test_a_name_that_hydra_gives_is_checked_too(command, tmp_path):
    left(tmp_path / "of-toastproof", PLAN)
    done = command([*SMALL, "run.dir='of-${hydra:job.name}'"])
    assert done.code == 2
    assert f"of-toastproof holds {PLAN}" in done.err


def test_whether_a_folder_can_be_written_is_found_out_without_a_trace(tmp_path):
    assert unwritable(tmp_path / "new" / "place") == ""
    assert unwritable(tmp_path) == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="rights, which keep root from nothing")
def test_a_folder_without_the_right_to_write_is_told(tmp_path):
    tmp_path.chmod(0o500)
    assert unwritable(tmp_path / "runs") == "Permission denied"


def test_parts_that_jobs_of_a_sweep_share_in_its_folder_are_no_run(tmp_path):
    left(tmp_path, "0/run.json")
    left(tmp_path, "parts/cpu/abc.parquet")
    check(str(tmp_path), sweep=True)
