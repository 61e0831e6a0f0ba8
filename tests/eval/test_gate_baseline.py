from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.errors import InputError
from eval.gate.baseline import Baseline, accept, pack, unpack
from eval.gate.paired import Rules
from eval.gate.snapshot import read_run
from eval.records import key
from tests.eval.gate_runs import outcomes, write_run


def run(folder, n=50, **more):
    held = outcomes(n, 0.9)
    return write_run(folder, {"mlp": {"none": held, ("pgd", "8/255"): held * outcomes(n, 0.5, seed=1)}}, **more)


@given(st.lists(st.sampled_from([0, 1, 2]), max_size=70))
def test_what_was_packed_comes_back(values):
    packed = pack(np.array(values, np.uint8))
    assert unpack(packed, len(values)).tolist() == values


def test_four_outcomes_take_a_byte():
    assert len(pack(np.zeros(3000, np.uint8))) == 1000  # 750 bytes in base64


@pytest.mark.parametrize(
    ("text", "n", "told"),
    [("!", 4, "base64"), ("YQ==", 8, "1 bytes"), ("/w==", 4, "an outcome"), ("YQE", 5, "base64")],
)
def test_what_is_no_outcome_is_refused(text, n, told):
    with pytest.raises(ValueError, match=told):
        unpack(text, n)


def test_a_baseline_comes_back_as_it_was(tmp_path):
    folder = run(tmp_path / "run", silent=[("mlp", "pgd", "8/255", [0, 7])])
    path = tmp_path / "new" / "robustness.json"
    made = accept(folder, path, floor=0.25)
    read = Baseline.read(path)
    snapshot = read_run(folder)
    assert read.rules == made.rules == Rules(floor=0.25)
    assert read.accepted == made.accepted
    assert read.snapshot.samples == snapshot.samples
    assert read.snapshot.question == snapshot.question
    assert read.snapshot.models == snapshot.models
    assert list(read.snapshot.cells) == list(snapshot.cells)
    for cell, values in snapshot.cells.items():
        np.testing.assert_array_equal(read.snapshot.cells[cell], values)


def test_a_baseline_tells_how_it_was_made_and_no_place_of_this_machine(tmp_path):
    accept(run(tmp_path / "run"), tmp_path / "b.json")
    content = json.loads((tmp_path / "b.json").read_text())
    assert content["made"]["overrides"] == ["data=digits"]
    assert content["made"]["config"]["data"] == {"name": "digits"}
    assert "paths" not in content["made"]["config"]
    assert str(tmp_path) not in (tmp_path / "b.json").read_text()


def test_each_cell_has_a_line(tmp_path):
    accept(run(tmp_path / "run"), tmp_path / "b.json")
    lines = (tmp_path / "b.json").read_text().splitlines()
    assert sum('"outcomes"' in line for line in lines) == 2
    assert len(lines) < 100


def test_rules_stay_when_a_new_run_is_accepted(tmp_path):
    accept(run(tmp_path / "run"), tmp_path / "b.json", alpha=0.05, floor=0.2)
    accept(run(tmp_path / "run2"), tmp_path / "b.json", floor=0.3)
    assert Baseline.read(tmp_path / "b.json").rules == Rules(alpha=0.05, floor=0.3)


def test_the_same_run_gives_the_same_file_but_for_the_time(tmp_path):
    for name in ("a.json", "b.json"):
        accept(run(tmp_path / "run"), tmp_path / name)
    a, b = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    for content in (a, b):
        del content["accepted"], content["digest"]
    assert a == b


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


SPOILT = {
    "schema": (lambda p: edit(p, lambda c: c.update(schema=99)), "schema must be 1, got 99"),
    "truncated": (lambda p: p.write_text(p.read_text()[:-40]), "no whole JSON"),
    "empty": (lambda p: p.write_text(""), "no whole JSON"),
    "binary": (lambda p: p.write_bytes(b"\xff\x00PK"), "no whole JSON"),
    "else": (lambda p: p.write_text('{"name": "package"}'), "JSON of something else"),
    "list": (lambda p: p.write_text("[1, 2]"), "JSON of something else"),
    "deep": (lambda p: p.write_text("[" * 100_000), "no whole JSON"),
    "edited": (lambda p: edit(p, lambda c: c["samples"].pop()), "only its rules may be edited"),
    "cell edited": (lambda p: edit(p, lambda c: c["cells"][0].update(outcomes="")), "only its rules may be edited"),
    "key missing": (lambda p: edit(p, lambda c: c.pop("cells")), "only its rules may be edited"),
    "rule": (lambda p: edit(p, lambda c: c["rules"].update(floor=30)), "rules.floor: must be"),
    "other rule": (lambda p: edit(p, lambda c: c["rules"].update(flor=0.3)), "rules must be of"),
    "missing": (lambda p: p.unlink(), "there is no such file"),
    "folder": (lambda p: (p.unlink(), p.mkdir()), "cannot be read"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_what_is_no_baseline_is_refused_in_one_line(tmp_path, what):
    path = tmp_path / "b.json"
    accept(run(tmp_path / "run"), path)
    spoil, told = SPOILT[what]
    spoil(path)
    with pytest.raises(InputError, match=told) as caught:
        Baseline.read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [{"models": ["mlp"]}, {"question": {}}, {"samples": 7}, {"cells": [{}]}, {"made": None, "models": {"a": 1}}],
)
def test_a_forged_baseline_is_refused_in_one_line(tmp_path, change):
    path = tmp_path / "b.json"
    accept(run(tmp_path / "run"), path)
    content = json.loads(path.read_text()) | change
    content["digest"] = key({k: v for k, v in content.items() if k not in ("rules", "digest")})
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="must be a whole baseline"):
        Baseline.read(path)


def test_rules_may_be_edited_by_hand(tmp_path):
    accept(run(tmp_path / "run"), tmp_path / "b.json")
    edit(tmp_path / "b.json", lambda c: c["rules"].update(floor=0.4))
    assert Baseline.read(tmp_path / "b.json").rules.floor == 0.4


def test_somebody_elses_file_is_not_replaced(tmp_path):
    path = tmp_path / "package.json"
    path.write_text('{"name": "package"}')
    with pytest.raises(InputError, match="JSON of something else"):
        accept(run(tmp_path / "run"), path)
    assert path.read_text() == '{"name": "package"}'


def test_a_run_that_is_refused_leaves_the_baseline(tmp_path):
    path = tmp_path / "b.json"
    accept(run(tmp_path / "run"), path)
    before = path.read_bytes()
    with pytest.raises(InputError):
        accept(run(tmp_path / "run2", status="running"), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["b.json"]
