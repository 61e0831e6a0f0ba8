"""Jobs that are counted together have the numbers that each has alone."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
import pytest

from eval import effort, metrics
from eval.metrics import WORST, Threat
from eval.records import Run, read_records
from reports import sweep_numbers, sweep_store, tables
from reports.matrices import rows_of
from reports.sweep_numbers import SUMMARY, count
from reports.sweep_store import FILE, Store
from tests.reports.swept import budgets, job, sweep


def alone(folder):
    """As the page of the job by itself counts."""
    run, records = Run.read(folder), read_records(folder)
    threat = Threat.of(run)
    robust = metrics.robust_accuracy(metrics.outcomes(records, threat), threat)
    worst = robust[robust["attack"] == WORST]
    table = tables.summary(worst, metrics.clean_accuracy(records), set(), effort.minimal_distances(records))
    return rows_of(table[list(SUMMARY)].sort_values(["model", "eps"], kind="stable"))


def same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            missing = pd.isna(a[key]) and pd.isna(b[key])
            assert missing or a[key] == b[key], key


def told(folder, places=None):
    found = sorted((p for p in folder.iterdir() if (p / "run.json").exists()), key=lambda p: int(p.name))
    return found, count([(p, Run.read(p)) for p in found], Store(places or folder))


@pytest.fixture
def many(tmp_path, make_run):
    """Jobs of other norms of minimal attacks, other samples, several networks, crashes, and none of it all."""
    folder = tmp_path / "many"
    sweep(folder, ["mlp", "cnn"], budgets(3), range(2))
    make_run(folder / "20", n=30, models=("b", "a"), examples=False)
    make_run(folder / "21", n=25, models=("a", "b|c"), examples=False, seed=3)
    make_run(folder / "22", n=25, models=("a",), examples=False, crash=("pgd", "lbfgs"), seed=4)
    make_run(folder / "23", n=25, models=("a",), examples=False, attacks=("fgsm",), transfer=False)
    job(folder / "24", "mlp", "0.1", 5, n=33, attacks=("pgd",))
    fewer = Run.read(folder / "21")  # minimal attacks have results at every eps: those that others ask for are not its
    fewer.threat["eps"] = fewer.threat["eps"][1:]
    fewer.write(folder / "21")
    return folder


@pytest.mark.parametrize(("rows", "jobs", "large"), [(10**6, 512, 10**9), (300, 3, 10**9), (10**6, 512, 0)])
def test_counted_together_or_alone_they_are_the_same(many, monkeypatch, rows, jobs, large):
    monkeypatch.setattr(sweep_numbers, "_ROWS", rows)
    monkeypatch.setattr(sweep_numbers, "_JOBS", jobs)
    monkeypatch.setattr(sweep_numbers, "_LARGE", large)
    found, numbers = told(many)
    assert len(found) == 17
    for folder, mine in zip(found, numbers, strict=True):
        same(mine.rows, alone(folder))


def test_results_are_the_white_box_records(many):
    found, numbers = told(many)
    for folder, mine in zip(found, numbers, strict=True):
        records = read_records(folder)
        white = (records["role"] == "attack") & (records["source"] == records["target_model"])
        assert mine.results == int(white.sum())


def test_shares_are_those_that_the_records_were_made_with(tmp_path):
    held = sweep(tmp_path, ["mlp", "softmax"], budgets(4), range(3), n=50)
    for place, numbers in enumerate(told(tmp_path)[1]):
        (row,) = numbers.rows
        assert row["robust_accuracy"] == held[place] / 50


def test_a_network_that_no_attack_has_come_to_has_its_clean_accuracy(tmp_path):
    job(tmp_path / "0", "mlp", "0.1", 0)
    job(tmp_path / "1", "mlp", "0.1", 1, status="running", attacks=("pgd",))
    _, (_, numbers) = told(tmp_path)
    (row,) = numbers.rows
    assert (row["model"], row["n"], row["clean_n"], row["eps_text"]) == ("mlp", 0, 40, "")
    assert row["clean_accuracy"] == float(metrics.clean_accuracy(read_records(tmp_path / "1"))["clean_accuracy"][0])
    assert np.isnan(row["robust_accuracy"])


def test_a_torn_part_is_told_and_stops_nothing(many):
    next((many / "3" / "parts").iterdir()).write_bytes(b"torn")
    found, numbers = told(many)
    assert [p.name for p, n in zip(found, numbers, strict=True) if n.problem] == ["3"]
    same(numbers[4].rows, alone(found[4]))


def test_a_later_report_takes_what_an_earlier_one_counted(many, monkeypatch):
    store = Store(many)
    found = sorted((p for p in many.iterdir() if (p / "run.json").exists()), key=lambda p: int(p.name))
    jobs = [(p, Run.read(p)) for p in found]
    first = count(jobs, store)
    store.write()
    read = []
    monkeypatch.setattr(sweep_numbers, "read_table", lambda folder, columns: read.append(folder) or 1 / 0)
    again = count(jobs, Store(many))
    assert read == []
    for one, other in zip(first, again, strict=True):
        same(one.rows, other.rows)
        assert one.results == other.results


@pytest.mark.parametrize("change", ["part", "touched", "gone", "eps", "code", "torn", "removed"])
def test_but_not_what_has_changed_since(tmp_path, monkeypatch, change):
    sweep(tmp_path, ["mlp"], ["0.1", "0.2"], [0])
    jobs = [(tmp_path / str(i), Run.read(tmp_path / str(i))) for i in range(2)]
    store = Store(tmp_path)
    count(jobs, store)
    store.write()
    part = tmp_path / "0" / "parts" / "pgd.parquet"
    if change == "part":
        other = job(tmp_path / "other", "mlp", "0.1", 9)
        (tmp_path / "other" / "parts" / "pgd.parquet").replace(part)
        assert other
    elif change == "touched":
        os.utime(part, ns=(1, 1))
    elif change == "gone":
        part.unlink()
    elif change == "eps":
        jobs[0][1].threat["eps"][0] |= {"text": "1e-1"}
    elif change == "code":
        monkeypatch.setattr(sweep_store, "_code", lambda: "other")
    elif change == "torn":
        (tmp_path / FILE).write_text((tmp_path / FILE).read_text()[:-9])
    else:
        (tmp_path / FILE).unlink()
    read, true = [], sweep_numbers.read_table
    monkeypatch.setattr(
        sweep_numbers, "read_table", lambda folder, columns: read.append(folder) or true(folder, None, columns)
    )
    numbers = count(jobs, Store(tmp_path))
    both = change in ("code", "torn", "removed")
    assert sorted(p.name for p in read) == (["0", "1"] if both else ["0"])
    if change == "eps":
        assert [row["eps_text"] for row in numbers[0].rows] == ["1e-1"]
    else:
        same(numbers[0].rows, alone(tmp_path / "0"))
