"""Explaining and harnessing adversarial examples, made small: what is trained and tried, and what the tables hold."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from attacks.fgsm import FGSM
from attacks.noise import Noise
from eval.data import Data, Samples
from eval.errors import InputError
from eval.records import Run, read_records
from eval.run import run
from eval.studies.cells import Value
from eval.studies.goodfellow import findings, read
from eval.studies.linear import Linear
from eval.studies.readers import reading
from eval.studies.reading import Reading
from models.maxout import Maxout
from models.paper import Softmax

FOLDER = "experiment=intriguing/linear"
QUICK = ("debug=quick", "debug.epochs=4", "model.maxout240.widths=[40,40]")
LARGE = (*QUICK, "model.maxout1600.widths=[6]", "study.large=2", "study.softmax=[fc10_1]")
MODELS = {name: Softmax() for name in ("fc10_1e-4", "fc10_1e-2", "fc10_1")} | {
    name: Maxout([4]) for name in ("maxout240", "maxout1600")
}


@pytest.fixture
def go(composed) -> Callable[..., tuple[Run, Reading]]:
    def made(folder: Path, *overrides: str) -> tuple[Run, Reading]:
        folder.mkdir(parents=True, exist_ok=True)
        about = run(composed(FOLDER, *overrides), folder, [], Console(quiet=True))
        return about, read(about, read_records(folder), folder)

    return made


def frames(reading: Reading) -> list[str]:
    return [table.frame().round(4).to_csv() for table in reading.tables]


def test_a_small_run_fills_every_cell(go, tmp_path):
    about, reading = go(tmp_path, *QUICK)
    by = {table.name: table for table in reading.tables}
    values = {name: [v for _, row in table.rows for v in row] for name, table in by.items()}

    assert about.status == "complete"
    assert list(by) == ["fgsm", "transfer", "straight", "stretches"]
    assert [len(t.rows) for t in reading.tables] == [8, 2, 8, 8]
    for name in ("fgsm", "transfer", "straight"):
        assert all(v is not None and math.isfinite(v.ours) and v.n for v in values[name]), name
    assert all(math.isfinite(v.ours) == (v.n > 0) for v in values["stretches"])
    assert all(v.paper is None for row in values.values() for v in row)  # these are digits
    assert "about MNIST" in reading.findings[-1]
    straight = dict(by["straight"].rows)
    for label, row in straight.items():
        if "regression" in label:
            assert row[0].ours == pytest.approx(1, abs=1e-4), label  # linear networks: straight lines,
            assert dict(by["stretches"].rows)[label][-1].ours == 1  # right on one stretch alone
    assert straight["logistic regression, 3 against 7"][-1].ours == pytest.approx(1, abs=1e-3)
    assert [len(c.lines) for c in reading.curves] == [10] * 6
    assert all(image.min() >= 0 and image.max() <= 1 for p in reading.pictures for _, image in p.images)


def test_perturbed_images_leave_the_box_and_clipped_ones_do_not(go, tmp_path):
    go(tmp_path, *QUICK)
    rows = read_records(tmp_path)
    attacks = rows[(rows["role"] == "attack") & (rows["rms"] > 0)]
    whole, clipped = (attacks[attacks["attack"] == name] for name in ("fgsm", "fgsm_clipped"))

    assert len(whole) > 100
    assert whole["in_box"].all()
    assert whole["in_budget"].all()
    assert whole["linf"].to_numpy() == pytest.approx(0.25, abs=1e-6)
    assert (clipped["rms"] < 0.25).all()  # white pixels cannot grow, black ones not shrink
    assert whole["rms"].mean() > clipped["rms"].mean()


def test_the_same_seed_and_another_batch_size_give_the_same(go, tmp_path):
    _, first = go(tmp_path / "a", *QUICK)
    _, again = go(tmp_path / "b", *QUICK)
    go(tmp_path / "c", *QUICK, "batch_size=7")
    keys = ["source", "target_model", "role", "attack", "sample"]
    outcomes = [
        read_records(tmp_path / name)
        .sort_values(keys)[[*keys, "clean_pred", "adv_pred", "success"]]
        .to_csv(index=False)
        for name in "ac"
    ]

    assert frames(first) == frames(again)
    assert outcomes[0] == outcomes[1]


def test_an_interrupted_run_goes_on_and_ends_the_same(go, tmp_path):
    _, whole = go(tmp_path, *QUICK)
    written = sorted([*(tmp_path / "parts").glob("*.parquet"), *(tmp_path / "measured").glob("*.npz")])
    for path in written[::2]:
        path.unlink()
    kept = {path: path.stat().st_mtime_ns for path in written[1::2]}
    _, again = go(tmp_path, *QUICK)

    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert frames(whole) == frames(again)


def test_findings_tell_when_another_networks_gradient_misleads_more_than_its_own(go, tmp_path):
    about, reading = go(tmp_path, *QUICK)

    def said(across: float, own: float) -> str:
        values = [Value("share", v, v - 0.01, v + 0.01, 100) for v in (0.9, across, 0.4, own)]
        cross = next(t for t in reading.tables if t.name == "transfer")
        rows = tuple((label, tuple(values[2 * i : 2 * i + 2])) for i, (label, _) in enumerate(cross.rows))
        changed = dataclasses.replace(cross, rows=rows)
        return findings(about, [changed if t is cross else t for t in reading.tables])[2]

    assert "bring the one with it to an error of 60.0%; the other way round it is 40.0%." in said(0.6, 0.3)
    assert "one step underrates" in said(0.6, 0.3)
    assert "one step underrates" not in said(0.3, 0.6)


def test_another_attack_has_tables_of_its_own_without_numbers_of_the_paper(go, tmp_path):
    about, _ = go(tmp_path, *QUICK, "study.softmax=[fc10_1]", "attack=[pgd,fgsm]")
    mnist = dataclasses.replace(about, data={**about.data, "name": "mnist"})
    by = {t.name: t for t in read(mnist, read_records(tmp_path), tmp_path).tables}
    papers = {name: [v.paper for _, row in t.rows for v in row if v is not None] for name, t in by.items()}

    assert list(by) == ["fgsm", "transfer", "fgsm_pgd", "transfer_pgd", "straight", "stretches"]
    assert sum(paper is not None for paper in papers["fgsm"]) == 14
    assert sum(paper is not None for paper in papers["transfer"]) == 4
    assert not any(paper is not None for name in ("fgsm_pgd", "transfer_pgd") for paper in papers[name])
    assert [v is None for v in by["fgsm_pgd"].rows[0][1]] == [False] * 3 + [True] * 2 + [False] * 2


def test_findings_tell_linear_networks_of_two_classes_from_those_of_more(go, tmp_path):
    _, said_of = go(tmp_path, *QUICK)
    (said,) = [line for line in said_of.findings if "linear network" in line]
    rows = {label: row for t in said_of.tables if t.name == "straight" for label, row in t.rows}
    ratios = [row[-1].ours for label, row in rows.items() if label.startswith("softmax")]

    assert "of a linear network of two classes gains" in said
    assert f"softmax regression with 10 classes gains {min(ratios):.0%} to {max(ratios):.0%} of it" in said
    assert max(ratios) < 1


def test_what_an_interrupted_run_left_is_refused_in_one_line(go, tmp_path):
    about, _ = go(tmp_path, *QUICK, "study.softmax=[fc10_1]")
    unfinished = dataclasses.replace(about, status="running")
    whole = reading(unfinished, read_records(tmp_path), tmp_path)
    assert whole.findings

    def refused(part: Path) -> None:
        kept = part.rename(tmp_path / part.name)
        with pytest.raises(InputError, match="the run has not finished, and what is there is too little") as caught:
            reading(unfinished, read_records(tmp_path), tmp_path)
        assert "\n" not in str(caught.value)
        kept.rename(part)

    parts = [*(tmp_path / "parts").glob("*.parquet"), *(tmp_path / "measured").glob("*.npz")]
    assert len(parts) > 20
    told = {role: p for p in parts if p.suffix == ".parquet" for role in pd.read_parquet(p)["role"].unique()}
    for part in (*told.values(), *(p for p in parts if p.suffix == ".npz")):
        refused(part)


def data(name: str = "some", classes: int = 10, labels: np.ndarray | None = None) -> Data:
    labels = np.arange(40) % classes if labels is None else labels
    names = [f"c{k}" for k in range(classes)]
    samples = Samples.of(np.zeros((len(labels), 1, 2, 2), np.float32), labels, names, "all")
    return Data(name, "", samples, samples)


def test_what_is_trained_on_what():
    cohorts = Linear(large=2).cohorts(data(), MODELS, 7)
    by = {name + c.suffix: c for c in cohorts for name in c.specs}
    free = (-math.inf, math.inf)

    assert set(by) == {
        *("fc10_1e-4", "fc10_1e-2", "fc10_1", "logistic", "maxout240", "maxout240_adv", "maxout240_sign"),
        *("maxout240_uniform", "maxout1600_0", "maxout1600_adv_0", "maxout1600_1", "maxout1600_adv_1"),
    }
    assert by["fc10_1"].config is None
    assert set(by["logistic"].train.labels.tolist()) == {3, 7}
    assert by["maxout240"].config.method == "standard"
    for name, attack, weight in (("_adv", FGSM(), 0.5), ("_sign", Noise("sign"), 1.0), ("_uniform", Noise(), 1.0)):
        found = by["maxout240" + name]
        assert found.config.method == "adversarial"
        assert found.config.adversarial_weight == weight
        assert found.adversary[0] == attack
        assert (found.adversary[1].eps, found.adversary[1].box) == (0.25, free)
    assert len({str(c.config.adversary) for c in cohorts if c.config}) == 4  # told apart by their checkpoints
    seeds = [by[name].seed for name in ("maxout1600_0", "maxout1600_1")]
    assert seeds[0] != seeds[1]
    assert by["maxout1600_adv_1"].seed == seeds[1]
    assert by["maxout240"].seed is None


def test_alpha_is_the_weight_of_the_clean_images():
    cohorts = Linear(alpha=0.75).cohorts(data(), MODELS, 0)
    assert next(c for c in cohorts if c.suffix == "_adv").config.adversarial_weight == 0.25


def test_large_networks_of_several_seeds_have_a_table_and_the_run_keeps_its_own_seed(go, tmp_path):
    about, reading = go(tmp_path, *LARGE)
    table = next(t for t in reading.tables if t.name == "large")
    prints = {m["name"]: m["fingerprint"] for m in about.models}
    methods = {m["name"]: m["trained"]["method"] for m in about.models}

    kinds = ["without adversarial training", "with adversarial training"]
    assert [label for label, _ in table.rows] == [*kinds, "difference"]
    change = table.rows[2][1][0]
    assert change.ours == pytest.approx(table.rows[1][1][0].ours - table.rows[0][1][0].ours)
    assert change.low < change.ours < change.high
    assert any("the clean error of the large network" in line for line in reading.findings)
    assert all(v.low <= v.ours <= v.high for _, row in table.rows for v in row if v is not None)
    assert all(row[0].n == row[1].n == 2 for _, row in table.rows[:2])
    assert any(v.low < v.high for _, row in table.rows for v in row if v is not None)
    assert about.seed == 0
    assert prints["maxout1600_0"] != prints["maxout1600_1"]  # another seed is another network
    assert methods["maxout1600_adv_0"] == methods["maxout240_adv"] == "adversarial"
    assert methods["maxout1600_0"] == methods["fc10_1"] == "standard"


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["study.pair=[3,11]"], r"study.pair: must be two classes of digits \(0, 1.*\), by position or name, got"),
        (["study.pair=[3,3]"], "study.pair: must be two classes of digits"),
        (["study.pair=[3,cat]"], "study.pair: must be two classes of digits"),
        (["study.pair=[3]"], r"study.pair: must be two classes, got \[3\]"),
        (["study.alpha=1"], r"study.alpha: must be in \[0, 1\), got 1"),
        (["study.epochs=0"], "study.epochs: must be >= 1, got 0"),
        (["study.maxout=other"], r"study.maxout: must name chosen models \(fc10_1e-4, .*\), got other"),
        (["threat=l2_1"], "study.norm: must be linf: the method is one of signs, got l2"),
        (["threat.eps=0"], "threat.eps: must be > 0"),
        (["attack=[fgsm,lbfgs]"], "attack.lbfgs: must spend a budget in this study"),
        (["attack=[pgd]"], "attack: must have fgsm in this study, which is about it, got pgd"),
        (["attack=[]"], "attack: must have fgsm in this study, which is about it, got none"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(go, tmp_path, overrides, says):
    with pytest.raises(Exception, match=says) as caught:
        go(tmp_path, *overrides)
    assert type(caught.value).__name__ in ("InputError", "ModelError")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_data_without_training_samples_or_without_the_pair_are_refused():
    missing = dataclasses.replace(data(), train=None)
    with pytest.raises(InputError, match="data: must have training samples for this study, got none in some"):
        Linear().cohorts(missing, MODELS, 0)
    lacks = data(labels=np.array([0, 3, 3, 1]))
    with pytest.raises(InputError, match=r"study.pair: must have training samples in some, got none of c7"):
        Linear().cohorts(lacks, MODELS, 0)
    with pytest.raises(InputError, match=r"study.pair: must have test samples in some, got none of c7"):
        Linear().trials(lacks, {"fgsm": FGSM()}, 0)


def test_a_pair_may_be_named():
    assert Linear(pair=["c4", 2]).cohorts(data(), MODELS, 0)[1].specs["logistic"].classes == (4, 2)
