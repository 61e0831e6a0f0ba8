"""The evaluation with its diagnosis, made small: the same records whatever interrupts it, and proofs below attacks."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from eval.diagnosis.reading import diagnoses
from eval.errors import InputError
from eval.records import Run, read_records
from eval.run import run

NETWORKS = "model=[softmax,mlp_relu]"
SMALL = ("experiment=robustness", NETWORKS, "threat=linf_0_1", "study.traced=6", "study.draws=10", "study.queries=20")
QUICK = ("debug=quick", "attack.standard.targets=3")
TOLD = ["sample", "source", "target_model", "role", "attack", "success", "success_8bit", "adv_pred", "stage", "error"]


@pytest.fixture
def go(composed):
    def made(folder: Path, *overrides: str) -> tuple[Run, pd.DataFrame]:
        folder.mkdir(exist_ok=True)
        about = run(composed(*SMALL, *QUICK, *overrides), folder, [], Console(quiet=True))
        return about, told(folder)

    return made


def told(folder: Path) -> pd.DataFrame:
    """What a reader of the records is told of each sample, in order."""
    return read_records(folder)[TOLD].sort_values(TOLD[:5]).reset_index(drop=True)


def verdicts(about: Run, folder: Path) -> list[tuple[str, list[tuple[str, bool | None, str]]]]:
    """Each network's checks, with what they saw."""
    rows = read_records(folder)
    return [(d.model, [(c.question.name, c.fired, c.saw) for c in d.checks]) for d in diagnoses(about, rows, folder)]


def test_an_interrupted_evaluation_goes_on_and_ends_with_the_same_records_and_verdict(go, tmp_path):
    about, whole = go(tmp_path)
    said = verdicts(about, tmp_path)
    written = sorted([*(tmp_path / "parts").glob("*.parquet"), *(tmp_path / "measured").glob("*.npz")])
    for path in written[::2]:
        path.unlink()
    kept = {path: path.stat().st_mtime_ns for path in written[1::2]}
    about, again = go(tmp_path)

    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    pd.testing.assert_frame_equal(again, whole)
    assert verdicts(about, tmp_path) == said
    assert set(whole["stage"]) - {""}  # the standard attack broke something, and says which part did


def test_outcomes_do_not_depend_on_the_batch_size(go, tmp_path):
    _, whole = go(tmp_path / "a")
    _, parts = go(tmp_path / "b", "batch_size=7")
    pd.testing.assert_frame_equal(parts, whole)


def test_no_proof_reaches_as_far_as_a_perturbation_that_was_found(go, tmp_path):
    about, _ = go(tmp_path, "attack=[standard,smallest_eps]")
    for found in diagnoses(about, read_records(tmp_path), tmp_path):
        assert found.bracket is not None
        assert found.bracket.certified > 0
        assert found.bracket.compared > 0
        assert found.bracket.broken == ()
        assert found.bracket.certified <= found.bracket.standing


@pytest.mark.slow
def test_an_evaluation_that_is_killed_again_and_again_ends_with_the_same_records(tmp_path):
    """SIGKILL at random moments, at least five times, until a run comes through."""
    chosen = random.Random(0)
    root = Path(__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}

    def command(folder: Path) -> list[str]:
        where = [f"hydra.run.dir={folder}", f"paths.checkpoints={tmp_path}/checkpoints", "data.limit=60"]
        quick = [f"attack.standard.{key}" for key in ("targets=3", "queries=300", "steps=20")]
        return [sys.executable, "-m", "eval", *SMALL, *quick, "batch_size=10", *where]

    subprocess.run(command(tmp_path / "whole"), env=env, cwd=tmp_path, check=True, capture_output=True)
    killed = 0
    while True:
        process = subprocess.Popen(
            command(tmp_path / "broken"), env=env, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        if killed >= 5:
            assert process.wait() == 0
            break
        parts = tmp_path / "broken" / "parts"
        before = len(list(parts.glob("*.parquet")))
        while process.poll() is None and len(list(parts.glob("*.parquet"))) == before:
            time.sleep(0.01)
        time.sleep(chosen.uniform(0, 0.3))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed += 1
    assert killed > 0
    pd.testing.assert_frame_equal(told(tmp_path / "broken"), told(tmp_path / "whole"))
    measured = [sorted(p.name for p in (tmp_path / n / "measured").glob("*.npz")) for n in ("whole", "broken")]
    assert measured[0] == measured[1]
    for name in measured[0]:
        one, other = (np.load(tmp_path / n / "measured" / name) for n in ("whole", "broken"))
        assert one.files == other.files
        for key in one.files:
            np.testing.assert_array_equal(one[key], other[key])


@pytest.mark.parametrize(("override", "says"), [("study.norm=l2", "linf, got l2"), ("study.eps=0.3", "0.1, got 0.3")])
def test_the_diagnosis_looks_at_the_budget_of_the_attacks_alone(go, tmp_path, override, says):
    with pytest.raises(InputError, match=rf"^study\..*: must be that of the threat, {says}; write threat\."):
        go(tmp_path, override)
    assert not list(tmp_path.iterdir())


def test_attacks_with_a_target_are_not_measured_by_searches_without(go, tmp_path):
    about, _ = go(tmp_path, "goal=least_likely")
    for found in diagnoses(about, read_records(tmp_path), tmp_path):
        asked = {check.question.name: check.fired for check in found.checks}
        assert asked["missed"] is None
        assert asked["neighbour"] is None
