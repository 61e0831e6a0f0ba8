from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from eval.errors import InputError
from eval.gate.baseline import accept
from eval.gate.compare import check
from eval.gate.outcomes import CLEAN
from eval.levels import WORST
from tests.eval.gate_runs import flipped, outcomes, write_run

N = 400
CLEAN_HELD = outcomes(N, 0.95)
HELD = CLEAN_HELD * outcomes(N, 0.6, seed=1)
EPS = "8/255"


def network(lost=0, won=0, clean=CLEAN_HELD):
    held = flipped(HELD, lost, 0)
    held[np.flatnonzero((HELD == 0) & (CLEAN_HELD == 1))[:won]] = 1
    return {"none": clean, ("pgd", EPS): held * clean}


def compared(tmp_path, models, before=None, rules=None, baseline=None, **more):
    path = tmp_path / "b.json"
    accept(write_run(tmp_path / "before", before or {"mlp": network()}, **(baseline or {})), path)
    return check(write_run(tmp_path / "after", models, **more), path, **(rules or {}))


def cell(found, attack="pgd"):
    return next(f for f in found.findings if f.cell.attack == attack)


def test_the_same_run_passes(tmp_path):
    found = compared(tmp_path, {"mlp": network()})
    assert found.passed
    assert [f.status for f in found.findings] == ["same", "same"]
    assert "same weights as before: mlp" in found.notes


def test_a_loss_is_a_regression_that_names_its_samples(tmp_path):
    found = compared(tmp_path, {"mlp": network(lost=20)})
    finding = cell(found)
    assert not found.passed
    assert finding.status == "regression"
    assert finding.lost == tuple(f"test/{i:05d}" for i in np.flatnonzero(HELD)[:20])
    assert finding.won == ()
    assert (finding.n, finding.before, finding.after) == (N, HELD.sum(), HELD.sum() - 20)
    assert finding.p == pytest.approx(stats.binomtest(20, 20, alternative="greater").pvalue)
    assert cell(found, CLEAN).status == "same"


def test_churn_is_no_regression(tmp_path):
    found = compared(tmp_path, {"mlp": network(lost=20, won=15)})
    assert found.passed
    assert cell(found).status == "changed"
    assert (len(cell(found).lost), len(cell(found).won)) == (20, 15)


def test_an_improvement_is_told_and_never_fails(tmp_path):
    found = compared(tmp_path, {"mlp": network(won=20)})
    assert found.passed
    assert cell(found).status == "improvement"
    assert found.verdict == "no regression in 2 cells, 1 improved"


def test_clean_accuracy_is_watched(tmp_path):
    found = compared(tmp_path, {"mlp": network(clean=flipped(CLEAN_HELD, 20, 0))})
    assert cell(found, CLEAN).status == "regression"


def test_a_loss_below_the_minimum_effect_is_none(tmp_path):
    assert compared(tmp_path, {"mlp": network(lost=20)}, rules={"min_effect": 0.06}).passed


def test_the_floor_counts_whatever_the_baseline_was(tmp_path):
    found = compared(tmp_path, {"mlp": network()}, rules={"floor": 0.99})
    assert [f.status for f in found.findings] == ["same", "below floor"]  # clean accuracy has none
    assert not found.passed


def test_the_floor_of_the_baseline_holds_unless_another_is_named(tmp_path):
    accept(write_run(tmp_path / "before", {"mlp": network()}), tmp_path / "b.json", floor=0.99)
    assert not check(tmp_path / "before", tmp_path / "b.json").passed
    assert check(tmp_path / "before", tmp_path / "b.json", floor=0.1).passed


def test_a_network_that_no_longer_answers_has_lost(tmp_path):
    gone = np.flatnonzero(HELD)[:20]
    found = compared(tmp_path, {"mlp": network()}, silent=[("mlp", "pgd", EPS, gone)])
    assert cell(found).status == "regression"
    assert cell(found).silent == 20
    assert "20 of the lost have no answer" in cell(found).sentence


def test_what_the_baseline_does_not_know_is_not_compared(tmp_path):
    gone = np.flatnonzero(HELD)[:20]
    found = compared(tmp_path, {"mlp": network(lost=20)}, baseline={"silent": [("mlp", "pgd", EPS, gone)]})
    assert (cell(found).n, cell(found).unknown, cell(found).lost) == (N - 20, 20, ())


def test_worst_cases_that_are_one_attack_are_one_hypothesis(tmp_path):
    def several(lost):
        return {**network(lost), ("fgsm", EPS): CLEAN_HELD}

    found = compared(tmp_path, {"mlp": several(9)}, before={"mlp": several(0)})
    assert cell(found, "pgd").adjusted == cell(found, WORST).adjusted == pytest.approx(0.5**9)


def test_a_detail_takes_more_to_close_the_gate_than_the_headline(tmp_path):
    levels = {"4/255": 4 / 255, EPS: 8 / 255}
    low = {"none": CLEAN_HELD, ("pgd", "4/255"): HELD, ("pgd", EPS): HELD * outcomes(N, 0.5, seed=4)}
    worse = {**low, ("pgd", "4/255"): flipped(HELD, 14, 2)}
    worse["pgd", EPS] = worse["pgd", "4/255"] * low["pgd", EPS]
    found = compared(tmp_path, {"mlp": worse}, before={"mlp": low}, levels=levels, baseline={"levels": levels})
    detail = next(f for f in found.findings if f.cell.eps == "4/255")
    assert detail.p < 0.01 < detail.adjusted


def test_another_network_beside_is_noted(tmp_path):
    found = compared(tmp_path, {"mlp": network(), "cnn": network()})
    assert found.passed
    assert {f.cell.model for f in found.findings} == {"mlp"}
    assert any("not watched: cnn" in note for note in found.notes)


def test_other_versions_are_noted(tmp_path):
    found = compared(tmp_path, {"mlp": network()}, versions={"python": "3.11.2", "torch": "2.15.0"})
    assert any(note.startswith("versions.torch: 2.13.0 in") for note in found.notes)


def test_warnings_of_the_run_are_told(tmp_path):
    found = compared(tmp_path, {"mlp": network()}, warnings=["mlp: no gradient"])
    assert "warning of the run: mlp: no gradient" in found.notes


OTHERS = {
    "eps": ({"levels": {"4/255": 4 / 255}}, "threat.headline is 8/255 there and 4/255 here"),
    "norm": ({"threat": {"norm": "l2", "headline": EPS, "eps": [{"text": EPS, "value": 8 / 255}]}},
             "threat.norm is linf there and l2 here"),
    "setting": ({"fields": {"steps": 10}}, "attack.pgd.steps is 40 there and 10 here"),
    "new setting": ({"fields": {"steps": 40, "restarts": 2}}, "attack.pgd.restarts is absent there and 2 here"),
    "goal": ({"goal": "next"}, "goal is untargeted there and next here"),
    "seed": ({"seed": 1}, "seed is 0 there and 1 here"),
    "data": ({"fingerprint": "ee" * 16}, "other images or labels under the same names"),
    "other samples": ({"ids": [f"val/{i:05d}" for i in range(N)], "fingerprint": "ee" * 16}, "must be on the data of"),
    "access": ({"config": {"access": "scores", "attack": {"pgd": {"_target_": "attacks.pgd.Attack"}}}},
               "access is weights there and scores here"),
}  # fmt: skip


@pytest.mark.parametrize("what", OTHERS)
def test_another_question_is_refused_in_one_line(tmp_path, what):
    more, told = OTHERS[what]
    models = {"mlp": {"none": CLEAN_HELD, ("pgd", next(iter(more.get("levels", {EPS: 0})))): HELD}}
    with pytest.raises(InputError, match=told) as caught:
        compared(tmp_path, models, **more)
    assert "\n" not in str(caught.value)


def test_fewer_samples_are_refused(tmp_path):
    few = {key: held[:100] for key, held in network().items()}
    with pytest.raises(InputError, match="lacks 300 of its 400 samples"):
        compared(tmp_path, {"mlp": few}, fingerprint="ee" * 16)


def test_another_attack_beside_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"attack\.fgsm is absent there and set here"):
        compared(tmp_path, {"mlp": {**network(), ("fgsm", EPS): HELD}})


@pytest.mark.parametrize(
    ("names", "told"), [(("cnn",), "no network in common: lacks mlp and has cnn"), (("mlp",), "lacks cnn")]
)
def test_a_network_that_is_gone_is_refused(tmp_path, names, told):
    before = {name: network() for name in (("mlp",) if names == ("cnn",) else ("mlp", "cnn"))}
    with pytest.raises(InputError, match=told):
        compared(tmp_path, {name: network() for name in names}, before=before)
