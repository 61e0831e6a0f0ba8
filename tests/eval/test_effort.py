from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from eval.effort import DISTANCES, by_stage, minimal_distances
from eval.metrics import WORST
from eval.records import COLUMNS, read_records


def found(sample, l2, **values):
    base = {
        "sample": sample, "label": 0, "target_class": -1, "source": "m", "target_model": "m", "role": "attack",
        "attack": "ddn", "norm": "l2", "eps": math.inf, "eps_text": "min", "clean_pred": 0, "clean_conf": 0.9,
        "clean_rank": 0, "adv_pred": 1, "adv_conf": 0.9, "adv_rank": 1, "success": True, "success_8bit": True,
        "in_box": True, "in_budget": True,
        "l0": 4.0, "l1": 0.2, "l2": l2, "linf": l2 / 2, "rms": l2 / 10, "forwards": 1, "backwards": 1,
        "seconds": 0.5, "error": "",
    }  # fmt: skip
    return base | values


def frame(*rows):
    return pd.DataFrame(list(rows), columns=list(COLUMNS))


def test_distances_are_of_the_samples_that_were_right_and_were_found():
    table = minimal_distances(
        frame(
            found("a", 1.0), found("b", 2.0), found("c", 6.0), found("d", 9.0, success=False),
            found("e", 9.0, error="crashed"), found("f", 0.0, clean_pred=1), found("g", 9.0, eps=0.1, attack="pgd"),
            found("h", 9.0, target_model="other"), found("i", 9.0, role="control"),
        )
    )  # fmt: skip
    assert list(table["attack"]) == ["ddn", WORST]
    assert table.iloc[0][list(DISTANCES)].tolist() == [4, 3, "l2", 2.0, 3.0, pytest.approx(0.3)]


def test_in_the_worst_case_the_nearest_counts():
    table = minimal_distances(
        frame(
            found("a", 1.0), found("b", 5.0), found("c", 1.0, success=False),
            found("a", 2.0, attack="cw"), found("b", 3.0, attack="cw"), found("c", 4.0, attack="cw"),
        )
    ).set_index("attack")  # fmt: skip
    assert table.loc[WORST, "found"] == 3
    assert table.loc[WORST, "distance_mean"] == pytest.approx((1 + 3 + 4) / 3)
    assert table.loc["ddn", "found"] == 2


def test_each_attack_is_measured_in_its_own_norm_and_norms_are_not_compared():
    table = minimal_distances(frame(found("a", 1.0), found("a", 3.0, attack="fmn", norm="linf"))).set_index("attack")
    assert list(table.index) == ["ddn", "fmn"]
    assert table.loc["fmn", ["distance_norm", "distance_median"]].tolist() == ["linf", 1.5]


def test_no_minimal_attack_has_no_distance():
    assert minimal_distances(frame(found("a", 1.0, eps=0.1))).empty


def test_nothing_found_has_no_distance():
    table = minimal_distances(frame(found("a", 1.0, success=False)))
    assert table["found"].tolist() == [0, 0]
    assert np.isnan(table["distance_median"]).all()


def test_the_distances_of_a_run_are_those_of_its_records(small_run, tmp_path):
    small_run(tmp_path, "model=[softmax]", "attack=[fgsm,lbfgs/quick]")
    rows = read_records(tmp_path)
    mine = rows[(rows["attack"] == "lbfgs_quick") & (rows["role"] == "attack") & (rows["clean_pred"] == rows["label"])]
    near = minimal_distances(rows).set_index("attack").loc["lbfgs_quick"]
    assert near["distance_median"] == np.median(mine["l2"])
    assert near["searched"] == len(mine) == near["found"]


def test_each_sample_counts_for_the_stage_that_broke_it():
    def made(sample, stage, forwards, **values):
        own = {"attack": "standard", "eps": 0.1, "eps_text": "0.1", "stage": stage, "forwards": forwards}
        return found(sample, 1.0, **own, **values)

    records = frame(
        made("a", "apgd", 2), made("b", "apgd", 4), made("c", "square", 900), made("d", "", 5000, success=False),
        made("e", "", 0, clean_pred=1), made("f", "", 7, error="crashed"), made("g", "apgd", 1, target_model="other"),
        found("a", 1.0, stage=""),
    )  # fmt: skip
    table = by_stage(records, {"standard": ["apgd", "fab", "square"]})
    assert table["stage"].tolist() == ["apgd", "fab", "square", ""]
    assert table["samples"].tolist() == [2, 0, 1, 1]
    assert table["share"].tolist() == [0.5, 0.0, 0.25, 0.25]
    assert table["forwards"].tolist()[::2] == [3.0, 900.0]
    assert math.isnan(table["forwards"][1])
    assert by_stage(records, {}).empty
