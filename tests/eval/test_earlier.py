"""What of an earlier run is whole: no damage goes unnoticed, and none ends in anything but a file that is made anew."""

from __future__ import annotations

import io
import os
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import eval.earlier
import eval.run
from eval.claim import Lead
from eval.earlier import mended, swept, torn, written_now
from eval.errors import InputError
from eval.parts import part_file, whole_part
from eval.records import example_file, read_example, write_examples
from tests.eval.slow_runs import records


@pytest.fixture
def damaged(tmp_path) -> Iterator[Path]:
    """A folder with two arrays, again and again, each time with another bit of their file flipped."""

    def flips() -> Iterator[Path]:
        write_examples(tmp_path, "p", x=np.arange(12, dtype=np.float32), sample=np.array(["a", "b"]))
        path = example_file(tmp_path, "p")
        whole = path.read_bytes()
        for bit in range(8 * len(whole)):
            content = bytearray(whole)
            content[bit // 8] ^= 1 << bit % 8
            path.write_bytes(content)
            yield tmp_path

    return flips()


def test_arrays_with_one_bit_flipped_are_made_anew_or_say_the_same(damaged):
    told = 0
    for folder in damaged:
        if lines := mended(folder):
            assert lines == ["examples/p.npz was not whole and is made anew"]
            assert not example_file(folder, "p").exists()
            told += 1
            continue
        arrays = read_example(folder, "p")
        assert arrays is not None
        assert arrays.keys() == {"x", "sample"}
        assert (arrays["x"] == np.arange(12, dtype=np.float32)).all()
        assert list(arrays["sample"]) == ["a", "b"]
    assert told > 1000  # else times and the like


def test_who_reads_them_is_told_in_one_line(damaged):
    said = []
    for folder in damaged:
        try:
            read_example(folder, "p")
        except InputError as error:
            said.append(str(error))
    assert len(said) > 1000
    assert all("must be a whole file of arrays, got: " in line for line in said)


def test_a_file_that_cannot_be_read_is_not_taken_for_a_damaged_one(tmp_path):
    example_file(tmp_path, "p").mkdir(parents=True)  # whoever runs this may read any file
    with pytest.raises(OSError, match="directory"):
        mended(tmp_path)
    assert example_file(tmp_path, "p").exists()


def test_a_file_that_is_removed_before_it_is_read_is_not_torn(tmp_path, monkeypatch):
    real, removed = Path.read_bytes, []

    def late(self):
        self.unlink()  # as who leads does
        removed.append(self)
        return real(self)

    for path in (part_file(tmp_path, "p"), example_file(tmp_path, "p"), example_file(tmp_path, "q")):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"torn")
    monkeypatch.setattr(Path, "read_bytes", late)
    assert torn(tmp_path) == []
    assert len(removed) == 3


def test_where_memory_runs_out_no_file_is_taken_for_a_damaged_one(tmp_path, monkeypatch):
    def full(self):
        raise MemoryError

    write_examples(tmp_path, "p", x=np.zeros(3, dtype=np.float32), sample=np.array(["a"]))
    monkeypatch.setattr(zipfile.ZipFile, "testzip", full)
    with pytest.raises(MemoryError):
        mended(tmp_path)
    assert example_file(tmp_path, "p").exists()


def test_what_a_process_that_was_killed_began_to_write_is_gone_when_all_is_written(small_run, tmp_path):
    out = tmp_path / "out"
    small_run(out)
    part, other = sorted((out / "parts").iterdir())[:2]
    (image,) = sorted((out / "examples").iterdir())[:1]
    begun = [beside(path) for path in (part, image, out / "run.json")]
    theirs = [beside(out / "parts" / "none.parquet"), beside(out / "report.html"), out / "parts" / ".notes.tmp"]
    (out / "report.html").touch()
    for path in (*begun, *theirs):
        path.write_bytes(b"half")
    part.unlink()
    other.write_bytes(b"torn")
    small_run(out)
    assert not [path for path in begun if path.exists()]
    assert all(path.exists() for path in theirs)
    assert part.exists()


def test_what_another_process_is_writing_when_all_is_written_is_left_to_it(small_run, tmp_path, monkeypatch):
    out, real, theirs = tmp_path / "out", eval.run.swept, []

    def late(folder, *arguments):
        part = sorted((folder / "parts").iterdir())[0]
        theirs.append(beside(part))
        theirs[0].write_bytes(b"half")
        real(folder, *arguments)

    monkeypatch.setattr(eval.run, "swept", late)
    small_run(out)
    assert theirs[0].exists()


def test_what_is_old_is_told_by_the_clock_of_the_files(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 0.0)
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    part = part_file(tmp_path, "p")
    part.parent.mkdir()
    part.touch()
    before = part.stat().st_mtime_ns
    began = written_now(tmp_path)
    part.touch()
    assert before <= began <= part.stat().st_mtime_ns
    for age, left in ((1, False), (0, True), (-1, True)):
        beside(part).touch()
        os.utime(beside(part), ns=(began - age, began - age))
        swept(tmp_path, began)
        assert beside(part).exists() is left
    assert sorted(tmp_path.iterdir()) == [part.parent]


def beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.0123456789abcdef.tmp")


def test_who_helps_waits_until_what_is_torn_was_removed_by_who_leads(small_run, tmp_path, monkeypatch):
    chain = ("debug.curve=true", "threat.curve=['0.02']", "transfer=false", "attack=[pgd]", "model=[softmax]")
    out = tmp_path / "out"
    small_run(out, *chain)
    whole = records(out)
    paths = sorted((out / "parts").iterdir())
    for path in paths:
        path.write_bytes(path.read_bytes()[:-9])
    waits = []

    def sleep(seconds):
        waits.append(len(torn(out)))
        mended(out)  # as who leads does

    with Lead(out) as lead:
        assert lead.mine
        monkeypatch.setattr("eval.run.time", SimpleNamespace(sleep=sleep, perf_counter=time.perf_counter))
        assert small_run(out, *chain).status == "helped"
    assert waits == [len(paths)]
    pd.testing.assert_frame_equal(records(out), whole)


def test_who_waits_looks_at_what_it_waits_for_alone_and_says_so_once(go, tmp_path, monkeypatch):
    out, overrides = tmp_path / "out", ("debug=quick", "model=[softmax]", "attack=[fgsm,pgd]")
    go(out, *overrides)
    names = [path.stem for path in sorted((out / "parts").iterdir())]
    for name in names[:2]:
        part_file(out, name).write_bytes(b"torn")
    looks, waits, said = [], [], io.StringIO()

    def look(folder, name):
        looks.append(name)
        return whole_part(folder, name)

    def sleep(seconds):
        waits.append(looks.copy())
        looks.clear()
        if len(waits) == 3:
            part_file(out, names[0]).unlink()
        if len(waits) == 4:
            part_file(out, names[1]).unlink()

    monkeypatch.setattr(eval.earlier, "whole_part", look)
    monkeypatch.setattr("eval.run.time", SimpleNamespace(sleep=sleep, perf_counter=time.perf_counter))
    with Lead(out) as lead:
        assert lead.mine
        assert go(out, *overrides, console=Console(file=said)).status == "helped"
    assert waits == [names, names[:2], names[:2], names[:2]]
    assert looks == names[1:2]
    assert said.getvalue().count("not whole") == 1
    assert f"not whole: parts/{names[0]}.parquet and 1 more; this one waits" in said.getvalue()


def test_who_helps_mends_where_who_led_is_gone(small_run, tmp_path, monkeypatch):
    out, lead = tmp_path / "out", Lead(tmp_path / "out")
    small_run(out)
    whole = records(out)
    path = sorted((out / "parts").iterdir())[0]
    path.write_bytes(b"")
    ending = SimpleNamespace(sleep=lambda seconds: lead.__exit__(None, None, None), perf_counter=time.perf_counter)
    monkeypatch.setattr("eval.run.time", ending)
    lead.take()
    about = small_run(out)
    assert about.status == "complete"
    assert [w for w in about.warnings if "not whole" in w] == [f"parts/{path.name} was not whole and is made anew"]
    pd.testing.assert_frame_equal(records(out), whole)
