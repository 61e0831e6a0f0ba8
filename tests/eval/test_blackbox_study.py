"""The experiment without the weights, made small: what is tried, and what the numbers say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from attacks.fgsm import FGSM
from attacks.square import Square
from eval.data import Data, Samples
from eval.errors import InputError
from eval.records import Run, read_records
from eval.run import run
from eval.studies import papernot
from eval.studies.blackbox import Blackbox
from eval.studies.reading import Reading
from reports.build import write

FOLDER = "experiment=cat_to_toaster/blackbox"
SMALL = (
    "debug=quick",
    "debug.samples=60",
    "debug.train_samples=1400",
    "study.decisions=4",
    "study.rounds=2",
    "study.queries=60",
)


@pytest.fixture
def go(composed) -> Callable[..., tuple[Run, Reading, pd.DataFrame]]:
    def made(folder: Path, *overrides: str) -> tuple[Run, Reading, pd.DataFrame]:
        folder.mkdir(parents=True, exist_ok=True)
        about = run(composed(FOLDER, *overrides), folder, [], Console(quiet=True))
        records = read_records(folder)
        return about, papernot.read(about, records, folder), records

    return made


def samples(n: int) -> Samples:
    return Samples.of(np.zeros((n, 1, 8, 8), np.float32), np.arange(n) % 2, ("a", "b"), "test")


def test_a_small_run_fills_its_tables_and_keeps_its_limits(go, tmp_path, checkpoints):
    about, reading, records = go(tmp_path, *SMALL)
    by = {table.name: table for table in reading.tables}

    assert about.status == "complete"
    assert list(by) == ["access", "rounds", "within"]
    attacked = records[records["role"] == "attack"]
    own = attacked[attacked["source"] == "cnn"]
    assert set(own["target_model"]) == {"cnn"}
    hidden = own[own["attack"].str.contains("square|hopskipjump")]
    assert hidden["forwards"].max() == 60
    assert (hidden["backwards"] == 0).all()
    assert (hidden["error"] == "").all()
    assert own["sample"].nunique() == 40  # a third are seeds
    assert own[own["attack"] == "foolbox_hopskipjump_within"]["sample"].nunique() == 4
    assert [m["name"] for m in about.models] == ["cnn", *(f"cnn_substitute_{n}" for n in (20, 40, 80))]
    learnt = [checkpoints / m["trained"]["checkpoint"] for m in about.models]  # what workers are sent
    assert all(path.is_file() for path in learnt)
    assert [label for label, _ in by["rounds"].rows] == ["20 labels", "40 labels", "80 labels"]

    sent = attacked[(attacked["source"] == "cnn_substitute_80") & (attacked["target_model"] == "cnn")]
    clean = sent["clean_pred"] == sent["label"]
    assert (sent[clean]["rms"] > 0).all()  # also those that the substitute gets wrong
    assert (sent[~clean]["rms"] == 0).all()
    rows = dict(by["access"].rows)
    white, score = rows["pgd, sees the weights"][0], rows["square, sees scores"][0]
    assert white is not None
    assert score is not None
    assert white.ours >= score.ours > 0
    within = dict(by["within"].rows)["square, sees scores"]
    shares = [v.ours for v in within if v is not None]
    assert shares == sorted(shares)
    assert shares[-1] == score.ours
    assert [(curve.across, curve.bases) for curve in reading.curves] == [("queries", (10, 0))]
    for _, points in reading.curves[0].lines[:-2]:
        assert (np.diff(points[:, 1]) >= 0).all()
        assert points[:, 1].min() >= 0
    assert any("sees labels" in line for line in reading.findings)


def test_several_budgets_have_tables_of_their_own(go, tmp_path):
    _, reading, _ = go(
        tmp_path, *SMALL, "attack=[pgd,square]", "study.seeds=0", "debug.curve=true", "threat.curve=[0.3]"
    )
    names = [table.name for table in reading.tables]
    assert names == ["access_0", "within_0", "access_1", "within_1"]
    small, large = (dict(reading.tables[i].rows)["square, sees scores"][0] for i in (0, 2))
    assert small.ours < large.ours
    assert "No substitute was trained" in reading.findings[-1]


def test_queries_are_told_of_attacks_that_end_with_their_first_success(go, tmp_path):
    about, reading, _ = go(tmp_path, *SMALL, "attack=[bim,pgd,square]", "attack.bim.steps=7")
    by = {table.name: table for table in reading.tables}
    place = {column: i for i, column in enumerate(by["access"].columns)}
    rows = dict(by["access"].rows)
    bim, pgd = rows["bim, sees the weights"], rows["pgd, sees the weights"]

    assert {a["name"]: a["stops"] for a in about.attacks} == {"bim": False, "pgd": True, "square": True}
    assert bim[place["queries, median"]] is bim[place["queries, mean"]] is None
    assert bim[place["queries, mean of all"]].ours == 8  # the last point is judged too
    assert pgd[place["queries, median"]].ours < 40
    assert [label for label, _ in by["within"].rows] == ["pgd, sees the weights", "square, sees scores"]
    assert "first success: bim." in by["within"].note
    own = [label for label, _ in reading.curves[0].lines if "substitute" not in label]
    assert own == ["pgd, sees the weights", "square, sees scores"]
    assert any(label.startswith("bim on a substitute") for label, _ in reading.curves[0].lines)
    said = " ".join(reading.findings)
    assert "it does not end with a success, and asks 8 queries for a sample" in said
    assert "bim, sees the weights, fools it on" in said
    assert "(" in said.partition("fools it on ")[2].partition(" of ")[0]  # with its interval


def test_without_an_attack_that_ends_so_there_is_no_chart(go, tmp_path):
    _, reading, _ = go(tmp_path, *SMALL, "attack=[bim]", "study.seeds=0")
    assert [table.name for table in reading.tables] == ["access"]
    assert reading.curves == ()
    assert "fools it on" in write(tmp_path).read_text(encoding="utf-8")


def test_the_papers_number_stands_beside_its_attack_at_its_budget_alone(go, tmp_path):
    about, _, records = go(
        tmp_path, *SMALL, "attack=[fgsm,pgd]", "threat=linf_0_3", "debug.curve=true", "threat.curve=[0.1]"
    )

    def known() -> list[tuple[str, str]]:
        tables = papernot.read(about, records, tmp_path).tables
        return [(t.title, label) for t in tables for label, values in t.rows for v in values if v and v.paper]

    assert known() == []  # these are digits
    about.data["name"] = "mnist"
    ((title, label),) = known()
    assert title.endswith("= 0.3")
    assert label.startswith("fgsm, sees a substitute")


def test_seeds_are_others_than_what_is_attacked():
    data = Data("some", "", samples(60), samples(60))
    study = Blackbox(decisions=5)
    _, substitutes = study.cohorts(data, {"net": None}, 0)  # type: ignore[dict-item]
    trials = study.trials(data, {"fgsm": FGSM(), "square": Square()}, 0)
    assert substitutes.imitates is not None
    assert len(substitutes.imitates.seeds) == 20
    for trial in trials:
        assert not set(trial.samples.ids) & set(substitutes.imitates.seeds.ids)
    assert [(t.access.kind, t.access.queries, t.substitutes) for t in trials if t.access] == [
        ("weights", None, False), ("scores", 5000, False), ("labels", 5000, False), ("weights", None, True),
    ]  # fmt: skip
    assert [sorted(t.attacks) for t in trials] == [["fgsm"], ["square"], [], ["fgsm"]]
    assert len(trials[2].samples) == 5


def test_one_sample_is_attacked_without_a_substitute():
    data = Data("some", "", None, samples(1))
    study = Blackbox()
    assert len(study.cohorts(data, {"net": None}, 0)) == 1  # type: ignore[dict-item]
    trials = study.trials(data, {"square": Square()}, 0)
    assert [len(t.samples) for t in trials] == [1, 1, 1]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["study.seeds=100000"], r"study.seeds: must leave some of the \d+ samples to attack, got 100000"),
        (["attack=[]"], r"attack: must name at least one in this study, got none; such as attack=\[pgd,square\]"),
        (["study.seeds=1"], "study.seeds: must be at least 4, or 0, got 1"),
        (["study.queries=0"], "study.queries: must be at least 1, got 0"),
        (["study.step=0"], "study.step: must be > 0 in box units, got 0"),
        (["study.substitute=vgg"], r"study.substitute: must name a chosen model \(cnn\), got vgg"),
        (["study.substitute=cnn"], "model: must name one that is no substitute"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(go, tmp_path, overrides, says):
    with pytest.raises(InputError, match=says):
        go(tmp_path, *overrides)
    assert not list(tmp_path.iterdir())
