"""What attacks take beside their floor: the forwards and backwards that they ask for, done plainly.

The median ratio of interleaved rounds in one process, so that the machine cancels out: 1.2 to 1.6 for all of them. The
bound is far above that, so that only a change of kind is told. PGD's is in tests/benchmarks/test_pgd_floor.py.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import pytest
import torch
from torch import nn

from attacks.apgd import APGD
from attacks.base import Attack, Logits
from attacks.fab import FAB
from attacks.goal import Goal
from attacks.lbfgs import LBFGS
from attacks.rng import Rng
from attacks.square import Square
from attacks.threat import ThreatModel, unlimited
from eval.meter import Meter
from models.convnets import CNN
from models.spec import build

SHAPE, BATCH, ROUNDS, MOST = (1, 28, 28), 32, 5, 4.0
ATTACKS: dict[str, Attack] = {
    "apgd": APGD(steps=10),
    "fab": FAB(steps=3),
    "lbfgs": LBFGS(evaluations=20, climb=10, steps=4),
    "square": Square(queries=20),
}


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def floor(network: Logits, x: torch.Tensor, forwards: int, backwards: int) -> None:
    for _ in range(backwards):
        leaf = x.detach().requires_grad_()
        torch.autograd.grad(network(leaf).sum(), leaf)
    with torch.no_grad():
        for _ in range(forwards - backwards):
            network(x)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return build(CNN(), "cnn", SHAPE, 10, seed=0)["cnn"].classifier("cnn", SHAPE)


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_takes_little_more_than_what_it_asks_for(benchmark, network, name):
    attack = ATTACKS[name]
    x = torch.rand(BATCH, *SHAPE, generator=torch.Generator().manual_seed(0))
    goal = Goal(network(x).argmax(1))
    threat = unlimited("l2") if attack.minimal and "l2" in attack.norms else ThreatModel("linf", 0.003)
    rng = Rng.of(0, ["times"], map(str, range(BATCH)))
    meter = Meter(network, BATCH, x.device)
    attack(meter, x, goal, threat, rng=rng)
    forwards, backwards = (round(float(count.mean())) for count in meter.per_sample())
    ratios = [
        seconds(lambda: attack(network, x, goal, threat, rng=rng))
        / seconds(lambda: floor(network, x, forwards, backwards))
        for _ in range(ROUNDS)
    ]
    benchmark.extra_info |= {"forwards": forwards, "backwards": backwards, "ratio": statistics.median(ratios)}
    benchmark.pedantic(attack, (network, x, goal, threat), {"rng": rng}, rounds=1)
    print(f"{name}: {statistics.median(ratios):.2f} of {forwards} forwards and {backwards} backwards")
    assert statistics.median(ratios) < MOST
