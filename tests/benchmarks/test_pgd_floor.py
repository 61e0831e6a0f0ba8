"""What PGD costs beside its floor: as many forwards and input gradients of the same network on the same batch.

`pytest -m slow tests/benchmarks -s` prints the ratios; medians of interleaved rounds, since machines are noisy.
"""

from __future__ import annotations

import statistics
import time

import pytest
import torch
from torch import nn

from attacks.goal import Goal
from attacks.pgd import PGD
from attacks.rng import Rng
from attacks.threat import ThreatModel
from models.convnets import CNN
from models.paper import MLP
from models.spec import build

pytestmark = pytest.mark.slow
STEPS, SHAPE = 20, (1, 28, 28)
NETWORKS = {
    "mlp": (MLP(widths=[200, 200], activation="relu", decay=[0.0]), 256, 1.6),
    "cnn": (CNN(), 128, 1.25),
}


def floor(network: nn.Module, x: torch.Tensor, cotangent: torch.Tensor) -> None:
    for _ in range(STEPS):
        leaf = x.detach().requires_grad_()
        torch.autograd.grad(network(leaf), leaf, cotangent)


@pytest.mark.parametrize("name", NETWORKS)
def test_pgd_costs_little_more_than_its_forwards_and_backwards(benchmark, name):
    spec, batch, most = NETWORKS[name]
    network = build(spec, name, SHAPE, 10, seed=0)[name].classifier(name, SHAPE)
    x = torch.rand(batch, *SHAPE, generator=torch.Generator().manual_seed(0))
    goal, threat = Goal(network(x).argmax(1)), ThreatModel("linf", 0.1)
    rng = Rng.of(0, ["benchmark"], map(str, range(batch)))
    cotangent = torch.randn(batch, 10)
    attack = PGD(steps=STEPS, early_stop=False)

    def timed(call) -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    def ours() -> None:
        attack(network, x, goal, threat, rng=rng)

    ours(), floor(network, x, cotangent)
    ratios = []
    for _ in range(15):
        ratios.append(timed(ours) / timed(lambda: floor(network, x, cotangent)))
    benchmark.extra_info["ratio_to_floor"] = statistics.median(ratios)
    benchmark(ours)
    print(f"{name}: PGD-{STEPS} takes {statistics.median(ratios):.2f} of its floor (batch {batch})")
    assert statistics.median(ratios) < most
