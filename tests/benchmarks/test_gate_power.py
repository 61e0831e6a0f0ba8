"""The gate raises a false alarm in at most one of a hundred checks, and finds a loss of 2 points in nine of ten."""

from __future__ import annotations

import numpy as np
import pytest

from eval.gate.snapshot import read_run
from tests.benchmarks.gate_power import FALSE, FOUND, SCENARIOS, Records, main, simulate
from tests.eval.gate_runs import outcomes, write_run
from tests.reports.studied import studied


@pytest.fixture
def made_up(tmp_path):
    clean = outcomes(500, 0.95)
    hard = clean * outcomes(500, 0.6, seed=1)
    fgsm = np.maximum(hard, clean * outcomes(500, 0.3, seed=2))
    return write_run(tmp_path / "run", {"mlp": {"none": clean, ("pgd", "8/255"): hard, ("fgsm", "8/255"): fgsm}})


def test_pairs_churn_and_lose_as_much_as_they_are_asked_to(made_up):
    records = Records(read_run(made_up))
    before, after = records.pair(200_000, 0.02, 0.005, np.random.default_rng(0))
    was, now = before[:, records.headline], after[:, records.headline]
    assert (~was & now).mean() == pytest.approx(0.005, rel=0.1)
    assert (was & ~now).mean() == pytest.approx(0.025, rel=0.05)


def test_pairs_without_a_loss_are_as_good_as_each_other_in_every_cell(made_up):
    before, after = Records(read_run(made_up)).pair(200_000, 0.0, 0.03, np.random.default_rng(0))
    np.testing.assert_allclose(before.mean(0), after.mean(0), atol=0.003)


def test_a_few_hundred_checks_go_as_they_must(made_up):
    records = Records(read_run(made_up))
    assert simulate(records, "made up", (1000, 0.0, 0.03), 300).gate <= 6
    assert simulate(records, "made up", (1000, 0.02, 0.005), 300).gate >= 255


def test_a_folder_that_is_no_run_is_told(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "holds no run.json" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("source", ["digits", "mnist"])
def test_on_real_records_the_gate_does_what_it_must(tmp_path, request, source):
    overrides = ["data=digits", "model=mlp", "threat=linf_0_1"]
    if source == "mnist":
        root = request.getfixturevalue("real_data")
        weights = root / "weights" / "mnist_lenet5_clean.pth"
        network = [f"model.path={root / 'nets.py'}:mnist_lenet5_clean", f"model.weights={weights}"]
        data = ["data=mnist", "data.limit=1000", f"paths.data={root}", "threat=linf_0_1", "threat.curve=[]"]
        overrides = ["model=factory", *network, *data]
    attacks = ["attack=[fgsm,pgd,quick]", "transfer=false", "controls=false"]
    records = Records(read_run(studied(tmp_path, *overrides, *attacks)))
    for scenario in SCENARIOS:
        line = simulate(records, source, scenario, 10_000)
        print(line)
        share = line.gate / line.trials
        assert share <= FALSE if line.drop == 0 else share >= FOUND
