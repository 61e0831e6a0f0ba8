"""What a smaller eps broke is not searched for at a larger one, and all that is said stays what it was."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from attacks.base import Logits
from attacks.goal import Goal
from attacks.pgd import PGD
from attacks.rng import Rng
from attacks.threat import ThreatModel
from eval import metrics
from eval.bench import Bench, Unit
from eval.carry import craft_rest
from eval.clean import clean_pass
from eval.craft import craft
from eval.data.samples import ArrayStore, Samples
from eval.records import Run, read_examples, read_part, read_records
from models.classifier import Classifier

CURVE = ("debug.curve=true", "threat.curve=[0.02,0.05,0.2]", "transfer=false")
LEVELS = ["0.02", "0.05", "0.1", "0.2"]
KEYS = ["source", "attack", "sample"]


def attacked(folder, attack="pgd", role="attack") -> pd.DataFrame:
    rows = read_records(folder)
    return rows[(rows["role"] == role) & (rows["attack"] == attack)]


def test_what_a_smaller_eps_broke_costs_nothing_at_a_larger_one_and_no_accuracy_changes(small_run, tmp_path):
    attacks = "attack=[pgd,standard,square]"
    about = small_run(tmp_path / "once", attacks, *CURVE)
    small_run(tmp_path / "anew", attacks, *CURVE, "reuse=false")
    once, anew = (read_records(tmp_path / name) for name in ("once", "anew"))
    threat = metrics.Threat.of(about)
    tables = [metrics.robust_accuracy(metrics.outcomes(rows, threat), threat) for rows in (once, anew)]
    pd.testing.assert_frame_equal(*(table.drop(columns=list(metrics.COSTS)) for table in tables))
    for attack in ("pgd", "standard", "square"):
        mine = once[(once["role"] == "attack") & (once["attack"] == attack)].set_index([*KEYS, "eps_text"]).sort_index()
        other = anew[(anew["role"] == "attack") & (anew["attack"] == attack)].set_index([*KEYS, "eps_text"])
        for smaller, larger in pairwise(LEVELS):
            low, high = mine.xs(smaller, level=-1), mine.xs(larger, level=-1)
            done = low["success"] & low["success_8bit"]
            assert done.any()
            assert (high[done][["forwards", "backwards", "seconds"]] == 0).all().all()
            same = ["adv_pred", "adv_conf", "adv_rank", "l0", "l1", "l2", "linf", "rms", "stage", "success_8bit"]
            pd.testing.assert_frame_equal(low[done][same], high[done][same])
            searched = other.xs(larger, level=-1).loc[high.index][~done]
            assert (high[~done][["forwards", "backwards"]] == searched[["forwards", "backwards"]]).all().all()
        assert mine["forwards"].sum() < other["forwards"].sum()


def test_every_larger_eps_breaks_what_a_smaller_one_broke_record_by_record(small_run, tmp_path):
    small_run(tmp_path, "attack=[pgd]", "attack.pgd.steps=1", *CURVE)
    success = attacked(tmp_path).pivot_table("success", KEYS, "eps_text", aggfunc="first").astype(int)
    assert (success[LEVELS].diff(axis=1).iloc[:, 1:] >= 0).all().all()
    assert len(attacked(tmp_path)) == len(attacked(tmp_path, role="control")) == 2 * 40 * 4
    controls = attacked(tmp_path, role="control").set_index([*KEYS, "eps_text"])["rms"]
    np.testing.assert_allclose(
        controls, attacked(tmp_path).set_index([*KEYS, "eps_text"])["rms"][controls.index], rtol=0.05, atol=1e-6
    )


def test_the_images_kept_for_the_report_are_those_of_the_rows(small_run, tmp_path):
    small_run(tmp_path, "attack=[pgd]", *CURVE)
    rows, examples = attacked(tmp_path), read_examples(tmp_path)
    assert len(examples) == 2 * 4
    for example in examples:
        of = (rows["source"] == str(example["source"])) & (rows["eps_text"] == str(example["eps_text"]))
        row = rows[of & rows["success"] & (rows["rms"] > 0)]
        assert example["sample"].tolist() == row["sample"].tolist()[: len(example["sample"])]  # the first of all
        sizes = np.abs(example["x_adv"] - example["x"]).reshape(len(example["x"]), -1).max(1)
        np.testing.assert_allclose(sizes, row["linf"][: len(sizes)], atol=1e-6)


@pytest.mark.parametrize("count", range(8))
def test_an_interrupted_curve_ends_with_the_same_records_and_repeats_no_unit(small_run, tmp_path, monkeypatch, count):
    from eval import workload

    small_run(tmp_path / "whole", "attack=[pgd]", *CURVE)
    calls, do = [0], workload.make

    def stopping(*arguments):
        if calls[0] == count:
            raise KeyboardInterrupt
        calls[0] += 1
        return do(*arguments)

    monkeypatch.setattr(workload, "make", stopping)
    with pytest.raises(KeyboardInterrupt):
        small_run(tmp_path / "parts", "attack=[pgd]", *CURVE)
    calls[0] = -100
    small_run(tmp_path / "parts", "attack=[pgd]", *CURVE)
    assert calls[0] == -100 + 8 - count
    whole, parts = (read_records(tmp_path / name).drop(columns="seconds") for name in ("whole", "parts"))
    pd.testing.assert_frame_equal(whole, parts)
    names = [sorted(p.name for p in (tmp_path / name / "parts").iterdir()) for name in ("whole", "parts")]
    assert names[0] == names[1]


def test_a_crash_at_a_smaller_eps_is_made_good_at_all(small_run, tmp_path, monkeypatch):
    small_run(tmp_path / "whole", "attack=[pgd]", *CURVE)
    call = PGD.__call__

    def failing(self, logits, x, goal, threat, *, rng):
        if threat.eps == 0.05:
            raise RuntimeError("no kernel for this")
        return call(self, logits, x, goal, threat, rng=rng)

    monkeypatch.setattr(PGD, "__call__", failing)
    about = small_run(tmp_path / "parts", "attack=[pgd]", *CURVE)
    assert about.status == "failed"
    rows = attacked(tmp_path / "parts")
    assert set(rows["eps_text"][rows["error"] != ""]) == {"0.05"}
    assert (rows["error"][rows["eps_text"] == "0.05"] != "").all()  # those that fell at 0.02 as well
    monkeypatch.undo()
    assert small_run(tmp_path / "parts", "attack=[pgd]", *CURVE).status == "complete"
    whole, parts = (read_records(tmp_path / name).drop(columns="seconds") for name in ("whole", "parts"))
    pd.testing.assert_frame_equal(whole, parts)


def test_nothing_is_handed_on_where_more_is_wanted_than_one_success(small_run, tmp_path):
    for name, more in (
        ("transfer", ["transfer=true", "attack=[pgd]"]),
        ("minimal", ["attack=[lbfgs/quick]"]),
        ("step", ["attack=[fgsm]"]),
        ("no search", ["attack=[noise_uniform]"]),
        ("goes on", ["attack=[pgd]", "attack.pgd.early_stop=false"]),
    ):
        small_run(tmp_path / name, *CURVE, *more)
        small_run(tmp_path / f"{name} anew", *CURVE, *more, "reuse=false")
        one, two = (read_records(tmp_path / n).drop(columns="seconds") for n in (name, f"{name} anew"))
        pd.testing.assert_frame_equal(one, two)


def test_an_eps_more_above_leaves_the_parts_below(small_run, tmp_path):
    small_run(tmp_path / "one", "attack=[pgd]", "debug.curve=true", "threat.curve=[0.02]", "transfer=false")
    small_run(tmp_path / "two", "attack=[pgd]", "debug.curve=true", "threat.curve=[0.02,0.2]", "transfer=false")
    one, two = ({p.name for p in (tmp_path / name / "parts").iterdir()} for name in ("one", "two"))
    assert one < two
    assert Run.read(tmp_path / "two").status == "complete"


@dataclass(frozen=True)
class Rounded:
    """Breaks some samples so that rounding to 8 bits mends them; at a larger eps it finds nothing."""

    norms: ClassVar[frozenset[str]] = frozenset({"linf"})
    minimal: ClassVar[bool] = False
    early_stop: bool = True

    def __call__(self, logits: Logits, x: Tensor, goal: Goal, threat: ThreatModel, *, rng: Rng) -> Tensor:
        logits(x)
        if threat.eps > 0.01:
            return x
        moved = x.clone()
        moved[:, :, 0, 0] = 0.4 / 255  # rounded to 0, which is no success
        return moved


def test_what_rounding_mends_is_searched_for_again_and_keeps_what_it_had():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    network[1].weight.data = torch.tensor([[0.0, 0, 0, 0], [1, 0, 0, 0]])
    network[1].bias.data = torch.tensor([0.0, 0.0])
    pixels = torch.zeros(6, 1, 2, 2)
    classifier = Classifier(network, name="net", input_shape=(1, 2, 2), num_classes=2)
    ids = np.array([f"test/{i}" for i in range(6)])
    samples = Samples(ids, np.zeros(6, np.int64), ("a", "b"), ArrayStore(pixels.numpy()), np.arange(6))
    clean = clean_pass(classifier, samples, 6, torch.device("cpu"))
    bench = Bench(samples, {"net": classifier}, {"net": clean}, torch.device("cpu"), 0, "untargeted", 2, False, {}, 3)
    small = Unit("net", "rounded", Rounded(), "0.01", ThreatModel("linf", 0.01), np.arange(6))
    large = replace(small, text="0.02", threat=ThreatModel("linf", 0.02))
    before, images = craft(bench, small, lambda _: None)
    assert before["success"].all()
    assert not before["success_8bit"].any()
    told: list[float] = []
    rows, kept = craft_rest(bench, large, before, images, told.append)
    frame = pd.DataFrame(rows).sort_values("sample", ignore_index=True)
    assert frame["success"].all()
    assert not frame["success_8bit"].any()
    assert (frame["forwards"] == 1).all()  # it was tried
    assert (frame["eps_text"] == "0.02").all()
    assert (frame["linf"] > 0).all()
    assert sum(told) == 6
    assert kept is not None
    assert images is not None
    np.testing.assert_array_equal(kept["x_adv"], images["x_adv"])


def test_a_part_is_read_as_it_was_written(small_run, tmp_path):
    small_run(tmp_path, "attack=[fgsm]")
    name = sorted(p.stem for p in (tmp_path / "parts").iterdir())[0]
    rows, frame = pd.DataFrame(read_part(tmp_path, name)), read_records(tmp_path, [name])
    keys = ["role", "target_model", "sample"]
    pd.testing.assert_frame_equal(
        rows.sort_values(keys, ignore_index=True), frame.sort_values(keys, ignore_index=True), check_dtype=False
    )
