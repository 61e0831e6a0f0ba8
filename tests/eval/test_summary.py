from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from eval.records import read_records
from eval.run import run
from eval.summary import show


def printed(run, folder):
    text = io.StringIO()
    show(run, read_records(folder), folder, Console(file=text, width=100))
    return text.getvalue()


def test_a_minimal_attack_shows_its_median_distance(small_run, tmp_path):
    about = small_run(tmp_path, "model=[softmax]", "attack=[fgsm,lbfgs/quick]")
    rows = read_records(tmp_path)
    mine = rows[(rows["attack"] == "lbfgs_quick") & (rows["role"] == "attack") & (rows["clean_pred"] == rows["label"])]
    text = printed(about, tmp_path)
    assert "median l2" in text
    assert next(line for line in text.splitlines() if "lbfgs_quick" in line).count(f"{np.median(mine['l2']):.3g}") == 1


def test_several_norms_stand_beside_their_numbers(small_run, tmp_path):
    about = small_run(tmp_path, "model=[softmax]", "attack=[lbfgs/quick,foolbox/deepfool_linf]", "debug.samples=12")
    lines = printed(about, tmp_path).splitlines()
    assert any("lbfgs_quick" in line and " l2" in line for line in lines)
    assert any("deepfool_linf" in line and " linf" in line for line in lines)


@pytest.mark.parametrize("attack", ["fgsm", "noise_uniform"])
def test_attacks_with_a_budget_have_no_column_of_distances(small_run, tmp_path, attack):
    assert "median" not in printed(small_run(tmp_path, "model=[softmax]", f"attack=[{attack}]"), tmp_path)


def test_a_study_prints_what_it_says_in_place_of_the_table(composed, tmp_path):
    text = io.StringIO()
    small = ("experiment=intriguing/tables", "debug=quick", "model=[paper/fc10_1]", "study.full=[fc10_1]")
    cfg = composed(*small, "study.first=[fc10_1]", "study.second=[fc10_1]")
    run(cfg, tmp_path, [], Console(file=text, width=200))
    assert "- The search fooled" in text.getvalue()
    assert "Accuracy under attack" not in text.getvalue()
