"""Units beside random directions, made small: what is trained and tried, and that the tables are what was measured."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy.stats import mannwhitneyu

from attacks.pgd import PGD
from eval.data import Digits
from eval.errors import InputError
from eval.records import Run, read_measured, read_records, read_slices
from eval.run import run
from eval.studies.cells import Table, Value
from eval.studies.readers import reading
from eval.studies.reading import Reading, Section
from eval.studies.unit_detectors import ablation
from eval.studies.unit_family import family
from eval.studies.units import UnitStudy
from models.convnets import CNN
from models.recipe import TrainConfig
from reports.build import write

DATA = Digits(name="digits", root="nowhere").load(0)
RECIPE = dataclasses.asdict(TrainConfig(epochs=2))
SMALL = (
    "experiment=intriguing/units",
    "attack=[pgd]",
    "train.epochs=4",
    "data.train_limit=600",
    "data.limit=240",
    "model.cnn.widths=[4,8]",
    "model.cnn.hidden=24",
    "study.directions=20",
    "study.ablated=6",
    "study.stimuli=3",
    "study.steps=8",
    "study.seeds=2",
    "attack.pgd.steps=10",
    "threat.eps=0.2",
)


def go(composed, folder: Path, *overrides: str) -> tuple[Run, pd.DataFrame, Path]:
    folder.mkdir(exist_ok=True)
    small = [line for line in SMALL if "attack=[]" not in overrides or not line.startswith("attack")]
    about = run(composed(*small, *overrides), folder, [], Console(quiet=True))
    return about, read_records(folder), folder


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("units")


@pytest.fixture
def done(composed, place) -> tuple[Run, pd.DataFrame, Path]:
    folder = place / "run"
    if (folder / "run.json").exists():  # done by the first test
        return Run.read(folder), read_records(folder), folder
    return go(composed, folder)


@pytest.fixture
def said(done) -> dict[str, Section]:
    return {section.name: section for section in reading(*done).sections}


def cell(tables: tuple[Table, ...], name: str, row: str, column: str) -> Value:
    table = next(t for t in tables if t.name == name)
    value = dict(table.rows)[row][table.columns.index(column)]
    assert value is not None
    return value


def test_networks_and_nulls_are_trained_and_only_trained_ones_attacked(done) -> None:
    about, records, _ = done
    names = [m["name"] for m in about.models]
    assert names == [
        "cnn", "cnn_seed1", "cnn_robust", "cnn_shuffled", "cnn_untrained", "cnn_untrained_seed1",
    ]  # fmt: skip
    trained = {m["name"]: m["trained"] for m in about.models}
    assert trained["cnn_robust"]["method"] == "adversarial"
    assert trained["cnn_shuffled"]["val_accuracy"] is None
    assert trained["cnn_untrained"] is trained["cnn_untrained_seed1"] is None
    assert set(records[records["role"] == "attack"]["source"]) == {"cnn", "cnn_robust"}
    assert not [line for line in about.warnings if "shuffled" in line or "untrained" in line]
    assert about.status == "complete"


def test_every_section_states_claim_measure_null_and_answer(said) -> None:
    assert list(said) == ["tops", "detectors", "ablation", "stability", "stimulus", "firing"]
    for section in said.values():
        assert all([section.claim, section.measured, section.null, section.answer])
        assert "held-out" in section.measured
        assert any(char.isdigit() for char in section.answer)
        assert "nan" not in section.answer
    names = [t.name for s in said.values() for t in s.tables] + [p.name for s in said.values() for p in s.pictures]
    assert len(set(names) | set(said)) == len(names) + len(said)


def test_intervals_hold_their_numbers(said) -> None:
    for table in (t for section in said.values() for t in section.tables):
        for row, values in table.rows:
            for value in values:
                if value is not None and not math.isnan(value.low):
                    assert value.low - 1e-9 <= value.ours <= value.high + 1e-9, (table.name, row)
                    assert value.n > 0


def test_top_images_are_what_a_naive_count_gives(done, said) -> None:
    seen = read_measured(done[2], "units")["cnn"]
    told, labels = np.flatnonzero(~seen["fitted"]), seen["label"]
    means = {}
    for basis in ("natural", "random"):
        purities = []
        for v in seen[f"v_{basis}"]:
            r = (seen["responses"] * v).sum(1)
            nine = sorted(told, key=lambda i, r=r: -r[i])[:9]
            counts = [int(np.sum(labels[nine] == c)) for c in range(10)]
            purities.append(max(counts) / 9)
        means[basis] = np.array(purities)
    tables = said["tops"].tables
    ours = cell(tables, "tops_bases", "units", "purity").ours
    assert ours == pytest.approx(means["natural"].mean(), abs=0.05)  # of equals others may be chosen
    assert cell(tables, "tops_bases", "random directions", "purity").ours == pytest.approx(
        means["random"].mean(), abs=1e-6
    )
    wanted = mannwhitneyu(seen["purity_natural"], seen["purity_random"])
    area = wanted.statistic / (len(seen["purity_natural"]) * len(seen["purity_random"]))
    assert cell(tables, "tops_bases", "random directions", "a unit above").ours == pytest.approx(area)


def test_detectors_and_ablation_are_what_was_measured(done, said) -> None:
    seen = read_measured(done[2], "units")["cnn"]
    told = ~seen["fitted"]
    found = []
    for c, number in enumerate(seen["classes"]):
        best = int(seen["fitted_natural"][:, c].argmax())
        found.append(seen["accuracy_natural"][best, c])
        assert seen["fitted_natural"][best, c] >= np.mean(seen["label"][seen["fitted"]] != number) - 1e-6
    mean = cell(said["detectors"].tables, "detectors_networks", "trained", "best unit")
    assert mean.ours == pytest.approx(np.mean(found), abs=1e-6)
    assert mean.n == told.sum()
    others = cell(said["detectors"].tables, "detectors_networks", "trained", "best random direction")
    assert others.ours == pytest.approx(seen["again_right"].mean())
    gap = cell(said["detectors"].tables, "detectors_networks", "trained", "difference")
    assert gap.ours == pytest.approx(mean.ours - others.ours)
    lost = cell(said["ablation"].tables, "ablation_bases", "units", "accuracy lost").ours
    assert lost == pytest.approx(seen["intact_right"].mean() - seen["gone_right_natural"].mean())


def test_every_unit_has_a_row_of_its_own(done) -> None:
    frame = reading(*done).csv["directions"]
    seen = read_measured(done[2], "units")["cnn"]
    units = frame[frame["basis"] == "natural"]
    assert sorted(units["unit"]) == seen["live"].tolist()
    assert units["accuracy"].between(0, 1).all()


def test_a_network_compared_with_itself_has_its_units_again(done, monkeypatch) -> None:
    about, records, folder = done
    seen = read_measured(folder, "units")
    twin = {**seen, "cnn_seed1": seen["cnn"]}
    monkeypatch.setattr("eval.studies.unit_family.read_measured", lambda *_: twin)
    section = next(s for s in reading(about, records, folder).sections if s.name == "stability")
    row = dict(section.tables[0].rows)["trained, two seeds"]
    assert [v.ours for v in row if v is not None] == pytest.approx([1.0] * 5, abs=1e-5)


def test_images_that_fooled_the_network_are_those_of_the_records(done, said) -> None:
    _, records, folder = done
    own = records[(records["role"] == "attack") & (records["source"] == "cnn") & (records["target_model"] == "cnn")]
    fooled = own[(own["clean_pred"] == own["label"]) & own["success"]]
    value = cell(said["firing"].tables, "firing_kept", "trained", "strongest kept")
    assert value.n == len(fooled) > 10
    (seen,) = read_slices(folder, "watched:pgd")["cnn"]
    fitted = read_measured(folder, "units")["cnn"]
    ids = set(DATA.test.ids)
    assert set(seen["sample"].tolist()) <= ids
    assert len(seen["sample"]) == (own["clean_pred"] == own["label"]).sum()  # the others are not searched
    known = fitted["responses"][fitted["fitted"]][:, fitted["live"]]
    after = [(seen[k][:, fitted["live"]] - known.mean(0)) / known.std(0) for k in ("before", "after")]
    shares = []
    for i in np.flatnonzero((seen["said_after"] != seen["label"]) & seen["moved"]):
        tops = [set(np.argsort(-z[i])[:3].tolist()) for z in after]  # a tenth of the units, but at least 3
        shares.append(len(tops[0] & tops[1]) / 3)
    assert value.ours == pytest.approx(np.mean(shares), abs=0.02)


def test_a_finished_run_is_not_done_again_and_has_a_page(composed, done, place, monkeypatch) -> None:
    monkeypatch.setattr("eval.units.probe.Units.__call__", lambda *_: pytest.fail("measured again"))
    monkeypatch.setattr("eval.header._commit", lambda: done[0].commit)
    go(composed, place / "run")
    write(place / "run")
    page = (place / "run" / "report.html").read_text()
    assert "does the cat&#39;s unit fire for the toaster" in page or "does the cat's unit fire for the toaster" in page


def test_few_images_a_class_leave_what_needs_no_class(composed, tmp_path) -> None:
    found: Reading = reading(
        *go(composed, tmp_path, "data.limit=40", "study.seeds=1", "attack=[]", "study.robust=false", "study.stimuli=0")
    )
    assert [section.name for section in found.sections] == ["tops", "ablation"]
    bases = dict(found.sections[0].tables[0].rows)
    assert bases["units"][0] is None
    assert bases["units"][2] is not None
    assert len(found.findings) == 4
    assert "directions" not in found.csv


@pytest.mark.parametrize(("at", "shape", "says"), [("max", (4, 8, 8), 1), ("mean", (4, 8, 8), 0), ("max", (4,), 0)])
def test_what_is_taken_out_is_told_where_responses_are_maxima(done, at: str, shape: tuple[int, ...], says: int) -> None:
    found = family(done[0], done[2])
    config = {**found.run.config, "study": {**found.run.config["study"], "at": at}}
    first = dataclasses.replace(found.first, seen={**found.first.seen, "shape": np.array(shape)})
    there = dataclasses.replace(found, run=dataclasses.replace(found.run, config=config), networks=(first,))
    assert ablation(there).tables[0].note.count("direction of the activations at each place") == says


def study(**fields: Any) -> UnitStudy:
    return UnitStudy(recipe=RECIPE, **fields)


def test_without_training_samples_the_untrained_network_is_the_only_null() -> None:
    alone = dataclasses.replace(DATA, train=None)
    suffixes = [cohort.suffix for cohort in study().cohorts(alone, {"cnn": CNN()}, 0)]
    assert suffixes == ["", "_untrained"]


def test_shuffled_labels_are_the_same_labels_dealt_out_anew() -> None:
    cohort = next(c for c in study().cohorts(DATA, {"cnn": CNN()}, 0) if c.suffix == "_shuffled")
    assert DATA.train is not None
    assert cohort.train is not None
    assert cohort.guesses
    assert (np.bincount(cohort.train.labels) == np.bincount(DATA.train.labels)).all()
    assert np.mean(cohort.train.labels == DATA.train.labels) < 0.2
    assert cohort.config is not None
    assert cohort.config.val_fraction == 0


def test_attacked_images_are_none_that_decide_what_is_told() -> None:
    probes, _, attacks = study(attacked=50).trials(DATA, {"pgd": PGD()}, 0)
    from eval.units.observe import halves

    fitted = set(probes.samples.ids[halves(probes.samples, 0)].tolist())
    assert len(attacks.samples) == 50
    assert not fitted & set(attacks.samples.ids.tolist())


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"seeds": 0}, "seeds: must be at least 1"),
        ({"at": "median"}, "at: must be one of mean, max"),
        ({"directions": 1}, "directions: must be at least 2"),
        ({"stimuli": -1}, "stimuli: must be at least 0"),
        ({"images": 3}, "images: must be at least 4"),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        study(**fields)


def test_one_network_at_a_time_and_robustness_beside_a_plain_one() -> None:
    with pytest.raises(InputError, match="write model=a"):
        study().cohorts(DATA, {"a": CNN(), "b": CNN()}, 0)
    hard = UnitStudy(recipe={**RECIPE, "method": "adversarial"}, robust=True)
    with pytest.raises(InputError, match=r"study\.robust: must be beside train=standard"):
        hard.cohorts(DATA, {"a": CNN()}, 0)


def test_an_unknown_layer_is_told_in_one_line(composed, tmp_path) -> None:
    with pytest.raises(ValueError, match="did you mean conv2") as failure:
        go(composed, tmp_path, "layer=conv3", "study.seeds=1", "study.robust=false")
    assert "\n" not in str(failure.value)
