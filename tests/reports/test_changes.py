from __future__ import annotations

import pandas as pd
import pytest

from reports.build import write_sweep
from reports.changes import COLUMNS, compared
from tests.eval.gate_runs import flipped, outcomes, write_run

EPS = "8/255"
CLEAN = outcomes(300, 0.95)
HELD = CLEAN * outcomes(300, 0.7, seed=1)


def run(folder, name="mlp", lost=0, **more):
    return write_run(folder, {name: {"none": CLEAN, ("pgd", EPS): flipped(HELD, lost, 0)}}, **more)


def section(path):
    return path.read_text().partition('<section id="changes">')[2].partition('<section id="reading">')[0]


def test_two_runs_are_compared_sample_by_sample(tmp_path):
    folders = [run(tmp_path / "old"), run(tmp_path / "new", lost=20)]
    page = section(write_sweep(folders, tmp_path / "out"))
    assert "mlp: pgd, eps 8/255: 20 lost" in page
    assert ">regression<" in page
    table = pd.read_csv(tmp_path / "out" / "changes.csv", keep_default_na=False)
    assert tuple(table.columns) == COLUMNS
    assert len(table) == 20
    assert set(table["change"]) == {"lost"}
    assert (table["pred_before"] == table["label"]).all()
    assert (table["pred_after"] != table["label"]).all()
    assert set(table["by"]) == {"pgd"}


def test_two_networks_of_other_names_are_paired(tmp_path):
    folders = [run(tmp_path / "old", "mlp"), run(tmp_path / "new", "cnn", lost=20)]
    found = compared(folders, ["old", "new"])
    finding = found.pairs[0].comparison.findings[1]
    assert (finding.cell.model, len(finding.lost)) == ("cnn", 20)
    assert found.pairs[0].networks == "mlp in old, cnn in new"
    assert {row["model_before"] for row in found.rows} == {"mlp"}


@pytest.mark.parametrize(("more", "warned"), [({}, False), ({"seed": 3}, True)])
def test_other_networks_are_no_difference_besides_the_networks(tmp_path, more, warned):
    folders = [run(tmp_path / "old", "mlp"), run(tmp_path / "new", "cnn", **more)]
    page = section(write_sweep(folders, tmp_path / "out"))
    assert "The network is mlp in old, cnn in new." in page.replace(str(tmp_path) + "/", "")
    assert ("They differ in more than the networks." in page) is warned


def test_what_differs_besides_is_told(tmp_path):
    folders = [run(tmp_path / "old"), run(tmp_path / "new", fields={"steps": 10}, seed=3)]
    found = compared(folders, ["old", "new"])
    assert found.pairs[0].notes == ("seed: 0 in old, 3 in new", "attack.pgd.steps: 40 in old, 10 in new")


def test_each_run_stands_beside_the_first(tmp_path):
    folders = [run(tmp_path / str(i), lost=10 * i) for i in range(3)]
    found = compared(folders, ["0", "1", "2"])
    assert [len(pair.comparison.findings[1].lost) for pair in found.pairs] == [10, 20]


@pytest.mark.parametrize("more", [{"fingerprint": "ee" * 16}, {"status": "running"}])
def test_two_runs_that_cannot_be_compared_are_told_why(tmp_path, more):
    folders = [run(tmp_path / "old"), run(tmp_path / "new", **more)]
    page = section(write_sweep(folders, tmp_path / "out"))
    assert "Not compared: " in page
    assert not (tmp_path / "out" / "changes.csv").exists()
    (tmp_path / "out" / "changes.csv").write_text("of other runs")
    (tmp_path / "out" / "figures").mkdir(exist_ok=True)
    (tmp_path / "out" / "figures" / "stale.svg").write_text("of other runs")
    write_sweep(folders, tmp_path / "out")
    assert not (tmp_path / "out" / "changes.csv").exists()
    assert not (tmp_path / "out" / "figures" / "stale.svg").exists()


def test_counts_of_pairs_add_up(tmp_path):
    folders = [run(tmp_path / "old"), run(tmp_path / "new", lost=20)]
    row = compared(folders, ["old", "new"]).pairs[0].rows[1]
    assert row.both == HELD.sum() - 20
    assert row.both + row.neither + 20 == 300
