"""The findings of Szegedy et al. on MNIST, and our search beside DDN: a quarter of an hour, so marked slow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from eval.records import read_records
from eval.run import run
from eval.studies.cells import Table
from eval.studies.szegedy import tables

pytestmark = pytest.mark.slow

FC10 = ["FC10(10⁻⁴)", "FC10(10⁻²)", "FC10(1)"]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("mnist")


def column(table: Table, name: str) -> dict[str, float]:
    return {label: values[table.columns.index(name)].ours for label, values in table.rows}


def test_the_findings_of_the_paper_hold_on_mnist(composed, place, real_data) -> None:
    cfg = composed(
        *("experiment=intriguing/tables", "data=mnist", f"data.root={real_data}", "study.images=512"),
        *("attack=[lbfgs,foolbox/ddn]", "attack.foolbox_ddn.options.steps=1000"),
    )
    about = run(cfg, place, [], Console(quiet=True))
    records = read_records(place)
    made = tables(about, records)
    by = {table.name: table for table in made}

    first = by["table1"]
    assert column(first, "test error") == pytest.approx(
        dict(zip([label for label, _ in first.rows], [0.074, 0.094, 0.21, 0.018, 0.017, 0.019], strict=True)), abs=0.012
    )
    assert set(column(first, "fooled").values()) == {1.0}
    assert set(column(by["table3"], "error on P1").values()) != {0.0}
    distortion, nearest = column(first, "distortion, train"), column(first, "distortion, nearest class")
    for sizes in (distortion, nearest):
        assert sizes[FC10[0]] < sizes[FC10[1]] < sizes[FC10[2]]
        assert sizes["FC100-100-10"] < sizes["FC200-200-10"] < sizes["AE400-10"]
    theirs = {"FC100-100-10": 0.058, "FC200-200-10": 0.065, "AE400-10": 0.086}
    theirs |= dict(zip(FC10, (0.062, 0.1, 0.14), strict=True))
    for label, paper in theirs.items():
        assert distortion[label] <= 1.06 * paper, label  # 256 images in the paper
        assert nearest[label] < paper, label

    floor = by["table2_matched"].rows[-1][1]
    for i, (_, values) in enumerate(by["table2_matched"].rows[:-1]):
        assert all(v.low > f.high for j, (v, f) in enumerate(zip(values, floor, strict=True)) if i != j)
    native, amplified = by["table4"], by["table4_amplified"]
    for i, (label, values) in enumerate(amplified.rows):
        for j, value in enumerate(values[: len(amplified.rows)]):
            if i != j:
                assert value.low > native.rows[i][1][j].high, label
    across = amplified.rows[0][1][2].ours, amplified.rows[2][1][0].ours
    assert min(across) > 0.3, f"FC100-100-10 (P1) and (P2): {across}"
    there, back = native.rows[0][1][1], native.rows[1][1][0]  # FC100 (P1) to FC123 (P1), and back
    assert there.high < back.ours, "transfer is not symmetric"

    ratios = []
    for table in ("table1", "table3"):
        for name in ("distortion, train", "distortion, test", "distortion", "distortion, nearest class"):
            if name in by[table].columns:
                ours, ddn = column(by[table], name), column(by[f"{table}_foolbox_ddn"], name)
                ratios += [ours[label] / ddn[label] for label in ours]
                assert all(ours[label] <= 1.01 * ddn[label] for label in ours), (table, name, ours, ddn)
    assert np.mean(ratios) < 1
    assert np.isfinite(list(distortion.values())).all()
