"""Names as codes say what names as text say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from eval import effort, metrics
from eval.diagnosis.reading import diagnoses
from eval.errors import InputError
from eval.frames import read_frame
from eval.group_metrics import by_part, per_sample
from eval.metrics import Threat
from eval.parts import COLUMNS, NAMES, part_file, write_part
from eval.records import Run, read_records, write_measured
from eval.rows import spelled
from eval.transfer_metrics import transfer
from tests.reports.conftest import build_run

ORDER = ["source", "role", "attack", "norm", "eps", "target_model", "sample"]
GROUPS = ["a", "b", "", "c"] * 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With a crash, groups, a minimal attack, controls, and one attack made of stages."""
    folder = build_run(tmp_path_factory.mktemp("run"), n=40, crash=("fgsm",), groups=GROUPS)
    for path in (folder / "parts").glob("0-pgd-*.parquet"):
        rows = pd.read_parquet(path)
        rows["stage"] = np.where(rows["success"], np.where(rows.index % 2 == 0, "apgd", "square"), "")
        write_part(folder, path.stem, {c: rows[c] for c in COLUMNS})
    return folder


def naive(folder):
    """The rows, by pandas alone."""
    parts = [pd.read_parquet(path) for path in sorted((folder / "parts").glob("*.parquet"))]
    return pd.concat(parts).sort_values(ORDER, kind="stable", ignore_index=True)


def test_the_frame_is_what_pandas_reads_in_the_same_order(folder):
    pd.testing.assert_frame_equal(read_records(folder), naive(folder), check_exact=True)
    pd.testing.assert_frame_equal(spelled(read_frame(folder)), naive(folder), check_exact=True)


def test_names_are_codes_and_networks_have_the_same(folder):
    frame = read_frame(folder)
    assert [c for c in frame if isinstance(frame[c].dtype, pd.CategoricalDtype)] == list(NAMES)
    assert frame["source"].dtype == frame["target_model"].dtype
    assert all(list(frame[c].cat.categories) == sorted(frame[c].cat.categories) for c in NAMES)
    assert frame.memory_usage(deep=False, index=False).sum() / len(frame) < 120  # bytes a record


def test_some_parts_and_some_columns(folder):
    some = read_frame(folder, ["clean0", "0-pgd-0-1"], ["rms", "error"])
    assert list(some) == [c for c in COLUMNS if c in (*ORDER, "rms", "error")]
    both = pd.concat([pd.read_parquet(part_file(folder, name)) for name in ("clean0", "0-pgd-0-1")])
    assert some["rms"].sum() == pytest.approx(both["rms"].sum())
    assert len(read_frame(folder / "nowhere")) == 0


def test_a_torn_part_is_told_in_one_line(tmp_path):
    folder = build_run(tmp_path, n=4, examples=False)
    part_file(folder, "clean1").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"clean1\.parquet: must be a whole Parquet part"):
        read_frame(folder)


def tables(folder, records):
    """All tables that are made of records."""
    run = Run.read(folder)
    threat = Threat.of(run)
    rows = metrics.outcomes(records, threat)
    cube = metrics.Cube(rows)
    samples = per_sample(records, cube, threat)
    return {
        "outcomes": spelled(rows),
        "clean": metrics.clean_accuracy(records),
        "robust": metrics.robust_accuracy(cube, threat),
        "curve": metrics.curve(cube, threat),
        "worst": metrics.worst_case(cube, threat),
        "transfer": transfer(records),
        "samples": samples,
        "classes": by_part(samples, "label"),
        "groups": by_part(samples, "group"),
        "distortion": effort.distortion(records, threat),
        "minimal": effort.minimal_distances(records),
        "costs": effort.costs(rows),
        "stages": effort.by_stage(records, {"pgd": ["apgd", "square"]}),
    }


def test_every_table_is_the_same_to_the_last_digit_and_has_names_as_text(folder):
    expected = tables(folder, naive(folder))
    for name, table in tables(folder, read_frame(folder)).items():
        assert len(table), name
        pd.testing.assert_frame_equal(table, expected[name], check_exact=True)


def test_a_diagnosis_is_the_same(folder, tmp_path):
    ids = np.array([f"test/{i:05d}" for i in range(16)])
    write_measured(tmp_path, "a", "searches", "softmax", {"sample": ids, "pgd": np.arange(16) < 9})
    run = Run.read(folder)
    run.attacks = [about | {"needs": "scores" if about["name"] == "lbfgs" else "weights"} for about in run.attacks]
    run.attacks[1]["stages"] = [{"name": "apgd", "needs": "weights"}, {"name": "square", "needs": "scores"}]
    found = diagnoses(run, read_frame(folder), tmp_path)
    assert found == diagnoses(run, naive(folder), tmp_path)
    assert [one.model for one in found] == ["softmax"]
    (stages,) = (check for check in found[0].checks if check.question.name == "stages")
    broken = naive(folder).query("role == 'attack' and source == target_model == 'softmax' and success and rms > 0")
    broken = broken[(broken["linf"] <= 8 / 255) & (np.isinf(broken["eps"]) | (broken["eps"] == 8 / 255))]
    by = {True: set(), False: set()}
    for _, row in broken.iterrows():
        by[(row["stage"] or row["attack"]) in ("square", "lbfgs")].add(row["sample"])
    assert by[False]
    assert f"broke {len(by[True] - by[False])} of " in stages.saw
