from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from attacks.fgsm import FGSM
from eval.data import Digits
from eval.errors import InputError
from eval.records import Run, read_records
from eval.run import run
from eval.studies.groups import Thinned, Twin
from eval.studies.readers import reading
from eval.studies.thinned_names import chosen, column
from models.paper import MLP
from models.spec import build

DATA = Digits(name="digits", root="nowhere").load(0)
MODELS = {"mlp": MLP(widths=(10,), decay=(1e-5,))}
SMALL = ["model=mlp_relu", "model.mlp_relu.widths=[12]", "attack=[fgsm]"]
FEW = [*SMALL, "data.train_limit=200", "train.epochs=2", "data.limit=100"]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("groups")


def go(composed, folder: Path, *overrides: str):
    folder.mkdir(parents=True, exist_ok=True)
    about = run(composed("experiment=groups", *FEW, *overrides), folder, [], Console(quiet=True))
    records = read_records(folder)
    return about, records, reading(Run.read(folder), records, folder)


def test_thinned_sets_are_parts_of_one_another_and_the_others_stay():
    cohorts = {c.suffix: c.train for c in Thinned(group="8").cohorts(DATA, MODELS, 0)}
    total = int((DATA.train.labels == 8).sum())
    left = [round(share * total) for share in (0.5, 0.2, 0.05, 0.01)]
    names = [f"_{k}of{total}{way}" for k in left for way in ("", "_repeated")]
    assert list(cohorts) == ["", *names, "_given_back"]
    assert cohorts["_given_back"].fingerprint == DATA.train.fingerprint
    before = set(DATA.train.ids)
    others = set(DATA.train.ids[DATA.train.labels != 8])
    for k in left:
        thin, again = cohorts[f"_{k}of{total}"], cohorts[f"_{k}of{total}_repeated"]
        assert (thin.labels == 8).sum() == k
        assert set(thin.ids) < before
        assert others < set(thin.ids)
        assert len(thin) == len(set(thin.ids))
        assert np.bincount(again.labels).tolist() == np.bincount(DATA.train.labels).tolist()
        assert set(again.ids) == set(thin.ids)
        before = set(thin.ids)


def test_the_seed_says_which_samples_are_left():
    first, same, other = (Thinned(group="8").cohorts(DATA, MODELS, s)[1].train.fingerprint for s in (0, 0, 1))
    assert first == same != other


def test_shares_that_come_to_the_same_number_are_one():
    few = dataclasses.replace(DATA, train=DATA.train.select(np.arange(100)))
    n = int((few.train.labels == 3).sum())
    named = [c.suffix for c in Thinned(group="3", repeated=False).cohorts(few, MODELS, 0)]
    assert f"_1of{n}" in named
    assert len(named) == len(set(named))


def test_twins_begin_with_the_same_weights_and_the_one_with_its_data_back_does_not():
    def weights(spec, name):
        return torch.cat([p.flatten() for p in build(spec, name, (1, 8, 8), 10, seed=0)[name].module.parameters()])

    spec = MODELS["mlp"]
    full = weights(spec, "mlp")
    assert torch.equal(weights(Twin(spec, "mlp"), "mlp_7of131"), full)
    assert not torch.equal(weights(spec, "mlp_given_back"), full)


def test_accuracies_are_those_of_the_records(composed, place):
    about, records, said = go(composed, place / "class", "study.group=8", "study.shares=[0.2]")
    assert about.status == "complete"
    accuracies, changes = said.tables
    names = [str(m["name"]) for m in about.models]
    assert len(accuracies.rows) == len(names) == 4
    assert [label.partition(" ")[2] for label, _ in accuracies.rows[::3]] == [
        "of 20 (100%)",
        "of 20 (100%), given back",
    ]
    expected = {}
    for name in names:
        clean = records[(records["role"] == "clean") & (records["target_model"] == name)].set_index("sample")
        hit = records[(records["role"] == "attack") & (records["target_model"] == name)].set_index("sample")["success"]
        right = clean["clean_pred"] == clean["label"]
        robust, inside = right & ~hit.loc[clean.index], clean["label"] == 8
        expected[name] = [right[inside].mean(), robust[inside].mean(), right[~inside].mean(), robust[~inside].mean()]
    found = [[v.ours for v in values] for _, values in accuracies.rows]
    np.testing.assert_allclose(found, [expected[name] for name in names], atol=1e-12)
    apart = [[v.ours for v in values] for _, values in changes.rows]
    np.testing.assert_allclose(apart, np.array(found[1:]) - found[0], atol=1e-12)
    assert all(v.low <= v.ours <= v.high for _, values in changes.rows for v in values)
    (curve,) = said.curves
    assert curve.lines[0][1].tolist() == [[np.log10(0.2), found[1][0]], [0.0, found[0][0]]]
    assert (curve.bases, [text for _, text in curve.ticks]) == ((10, 0), ["20%", "100%"])
    assert sum("give the data back" in line for line in said.findings) == 1


def test_groups_of_the_data_are_thinned_across_classes(composed, place):
    x = np.random.default_rng(0).random((300, 8, 8), dtype=np.float32)
    hue = np.array(["blue", "red", ""])[np.arange(300) % 3]
    np.savez(place / "a.npz", x=x, y=np.arange(300) % 5, hue=hue)
    data = ["data=arrays", f"data.path={place / 'a.npz'}", "data.groups=hue", "data.limit=50", "data.train_limit=null"]
    about, records, said = go(composed, place / "hue", *data, "study.shares=[0.1]", "study.repeated=false")
    assert set(records["group"]) == {"blue", "red", ""}
    assert said.tables[0].columns[0] == "clean, blue"  # the first, since none was named
    n = records[records["group"] == "blue"]["sample"].nunique()
    assert said.tables[0].rows[0][1][0].n == n
    assert about.models[0]["trained"]["samples"] > about.models[1]["trained"]["samples"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"by": "shoe"}, "by: must be one of auto, class, group, got 'shoe'"),
        ({"shares": [0.5, 1.0]}, r"shares: must be one or more in \(0, 1\)"),
        ({"shares": []}, r"shares: must be one or more in \(0, 1\)"),
        ({"group": "eight"}, r"study.group: must be one of 10 \(0, 1, .*\), got eight"),
        ({"by": "group"}, r"study.by: must be class, or the data must have groups \(data.groups\)"),
    ],
)
def test_what_cannot_be_done_is_refused(fields, message):
    with pytest.raises(InputError, match=message):
        Thinned(**fields).cohorts(DATA, MODELS, 0)


def test_there_must_be_training_data_networks_to_train_and_attacks():
    with pytest.raises(InputError, match="data: must have training samples"):
        Thinned().cohorts(dataclasses.replace(DATA, train=None), MODELS, 0)
    with pytest.raises(InputError, match="attack: must name at least one"):
        Thinned().trials(DATA, {}, 0)
    assert len(Thinned().trials(DATA, {"fgsm": FGSM()}, 0)) == 1

    @dataclasses.dataclass(frozen=True)
    class Ready(MLP):
        ready = True

    with pytest.raises(InputError, match=r"model.net: must be trained in this study"):
        Thinned().cohorts(DATA, {"net": Ready(widths=(3,), decay=(1e-5,))}, 0)


def test_a_group_of_one_cannot_be_thinned():
    one = np.r_[np.flatnonzero(DATA.train.labels == 8)[:1], np.flatnonzero(DATA.train.labels != 8)]
    with pytest.raises(InputError, match="must have at least 2 training samples, and others beside it, got 1 of"):
        Thinned(group="8").cohorts(dataclasses.replace(DATA, train=DATA.train.select(np.sort(one))), MODELS, 0)


def test_names_of_groups():
    assert chosen(None, ["", "b", "a"]) == "a"
    assert chosen("b", ["b", "a"]) == "b"
    assert (column("auto", True), column("auto", False), column("class", True)) == ("group", "label", "label")
    with pytest.raises(InputError, match="near it: light"):
        chosen("lihgt", ["dark", "light"])
