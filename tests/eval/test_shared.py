"""Parts that runs share: nothing is made twice, and nothing is taken that is not what would be made."""

from __future__ import annotations

import io
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from attacks.pgd import PGD
from eval import shared
from eval.records import ARROW, Run, read_examples, read_records, write_part
from eval.run import run
from eval.schema import CONF
from eval.shared import Shared, source

CURVE = ("attack=[pgd]", "transfer=false", "debug.curve=true")


@pytest.fixture
def go(composed, tmp_path):
    """Runs one network in a folder of that name, with shared parts; returns the header and what was printed."""

    def build(name: str, *overrides: str, parts: str | None = "shared") -> tuple[Run, str]:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        place = [] if parts is None else [f"paths.parts={tmp_path / parts}"]
        cfg = composed("debug=quick", "model=[softmax]", "attack=[fgsm,pgd]", *place, *overrides)
        console = Console(record=True, file=io.StringIO(), width=300)
        return run(cfg, folder, list(overrides), console), console.export_text()

    return build


@pytest.fixture
def idle(monkeypatch):
    """From now on a search is a failure."""

    def stop() -> None:
        def searched(*_, **__):
            raise AssertionError("searched for again")

        monkeypatch.setattr(PGD, "__call__", searched)

    return stop


def test_one_attack_more_repeats_no_other(go, idle, tmp_path):
    first, said = go("first", "attack=[pgd]")
    assert first.taken == 0
    assert "taken" not in said
    idle()
    second, said = go("second", "attack=[fgsm,pgd]")
    assert second.status == "complete"
    assert Run.read(tmp_path / "second").taken == 1
    assert f"1 of 2 parts are taken from {tmp_path / 'shared'}, with the times of the runs" in said
    one, two = (read_records(tmp_path / name) for name in ("first", "second"))
    two = two[two["attack"] != "fgsm"].reset_index(drop=True)
    pd.testing.assert_frame_equal(one, two)  # seconds too
    images = [next(e for e in read_examples(tmp_path / n) if str(e["attack"]) == "pgd") for n in ("first", "second")]
    assert images[0].keys() == images[1].keys()
    assert all((images[0][k] == images[1][k]).all() for k in images[0])


def test_one_eps_more_repeats_no_smaller_one(go, monkeypatch, tmp_path):
    go("first", *CURVE, "threat.curve=[0.02]")
    tried, call = [], PGD.__call__

    def watched(self, logits, x, goal, threat, *, rng):
        tried.append(threat.eps)
        return call(self, logits, x, goal, threat, rng=rng)

    monkeypatch.setattr(PGD, "__call__", watched)
    assert go("second", *CURVE, "threat.curve=[0.02,0.2]")[0].taken == 2
    assert set(tried) == {0.2}
    go("alone", *CURVE, "threat.curve=[0.02,0.2]", parts=None)
    a, b = (read_records(tmp_path / name).drop(columns="seconds") for name in ("second", "alone"))
    pd.testing.assert_frame_equal(a, b)


def test_a_run_that_goes_on_remembers_what_it_took(go, idle, tmp_path):
    go("first", "attack=[pgd]")
    idle()
    go("second", "attack=[pgd]")
    again, said = go("second", "attack=[pgd]")
    assert again.taken == 1
    assert "taken" not in said


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "others"])
def test_a_file_that_is_not_whole_is_told_and_made_anew(go, idle, tmp_path, damage):
    go("first", "attack=[pgd]")
    (path,) = (tmp_path / "shared").rglob("*.zip")
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    path.write_bytes({"cut": whole[:middle], "flipped": flipped, "empty": b"", "others": b"PK\5\6" + bytes(18)}[damage])
    second, _ = go("second", "attack=[pgd]")
    assert second.status == "complete"
    assert second.taken == 0
    assert [w for w in second.warnings if w.startswith(f"paths.parts: {path} is not whole")]
    idle()
    assert go("third", "attack=[pgd]")[0].taken == 1  # it was mended


def test_what_would_be_made_otherwise_is_not_taken(go, monkeypatch, tmp_path):
    go("first", "attack=[pgd]")
    for name, more in (
        ("seed", "seed=1"),
        ("examples", "examples=1"),
        ("fold", "fold=false"),
        ("fuse", "fuse=false"),
        ("goal", "goal=next"),
        ("field", "attack.pgd.steps=3"),
        ("controls", "controls=false"),
    ):
        assert go(name, "attack=[pgd]", more)[0].taken == 0, name
    monkeypatch.setattr(shared, "CODE", "other")
    assert go("code", "attack=[pgd]")[0].taken == 0


def test_without_a_folder_nothing_is_kept(go, tmp_path):
    go("first", "attack=[pgd]", parts=None)
    go("second", "attack=[pgd]", parts=None)
    assert Run.read(tmp_path / "second").taken == 0
    assert {p.name for p in tmp_path.iterdir() if p.is_dir()} >= {"first", "second"}
    assert not list(tmp_path.rglob("*.zip"))


def test_every_edit_of_the_source_changes_its_hash(tmp_path):
    for package in ("attacks", "models", "eval", "reports"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "a.py").write_text("x = 1\n")
    before = source(tmp_path)
    (tmp_path / "reports" / "a.py").write_text("x = 2\n")
    assert source(tmp_path) == before
    seen = {before}
    for package in ("attacks", "models", "eval"):
        (tmp_path / package / "a.py").write_text("x = 2\n")
        seen.add(source(tmp_path))
    (tmp_path / "eval" / "a.py").rename(tmp_path / "eval" / "b.py")
    seen.add(source(tmp_path))
    assert len(seen) == 5
    assert source(CONF.parent) == shared.CODE


def test_a_crash_is_not_shared(go, monkeypatch, tmp_path):
    def failing(self, logits, x, goal, threat, *, rng):
        raise RuntimeError("no kernel")

    monkeypatch.setattr(PGD, "__call__", failing)
    assert go("first", "attack=[pgd]")[0].status == "failed"
    assert not list((tmp_path / "shared").rglob("*.zip"))


def test_a_folder_that_takes_nothing_is_told_once(go, tmp_path):
    (tmp_path / "file").write_text("")
    about, _ = go("first", "attack=[fgsm,pgd]", parts="file")
    assert about.status == "complete"
    assert len([w for w in about.warnings if "nothing more can be kept" in w]) == 1


def job(name: str, watch: object = None) -> SimpleNamespace:
    return SimpleNamespace(part=name, trial=SimpleNamespace(watch=watch), unit=SimpleNamespace(index=np.arange(1)))


def row() -> dict[str, list[object]]:
    empty = {"string": "", "bool": True}
    return {f.name: [empty.get(str(f.type), 0)] for f in ARROW}


def test_a_watched_search_is_not_shared(tmp_path):
    assert Shared(tmp_path, {}).path(job("a", watch=object())) is None
    assert Shared(tmp_path, {}).path(job("a")) is not None
    assert Shared(None, {}).path(job("a")) is None


def test_who_reads_while_others_write_gets_whole_parts(tmp_path):
    write_part(tmp_path / "run", "a", row())
    stop, shelf = threading.Event(), Shared(tmp_path / "shared", {})

    def writing() -> None:
        while not stop.is_set():
            replace(shelf).put(job("a"), tmp_path / "run")

    writers = [threading.Thread(target=writing) for _ in range(3)]
    for writer in writers:
        writer.start()
    taken, until = 0, time.monotonic() + 60  # on a busy machine it takes a while until the first one has written
    try:
        while taken < 200 and time.monotonic() < until:
            reader = Shared(tmp_path / "shared", {})
            taken += reader.take(job("a"), tmp_path / f"read{taken % 2}")
            assert not reader.troubles
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert taken == 200
    assert not list(Path(tmp_path / "shared").rglob("*.tmp"))
