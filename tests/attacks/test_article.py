"""The article's loop, against the same loop written naively."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from attacks.article import Article
from attacks.goal import Goal
from attacks.rng import Rng
from attacks.threat import ThreatModel

BUDGET = ThreatModel("linf", 0.1)


def run(attack: Article, network: nn.Module, x: torch.Tensor, goal: Goal, threat: ThreatModel = BUDGET) -> torch.Tensor:
    rng = Rng.of(0, ["a"], map(str, range(len(x))))
    return attack(network, x, goal, threat, rng=rng)


def problem(seed: int = 0) -> tuple[nn.Module, torch.Tensor, Goal]:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 12), nn.Tanh(), nn.Linear(12, 4)).eval().requires_grad_(False)
    x = torch.rand(5, 3, 4, 4)
    labels = network(x).argmax(1)
    return network, x, Goal(labels, (labels + 1) % 4)


def test_it_is_the_loop_of_the_article_on_its_own_scale() -> None:
    """Pixels in -1..1, step 0.1 times the gradient of the probability, clipped to 0.2 and to the scale, p >= 0.25."""
    network, x, goal = problem()
    attack = Article(step=1.0, stop=0.25, steps=40)
    ends = []
    for i in range(len(x)):
        original = 2 * x[i : i + 1] - 1
        hacked, p, passes = original.clone(), 0.0, 0
        while p < 0.25 and passes < 40:  # the article's own loop asks after the step
            hacked.requires_grad_()
            cost = network((hacked + 1) / 2).softmax(1)[0, goal.targets[i]]
            (gradient,) = torch.autograd.grad(cost, hacked)
            hacked = (hacked.detach() + 4 * gradient).clamp(original - 0.2, original + 0.2).clamp(-1, 1)
            p, passes = float(cost.detach()), passes + 1
        ends.append(passes)
        one = Goal(goal.labels[i : i + 1], goal.targets[i : i + 1])
        torch.testing.assert_close(run(attack, network, x[i : i + 1], one), (hacked + 1) / 2, rtol=0, atol=2e-6)
    assert sum(1 < end < 40 for end in ends) >= 2  # that arrive on the way, so that the stop is compared too


def test_a_batch_is_as_its_images_alone_and_stops_one_by_one() -> None:
    network, x, goal = problem(1)
    attack = Article(step=1.0, stop=0.35, steps=60)
    together = run(attack, network, x, goal, ThreatModel("linf", 0.5))
    for i in range(len(x)):
        index = torch.tensor([i])
        alone = run(attack, network, x[index], goal[index], ThreatModel("linf", 0.5))
        torch.testing.assert_close(together[index], alone, rtol=0, atol=1e-6)
    p = network(together).softmax(1).gather(1, goal.targets[:, None])
    assert int((p >= 0.35).sum()) >= 4
    assert bool((p < 0.42).all()), "the loop goes on after it has arrived"


def test_untargeted_goes_away_from_the_label() -> None:
    network, x, goal = problem(2)
    x_adv = run(Article(step=1.0, stop=0.7, steps=100), network, x, Goal(goal.labels), ThreatModel("linf", 0.5))
    own = network(x_adv).softmax(1).gather(1, goal.labels[:, None])
    assert bool((own <= 0.3 + 1e-6).all())


@pytest.mark.parametrize("bad", [{"step": 0.0}, {"stop": 1.0}, {"steps": 0}])
def test_fields_are_checked(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(bad))}: must be"):
        Article(**bad)
