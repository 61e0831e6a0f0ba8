"""Norms, ratios and radii of networks, made small: what is measured, and what the page says of it."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from eval.data import Data, Samples
from eval.errors import InputError
from eval.records import read_records
from eval.run import run
from eval.spectra import Spectra, doubled_copy, ratio
from eval.spectral_slips import Slips, pooled, strided
from eval.studies.gradients import Gradients
from eval.studies.readers import reading
from eval.studies.spectra import Spectra as Study
from eval.studies.spectral_slips import slips
from eval.studies.spectral_tables import _first, alexnet
from models.classifier import Classifier
from models.paper import MLP
from models.spec import build

FOLDER = "experiment=intriguing/spectra"
QUICK = (
    "debug=quick", "study.images=20", "study.pairs=4", "study.steps=8", "model.cnn.widths=[4,6]",
    "model.mlp.widths=[8]", "model.mlp.decay=[1e-5]",
)  # fmt: skip
CPU = torch.device("cpu")


def samples(n: int = 12) -> Samples:
    x = torch.rand(n, 1, 6, 6, generator=torch.Generator().manual_seed(0)).numpy()
    return Samples.of(x, np.arange(n) % 3, ["a", "b", "c"], "all")


def network(*layers: nn.Module) -> Classifier:
    torch.manual_seed(0)
    made = nn.Sequential(*layers) if layers else nn.Sequential(
        nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(2, 1), nn.Flatten(), nn.Linear(16, 3)
    )  # fmt: skip
    return Classifier(made, name="n", input_shape=(1, 6, 6), num_classes=3)


def test_a_small_run_tells_four_sections(composed, tmp_path):
    about = run(composed(FOLDER, *QUICK, "study.penalty=0.05"), tmp_path, [], Console(quiet=True))
    said = reading(about, read_records(tmp_path), tmp_path)
    by = {table.name: dict(table.rows) for table in said.all_tables}

    assert about.status == "complete"
    assert [s.name for s in said.sections] == ["layers", "slips", "product", "radius"]
    assert all(s.claim and s.measured and s.null and s.answer for s in said.sections)
    networks = {"mlp", "cnn", "mlp_bounded", "cnn_bounded", "mlp_untrained", "cnn_untrained"}
    assert set(by["ratios"]) == set(by["radii"]) == networks
    for name in ("mlp", "cnn"):
        assert by["ratios"][name][0].ours >= by["ratios"][name][1].ours  # product and largest ratio
        assert by["ratios"][name + "_bounded"][0].ours < by["ratios"][name][0].ours
        assert f"norms_{name}" in by
    assert ", 0 exceed the product" in said.sections[2].answer
    assert "0 radii are above the distance" in said.sections[3].answer
    assert all(v.paper is None for t in said.all_tables for _, row in t.rows for v in row if v is not None)


def test_another_batch_size_gives_the_same(composed, tmp_path):
    found = []
    for size in (3, 50):
        folder = tmp_path / str(size)
        folder.mkdir()
        about = run(composed(FOLDER, *QUICK, f"batch_size={size}"), folder, [], Console(quiet=True))
        told = reading(about, read_records(folder), folder)
        found.append(pd.concat([t.frame() for t in told.all_tables], ignore_index=True))
    pd.testing.assert_frame_equal(*found, rtol=1e-3)


def test_an_unfinished_run_is_refused_in_one_line(composed, tmp_path):
    about = run(composed(FOLDER, *QUICK, "attack=[]"), tmp_path, [], Console(quiet=True))
    for path in (tmp_path / "measured").glob("*.npz"):
        path.unlink()
    with pytest.raises(InputError, match="has not finished") as caught:
        reading(dataclasses.replace(about, status="running"), read_records(tmp_path), tmp_path)
    assert "\n" not in str(caught.value)


def test_no_ratio_that_a_search_finds_exceeds_the_product():
    found = Spectra(pairs=8, steps=30)(network(), samples(), 4, CPU, 0)
    assert found["found"].max() <= float(found["product"])
    assert (found["found"] >= found["attack"] - 1e-12).all()
    assert found["found"].mean() > found["random"].mean()
    assert (found["tight"] >= found["radius"] * 0.99 - 1e-6).all()


def test_the_search_finds_the_norm_of_a_linear_network():
    linear = network(nn.Flatten(), nn.Linear(36, 3))
    found = Spectra(pairs=4, steps=40)(linear, samples(), 4, CPU, 0)
    norm = float(torch.linalg.matrix_norm(linear.network[1].weight.double(), 2))
    assert found["found"] == pytest.approx(norm, rel=1e-3)
    assert float(found["product"]) == pytest.approx(norm, rel=1e-6)


def test_a_radius_is_that_of_the_lead_over_the_product():
    net = network()
    found = Spectra(pairs=2, steps=2)(net, samples(), 5, CPU, 0)
    x = torch.as_tensor(samples().batch(np.arange(12)).numpy()).double()
    z = doubled_copy(net, CPU)(x)
    labels = torch.arange(12) % 3
    lead = [float(row[k] - torch.cat([row[:k], row[k + 1 :]]).max()) for row, k in zip(z, labels, strict=True)]
    assert found["lead"] == pytest.approx(np.array(lead))
    expected = np.maximum(lead, 0) / (math.sqrt(2) * float(found["product"]))
    assert found["radius"] == pytest.approx(expected)


def test_large_networks_get_fewer_pairs(monkeypatch: pytest.MonkeyPatch):
    many, net = samples(40), network()
    assert len(Spectra(steps=1, attack_steps=1)(net, many, 40, CPU, 0)["found"]) == 32
    monkeypatch.setattr("eval.spectra.multiplications", lambda classifier, x: 10**12)
    assert len(Spectra(steps=1, attack_steps=1)(net, many, 40, CPU, 0)["found"]) == 2


def test_searches_for_pairs_start_from_all_classes(monkeypatch: pytest.MonkeyPatch):
    asked: list[int] = []
    climb = Spectra._climb

    def noted(self, doubled, x, direction, unit):
        asked.extend(int(value) for value in x[:, 0, 0, 0])
        return climb(self, doubled, x, direction, unit)

    monkeypatch.setattr(Spectra, "_climb", noted)
    labels = np.repeat(np.arange(3), 8)
    x = np.zeros((24, 1, 6, 6), np.float32)
    x[:, 0, 0, 0] = labels
    folder = Samples.of(x, labels, ["a", "b", "c"], "sorted")
    Spectra(pairs=9, steps=1, attack_steps=1)(network(), folder, 24, CPU, 0)
    assert np.bincount(asked).tolist() == [3, 3, 3]


def shown(layers: dict[str, tuple[float, float]], unknown: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    bounds = np.array(list(layers.values()))
    return {
        "layer": np.array(list(layers)), "kind": np.array(["Conv2d"] * len(layers)),
        "weight": np.array(["1"] * len(layers)), "low": bounds[:, 0], "high": bounds[:, 1],
        "unknown": np.array(unknown, np.str_),
    }  # fmt: skip


def test_layers_of_which_no_bound_says_it_are_neither_above_1_nor_below():
    known = {"a": (2.0, 2.0), "b": (0.5, 0.5), "c": (0.0, 30.0), "d": (0.9, 1.1)}
    text = _first("n", shown(known, ("e (Odd)",)), None)
    assert text == (
        "n: 1 of 2 layers with weights have a norm above 1, of 2 it is not known; of 1 besides no bound is known."
    )
    text = _first("n", shown(known), shown({"a": (1.0, 1.0), "b": (0.7, 0.7), "c": (0.0, 30.0), "d": (0.1, 0.2)}))
    assert text == (
        "n: 1 of 2 layers with weights have a norm above 1, of 2 it is not known; untrained, 0 of 3 layers with "
        "weights have a norm above 1, of 1 it is not known; training has made 2 of 3 larger, 1 not known."
    )
    assert _first("n", shown({"a": (2.0, 2.0)}), None) == "n: 1 of 1 layers with weights have a norm above 1."


def test_the_null_is_the_network_before_it_was_trained():
    """So that what training does to a layer is told of one and the same layer."""
    data = Data("some", "", samples(), samples())
    for study in (Study(penalty=0.1), Gradients()):
        own, *others = study.cohorts(data, {"mlp": MLP([4], decay=[0.0])}, 3)
        first = build(own.specs["mlp"], "mlp" + own.suffix, (1, 6, 6), 3, seed=3)["mlp"].module.state_dict()
        for cohort in others:
            ((name, network),) = build(cohort.specs["mlp"], "mlp", (1, 6, 6), 3, seed=3).items()
            assert name + cohort.suffix in ("mlp_bounded", "mlp_untrained")
            assert not cohort.suffix  # whose networks are drawn under the name that it makes
            assert all(torch.equal(a, first[k]) for k, a in network.module.state_dict().items())


def test_ratios_of_equal_points_are_nothing():
    x = torch.rand(2, 1, 6, 6, dtype=torch.float64)
    assert (ratio(doubled_copy(network(), CPU), x, x) == 0).all()


class Single(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x.float() @ torch.ones(6, 3))[:, 0, 0]


@pytest.mark.parametrize("module", [Single(), nn.Sequential(nn.Flatten(), Single())])
def test_a_network_that_does_not_compute_in_float64_is_refused(module: nn.Module):
    with pytest.raises(InputError, match="must compute in float64") as caught:
        doubled_copy(network(module), CPU)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_the_printed_form_is_too_small_by_the_stride(stride: int):
    dense, fourier, printed = strided(3, stride, 4, torch.Generator().manual_seed(0))
    assert fourier == pytest.approx(dense, rel=1e-5)
    assert printed * stride == pytest.approx(dense, rel=1e-5)


@pytest.mark.parametrize(("side", "stride", "gain"), [(2, 2, 1.0), (3, 2, 2.0), (3, 1, 3.0), (2, 1, 2.0)])
def test_one_pixel_attains_the_gain_of_a_pool(side: int, stride: int, gain: float):
    bound, attained, typical = pooled(side, stride, torch.Generator().manual_seed(0))
    assert (bound, attained) == (pytest.approx(gain), pytest.approx(gain))
    assert typical.max() <= gain


def test_the_slips_are_told_with_their_numbers():
    said = slips(Slips(2)(network(), samples(), 4, CPU, 0))
    assert (
        "agrees with the decomposition on 11 of 11" in said.answer
    )  # five sizes of two kernels, and the identity once
    assert "on 11 convolutions" in said.measured
    assert "as printed it is too small on 9, down to 0.25 of the norm" in said.answer  # those of stride 1 are not
    assert [row[0].n for _, row in said.tables[0].rows] == [2, 2, 2, 2, 2, 1]
    assert "3 lengthen a change" in said.answer
    assert said.answer.endswith(
        "to 2. Of the factor S\u207b\u00b2 the claim does not stand here; of max-pools that contract the claim stands "
        "here in 2 of 5 cases, in 3 it does not."
    )


def test_the_networks_of_table_5_are_known_by_their_layers():
    weights = ["64\u00d73\u00d711\u00d711 s4", "", *["9"] * 4, "", *["9\u00d79"] * 3]
    kinds = ["Conv2d", "MaxPool2d", *["Conv2d"] * 4, "MaxPool2d", *["Linear"] * 3]
    shown = {"kind": np.array(kinds), "weight": np.array(weights)}
    assert alexnet(shown) == [0, 2, 3, 4, 5, 7, 8, 9]
    assert alexnet({**shown, "kind": np.array(["Conv2d"] * 10)}) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"images": 1}, "images: must be at least 2"),
        ({"penalty": 0.0}, "penalty: must be > 0"),
        ({"pairs": 0}, "pairs"),
    ],
)
def test_what_is_not_allowed_is_refused(options: dict[str, object], says: str):
    with pytest.raises(InputError, match=says):
        Study(**options)  # type: ignore[arg-type]


def test_an_attack_with_a_budget_is_refused(composed, tmp_path: Path):
    with pytest.raises(InputError, match=r"attack\.pgd: must search for the smallest L2 perturbation"):
        run(composed(FOLDER, "debug=quick", "attack=[pgd]"), tmp_path, [], Console(quiet=True))


@pytest.mark.slow
def test_the_papers_numbers_stand_beside_those_of_alexnet(composed, tmp_path):
    from PIL import Image
    from torchvision.models import alexnet as build

    torch.manual_seed(0)
    torch.save(build(weights=None).state_dict(), tmp_path / "alexnet.pth")
    for name in ("0", "1"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        pixels = np.random.default_rng(int(name)).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / name / "a.png")
    options = (
        "model=torchvision/alexnet", f"model.weights={tmp_path}/alexnet.pth", "data=images", "data.num_classes=1000",
        f"data.root={tmp_path}/photos", "attack=[]", "study.untrained=false", "study.pairs=2", "study.steps=2",
    )  # fmt: skip
    about = run(composed(FOLDER, *options), tmp_path / "run", [], Console(quiet=True))
    said = reading(about, read_records(tmp_path / "run"), tmp_path / "run")
    (table,) = [t for t in said.all_tables if t.name.startswith("norms")]
    papers = [row[0].paper for _, row in table.rows if row[0] is not None and row[0].paper is not None]
    assert papers == [2.75, 10, 7, 7.5, 11, 3.12, 4, 4]
    first = dict(table.rows)["features.0: Conv2d 64\u00d73\u00d711\u00d711 s4"]
    assert first[2].ours == pytest.approx(first[0].ours / 4)  # as printed
    assert [row[0].ours for label, row in table.rows if "MaxPool" in label] == pytest.approx([2, 2, 2])
    assert "Of Table 5's 8 numbers 0 are this network's" in said.sections[0].answer
