"""More budget goes to the samples whose own searches ask for it, and to no others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from attacks.apgd import APGD
from attacks.escalation import Escalation
from attacks.goal import Goal
from attacks.rng import Rng
from attacks.square import Square
from attacks.threat import ThreatModel
from eval.meter import Meter

SHAPE = (1, 4, 4)
SMALL = Escalation(steps=5, rounds=5, queries=20, draws=8)


def streams(n: int) -> Rng:
    return Rng.of(0, ["escalation"], [str(i) for i in range(n)])


def images(n: int, seed: int = 0) -> Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(seed)) * 0.4 + 0.3


def two(score: Tensor) -> Tensor:
    """Logits whose class 1 leads by `score` (B,)."""
    return torch.stack([torch.zeros_like(score), score], 1)


class Linear(nn.Module):
    """Class 1 where w x exceeds a bound."""

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.w = torch.linspace(-1, 1, 16)
        self.bound = bound

    def forward(self, x: Tensor) -> Tensor:
        return two((x - 0.5).flatten(1) @ self.w - self.bound)


class Shattered(nn.Module):
    """The same linear function under a ripple whose slope is far greater, so that gradients point anywhere."""

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.under = Linear(bound)

    def forward(self, x: Tensor) -> Tensor:
        ripple = 0.1 * torch.sin(300 * x.flatten(1)).sum(1)
        return two(self.under(x)[:, 1] + ripple)


class Stepwise(nn.Module):
    """The same linear function on pixels rounded to 16 levels: no gradient anywhere."""

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.under = Linear(bound)

    def forward(self, x: Tensor) -> Tensor:
        return two(self.under((x * 15).round() / 15)[:, 1])


class Noisy(nn.Module):
    """The linear function with noise on its pixels at each forward."""

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.under = Linear(bound)
        self.draw = torch.Generator().manual_seed(0)

    def forward(self, x: Tensor) -> Tensor:
        return self.under(x + 0.3 * torch.randn(x.shape, generator=self.draw))


def run(attack, network: nn.Module, x: Tensor, eps: float = 0.1, norm: str = "linf") -> tuple[Tensor, Meter]:
    meter = Meter(network, len(x), x.device)
    goal = Goal(torch.zeros(len(x), dtype=torch.int64))
    return attack(meter, x, goal, ThreatModel(norm, eps), rng=streams(len(x))), meter


def share(network: nn.Module, x_adv: Tensor) -> float:
    with torch.no_grad():
        return float((network(x_adv)[:, 1] > 0).float().mean())


def test_a_network_that_holds_and_hides_nothing_is_asked_for_no_more():
    x = images(6)
    x_adv, meter = run(SMALL, Linear(50.0), x)
    assert share(Linear(50.0), x_adv) == 0
    least = 2 + 1 + (5 + 1) + (10 + 1) + 20  # answers, gradient, two searches, queries
    assert int(meter.forwards.max()) <= least + 4  # a judgement a search
    assert int(meter.backwards.max()) <= 1 + 5 + 10


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_result_keeps_to_box_and_budget(norm):
    x = images(5)
    eps = {"linf": 0.1, "l2": 0.3, "l1": 1.0}[norm]
    x_adv, _ = run(SMALL, Shattered(0.5), x, eps, norm)
    threat = ThreatModel(norm, eps)
    assert bool(threat.within(x_adv, x).all())
    assert bool(threat.inside_box(x_adv).all())


def test_no_gradient_asks_for_many_more_queries():
    x = images(20)
    network = Stepwise(0.55)
    few, _ = run(Square(queries=20), network, x)
    gradient, _ = run(APGD(steps=80, loss="margin"), network, x)
    found, meter = run(SMALL, network, x)
    assert share(network, found) > max(share(network, few), share(network, gradient))
    assert int(meter.forwards.max()) > 20 + 16 * 20 / 2


def test_gradients_that_mislead_ask_for_smoothed_ones():
    x = images(40)
    network = Shattered(0.5)
    alone, _ = run(APGD(steps=200, loss="margin"), network, x)
    found, _ = run(Escalation(steps=20, rounds=3, queries=20, draws=40), network, x)
    w = network.under.w
    nearest = x + 0.1 * w.sign().view(SHAPE)  # the optimum of what lies under the ripple
    assert share(network, alone) < share(network.under, nearest) <= share(network, found)


def test_a_random_network_is_attacked_in_the_mean():
    x = images(10)
    _, meter = run(SMALL, Noisy(2.0), x)
    assert int(meter.forwards.max()) >= 8 * 5  # draws x steps


class Long(nn.Module):
    """A lead whose gradient by the first pixel alone counts, and shrinks as it rises: each doubling of steps gains."""

    def __init__(self, end: float) -> None:
        super().__init__()
        self.end = end

    def forward(self, x: Tensor) -> Tensor:
        return two(x.flatten(1)[:, 0] - self.end)


@dataclass(frozen=True)
class Doubling:
    """A search that comes as far as its steps allow: 0.01 a doubling of 5."""

    steps: int
    loss: str = ""
    early_stop: bool = True
    norms: ClassVar[frozenset[str]] = frozenset({"linf"})
    minimal: ClassVar[bool] = False

    def __call__(self, logits, x, goal, threat, *, rng):
        asked.append(self.steps)
        ahead = 0.01 * (1 + math.log2(self.steps / 5)) * (x.flatten(1)[:, 1] > 0.5).view(-1, 1, 1, 1)
        return x + ahead * torch.ones_like(x)


asked: list[int] = []


@pytest.mark.parametrize(
    ("end", "searches"),
    [(0.535, [5, 10, 20, 40]), (0.565, [5, 10, 20, 40, 80]), (0.58, [5, 10, 20, 40]), (0.9, [5, 10])],
)
def test_a_search_that_gains_goes_on_as_long_as_that_could_bring_it_there(monkeypatch, end, searches):
    monkeypatch.setattr("attacks.escalation.APGD", Doubling)
    asked.clear()
    x = torch.full((1, *SHAPE), 0.5)
    x[0, 0, 0, 1] = 0.6
    run(Escalation(steps=5, rounds=5, queries=1, draws=1), Long(end), x)
    assert asked == searches


def test_a_search_that_gains_nothing_ends(monkeypatch):
    monkeypatch.setattr("attacks.escalation.APGD", Doubling)
    asked.clear()
    run(Escalation(steps=5, rounds=5, queries=1, draws=1), Long(0.505), torch.full((1, *SHAPE), 0.5))
    assert asked == [5, 10]


class Steeper(nn.Module):
    """What a search by scores finds and a gradient does not: it points away from the goal."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x.flatten(1).mean(1)
        return two(mean.detach() - 0.62 - (mean - mean.detach()))


def test_who_is_misled_by_gradients_gets_many_more_queries():
    x = torch.full((4, *SHAPE), 0.5)
    _, meter = run(Escalation(steps=3, rounds=2, queries=10, draws=1), Steeper(), x)  # 0.1 is not enough
    assert int(meter.forwards.min()) > 16 * 10


def test_outcomes_do_not_depend_on_the_batch():
    x = images(8)
    network = Shattered(0.5)
    goal = Goal(torch.zeros(8, dtype=torch.int64))
    threat = ThreatModel("linf", 0.1)
    whole = SMALL(network, x, goal, threat, rng=streams(8))
    parts = [SMALL(network, x[i : i + 3], goal[i : i + 3], threat, rng=streams(8)[i : i + 3]) for i in (0, 3, 6)]
    assert torch.allclose(whole, torch.cat(parts), atol=1e-5)


@pytest.mark.parametrize(("field", "least"), [("steps", 1), ("rounds", 2), ("queries", 1), ("draws", 1)])
def test_numbers_below_the_least_are_refused(field, least):
    with pytest.raises(ValueError, match=rf"{field}: must be at least {least}, got {least - 1}"):
        Escalation(**{field: least - 1})
