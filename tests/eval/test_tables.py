"""Tables 1 to 4 of Szegedy et al., made small: what is trained and tried, and what the numbers say."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from eval.data import Data, Samples
from eval.errors import InputError
from eval.records import Run, read_records
from eval.run import run
from eval.studies.cells import Table, Value
from eval.studies.findings import _unsettled, findings
from eval.studies.szegedy import tables
from eval.studies.tables import Tables

FOLDER = "experiment=intriguing/tables"
NAMES = ["table1", "table2", "table2_matched", "table3", "table4", "table4_amplified", "table4_matched"]


@pytest.fixture
def go(composed) -> Callable[..., tuple[Run, list[Table]]]:
    def made(folder: Path, *overrides: str) -> tuple[Run, list[Table]]:
        folder.mkdir(parents=True, exist_ok=True)
        about = run(composed(FOLDER, *overrides), folder, [], Console(quiet=True))
        return about, tables(about, read_records(folder))

    return made


def cell(table: Table, row: str, column: str):
    values = next(values for label, values in table.rows if label == row)
    return values[table.columns.index(column)]


def outcomes(folder: Path) -> pd.DataFrame:
    rows = read_records(folder)
    keys = ["source", "target_model", "role", "attack", "sample"]
    return rows.sort_values(keys)[[*keys, "clean_pred", "adv_pred", "success"]].reset_index(drop=True)


def test_a_small_run_fills_every_cell(go, tmp_path):
    about, made = go(tmp_path, "debug=quick", "debug.epochs=25", "debug.train_samples=200", "debug.samples=30")
    by = {table.name: table for table in made}

    assert about.status == "complete"
    assert list(by) == NAMES
    assert [len(t.rows) for t in made] == [6, 10, 7, 3, 7, 3, 4]
    assert all(v is not None and np.isfinite(v.ours) for t in made for _, values in t.rows for v in values)
    assert cell(by["table1"], "FC10(1)", "train error").n == 200
    assert cell(by["table1"], "FC10(1)", "test error").n == 30
    assert cell(by["table3"], "FC123-456-10 (P1)", "error on P2").n == 100
    assert cell(by["table2"], "AE400-10", "AE400-10").n == 200
    assert cell(by["table2"], "Gaussian noise, 0.3", "distortion").ours == pytest.approx(0.3, abs=0.01)
    assert cell(by["table2"], "Gaussian noise, 0.3, in the box", "distortion").ours == pytest.approx(0.28, abs=0.03)
    for table, drawn in (("table1", "distortion, train"), ("table3", "distortion")):
        for label, _ in by[table].rows:
            nearest = cell(by[table], label, "distortion, nearest class")
            assert nearest.ours < cell(by[table], label, drawn).ours
    assert all(v.paper is None for t in made for _, values in t.rows for v in values)  # these are digits
    assert "about MNIST" in findings(made)[-1]


def test_neighbours_of_an_order_whose_intervals_overlap_are_named():
    value = {"a": (0.1, 0.2), "b": (0.15, 0.25), "c": (0.5, 0.6)}
    known = {name: Value("size", (low + high) / 2, low, high, 9) for name, (low, high) in value.items()}
    assert _unsettled(known, ["a", "b", "c"]) == "; the intervals of a and b overlap"
    assert _unsettled(known, ["a", "c"]) == ""


TWENTY = ("debug=quick", "debug.samples=20", "study.images=20")


@pytest.fixture(scope="module")
def twenty(tmp_path_factory) -> Path:
    """A folder for that run, which only the first test that asks for it there has to make."""
    return tmp_path_factory.mktemp("twenty")


def test_the_same_seed_and_another_batch_size_give_the_same(go, twenty, tmp_path):
    _, first = go(twenty, *TWENTY)
    _, again = go(tmp_path / "b", *TWENTY)
    go(tmp_path / "c", *TWENTY, "batch_size=7")

    assert [t.frame().to_csv() for t in first] == [t.frame().to_csv() for t in again]
    pd.testing.assert_frame_equal(outcomes(twenty), outcomes(tmp_path / "c"))


def test_an_interrupted_run_goes_on_and_ends_the_same(go, twenty, tmp_path):
    _, whole = go(twenty, *TWENTY)
    shutil.copytree(twenty, tmp_path, dirs_exist_ok=True)
    parts = sorted((tmp_path / "parts").glob("*.parquet"))
    for part in parts[::2]:
        part.unlink()
    kept = {part: part.stat().st_mtime_ns for part in parts[1::2]}
    _, again = go(tmp_path, *TWENTY)

    assert {part: part.stat().st_mtime_ns for part in kept} == kept
    assert [t.frame().to_csv() for t in whole] == [t.frame().to_csv() for t in again]


@pytest.mark.slow
def test_the_shape_of_the_findings_holds_on_digits(go, tmp_path):
    _, made = go(tmp_path, "study.images=300", "goal=untargeted", "study.nearest=false")
    by = {table.name: table for table in made}
    distortion = {label: values[2].ours for label, values in by["table1"].rows}
    matched, native, amplified = by["table2_matched"], by["table4"], by["table4_amplified"]

    assert all(values[-1].ours == 1 for _, values in by["table1"].rows), "the search fails somewhere"
    assert distortion["FC10(10⁻⁴)"] < distortion["FC10(10⁻²)"] < distortion["FC10(1)"]
    assert distortion["FC100-100-10"] < distortion["FC10(10⁻⁴)"]
    floor = matched.rows[-1][1]
    for i, (_, values) in enumerate(matched.rows[:-1]):
        assert all(v.low > f.high for j, (v, f) in enumerate(zip(values, floor, strict=True)) if i != j)
    there = "FC100-100-10 (P1)", "FC100-100-10' (P2)"
    across = cell(native, *there), cell(native, *reversed(there))
    further = cell(amplified, *there), cell(amplified, *reversed(there))
    assert all(far.low > near.high for far, near in zip(further, across, strict=True))
    assert all(v.ours > 0.4 for v in further)


def test_the_halves_are_disjoint_and_complete():
    n = 60
    labels = np.arange(n) % 3
    samples = Samples.of(np.zeros((n, 1, 2, 2), np.float32), labels, "abc", "all")
    data = Data("some", "", samples, samples)
    study = Tables(full=["m"], first=["m"], second=["m"])
    whole, first, second = study.cohorts(data, {"m": None}, 3)  # type: ignore[dict-item]

    assert len(first.train) == len(second.train) == n // 2
    assert sorted([*first.train.ids, *second.train.ids]) == sorted(whole.train.ids)
    assert [c.suffix for c in (whole, first, second)] == ["", "_p1", "_p2"]
    other = study.cohorts(data, {"m": None}, 4)[1]  # type: ignore[dict-item]
    assert list(other.train.ids) != list(first.train.ids)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["study.images=100000"], r"study.images: must be at most \d+, all that digits has to offer, got 100000"),
        (["study.images=0"], "study.images: must be at least 1, got 0"),
        (["study.amplified=3"], r"study.amplified: must be in \(0, 1\), in box units, got 3"),
        (["model=[paper/ae400]"], "study.full: must name chosen models"),
        (["attack=[pgd]"], "attack.pgd: must be a search for the smallest perturbation"),
        (["attack=[]"], "attack: must name a search for the smallest perturbation, got none"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(go, tmp_path, overrides, says):
    with pytest.raises(InputError, match=says):
        go(tmp_path, *overrides)
    assert not list(tmp_path.iterdir())


def test_data_of_one_class_are_refused(go, tmp_path):
    file = tmp_path / "one.npz"
    np.savez(file, x=np.random.default_rng(0).integers(0, 255, (30, 8, 8), np.uint8), y=np.zeros(30, np.int64))
    with pytest.raises(InputError, match="two classes or more, got one"):
        go(tmp_path / "run", "data=arrays", f"data.test={file}", f"data.train={file}", "data.num_classes=2")


def test_distortions_are_those_of_images_that_are_classified_correctly(go, tmp_path):
    about, made = go(tmp_path, "debug=quick", "debug.train_samples=150")
    rows = read_records(tmp_path)
    for table, part, column in ((made[0], "train:", "distortion, train"), (made[3], "test:", "distortion")):
        for (label, values), model in zip(
            table.rows, about.models[:6] if part == "train:" else about.models[6:], strict=True
        ):
            own = rows[(rows["source"] == model["name"]) & (rows["target_model"] == model["name"])]
            own = own[(own["role"] == "attack") & (own["attack"] == "lbfgs") & own["sample"].str.startswith(part)]
            right = own[(own["clean_pred"] == own["label"]) & own["success"] & (own["rms"] > 0)]
            value = values[table.columns.index(column)]
            assert value.n == len(right), label
            assert value.n == 0 or value.ours == pytest.approx(right["rms"].mean()), label


def test_networks_that_are_wrong_on_everything_are_told_in_one_line_each(go, tmp_path):
    """Labels that contradict each other: nothing can be learnt, and a test part in which every answer is wrong."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (60, 8, 8), np.uint8)
    np.savez(tmp_path / "train.npz", x=images, y=(np.arange(60) % 3 == 0).astype(np.int64))
    np.savez(tmp_path / "test.npz", x=np.zeros((30, 8, 8), np.uint8), y=np.full(30, 2, np.int64))
    about, made = go(
        tmp_path / "run",
        *("debug=quick", "data=arrays", "data.num_classes=3", "attack.lbfgs.evaluations=20"),
        *(f"data.{part}={tmp_path / part}.npz" for part in ("train", "test")),
    )
    told = [line for line in about.warnings if "clean accuracy is" in line and "at chance" in line]
    assert len(told) == len(about.models)
    assert cell(made[0], "FC10(1)", "test error").ours == 1
    assert cell(made[3], "FC100-100-10 (P1)", "distortion").n == 0
    assert findings(made)
