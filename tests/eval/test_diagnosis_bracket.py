"""The arithmetic of the bracket, and what a contradiction does."""

from __future__ import annotations

import numpy as np
import pytest

from eval.diagnosis.bracket import Bracket, Smoothed, bracket, smoothed
from eval.diagnosis.checks import Seen
from eval.diagnosis.questions import diagnose, verdict
from eval.diagnosis.reading import diagnoses
from eval.records import Run, read_measured, read_records, write_measured

BELOW = {
    "sample": np.array(["a", "b", "c", "d", "e"]),
    "right": np.array([True, True, True, True, False]),
    "norms": np.array([0.05, 0.01, 0.02, 0.0, 0.0]),
    "bounds": np.array([0.3, 0.11, 0.05, 0.02, 0.0]),
    "method": np.array("crown"),
}
FAR = {"a": 0.6, "b": 0.4, "c": 0.08, "e": 0.01}


def made(far: dict[str, float] = FAR, **below: object) -> Bracket:
    found = bracket({**BELOW, **below}, far, lambda size: size <= 0.1)  # type: ignore[dict-item]
    assert found is not None
    return found


def test_the_ends_and_what_is_decided() -> None:
    found = made()
    assert (found.n, found.certified, found.standing) == (5, 2, 3)  # c is broken, e was wrong, d is open
    assert (found.decided, found.open) == (4, 1)
    assert (found.low, found.high) == (0.4, 0.6)
    assert found.broken == ()
    assert (
        found.text == "between 40.0% (proved) and 60.0% (not broken) of the first 5 samples are robust; 80% are decided"
    )


def test_the_better_proof_of_each_sample_counts() -> None:
    found = made(norms=np.array([0.0, 0.0, 0.0, 0.5, 0.0]))
    assert found.certified == 3
    assert [proof.certified for proof in found.proofs] == [1, 2]
    assert [proof.name for proof in found.proofs] == ["gains of the layers", "bounds of the logits (linear bounds)"]


def test_the_ratio_is_that_of_samples_with_both() -> None:
    found = made()
    assert found.compared == 3
    assert found.ratio == pytest.approx(np.median([0.6 / 0.3, 0.4 / 0.11, 0.08 / 0.05]))


def test_intervals_hold_their_ends() -> None:
    (a, b), (c, d) = made().intervals
    assert 0 < a < 0.4 < b < 1
    assert 0 < c < 0.6 < d < 1


def test_a_perturbation_nearer_than_a_proof_is_a_contradiction() -> None:
    found = made(FAR | {"a": 0.29})
    assert found.broken == ("a",)
    (check,) = (c for c in diagnose(Seen(bracket=found)) if c.fired)
    assert check.question.name == "bracket"
    assert check in verdict((check,))


def test_a_proof_at_the_budget_contradicts_a_perturbation_at_the_budget() -> None:
    found = made(FAR | {"b": 0.1}, bounds=np.array([0.3, 0.1 * (1 + 1e-9), 0.05, 0.02, 0.0]))
    assert found.broken == ("b",)  # which ends there as attacks do, and was proved a little beyond
    assert found.text == "proofs and perturbations contradict each other on 1 of 5 samples"
    (check,) = (c for c in diagnose(Seen(bracket=found)) if c.fired)
    assert check.question.name == "bracket"


def test_what_is_proved_up_to_the_budget_alone_is_not_proved_at_it() -> None:
    assert made(bounds=np.array([0.3, 0.1, 0.05, 0.02, 0.0])).certified == 1  # sizes of 0.1 count as within


def test_rounding_is_no_contradiction() -> None:
    assert made(FAR | {"a": 0.3 * (1 - 1e-8)}).broken == ()


def test_what_was_refused_says_why() -> None:
    below = {k: BELOW[k] for k in ("sample", "right")}
    found = bracket({**below, "norms_refused": np.array("Softmax has no known bound")}, FAR, lambda s: s <= 0.1)
    assert found is not None
    assert not found.possible
    assert found.certified == 0
    (check,) = (c for c in diagnose(Seen(bracket=found)) if c.question.name == "bracket")
    assert check.fired is None
    assert "Softmax" in check.saw


def test_nothing_looked_at_is_no_bracket() -> None:
    assert bracket({}, FAR, lambda s: s <= 0.1) is None
    assert smoothed({}, 0.1) is None


def test_the_smoothed_network_is_counted_by_itself() -> None:
    arrays = {
        "right": np.array([True, True, False, False]), "abstained": np.array([False, False, True, False]),
        "radius": np.array([0.3, 0.05, 0.0, 0.0]), "alpha": np.array(0.001), "sigma": np.array(0.25),
    }  # fmt: skip
    found = smoothed(arrays, 0.1)
    assert found == Smoothed(4, 1, 2, 1, 0.25, 0.001)
    assert found.interval[0] < 0.25 < found.interval[1]


def test_a_run_has_its_bracket_and_no_contradiction(small_run, tmp_path) -> None:  # type: ignore[no-untyped-def]
    run: Run = small_run(
        tmp_path, "study=robustness", "threat=linf_0_1", "attack=[pgd]", "study.smoothing=0.2", "study.proved=20",
        "study.images=10", "study.traced=6", "study.queries=20", "study.draws=5",
    )  # fmt: skip
    records = read_records(tmp_path)
    found = diagnoses(run, records, tmp_path)
    for d in found:
        assert d.bracket is not None
        assert d.bracket.broken == ()
        assert d.bracket.n == 20
        assert d.bracket.compared > 0
        assert d.bracket.certified <= d.bracket.standing
        assert d.smoothed is not None
    softmax = found[0].bracket
    assert softmax is not None
    assert softmax.decided >= 18  # of a linear network nearly everything is


def test_a_proof_that_is_too_long_is_reported(small_run, tmp_path) -> None:  # type: ignore[no-untyped-def]
    run: Run = small_run(
        tmp_path, "study=robustness", "threat=linf_0_1", "attack=[pgd]", "model=[softmax]", "study.proved=20",
        "study.images=10", "study.traced=6", "study.queries=20", "study.draws=5",
    )  # fmt: skip
    records = read_records(tmp_path)
    below = read_measured(tmp_path, "below")["softmax"]
    for path in (tmp_path / "measured").glob("*.npz"):
        with np.load(path) as arrays:
            if str(arrays["probe"]) == "below":
                name = path.stem
    head = {"probe", "source", "first"}
    write_measured(
        tmp_path, name, "below", "softmax",
        {k: (v + 1.0 if k == "bounds" else v) for k, v in below.items() if k not in head},
    )  # fmt: skip
    (d,) = diagnoses(run, records, tmp_path)
    assert "bracket" in {c.question.name for c in d.against}
