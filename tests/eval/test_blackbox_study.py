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


def test_a_small_run_fills_its_tables_and_keeps_its_limits(go, tmp_path):
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
    assert len(reading.curves) == 1
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
