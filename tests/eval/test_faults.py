"""Machines that die, disks that fill or fail, clocks that jump: afterwards the records are those of quiet days."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from filelock import FileLock

from eval.alive import alive
from eval.errors import InputError
from eval.records import Run, read_records
from reports.build import write
from tests.eval import slow_runs
from tests.eval.slow_runs import begun, ended, records

MANY = [
    "debug=quick", "model=[softmax,mlp_relu]", "attack=[pgd,noise_uniform]", "run.shard=3", "debug.curve=true",
    "threat.curve=['0.02']", "transfer=false",
]  # fmt: skip


def begin(home, pause, *arguments):
    return slow_runs.begin(home, *MANY, *arguments, pause=pause)


def parts(folder: Path) -> list[Path]:
    return sorted((folder / "parts").glob("*.parquet"))


@pytest.fixture
def once(small_run, tmp_path) -> Callable[[], pd.DataFrame]:
    """The records of a run that nothing happened to."""

    def go() -> pd.DataFrame:
        small_run(tmp_path / "quiet", *MANY[2:])
        return records(tmp_path / "quiet")

    return go


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_runs_that_are_killed_at_random_moments_end_with_the_records_of_one_that_was_not(tmp_path, seed):
    """Seventeen times each, from the first import to the report; a kill costs the part that was being made."""
    began = time.monotonic()
    assert ended(begin(tmp_path, 0.0, "run.dir=quiet"))[0] == 0
    patience = time.monotonic() - began
    whole, names = records(tmp_path / "quiet"), [path.name for path in parts(tmp_path / "quiet")]
    draw, kills, runs = random.Random(seed), 0, 0
    while kills < 17:
        home, runs, here = tmp_path / f"home{runs}", runs + 1, 0
        home.mkdir()
        while True:
            process = begin(home, 0.1, "run.dir=out")
            try:
                process.wait(timeout=draw.uniform(0.1, 1.5) * patience)
            except subprocess.TimeoutExpired:
                process.kill()
                ended(process)
                here += 1
                continue
            code, said = ended(process)
            assert code == 0, said
            break
        kills += here
        pd.testing.assert_frame_equal(records(home / "out"), whole)
        assert [path.name for path in parts(home / "out")] == names
        again = Counter(begun(home))
        assert sum(again.values()) - len(again) <= here


def test_torn_files_are_made_anew_and_told(small_run, once, tmp_path):
    whole, out = once(), tmp_path / "out"
    small_run(out, *MANY[2:])
    cut, flipped, emptied, *_ = parts(out)
    cut.write_bytes(cut.read_bytes()[:-9])
    content = bytearray(flipped.read_bytes())
    content[len(content) // 3] ^= 0x20
    flipped.write_bytes(content)
    emptied.write_bytes(b"")
    example = sorted((out / "examples").iterdir())[0]
    example.write_bytes(example.read_bytes()[:100])
    about = small_run(out, *MANY[2:])
    pd.testing.assert_frame_equal(records(out), whole)
    assert len([line for line in about.warnings if "was not whole and is made anew" in line]) == 4
    assert example.stat().st_size > 100
    assert not any("not whole" in line for line in small_run(out, *MANY[2:]).warnings)


def test_a_torn_header_is_told_and_without_it_the_parts_are_gone_on_with(small_run, once, tmp_path):
    whole, out = once(), tmp_path / "out"
    small_run(out, *MANY[2:])
    parts(out)[0].unlink()
    before = {path: path.stat().st_mtime_ns for path in parts(out)}
    (out / "run.json").write_text('{"title": ')
    with pytest.raises(InputError, match="delete it, and the same command goes on with the parts that are whole"):
        small_run(out, *MANY[2:])
    (out / "run.json").unlink()
    with pytest.raises(InputError, match=r"holds records of another run \(\d+ parts, .* without a run.json; choose"):
        small_run(out, *MANY[2:], "seed=1")
    assert not (out / "run.json").exists()
    assert small_run(out, *MANY[2:]).status == "complete"
    assert {path: path.stat().st_mtime_ns for path in before} == before
    pd.testing.assert_frame_equal(records(out), whole)


def test_a_clock_that_jumps_changes_no_record(small_run, once, tmp_path, monkeypatch):
    whole, real, draw = once(), time.time, random.Random(0)
    monkeypatch.setattr(time, "time", lambda: real() + draw.uniform(-1e7, 1e7))
    stamps = iter(["2031-05-05T00:00:00+00:00", "1999-12-31T23:59:59+00:00"])
    monkeypatch.setattr("eval.run.now", lambda: next(stamps))
    about = small_run(tmp_path / "out", *MANY[2:])
    assert about.finished < about.started
    assert all(0 <= seconds < 600 for seconds in about.wall_seconds.values())
    pd.testing.assert_frame_equal(records(tmp_path / "out"), whole)
    assert (read_records(tmp_path / "out")["seconds"] >= 0).all()
    assert "-" not in write(tmp_path / "out").read_text(encoding="utf-8").partition("Duration")[2][:60].split("<")[0]


@pytest.mark.parametrize("place", ["/proc/toastproof", "/dev/null/toastproof"])
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, place):
    process = begin(tmp_path, 0.0, f"run.dir={place}")
    code, said = ended(process)
    assert code == 2
    assert said.startswith(f"toastproof: run.dir: must be a folder that can be written, got {place} (")
    assert said.count("\n") == 1


@pytest.fixture
def disk(tmp_path) -> Iterator[Callable[[str], Path]]:
    """A small disk of our own, mounted with the options that are asked for; asked again, mounted anew."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = []

    def mount(options: str) -> Path:
        again = ["remount", options] if mounted else [options]
        command = ["mount", "-t", "tmpfs", "-o", ",".join(again), "tmpfs", str(place)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("mounting a file system takes a privilege")
        mounted.append(place)
        return place

    yield mount
    if mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_with_room_the_run_goes_on(disk, once, tmp_path):
    place = disk("size=160k")
    process = begin(tmp_path, 0.0, f"run.dir={place}/out")
    code, said = ended(process)
    assert code == 2, said
    assert said.strip().splitlines()[-1].endswith("No space left on device")
    assert "Traceback" not in said
    kept = {path.name for path in parts(place / "out")}
    disk("size=64m")
    (tmp_path / "log").unlink()
    process = begin(tmp_path, 0.0, f"run.dir={place}/out")
    code, said = ended(process)
    assert code == 0, said
    assert len(begun(tmp_path)) < len(parts(place / "out"))
    assert kept <= {path.name for path in parts(place / "out")}
    pd.testing.assert_frame_equal(records(place / "out"), once())


@pytest.mark.slow
def test_a_disk_that_became_read_only_is_one_line(disk, tmp_path):
    place = disk("size=64m")
    process = begin(tmp_path, 0.2, f"run.dir={place}/out")
    while len(parts(place / "out")) < 3:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)
    process.kill()
    ended(process)
    disk("ro")
    code, said = ended(begin(tmp_path, 0.0, f"run.dir={place}/out"))
    assert code == 2
    assert "Read-only file system" in said.strip().splitlines()[-1]
    assert "Traceback" not in said
    disk("rw")
    assert ended(begin(tmp_path, 0.0, f"run.dir={place}/out"))[0] == 0


def test_where_nothing_can_be_written_nobody_is_at_work(disk):
    place = disk("size=1m")
    (place / ".claims").mkdir()
    for left in (".lock", ".claims/abc"):
        (place / left).touch()
    disk("ro")
    assert not alive(place)


@pytest.fixture
def read_only(tmp_path) -> Iterator[tuple[Path, Path]]:
    """A folder as those see it who write there, and as a machine does that may only read."""
    here, there = tmp_path / "written", tmp_path / "seen"
    for place in (here, there):
        place.mkdir()
    if subprocess.run(["mount", "--bind", str(here), str(there)], capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system takes a privilege")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(there)], check=True)
        yield here, there
    finally:
        subprocess.run(["umount", "-l", str(there)], check=True)


@pytest.mark.parametrize("lock", [".lock", ".claims/abc"])
def test_who_may_only_read_sees_that_others_are_at_work(read_only, lock):
    here, there = read_only
    (here / ".claims").mkdir()
    with FileLock(here / lock):
        assert alive(there)
    (here / lock).touch()
    assert not alive(there)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_within_seconds_with_a_report_on_what_there_is(tmp_path, number, code):
    process = begin(tmp_path, 0.3, "run.dir=out")
    while len(begun(tmp_path)) < 4:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)
    process.send_signal(number)
    sent = time.monotonic()
    found, said = ended(process)
    took = time.monotonic() - sent
    assert found == code, said
    assert took < 30  # some 1.5 s on a machine with nothing else to do
    assert "the same command with run.dir=out goes on" in said
    assert "Report: " in said
    assert Run.read(tmp_path / "out").status == "interrupted"
    assert "It is partial" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert ended(begin(tmp_path, 0.0, "run.dir=out"))[0] == 0
    assert sum(Counter(begun(tmp_path)).values()) - len(set(begun(tmp_path))) <= 1
