from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from eval.records import write_examples
from reports.gate.__main__ import main
from reports.gate.markdown import escape
from tests.eval.gate_runs import flipped, outcomes, write_run
from tests.reports.test_browser import CHROMIUM, dump

EVIL = "<script>alert(1)</script>|`&\x01"
EPS = "8/255"
N = 200
CLEAN = outcomes(N, 0.95)
HELD = CLEAN * outcomes(N, 0.7, seed=1)


def network(lost=0):
    return {"none": CLEAN, ("pgd", EPS): flipped(HELD, lost, 0)}


@pytest.fixture(autouse=True)
def no_summary_of_ci(monkeypatch):
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a baseline, a run like it, and one that lost 20 samples."""
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "same", {"mlp": network()})
    write_run(tmp_path / "worse", {"mlp": network(20)}, warnings=[EVIL])
    assert gate("accept", "same", "--baseline", "b.json") == 0
    return tmp_path


def gate(*arguments):
    with pytest.raises(SystemExit) as left:
        main([*map(str, arguments)])
    return left.value.code


def test_exit_0_and_a_page_beside_the_run(place, capsys):
    capsys.readouterr()
    assert gate("check", "same", "--baseline", "b.json") == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"no regression in 2 cells; {Path('same', 'gate.html')}"
    assert "Robustness gate passed" in (place / "same" / "gate.html").read_text()


def test_exit_1_and_the_cells_that_fail(place, capsys):
    before = (place / "b.json").read_bytes()
    assert gate("check", "worse", "--baseline", "b.json") == 1
    out = capsys.readouterr().out
    assert "regression: mlp: pgd, eps 8/255: " in out
    assert "(20 lost, 0 won;" in out
    assert (place / "b.json").read_bytes() == before


def test_accept_tells_what_it_kept(place, capsys):
    gate("accept", "worse", "--baseline", "b.json", "--floor", "0.1")
    assert capsys.readouterr().out.endswith("b.json: 200 samples, 2 cells\n")
    assert json.loads((place / "b.json").read_text())["rules"]["floor"] == 0.1
    assert gate("check", "worse", "--baseline", "b.json") == 0


def test_rules_of_the_command_line_count(place):
    assert gate("check", "worse", "--baseline", "b.json", "--min-effect", "0.5") == 0
    assert gate("check", "same", "--baseline", "b.json", "--floor", "0.99") == 1
    assert gate("check", "worse", "--baseline", "b.json", "--alpha", "1e-9") == 0


def test_junit_has_a_test_for_each_cell(place):
    gate("check", "worse", "--baseline", "b.json", "--junit", "new/gate.xml")
    root = ElementTree.parse(place / "new" / "gate.xml").getroot()
    assert (root.tag, root.get("tests"), root.get("failures")) == ("testsuites", "2", "1")
    cases = {case.get("name"): case for case in root.iter("testcase")}
    assert set(cases) == {"clean", "pgd, eps 8/255"}
    assert {case.get("classname") for case in cases.values()} == {"toastproof.mlp"}
    assert cases["clean"].find("failure") is None
    failure = cases["pgd, eps 8/255"].find("failure")
    assert failure.get("type") == "regression"
    assert "20 lost, 0 won" in failure.get("message")
    first = f"test/{np.flatnonzero(HELD)[0]:05d}"
    assert first in failure.text.splitlines()
    assert EVIL.replace("\x01", "?") in "".join(root.itertext())


def table(text):
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def test_markdown_has_the_cells_that_moved_and_the_samples_lost(place):
    gate("check", "worse", "--baseline", "b.json", "--summary", "gate.md")
    text = (place / "gate.md").read_text()
    head, rule, row = table(text)
    assert len(head) == len(rule) == len(row) == 8
    assert row[:2] == ["mlp", "pgd, eps 8/255"]
    assert row[4:6] == ["20", "0"]
    assert row[7].endswith("regression")
    assert text.startswith("### Robustness gate failed: 1 of 2 cells fail\n")
    assert "20 samples lost: mlp: pgd, eps 8/255" in text
    assert f"test/{np.flatnonzero(HELD)[0]:05d}" in text
    assert "<script>" not in text.replace(r"\<", "")


def test_markdown_without_a_change_says_so(place):
    gate("check", "same", "--baseline", "b.json", "--summary", "gate.md")
    text = (place / "gate.md").read_text()
    assert "No sample was lost or won." in text
    assert table(text) == []


def test_a_name_cannot_break_the_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "a", {"a|b <b>": network()})
    write_run(tmp_path / "b", {"a|b <b>": network(20)})
    gate("accept", "a", "--baseline", "b.json")
    gate("check", "b", "--baseline", "b.json", "--summary", "gate.md")
    row = table((tmp_path / "gate.md").read_text())[-1]
    assert len(row) == 8
    assert row[0] == escape("a|b <b>")


def test_the_summary_of_github_is_added_to(place, monkeypatch):
    (place / "step.md").write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(place / "step.md"))
    gate("check", "worse", "--baseline", "b.json")
    gate("check", "same", "--baseline", "b.json")
    text = (place / "step.md").read_text()
    assert text.startswith("before\n### Robustness gate failed")
    assert "### Robustness gate passed" in text


def test_the_page_escapes_what_comes_from_outside(place):
    gate("check", "worse", "--baseline", "b.json", "--html", "page.html")
    page = (place / "page.html").read_text()
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert not (place / "worse" / "gate.html").exists()


def test_the_page_shows_examples_that_the_run_kept_and_says_where_there_are_none(place):
    lost = np.flatnonzero(HELD)[:20]
    x = np.full((2, 1, 8, 8), 0.5, np.float32)
    write_examples(
        place / "worse", "some", sample=np.array([f"test/{i:05d}" for i in lost[18:]]), x=x, x_adv=x + 0.03,
        source=np.array("mlp"), attack=np.array("pgd"), eps_text=np.array(EPS),
    )  # fmt: skip
    gate("check", "worse", "--baseline", "b.json")
    page = (place / "worse" / "gate.html").read_text()
    assert page.count('alt="Adversarial image') == 2
    assert page.count("no picture kept") == 10
    assert "10 of the 12 samples shown have no picture" in page
    assert f"test/{lost[19]:05d}" in page.partition("no picture kept")[0]  # those with a picture first


def test_the_page_shows_image_files_but_none_outside_their_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "photos"
    (root / "cat").mkdir(parents=True)
    for path in (root / "cat" / "0.png", tmp_path / "secret.png"):
        Image.new("RGB", (30, 20), "red").save(path)
    held = np.ones(20, np.uint8)
    ids = ["cat/0.png", "../secret.png", *(f"cat/{i}.png" for i in range(1, 19))]
    config = {"data": {"_target_": "eval.data.Images", "root": str(root)}}
    for name, lost in (("a", 0), ("b", 20)):
        write_run(
            tmp_path / name, {"mlp": {"none": held, ("pgd", EPS): flipped(held, lost, 0)}}, ids=ids, config=config
        )
    gate("accept", "a", "--baseline", "b.json")
    assert gate("check", "b", "--baseline", "b.json") == 1
    page = (tmp_path / "b" / "gate.html").read_text()
    assert page.count('<img class="small-image" src="data:image/png') == 1
    assert "Original cat/0.png" in page


BAD = {
    "no run": (["check", "nowhere", "--baseline", "b.json"], "nowhere: must be the folder of a run"),
    "no baseline": (["check", "same", "--baseline", "c.json"], "c.json: must be a baseline, but there is no such"),
    "running": (["check", "running", "--baseline", "b.json"], "still runs or was interrupted"),
    "running accepted": (["accept", "running", "--baseline", "b.json"], "still runs or was interrupted"),
    "sweep": (["check", ".", "--baseline", "b.json"], "must be the folder of one run"),
    "rule": (["check", "same", "--baseline", "b.json", "--alpha", "5"], "alpha: must be a number above 0"),
    "into a file": (["check", "same", "--baseline", "b.json", "--junit", "b.json/x.xml"],
                    "x.xml: must be a file that can be written, but: "),
    "baseline in a file": (["accept", "same", "--baseline", "b.json/x.json"], "x.json: must be a"),
    "over the baseline": (["check", "same", "--baseline", "b.json", "--html", "b.json"], "another file than the"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_line_exit_2_and_the_baseline_untouched(place, capsys, what):
    write_run(place / "running", {"mlp": network()}, status="running")
    arguments, told = BAD[what]
    before = (place / "b.json").read_bytes()
    capsys.readouterr()
    assert gate(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("toastproof-gate: ")
    assert told in err
    assert err.count("\n") == 1
    assert (place / "b.json").read_bytes() == before
    assert not list(place.glob("**/*.tmp"))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a user who may not write everywhere")
def test_a_folder_that_cannot_be_written_to_is_one_line(place, capsys):
    (place / "worse").chmod(0o500)
    assert gate("check", "worse", "--baseline", "b.json") == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium executable")
def test_the_page_opens_without_complaint(place):
    gate("check", "worse", "--baseline", "b.json")
    dom, console = dump(place / "worse" / "gate.html", place / "profile")
    assert console == []
    assert {"cells", "lost", "made", "reading"} <= set(re.findall(r'<section id="(\w+)"', dom))


@pytest.mark.slow
def test_a_check_of_many_samples_takes_less_than_a_second_of_a_core(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    levels = {"4/255": 4 / 255, EPS: 8 / 255}
    for name, seed in (("a", 0), ("b", 10)):
        models = {
            model: {"none": np.ones(10_000, np.uint8)}
            | {
                (attack, text): outcomes(10_000, 0.5, seed=seed + i)
                for i, attack in enumerate(("fgsm", "pgd", "apgd"))
                for text in levels
            }
            for model in ("mlp", "cnn")
        }
        write_run(tmp_path / name, models, levels=levels, slices=20)
    gate("accept", "a", "--baseline", "b.json")
    resource = pytest.importorskip("resource")
    seconds = []
    for _ in range(3):
        start = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "reports.gate", "check", "a", "--baseline", "b.json", "--junit", "gate.xml"],
            check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )  # fmt: skip
        end = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(end.ru_utime - start.ru_utime + end.ru_stime - start.ru_stime)
    shutil.rmtree(tmp_path / "a")
    assert min(seconds) < 1, seconds


def test_a_refused_check_leaves_no_green_reports_behind(place, monkeypatch):
    github = place / "github.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(github))
    outputs = ["--junit", "j.xml", "--summary", "s.md"]
    assert gate("check", "same", "--baseline", "b.json", *outputs) == 0
    header = json.loads((place / "same" / "run.json").read_text())
    (place / "same" / "run.json").write_text(json.dumps({**header, "status": "running"}))
    assert gate("check", "same", "--baseline", "b.json", *outputs) == 2
    suite = ElementTree.parse(place / "j.xml").getroot()[0]
    assert (suite.get("failures"), suite.get("errors")) == ("0", "1")
    assert "same" in suite[0][0].get("message")
    assert (place / "s.md").read_text().startswith("### Robustness gate refused")
    assert not (place / "same" / "gate.html").exists()
    assert "Robustness gate refused" in github.read_text()


def test_accept_says_what_it_replaces_and_what_the_run_warned_of(place, capsys):
    capsys.readouterr()
    assert gate("accept", "worse", "--baseline", "b.json") == 0
    out = capsys.readouterr().out
    assert f"note: warning of the run: {EVIL}" in out
    assert "note: replaces the baseline of " in out
    assert "of the same question" in out
