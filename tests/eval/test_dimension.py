"""Distance and dimension, made small: what is trained and measured, and what the sections say."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from attacks.lbfgs import LBFGS
from attacks.pgd import PGD
from eval.data import Data, Samples
from eval.errors import InputError
from eval.records import Run, read_measured, read_records
from eval.run import run
from eval.studies.cells import Value
from eval.studies.dimension import Dimension
from eval.studies.dimension_measured import Measured
from eval.studies.dimension_names import HANDLES, sides_of
from eval.studies.dimension_tables import read
from eval.studies.readers import reading
from eval.studies.reading import Reading
from eval.trial import Arrays
from models.convnets import CNN
from models.initial import Initial
from models.paper import MLP, Softmax

FOLDER = "experiment=intriguing/dimension"
SMALL = (
    *("debug=quick", "debug.epochs=6", "study.seeds=2", "study.sides=[4,8,16]", "study.lines=1", "study.steps=2"),
    *("study.draws=20", "study.subspaces=[1,8]", "study.lr=3e-2"),
)
PLAIN = (*SMALL, "model=[softmax]", "study.models=[softmax]", "study.handled=[softmax]", "study.handles=[he,zero]")
SPECS = {"softmax": Softmax(decay=0.0), "mlp_relu": MLP([4], "relu", decay=[0.0]), "cnn": CNN([2, 2], 3)}


@pytest.fixture
def go(composed) -> Callable[..., tuple[Run, Reading]]:
    def made(folder: Path, *overrides: str) -> tuple[Run, Reading]:
        folder.mkdir(parents=True, exist_ok=True)
        about = run(composed(FOLDER, *overrides), folder, [], Console(quiet=True))
        return about, read(about, read_records(folder), folder)

    return made


def values(of: Reading) -> dict[str, list[Value]]:
    return {t.name: [v for _, row in t.rows for v in row if v is not None] for t in of.all_tables}


def test_every_section_of_a_small_run_says_something(go, tmp_path, monkeypatch):
    about, said = go(
        tmp_path, *SMALL, "study.sides=[8,16]", "study.seeds=1", "study.handles=[he,zero]", "debug.samples=25"
    )
    by = {table.name: table for table in said.all_tables}
    rows = {name: len(table.rows) for name, table in by.items()}

    assert about.status == "complete"
    assert [s.name for s in said.sections] == ["dimension", "random", "gradients", "causes", "volume", "noise"]
    assert rows == {
        **{"exponents": 3, "sizes": 6, "inside": 3, "random-directions": 3, "subspaces": 3},
        **{"gradients": 6, "causes": 6, "volume": 6, "noise": 3},
    }
    for section in said.sections:
        assert all((section.claim, section.measured, section.null, section.answer)), section.name
        assert "nan" not in section.answer
        assert all(np.isfinite(points).all() for chart in section.curves for _, points in chart.lines)
    assert all(len(row) == len(t.columns) for t in by.values() for _, row in t.rows)
    assert all(0 <= v.ours <= 1 for vs in values(said).values() for v in vs if v.kind == "share")
    assert all(v.ours == 0 for v in (dict(by["sizes"].rows)[r][-1] for r, _ in by["sizes"].rows))  # all were found

    def far(folder: Path, probe: str) -> dict[str, Arrays]:  # in one dimension nothing is found for one network
        found = read_measured(folder, probe)
        for name in found if probe == "subspaces" else ():
            if name.startswith("cnn"):
                found[name]["distance"] = np.where(np.arange(2) == 0, np.inf, found[name]["distance"])
        return found

    monkeypatch.setattr("eval.studies.dimension_measured.read_measured", far)
    table = next(t for t in read(about, read_records(tmp_path), tmp_path).all_tables if t.name == "subspaces")
    assert table.columns == ("slope", "m = 1", "m = 8")
    assert [len(row) for _, row in table.rows] == [3, 3, 3]
    assert [row[1] is None for _, row in table.rows] == [label.startswith("conv") for label, _ in table.rows]
    assert len(table.frame()) == 8


def test_without_handles_the_page_leaves_their_section_out(go, tmp_path):
    short = ("study.sides=[8,16]", "study.seeds=1", "study.handled=[]", "study.handles=[he]", "debug.samples=25")
    about, said = go(tmp_path, *SMALL, *short, "model=small/cnn", "study.models=[cnn]")
    assert about.status == "complete"
    assert [s.name for s in said.sections] == ["dimension", "random", "gradients", "volume", "noise"]


def test_a_linear_network_is_as_theory_says(go, tmp_path):
    about, said = go(tmp_path, *PLAIN)
    found = Measured.of(about, tmp_path)
    by = {t.name: dict(t.rows) for t in said.all_tables}
    causes = by["causes"]
    delta = by["exponents"]["softmax regression"][2]
    projected, zero = (causes[f"softmax regression, {name}"] for name in ("He's start, projected", "from zero"))

    upwards = found.exponent(np.broadcast_to(found.other, found.distance("softmax").shape), enlarged=True)
    assert upwards.mean == pytest.approx(0.5, abs=1e-4)  # pixels are replicated
    assert delta.ours > 0.5  # but averaged below
    assert zero[1].ours == pytest.approx(0.5, abs=0.05)
    assert projected[1].ours > causes["softmax regression, He's start"][1].ours + 0.1
    assert projected[0].ours == causes["softmax regression, He's start"][0].ours  # the accuracy
    assert by["gradients"]["softmax regression, untrained"][0].paper == 0.5
    assert by["subspaces"]["softmax regression"][0].ours == pytest.approx(-0.5, abs=0.15)
    assert all(row[2].ours == 0 for row in by["volume"].values())  # a hyperplane is not left by a shorter step
    assert all(row[1].ours == 1 for row in by["volume"].values())


def test_distances_are_those_of_the_hyperplanes(go, tmp_path):
    about, _ = go(tmp_path, *PLAIN)
    boundary = read_measured(tmp_path, "boundary")["softmax-he-8-0"]
    rows = read_records(tmp_path)
    clean = rows[(rows["role"] == "clean") & (rows["target_model"] == "softmax-he-8-0")].drop_duplicates("sample")
    boxed = rows[(rows["role"] == "attack") & (rows["target_model"] == "softmax-he-8-0")]
    right = (clean["clean_pred"] == clean["label"]).to_numpy()

    assert ((boundary["adversarial"] > 0) == right).all()
    free = dict(zip(clean["sample"], boundary["adversarial"], strict=True))
    hits = boxed[boxed["success"].astype(bool) & (boxed["l2"] > 0)]
    assert all(l2 >= free[s] * 0.999 for s, l2 in zip(hits["sample"], hits["l2"], strict=True))
    assert len(hits) == right.sum()
    assert {m["name"] for m in about.models} == {
        f"softmax-{h}-{side}-{seed}" for h in ("he", "zero", "untrained") for side in (4, 8, 16) for seed in (0, 1)
    }


def test_the_same_seed_gives_the_same_and_an_interrupted_run_goes_on(go, tmp_path):
    _, first = go(tmp_path / "a", *PLAIN)
    _, again = go(tmp_path / "b", *PLAIN, "batch_size=11")
    for name, own in values(first).items():
        assert [v.ours for v in values(again)[name]] == pytest.approx([v.ours for v in own], rel=2e-2, nan_ok=True), (
            name
        )
    written = sorted((tmp_path / "a" / "measured").glob("*.npz"))
    for path in written[::2]:
        path.unlink()
    kept = {path: path.stat().st_mtime_ns for path in written[1::2]}
    _, whole = go(tmp_path / "a", *PLAIN)

    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert repr(whole.all_tables) == repr(first.all_tables)


def test_what_an_interrupted_run_left_is_refused_in_one_line(go, tmp_path):
    about, _ = go(tmp_path, *PLAIN)
    unfinished = dataclasses.replace(about, status="running")
    assert reading(unfinished, read_records(tmp_path), tmp_path).sections
    next((tmp_path / "measured").glob("*.npz")).unlink()
    with pytest.raises(InputError, match="the run has not finished, and what is there is too little"):
        reading(unfinished, read_records(tmp_path), tmp_path)


def data(side: int = 8, height: int | None = None) -> Data:
    rng = np.random.default_rng(0)
    samples = Samples.of(rng.random((60, 1, height or side, side), np.float32), np.arange(60) % 3, list("abc"), "all")
    return Data("some", "", samples, samples)


def test_what_is_trained_on_what():
    study = Dimension(
        seeds=2, sides=[4, 8], handles=["he", "zero_decay"], handled=["softmax"], images=10, train_images=30
    )
    cohorts = {c.suffix: c for c in study.cohorts(data(), SPECS, 7)}

    assert set(cohorts) == {
        f"-{h}-{side}-{seed}" for h in ("he", "zero_decay", "untrained") for side in (4, 8) for seed in (0, 1)
    }
    assert set(cohorts["-he-4-1"].specs) == set(SPECS)
    assert set(cohorts["-zero_decay-4-1"].specs) == {"softmax"}
    assert cohorts["-zero_decay-8-0"].specs["softmax"] == Initial(SPECS["softmax"], 0.0, (1, 8, 8))
    assert cohorts["-he-4-0"].train.shape == cohorts["-he-4-0"].test.shape == (1, 4, 4)
    assert len(cohorts["-he-4-0"].train) == 30
    assert cohorts["-he-8-0"].seed != cohorts["-he-8-1"].seed
    assert [cohorts[f"-{h}-4-0"].untrained for h in ("he", "untrained")] == [False, True]
    assert cohorts["-he-4-0"].config.weight_decay == 0


@pytest.mark.parametrize("samples", [300, 700])
def test_decay_shrinks_what_no_gradient_reaches_by_as_much_as_it_says(samples):
    study = Dimension(decay=1.5, epochs=4, batch_size=10)
    recipe = study.recipe("he_decay", samples)
    steps = 4 * math.ceil(samples / 10)
    left = np.prod([1 - recipe.lr_at(i, steps) * recipe.weight_decay for i in range(steps)])
    assert left == pytest.approx(math.exp(-1.5), rel=0.08)


def test_what_is_measured_on_what():
    study = Dimension(
        seeds=2, sides=[4, 8], handles=["he", "zero"], handled=["softmax"], images=10, subspaces=[1, 16, 64]
    )
    trials = study.trials(data(), {"lbfgs": LBFGS()}, 0)
    probes = [(t.samples.shape[1], set(t.probes), len(t.models)) for t in trials]

    assert probes[0] == (8, set(), 3)
    assert list(trials[0].attacks) == ["lbfgs"]
    assert (8, {"boundary", "gradients", "subspaces"}, 6) in probes
    assert (4, {"boundary", "gradients"}, 6) in probes
    for side in (4, 8):
        assert (side, {"gradients"}, 6) in probes
        assert (side, {"boundary"}, 2) in probes
        assert (side, {"projected"}, 2) in probes
        assert (side, {"separation"}, 1) in probes
    assert all(len(t.samples) == 10 for t in trials)
    sizes = next(t.probes["subspaces"].sizes for t in trials if "subspaces" in t.probes)
    assert sizes == (1, 16)  # 64 are all


def test_sizes_are_a_quarter_to_four_times_the_images_own():
    assert sides_of(28, None) == (7, 14, 28, 56, 112)
    assert sides_of(32, None) == (8, 16, 32, 64, 128)
    assert sides_of(8, None) == (4, 8, 16, 32)
    assert sides_of(9, None) == (9, 18, 36)
    assert sides_of(28, [28, 14]) == (14, 28)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"sides": [8]}, "sides: must be two or more, each once"),
        ({"sides": [8, 8]}, "sides: must be two or more, each once"),
        ({"resize": "cubic"}, "resize: must be one of nearest, bilinear"),
        ({"seeds": 0}, "seeds: must be at least 1, got 0"),
        ({"handles": ["zero"]}, "handles: must be he and others of"),
        ({"handled": ["other"]}, "handled: must be of study.models"),
        ({"decay": 0.0}, "decay: must be > 0"),
        ({"subspaces": [0]}, "subspaces: must be numbers of dimensions, at least 1"),
        ({"epochs": 0}, "epochs: must be >= 1"),
    ],
)
def test_fields_that_make_no_sense_are_refused(fields, says):
    with pytest.raises(Exception, match=says) as caught:
        Dimension(**fields)
    assert type(caught.value).__name__ in ("InputError", "ModelError")


def test_data_models_and_attacks_that_do_not_fit_are_refused():
    study = Dimension()
    with pytest.raises(InputError, match=r"study.models: must name chosen models \(softmax\), got mlp_relu"):
        study.cohorts(data(), {"softmax": Softmax()}, 0)
    with pytest.raises(InputError, match=r"study.sides: must have the images' own, 8, among them"):
        Dimension(sides=[4, 16]).cohorts(data(), SPECS, 0)
    with pytest.raises(
        InputError, match=r"study.sides: must divide 8, the images' side, or be a multiple of it, got 3"
    ):
        Dimension(sides=[3, 8]).cohorts(data(), SPECS, 0)
    with pytest.raises(InputError, match="images must be square"):
        study.cohorts(data(height=4), SPECS, 0)
    with pytest.raises(InputError, match="data: must have training samples"):
        study.cohorts(dataclasses.replace(data(), train=None), SPECS, 0)
    with pytest.raises(InputError, match=r"attack: must be one search for the smallest L2 perturbation.*got none"):
        study.trials(data(), {}, 0)
    with pytest.raises(InputError, match=r"attack.pgd: must search for the smallest L2 perturbation"):
        study.trials(data(), {"pgd": PGD()}, 0)
    assert set(HANDLES) == set(study.handles)
