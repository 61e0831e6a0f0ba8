"""What an attack proposes, what it costs and what becomes of a crash, for attacks of one stage and of several."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from attacks.base import Attack, Logits
from attacks.cascade import Stages, in_turn
from attacks.fgsm import FGSM
from attacks.goal import Goal
from attacks.pgd import PGD
from attacks.rng import Rng
from attacks.threat import ThreatModel
from eval.bench import Bench, Unit
from eval.clean import clean_pass
from eval.craft import craft
from eval.data.samples import ArrayStore, Samples
from eval.search import asked
from models.classifier import Classifier

THREAT = ThreatModel("linf", 0.03)
CPU = torch.device("cpu")
N = 60


@dataclass(frozen=True)
class Turns:
    """Two stages, or three with one that fails."""

    fails: bool = False
    norms: ClassVar[frozenset[str]] = frozenset({"linf"})
    minimal: ClassVar[bool] = False

    def stages(self, norm: str) -> Stages:
        return (("fgsm", FGSM()), *((("worse", Failing()),) if self.fails else ()), ("pgd", PGD(steps=20)))

    def __call__(self, logits: Logits, x: Tensor, goal: Goal, threat: ThreatModel, *, rng: Rng) -> Tensor:
        return in_turn(self.stages(threat.norm), logits, x, goal, threat, rng).x_adv


@dataclass(frozen=True)
class Failing:
    norms: ClassVar[frozenset[str]] = frozenset({"linf"})
    minimal: ClassVar[bool] = False

    def __call__(self, logits: Logits, x: Tensor, goal: Goal, threat: ThreatModel, *, rng: Rng) -> Tensor:
        raise RuntimeError("out of ideas\nand more")


@pytest.fixture
def bench() -> Callable[[int], Bench]:
    """A bench for a batch size: sixty images, six of them misclassified."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 40), nn.Sigmoid(), nn.Linear(40, 10))
    network[1].weight.data.mul_(25)
    network[3].weight.data.mul_(20)
    classifier = Classifier(network, name="net", input_shape=(1, 8, 8), num_classes=10)
    pixels = torch.rand(N, 1, 8, 8)
    labels = classifier(pixels).argmax(1).numpy().copy()
    labels[::10] = (labels[::10] + 1) % 10
    ids, classes = np.array([f"test/{i:05}" for i in range(N)]), tuple("0123456789")
    samples = Samples(ids, labels, classes, ArrayStore(pixels.numpy()), np.arange(N))

    def build(batch_size: int) -> Bench:
        return Bench(
            samples=samples,
            classifiers={"net": classifier},
            clean={"net": clean_pass(classifier, samples, 20, CPU)},
            device=CPU,
            seed=3,
            goal="untargeted",
            batch_size=batch_size,
            transfer=False,
            derived={},
            examples=2,
        )

    return build


def records(bench: Bench, attack: Attack) -> tuple[pd.DataFrame, list[float]]:
    told: list[float] = []
    rows, _ = craft(bench, Unit("net", "turns", attack, "0.03", THREAT, np.arange(N)), told.append)
    return pd.DataFrame(rows), told


def test_stages_on_full_batches_do_what_they_do_one_batch_at_a_time(bench):
    whole = records(bench(N), Turns())[0]
    for batch_size in (7, 16):
        pd.testing.assert_frame_equal(
            records(bench(batch_size), Turns())[0].drop(columns="seconds"), whole.drop(columns="seconds")
        )
    b = bench(N)
    todo = asked(b, Unit("net", "turns", Turns(), "0.03", THREAT, np.arange(N)), np.arange(N))
    open_ = torch.nonzero(todo.open)[:, 0]
    once = in_turn(
        Turns().stages("linf"), b.classifiers["net"], todo.x[open_], todo.goal[open_], THREAT, todo.rng[open_]
    )
    names = np.array(["fgsm", "pgd", ""])[once.stage.numpy()]
    assert whole["stage"][open_.numpy()].tolist() == names.tolist()
    assert set(names) == {"fgsm", "pgd", ""}
    assert whole["success"][open_.numpy()].tolist() == (names != "").tolist()


def test_costs_are_those_of_the_stages_that_were_needed(bench):
    rows, told = records(bench(16), Turns())
    wrong = rows["clean_pred"] != rows["label"]
    assert rows["stage"][wrong].tolist() == [""] * 6
    assert rows["backwards"][wrong].max() == 0
    at_once = records(bench(16), FGSM())[0]["success_8bit"] & ~wrong
    assert at_once.any()
    assert (rows["backwards"][at_once] == 1).all()
    assert rows["backwards"][~wrong & (rows["stage"] == "")].tolist() == [21] * int(
        (~wrong & (rows["stage"] == "")).sum()
    )
    assert sum(told) == pytest.approx(N)
    assert min(told) >= 0


def test_a_stage_that_crashes_leaves_no_result(bench):
    rows, told = records(bench(16), Turns(fails=True))
    assert set(rows["error"]) == {"RuntimeError: out of ideas"}
    assert not rows["success"].any()
    assert sum(told) == pytest.approx(N)


def test_a_crash_in_one_batch_leaves_the_others(bench):
    @dataclass(frozen=True)
    class Sometimes(Failing):
        def __call__(self, logits: Logits, x: Tensor, goal: Goal, threat: ThreatModel, *, rng: Rng) -> Tensor:
            if bool((goal.labels[0] == odd).all()):
                raise RuntimeError("not this one")
            return FGSM()(logits, x, goal, threat, rng=rng)

    b = bench(20)
    odd = b.clean["net"].prediction[21]  # the first open sample of the second batch
    rows = records(b, Sometimes())[0]
    assert set(rows["error"][20:40]) == {"RuntimeError: not this one"}
    assert set(rows["error"][:20]) == {""} or b.clean["net"].prediction[1] == odd
