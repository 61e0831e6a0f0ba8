"""What PGD costs beside its floor: as many forwards and input gradients of the same network on the same batch.

A loop that gets slower turns this red. `pytest tests/benchmarks/test_pgd_floor.py -s` prints the ratios: medians of
rounds in which both take turns, in CPU time, since machines are noisy.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from attacks.goal import Goal
from attacks.pgd import PGD
from attacks.rng import Rng
from attacks.threat import ThreatModel
from eval.floor import floor
from eval.speed import keep_memory
from models.classifier import Classifier
from models.convnets import CNN
from models.fused import fuse
from models.paper import MLP
from models.spec import build

STEPS, SHAPE, ROUNDS = 40, (1, 28, 28), 7
WHOLE = {
    "narrow mlp": (MLP(widths=[100, 100], activation="relu", decay=[0.0]), 128, 2.2),
    "mlp": (MLP(widths=[200, 200], activation="relu", decay=[0.0]), 256, 1.8),
    "wide mlp": (MLP(widths=[1200, 1200], activation="relu", decay=[0.0]), 128, 1.3),
    "cnn": (CNN(), 32, 1.25),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    keep_memory(torch.device("cpu"))
    yield
    torch.set_num_threads(before)


def problem(name: str) -> tuple[Classifier, Tensor, Goal, Rng]:
    spec, batch, _ = WHOLE[name]
    network = build(spec, name, SHAPE, 10, seed=0)[name].classifier(name, SHAPE)
    x = torch.rand(batch, *SHAPE, generator=torch.Generator().manual_seed(0))
    return network, x, Goal(network(x).argmax(1)), Rng.of(0, ["benchmark"], map(str, range(batch)))


def ratio(ours: Callable[[], object], least: Callable[[], object]) -> float:
    """The median of CPU times, in turns."""
    found = []
    for _ in range(ROUNDS + 1):
        began = time.process_time()
        least()
        middle = time.process_time()
        ours()
        found.append((time.process_time() - middle) / (middle - began))
    return float(np.median(found[1:]))


@pytest.mark.parametrize("name", WHOLE)
def test_every_step_costs_little_more_than_its_forward_and_backward(benchmark, name):
    network, x, goal, rng = problem(name)
    attack, threat = PGD(steps=STEPS, early_stop=False), ThreatModel("linf", 0.1)
    found = ratio(lambda: attack(network, x, goal, threat, rng=rng), lambda: floor(network, x, STEPS))
    benchmark.extra_info["ratio_to_floor"] = found
    benchmark.pedantic(lambda: attack(network, x, goal, threat, rng=rng), rounds=1)
    print(f"{name}: PGD-{STEPS} takes {found:.2f} of its floor (batch {len(x)})")
    assert found < WHOLE[name][2]


@pytest.mark.parametrize(
    "name", [name for name in WHOLE if name != "narrow mlp"]
)  # whose steps take as long for few images
def test_broken_samples_leave(benchmark, name):
    """A network that is not defended falls in a few steps: at most a quarter of the floor."""
    network, x, goal, rng = problem(name)
    attack, threat = PGD(steps=STEPS), ThreatModel("linf", 0.3)
    assert goal.reached(network(attack(network, x, goal, threat, rng=rng))).all()
    found = ratio(lambda: attack(network, x, goal, threat, rng=rng), lambda: floor(network, x, STEPS))
    benchmark.extra_info["ratio_to_floor"] = found
    benchmark.pedantic(lambda: attack(network, x, goal, threat, rng=rng), rounds=1)
    print(f"{name}: PGD-{STEPS} for robust accuracy takes {found:.2f} of its floor (batch {len(x)})")
    assert found < 0.25


def test_a_narrow_perceptron_takes_less_in_one_piece(benchmark):
    network, x, goal, rng = problem("narrow mlp")
    fused = fuse(network, x)
    assert fused is not None
    attack, threat = PGD(steps=STEPS, early_stop=False), ThreatModel("linf", 0.1)
    plain, whole = (lambda asked=asked: attack(asked, x, goal, threat, rng=rng) for asked in (network, fused))
    found = ratio(whole, plain)
    benchmark.extra_info["ratio_to_layer_by_layer"] = found
    benchmark.pedantic(whole, rounds=1)
    print(f"narrow mlp: in one piece, PGD-{STEPS} takes {found:.2f} of what it takes layer by layer")
    assert found < 1
