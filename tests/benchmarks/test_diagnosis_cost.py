"""The diagnosis costs little beside the attack that it judges."""

from __future__ import annotations

import os

import pytest
import torch
from torch import nn

from tests.benchmarks.diagnosis_cost import main, measured, table
from tests.benchmarks.networks import Subject, load


def test_attack_and_diagnosis_are_counted_apart():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 4)).requires_grad_(False).eval()
    x = torch.rand(8, 1, 4, 4).mul(255).round() / 255
    row = measured(Subject("linear", net, x, net(x).argmax(1), 0, ""), "0.02", 4, 0)
    assert row.images == 8
    assert row.attack.evaluations >= 8
    assert row.diagnosis.evaluations > 0
    assert row.proofs.evaluations == 0  # they look at the layers instead
    assert min(row.attack.seconds, row.diagnosis.seconds, row.proofs.seconds) > 0
    assert table([row]).splitlines()[2].startswith("| linear | 0.02 | 8 |")


def test_a_network_that_is_not_there_is_named(capsys):
    assert main(["--networks", "resnet1"]) == 2
    assert "'resnet1' is none of" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif("TOASTPROOF_DATA" not in os.environ, reason="needs the folder TOASTPROOF_DATA with nets.py")
@pytest.mark.parametrize(("name", "eps"), [("mlp", "0.1"), ("mnist_lenet5_adv", "0.3")])
def test_the_diagnosis_takes_a_quarter_of_the_attack_at_most(name, eps):
    row = measured(load(name, 300, 0), eps, 100, 0)
    print(table([row]))
    assert row.share <= 0.25
