"""Which pictures fit which cell."""

from __future__ import annotations

import numpy as np
import pytest

from eval.gate.outcomes import Cell
from eval.gate.snapshot import read_run
from eval.records import write_examples
from reports.gate.pictures import Album
from tests.eval.gate_runs import write_run


@pytest.mark.parametrize(("norm", "size"), [("l0", 3.0), ("l1", 0.45), ("l2", 0.2692582), ("linf", 0.2)])
def test_the_smallest_perturbation_is_shown_where_it_keeps_the_budget_in_the_norm_of_the_run(tmp_path, norm, size):
    levels = {"less": 0.99 * size, "more": 1.01 * size}
    ones = np.ones(3, np.uint8)
    threat = {"norm": norm, "headline": "more", "eps": [{"text": t, "value": v} for t, v in levels.items()]}
    write_run(
        tmp_path, {"net": {"none": ones, ("lbfgs", "less"): ones}}, levels=levels, minimal=("lbfgs",), threat=threat
    )
    x = np.full((1, 1, 8, 8), 0.5, np.float32)
    x_adv = x.copy()
    x_adv[0, 0, 0, :3] += 0.2, -0.15, 0.1
    write_examples(
        tmp_path, "some", sample=np.array(["test/00001"]), x=x, x_adv=x_adv, source=np.array("net"),
        attack=np.array("lbfgs"), eps_text=np.array("min"),
    )  # fmt: skip
    album = Album(read_run(tmp_path))
    shown = {eps: album.find(Cell("net", "lbfgs", eps), "test/00001").adversarial for eps in levels}
    assert shown["more"]
    assert not shown["less"]
