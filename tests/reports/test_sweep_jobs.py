"""What became of the jobs of a sweep, by their folders alone."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from filelock import FileLock

from eval.errors import InputError
from eval.excuse import Excuse
from eval.records import Run
from reports.sweep import read
from reports.sweep_jobs import Job, Own, expected, folders, planned, progress, read_job
from tests.reports.swept import job, sweep

ALL = {1: "refused", 2: "crashed", 3: "running", 4: "failed", 5: "torn", 6: "missing", 7: "waiting"}


@pytest.fixture
def mixed(tmp_path):
    sweep(tmp_path, ["mlp"], ["0.1", "0.2"], range(4), ALL)
    return tmp_path


def test_what_became_of_each_is_told_apart(mixed):
    assert {j.name: j.status for j in read([mixed], mixed).jobs} == {
        "0": "complete", "1": "refused", "2": "crashed", "3": "interrupted", "4": "failed", "5": "unreadable",
        "6": "missing", "7": "waiting",
    }  # fmt: skip


def test_counts_of_what_is_open_and_of_what_fell_add_up(mixed):
    page = read([mixed], mixed)
    assert (page.ended, page.open, page.fallen) == (
        1, {"interrupted": 1, "missing": 1, "waiting": 1}, {"failed": 1, "crashed": 1, "refused": 1, "unreadable": 1},
    )  # fmt: skip
    assert sum(page.counts.values()) == len(page.jobs) == 8


def test_a_job_runs_while_a_process_holds_its_folder(mixed):
    with FileLock(mixed / "3" / ".lock"), FileLock(mixed / "6" / ".lock"):
        told = {j.name: (j.status, j.problem) for j in read([mixed], mixed).jobs}
    assert told["3"] == ("running", "40 of 80 results (50%)")
    assert told["6"] == ("running", "loads data or trains: it has no run.json yet")


def test_a_job_that_was_told_to_end_is_interrupted_like_one_that_was_killed(mixed):
    header = Run.read(mixed / "3")
    header.status, header.finished = "interrupted", "2026-11-20T12:00:30+00:00"
    header.write(mixed / "3")
    page = read([mixed], mixed)
    assert {j.name: (j.status, j.problem) for j in page.jobs}["3"] == ("interrupted", "40 of 80 results (50%)")
    assert (page.open["interrupted"], page.fallen["failed"]) == (1, 1)
    with FileLock(mixed / "3" / ".lock"):
        assert read_job(mixed / "3", "3").status == "running"


def test_an_error_of_an_earlier_attempt_is_forgotten_while_a_process_tries_again(mixed):
    Excuse("crashed", "ValueError: no luck").write(mixed / "3")
    assert read_job(mixed / "3", "3").status == "crashed"
    with FileLock(mixed / "3" / ".lock"):
        assert read_job(mixed / "3", "3").status == "running"


def test_what_the_plan_alone_knows_is_told_of_jobs_without_a_word(mixed):
    own = {name: said for name, said, *_ in read([mixed], mixed).problems}
    assert own["5"] == own["5"] == "threat.eps=0.2 seed=1"
    assert own["6"] == "threat.eps=0.2 seed=2"
    assert own["7"] == "threat.eps=0.2 seed=3"


def test_a_plan_is_all_combinations_the_last_one_fastest(mixed):
    plan = planned(mixed)
    assert len(plan) == 8
    assert plan[5] == ("model=mlp", "threat.eps=0.2", "seed=1")


@pytest.mark.parametrize(
    "change",
    [
        {"sweep": {"subdir": "${model}"}},
        {"sweeper": {"_target_": "hydra_plugins.optuna.OptunaSweeper"}},
        {"overrides": {"task": ["model=glob(*)"]}},
        None,
    ],
)
def test_where_a_plan_cannot_be_known_there_is_none(mixed, change):
    content = json.loads((mixed / "multirun.yaml").read_text())
    content = content | {"hydra": content["hydra"] | change} if change else []
    (mixed / "multirun.yaml").write_text(json.dumps(content))
    assert planned(mixed) == []
    assert "waiting" not in read([mixed], mixed).counts


def test_a_plan_that_is_torn_is_one_line(mixed):
    (mixed / "multirun.yaml").write_text("hydra: {overrides: [")
    with pytest.raises(InputError, match=r"multirun\.yaml: must be what Hydra wrote") as caught:
        planned(mixed)
    assert "\n" not in str(caught.value)


def test_a_sweep_that_has_just_begun_is_a_sweep(tmp_path):
    sweep(tmp_path, ["mlp"], ["0.1"], range(3), dict.fromkeys(range(3), "waiting"))
    assert folders([tmp_path]) == []
    assert read([tmp_path], tmp_path).counts == {"waiting": 3}


def test_so_is_one_whose_jobs_were_all_refused(tmp_path):
    sweep(tmp_path, ["mlp"], ["0.1"], range(2), dict.fromkeys(range(2), "refused"), plan=False)
    assert read([tmp_path], tmp_path).counts == {"refused": 2}


def test_progress_counts_results_and_says_of_how_many(tmp_path):
    job(tmp_path, "mlp", "0.1", 0, status="running")
    run = Run.read(tmp_path)
    assert expected(run) == 80
    assert progress(run, 20) == "20 of 80 results (25%)"
    assert progress(run, 0) == "no result yet"
    assert progress(run, 81) == "81 results so far"  # more than the header tells of
    run.attacks[0]["minimal"] = True
    run.threat["eps"] = [{"text": "0.1", "value": 0.1}, {"text": "0.2", "value": 0.2}]
    assert expected(run) == 40 * (1 + 2)
    run.config["study"] = {"_target_": "a.Study"}
    assert expected(run) is None
    assert progress(run, 1234) == "1,234 results so far"


def test_own_overrides_are_those_that_not_all_have():
    jobs = [Job(str(i), None, overrides=said) for i, said in enumerate([("a=1", "b=1"), ("a=1", "b=2"), ()])]
    own = Own(jobs)
    assert [own(j) for j in jobs] == [["b=1"], ["b=2"], []]
    assert Own(jobs[:1])(jobs[0]) == ["a=1", "b=1"]


def test_headers_share_what_is_equal(tmp_path):
    sweep(tmp_path, ["mlp"], ["0.1"], range(2))
    first = read_job(tmp_path / "0", "0")
    second = read_job(tmp_path / "1", "1", first.run)
    assert second.run == Run.read(tmp_path / "1")
    assert second.run.config["attack"] is first.run.config["attack"]
    assert Counter(type(j.run) for j in (first, second)) == {Run: 2}
