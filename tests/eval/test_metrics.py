from __future__ import annotations

import io
import math
from collections import defaultdict

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from eval import records as rec
from eval.effort import costs, distortion
from eval.group_metrics import by_part, per_sample
from eval.intervals import wilson
from eval.metrics import WORST, Threat, clean_accuracy, curve, outcomes, robust_accuracy
from eval.transfer_metrics import transfer

MODELS = ("None", "NA")  # names that a careless reader takes for missing values
LEVELS = (("0.1", 0.1), ("0.2", 0.2))
THREAT = Threat("linf", LEVELS, "0.2")


def row(**values):
    base = {
        "sample": "s0", "label": 0, "target_class": -1, "source": "m", "target_model": "m", "role": "attack",
        "attack": "pgd", "norm": "linf", "eps": 0.1, "eps_text": "0.1", "clean_pred": 0, "clean_conf": 0.9,
        "clean_rank": 0, "adv_pred": 0, "adv_conf": 0.9, "adv_rank": 0, "success": False, "success_8bit": False,
        "in_box": True, "in_budget": True,
        "l0": 4.0, "l1": 0.2, "l2": 0.1, "linf": 0.05, "rms": 0.05, "forwards": 10, "backwards": 9,
        "seconds": 0.5, "error": "",
    }  # fmt: skip
    if values.get("success"):
        base |= {"adv_pred": 1, "success_8bit": True}
    return base | values


def frame(*rows):
    table = pd.DataFrame(list(rows) or [row()], columns=list(rec.COLUMNS))
    return table if rows else table.iloc[:0]


@st.composite
def runs(draw, crashes=0.2):
    """Random records of two models, a budgeted and a minimal attack, with crashes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = []
    for sample in range(draw(st.integers(1, 6))):
        label = int(rng.integers(3))
        for source in MODELS:
            pred = {m: int(rng.choice([label, (label + 1) % 3], p=[0.8, 0.2])) for m in MODELS}
            rows.append(row(sample=f"s{sample}", label=label, source=source, target_model=source, role="clean",
                            attack="none", norm="", eps=0.0, eps_text="0", clean_pred=pred[source]))  # fmt: skip
            for attack, eps in (("pgd", 0.1), ("pgd", 0.2), ("lbfgs", math.inf)):
                for target in MODELS:
                    for role in ("attack", "control"):
                        hit = bool(rng.random() < 0.5)
                        rows.append(row(
                            sample=f"s{sample}", label=label, source=source, target_model=target, role=role,
                            attack=attack, eps=eps, eps_text=str(eps), clean_pred=pred[target],
                            adv_pred=(label + 1) % 3 if hit else label,
                            success=hit, success_8bit=hit and rng.random() < 0.8,
                            linf=min(eps, float(rng.choice([0.05, 0.1, 0.15, 0.2, 0.3]))),
                            rms=max(0.0, float(rng.random()) - 0.2), forwards=int(rng.integers(20)),
                            error="boom" if rng.random() < crashes else "",
                        ))  # fmt: skip
    return frame(*rows)


def breaks(r, eps):
    return r["clean_pred"] != r["label"] or (r["success"] and r["linf"] <= eps + 1e-6)


def verdict(rows, eps):
    """What one attack's rows of one sample say at eps: None for no attempt, "crash", "broken" or "robust"."""
    here = [r for r in rows if r["eps"] in (eps, math.inf)]
    if not here:
        return None
    if all(r["error"] for r in here):
        return "crash"
    return "broken" if any(breaks(r, eps) for r in rows if not r["error"]) else "robust"


def naive_robust(table, levels):
    """(model, attack, eps) -> (n, robust, errors), by loops over single samples."""
    by = defaultdict(list)
    for r in table.to_dict("records"):
        if r["role"] == "attack" and r["source"] == r["target_model"]:
            by[r["target_model"], r["sample"], r["attack"]].append(r)
    result = defaultdict(lambda: np.zeros(3, int))
    for text, eps in levels:
        for model, sample in {key[:2] for key in by}:
            mine = {a: rows for (m, s, a), rows in by.items() if (m, s) == (model, sample)}
            said = {a: v for a, rows in mine.items() if (v := verdict(rows, eps))}
            for attack, v in said.items():
                result[model, attack, text] += [v != "crash", v == "robust", v == "crash"]
            # a success of a crashed attack at a smaller eps still is one, but lets no sample in
            fallen = any(breaks(r, eps) for rows in mine.values() for r in rows if not r["error"])
            ran, crashed = set(said.values()) - {"crash"} != set(), "crash" in said.values()
            if said:
                result[model, WORST, text] += [ran, ran and not fallen, crashed and not (ran and fallen)]
    return {key: tuple(map(int, counts)) for key, counts in result.items()}


@settings(deadline=None, max_examples=20)
@given(runs())
def test_robust_accuracy_counts_as_a_loop_over_samples_does(table):
    result = robust_accuracy(outcomes(table, THREAT), THREAT)
    got = {(r.model, r.attack, r.eps_text): (r.n, r.robust, r.errors) for r in result.itertuples()}
    assert got == naive_robust(table, LEVELS)
    some = result[result["n"] > 0]
    assert some["robust_accuracy"].between(some["low"], some["high"]).all()


@settings(deadline=None, max_examples=12)
@given(runs(crashes=0.0))
def test_no_sample_recovers_at_a_larger_eps(table):
    threat = Threat("linf", tuple((str(e), e) for e in (0.01, 0.1, 0.2, 0.4)))
    rows = outcomes(table, threat)
    for _, part in robust_accuracy(rows, threat).groupby(["model", "attack"]):
        assert part["robust"].is_monotonic_decreasing
    for _, part in curve(rows, threat).groupby(["model", "attack"]):
        assert part["eps"].is_monotonic_increasing
        assert part["robust"].is_monotonic_decreasing


@settings(deadline=None, max_examples=12)
@given(runs(crashes=0.0))
def test_the_worst_case_is_no_better_than_any_attack(table):
    result = robust_accuracy(outcomes(table, THREAT), THREAT).set_index(["model", "eps_text", "attack"])["robust"]
    for _, part in result.groupby(level=[0, 1]):
        assert part.xs(WORST, level=2).item() <= part.min()


@settings(deadline=None, max_examples=12)
@given(runs(), st.randoms())
def test_shards_merge(table, random):
    order = list(range(len(table)))
    random.shuffle(order)
    shards = [outcomes(table.iloc[order[i::3]], THREAT) for i in range(3)]
    keys = ["model", "attack", "eps"]

    def count(rows):
        return robust_accuracy(rows, THREAT).sort_values(keys, ignore_index=True)

    pd.testing.assert_frame_equal(count(pd.concat(shards)), count(outcomes(table, THREAT)))


def test_restarts_count_per_sample_not_per_batch():
    table = frame(*(row(sample=s, attack=a, success=s == a) for s in ("x", "y") for a in ("x", "y")))
    result = robust_accuracy(outcomes(table, THREAT), THREAT).query("eps_text == '0.1'").set_index("attack")
    assert result["robust_accuracy"].to_dict() == {"x": 0.5, "y": 0.5, WORST: 0.0}
    assert result["alone"].to_dict() == {"x": 1, "y": 1, WORST: 0}


def test_the_last_of_several_rows_of_a_sample_does_not_hide_a_success():
    table = frame(row(success=True), row(), row())
    assert robust_accuracy(outcomes(table, THREAT), THREAT)["robust"].tolist() == [0, 0]


def test_a_crash_is_neither_broken_nor_robust():
    crash = row(sample="s1", error="CUDA out of memory", clean_pred=None, adv_pred=None, success=None, linf=None)
    result = robust_accuracy(outcomes(frame(row(), crash), THREAT), THREAT).iloc[0]
    assert (result.n, result.robust, result.errors) == (1, 1, 1)
    only = robust_accuracy(outcomes(frame(crash), THREAT), THREAT).iloc[0]
    assert (only.n, only.errors, only.low, only.high) == (0, 1, 0.0, 1.0)
    assert math.isnan(only.robust_accuracy)


@pytest.mark.parametrize("crashed_eps", ["0.1", "0.2"])
def test_crashes_at_random_leave_the_rate_alone(crashed_eps):
    order = np.random.default_rng(0).permutation(100)
    robust, crashed = order % 10 < 4, order < 50  # 20 of the 40 robust samples crash, and 30 of the others
    table = frame(*(
        row(sample=f"s{i}", eps=eps, eps_text=str(eps), success=not robust[i],
            error="boom" if crashed[i] and str(eps) == crashed_eps else "")
        for i in range(100) for eps in (0.1, 0.2)
    ))  # fmt: skip
    rows = outcomes(table, THREAT)
    result = robust_accuracy(rows, THREAT)
    assert len(result) == 4
    for r in result.itertuples():
        part = r.eps_text == crashed_eps
        assert (r.n, r.robust_accuracy, r.robust_accuracy_8bit) == (50 if part else 100, 0.4, 0.4)
        if r.attack == "pgd":
            assert r.errors == (50 if part else 0)
    points = curve(rows, THREAT).query("eps > 0")
    assert points["robust_accuracy"].tolist() == [0.4] * 4


def test_a_success_at_a_smaller_eps_does_not_make_up_for_a_crash():
    table = frame(row(success=True), row(eps=0.2, error="boom"), row(eps=0.2, attack="fgsm", linf=0.2))
    result = robust_accuracy(outcomes(table, THREAT), THREAT).query("eps_text == '0.2'").set_index("attack")
    assert result[["n", "robust", "errors"]].T.to_dict("list") == {
        "pgd": [0, 0, 1],
        "fgsm": [1, 1, 0],
        WORST: [1, 0, 0],  # fgsm has a result at 0.2, and pgd's success at 0.1 is one at 0.2 too
    }


def test_a_minimal_attack_has_a_result_at_every_eps():
    rows = (row(sample=s, eps=math.inf, success=True, linf=0.15, error=e) for s, e in (("s0", ""), ("s1", "boom")))
    result = robust_accuracy(outcomes(frame(*rows), THREAT), THREAT).query("attack == 'pgd'")
    assert result[["n", "robust", "errors"]].to_numpy().tolist() == [[1, 1, 1], [1, 0, 1]]


def test_no_prediction_is_no_robustness():
    silent = row(sample="s1", adv_pred=-1, adv_conf=math.nan)
    anyway = row(sample="s2", clean_pred=-1, adv_pred=-1, success=False)  # nor was there one without perturbation
    result = robust_accuracy(outcomes(frame(row(), silent, anyway), THREAT), THREAT).iloc[0]
    assert (result.n, result.robust, result.errors) == (2, 1, 1)


def test_a_misclassified_sample_is_not_robust():
    table = frame(row(clean_pred=1, target_class=2))  # the target was not reached, and the label was never predicted
    assert robust_accuracy(outcomes(table, THREAT), THREAT)["robust"].tolist() == [0, 0]


def test_a_success_on_another_model_breaks_nothing():
    table = frame(row(), row(target_model="other", success=True))
    assert robust_accuracy(outcomes(table, THREAT), THREAT)["robust"].tolist() == [1, 1]


@pytest.mark.parametrize(("linf", "robust"), [(0.1, [0, 0]), (0.1 + 5e-7, [0, 0]), (0.101, [1, 0]), (0.21, [1, 1])])
def test_a_minimal_attack_counts_at_every_eps_up_to_float32_rounding(linf, robust):
    table = frame(row(eps=math.inf, eps_text="min", norm="l2", linf=linf, success=True))
    result = robust_accuracy(outcomes(table, THREAT), THREAT)
    assert result[result["attack"] == "pgd"]["robust"].tolist() == robust


def test_what_survives_rounding_is_counted_apart():
    table = frame(row(success=True, success_8bit=False), row(sample="s1", success=True))
    result = robust_accuracy(outcomes(table, THREAT), THREAT).iloc[0]
    assert (result.robust, result.robust_8bit) == (0, 1)


@pytest.mark.parametrize("dtype", [object, "boolean", bool])
def test_truth_values_of_any_dtype_count_alike(dtype):
    table = frame(row(success=True), row(sample="s1"), row(sample="s2"))
    table["success"] = table["success"].astype(dtype)
    assert robust_accuracy(outcomes(table, THREAT), THREAT)["robust"].tolist() == [2, 2]


def test_missing_values_in_any_dtype():
    crash = row(sample="s1", error="boom", clean_pred=None, success=None, success_8bit=None, linf=None, rms=None)
    table = frame(row(success=True), crash)
    expected = robust_accuracy(outcomes(table, THREAT), THREAT)
    pd.testing.assert_frame_equal(
        robust_accuracy(outcomes(table.convert_dtypes(), THREAT), THREAT), expected, check_dtype=False
    )


@settings(deadline=None, max_examples=10)
@given(runs())
def test_a_model_called_none_survives_a_csv_file(table):
    again = pd.read_csv(io.StringIO(table.to_csv(index=False)), keep_default_na=False, dtype={"eps_text": str})
    expected = robust_accuracy(outcomes(table, THREAT), THREAT)
    pd.testing.assert_frame_equal(robust_accuracy(outcomes(again, THREAT), THREAT), expected, check_dtype=False)
    pd.testing.assert_frame_equal(transfer(again), transfer(table), check_dtype=False)


def test_costs_are_means_per_sample_without_crashes():
    table = frame(row(forwards=10), row(sample="s1", forwards=30), row(sample="s2", forwards=99, error="boom"))
    assert robust_accuracy(outcomes(table, THREAT), THREAT)["forwards"].iloc[0] == 20
    cost = costs(outcomes(table, THREAT)).iloc[0]
    assert (cost.samples, cost.errors, cost.forwards, cost.total_seconds) == (3, 1, 20, 1.0)


@settings(deadline=None, max_examples=15)
@given(runs())
def test_transfer_counts_as_loops_do(table):
    for cell in transfer(table).itertuples():
        mine = [
            r for r in table.to_dict("records")
            if (r["source"], r["attack"], r["eps"]) == (cell.source, cell.attack, cell.eps) and r["role"] != "clean"
        ]  # fmt: skip
        here = [r for r in mine if r["target_model"] == cell.target and not r["error"]]
        attacks = [r for r in here if r["role"] == "attack"]
        noise = [r for r in here if r["role"] == "control"]
        home = {
            r["sample"] for r in mine
            if r["role"] == "attack" and r["target_model"] == cell.source and not r["error"]
            and r["clean_pred"] == r["label"] != r["adv_pred"]
        }  # fmt: skip
        base = [r for r in attacks if r["sample"] in home and r["clean_pred"] == r["label"]]
        assert cell.n == len(attacks)
        assert cell.wrong == sum(r["adv_pred"] != r["label"] for r in attacks)
        assert cell.clean_wrong == sum(r["clean_pred"] != r["label"] for r in attacks)
        assert (cell.noise_n, cell.noise_wrong) == (len(noise), sum(r["adv_pred"] != r["label"] for r in noise))
        assert (cell.transfer_n, cell.transferred_count) == (len(base), sum(r["adv_pred"] != r["label"] for r in base))
        sizes = [r["rms"] for r in attacks if r["rms"] > 0]
        assert cell.moved == len(sizes)
        if sizes:
            assert cell.rms == pytest.approx(np.mean(sizes))
        if cell.source == cell.target and base:
            assert cell.transferred == 1


@settings(deadline=None, max_examples=5)
@given(runs(), st.sampled_from([1, 10, 100]))
def test_cells_are_the_same_however_many_kinds_a_number_can_hold(table, most):
    expected = transfer(table)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eval.transfer_metrics._MOST_KINDS", most)
        pd.testing.assert_frame_equal(transfer(table), expected)


def test_a_candidate_outside_its_budget_fools_nobody():
    assert transfer(frame(row(adv_pred=1, in_budget=False)))["error"].item() == 0
    assert transfer(frame(row(adv_pred=1, in_box=False)))["error"].item() == 0


def test_without_a_prediction_a_target_neither_errs_nor_is_right():
    silent = row(sample="s1", target_model="other", adv_pred=-1)
    noise = row(sample="s1", target_model="other", adv_pred=-1, role="control")
    seen = row(target_model="other", adv_pred=1)
    cell = transfer(frame(row(), seen, silent, noise)).set_index("target").loc["other"]
    assert (cell.n, cell.wrong, cell.failed, cell.noise_n) == (1, 1, 1, 0)


def test_the_size_is_that_of_the_perturbations_alone():
    unattacked = row(sample="s2", clean_pred=1, adv_pred=1, rms=0.0)
    cell = transfer(frame(row(rms=0.1), row(sample="s1", rms=0.3), unattacked)).iloc[0]
    assert (cell.n, cell.wrong, cell.moved, cell.rms) == (3, 1, 2, pytest.approx(0.2))
    none = transfer(frame(unattacked)).iloc[0]
    assert none.moved == 0
    assert math.isnan(none.rms)


def test_targeted_success_is_not_the_untargeted_one():
    away = row(target_class=2, adv_pred=1)  # fooled, but not into the class that was wanted
    reached = row(sample="s1", target_class=2, success=True, adv_pred=2)
    cell = transfer(frame(away, reached)).iloc[0]
    assert (cell.error, cell.targeted_n, cell.targeted) == (1.0, 2, 0.5)


def test_transfer_without_a_control_says_so():
    cell = transfer(frame(row())).iloc[0]
    assert (cell.noise_n, cell.low_noise, cell.high_noise) == (0, 0, 1)
    assert math.isnan(cell.noise_error)


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 500), st.data())
def test_wilson_agrees_with_scipy(n, data):
    k = data.draw(st.integers(0, n))
    reference = binomtest(k, n).proportion_ci(0.95, "wilson")
    low, high = wilson(k, n)
    assert float(low) == pytest.approx(reference.low, abs=1e-12)
    assert float(high) == pytest.approx(reference.high, abs=1e-12)


def test_wilson_keeps_its_ends_and_its_shape():
    low, high = wilson([0, 5, 0], [5, 5, 0])
    assert (low[0], high[1], low[2], high[2]) == (0, 1, 0, 1)


def test_distortion_is_of_successes_on_samples_that_were_right():
    values = [row(sample=f"s{i}", success=True, l2=float(i)) for i in range(101)]
    zero = row(sample="x", clean_pred=1, success=True, l2=0.0)
    failure = row(sample="y", l2=1e6)
    table = distortion(frame(*values, zero, failure), THREAT).set_index("measure").loc["l2"]
    assert table[["q05", "q25", "q50", "q75", "q95", "n"]].tolist() == [5, 25, 50, 75, 95, 101]


def test_classes_add_up_to_the_whole():
    rng = np.random.default_rng(0)
    rows = []
    for i in range(60):
        common = {"sample": f"s{i}", "label": i % 3, "clean_pred": i % 3 if rng.random() < 0.8 else (i + 1) % 3}
        rows += [row(**common, role="clean", attack="none"), row(**common, eps=0.2, success=bool(rng.random() < 0.5))]
    table = frame(*rows)
    rows = outcomes(table, THREAT)
    classes = by_part(per_sample(table, rows, THREAT), "label")
    clean = clean_accuracy(table).iloc[0]
    worst = robust_accuracy(rows, THREAT).query("attack == @WORST and eps_text == '0.2'").iloc[0]
    assert (classes["n"].sum(), classes["correct"].sum()) == (clean.n, clean.correct) == (60, clean.correct)
    assert (classes["robust_n"].sum(), classes["robust"].sum()) == (worst.n, worst.robust)


def test_a_curve_steps_at_each_distance_of_a_minimal_attack():
    table = frame(
        *(row(sample=f"s{i}", eps=math.inf, success=True, linf=d) for i, d in enumerate([0.1, 0.3, 0.3, 0.4]))
    )
    points = curve(outcomes(table, THREAT), THREAT).query("attack == 'pgd'")
    assert points["eps"].tolist() == [0, 0.1, 0.3, 0.4]
    assert points["robust_accuracy"].tolist() == [1, 0.75, 0.25, 0]


def test_a_curve_of_budgeted_attacks_has_the_levels_alone():
    table = frame(row(success=True), row(sample="s1", clean_pred=1), row(sample="s2"))
    points = curve(outcomes(table, THREAT), THREAT).query("attack == 'pgd'")
    assert points["eps"].tolist() == [0, 0.1]
    assert points["robust"].tolist() == [2, 1]


def test_the_worst_case_of_a_mixture_is_known_at_the_levels_alone():
    minimal = row(eps=math.inf, attack="lbfgs", success=True, linf=0.15)
    points = curve(outcomes(frame(row(), row(eps=0.2), minimal), THREAT), THREAT).query("attack == @WORST")
    assert points["eps"].tolist() == [0, 0.1, 0.2]
    assert points["robust"].tolist() == [1, 1, 0]


@settings(deadline=None, max_examples=5)
@given(runs())
def test_a_curve_is_the_same_with_the_levels_that_are_known_already(table):
    rows = outcomes(table, THREAT)
    pd.testing.assert_frame_equal(curve(rows, THREAT, robust_accuracy(rows, THREAT)), curve(rows, THREAT))


def test_no_records_give_empty_tables():
    table = frame()
    rows = outcomes(table, THREAT)
    results = [clean_accuracy(table), robust_accuracy(rows, THREAT), curve(rows, THREAT), transfer(table),
               by_part(per_sample(table, rows, THREAT), "label"), distortion(table, THREAT), costs(rows)]  # fmt: skip
    assert [len(r) for r in results] == [0] * 7


def test_a_level_without_attempts_has_no_row():
    assert set(robust_accuracy(outcomes(frame(row()), THREAT), THREAT)["eps_text"]) == {"0.1"}
