"""Expectation over transformations, and the basic iterative method: gradients, costs, streams."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from attacks.bim import BIM, steps_for
from attacks.expectation import Expectation, Expected
from attacks.fgsm import FGSM
from attacks.goal import Goal
from attacks.losses import LOSSES, logits_and_gradient
from attacks.pgd import PGD
from attacks.rng import Rng
from attacks.threat import ThreatModel
from attacks.transformations import named
from eval.meter import Meter

THREAT = ThreatModel("linf", 0.1)
SHORT = {"steps": 4, "random_start": False}


@dataclass(frozen=True)
class Roll:
    """Shifts by 0, 1 or 2 columns, round the edge: a transformation whose mean has a closed form."""

    def __call__(self, x: Tensor, rng: Rng) -> Tensor:
        steps = rng.integers(3).tolist()
        return torch.stack([image.roll(step, -1) for image, step in zip(x, steps, strict=True)])


def targeted(network: nn.Module, x: Tensor) -> Goal:
    with torch.no_grad():
        order = network(x).argsort(1, descending=True)
    return Goal(order[:, 0], order[:, -1])


def test_the_gradient_is_the_mean_of_those_of_all_shifts(linear, images, streams):
    """A linear network and random shifts: over many draws the gradient is the mean of the three possible ones."""
    network, x = linear(4, 16), images(3)
    goal, draws = targeted(network, x), 6000
    expected = Expected(network, Roll(), draws, streams(3), (0.0, 1.0))
    _, found = logits_and_gradient(expected, x, LOSSES["ce"], goal)

    exact = torch.zeros_like(x)
    for step in range(3):
        _, gradient = logits_and_gradient(lambda z, s=step: network(z.roll(s, -1)), x, LOSSES["ce"], goal)
        exact += gradient / 3
    assert torch.allclose(found, exact, atol=0.05 * exact.abs().max().item())
    assert torch.nn.functional.cosine_similarity(found.flatten(1), exact.flatten(1)).min() > 0.998


@pytest.mark.parametrize("wanted", ["label", "target"])
def test_the_cross_entropy_is_exactly_the_mean_over_the_draws(mlp, images, streams, wanted):
    x = images(5)
    goal = targeted(mlp, x)
    goal = goal if wanted == "target" else Goal(goal.labels)
    transformation, rng = named("noise", 0.3), streams(5)
    answer, found = logits_and_gradient(Expected(mlp, transformation, 7, rng, (0.0, 1.0)), x, LOSSES["ce"], goal)

    leaf = x.clone().requires_grad_()
    streams_of = [rng.fold(draw) for draw in range(7)]
    losses = torch.stack([LOSSES["ce"].value(mlp(transformation(leaf, s)), goal) for s in streams_of])
    (exact,) = torch.autograd.grad(losses.mean(0).sum(), leaf)
    assert torch.allclose(LOSSES["ce"].value(answer, goal), losses.mean(0), atol=1e-4)
    assert torch.allclose(found, exact, atol=1e-4 * exact.abs().max().item() + 1e-6)
    assert torch.allclose(answer.exp().sum(1), torch.ones(5), atol=1e-5)


def test_one_draw_of_nothing_is_the_network_itself(mlp, images, streams):
    x = images(4)
    answer = Expected(mlp, named("rotation", 0.0), 1, streams(4), (0.0, 1.0))(x)
    assert torch.allclose(answer[:, :-1], mlp(x).log_softmax(1), atol=1e-5)
    assert (answer[:, -1] < -10).all()


def test_every_look_draws_anew_and_by_the_sample_alone(mlp, images, streams):
    x = images(4)
    looked = Expected(mlp, named("noise", 0.3), 2, streams(4), (0.0, 1.0))
    first, second = looked(x), looked(x)
    assert not torch.allclose(first, second, atol=1e-3)

    again, some = Expected(mlp, named("noise", 0.3), 2, streams(4), (0.0, 1.0)), torch.tensor([3, 1])
    assert torch.allclose(again.rows(some)(x[some]), first[some], atol=1e-5)
    assert torch.allclose(again.rows(some)(x[some]), second[some], atol=1e-5)
    assert again.calls.tolist() == [0, 2, 0, 2]


@pytest.mark.parametrize("at_once", [1, 6, 64])
def test_all_draws_are_charged_to_their_sample(mlp, images, streams, at_once):
    x = images(5)
    meter = Meter(mlp, 5, torch.device("cpu"))
    Expectation(SHORT, draws=3, at_once=at_once)(meter, x, targeted(mlp, x), THREAT, rng=streams(5))
    assert meter.forwards.tolist() == [3 * 5] * 5
    assert meter.backwards.tolist() == [3 * 4] * 5
    assert meter.shared == [0, 0]


def test_outcomes_depend_neither_on_the_batch_nor_on_how_many_go_at_once(mlp, images, streams):
    x = images(6)
    goal, rng = targeted(mlp, x), streams(6)
    whole = Expectation(SHORT, draws=2)(mlp, x, goal, THREAT, rng=rng)
    slices = Expectation(SHORT, draws=2, at_once=1)(mlp, x, goal, THREAT, rng=rng)
    some = torch.tensor([5, 2])
    part = Expectation(SHORT, draws=2)(mlp, x[some], goal[some], THREAT, rng=rng[some])
    assert torch.allclose(whole, slices, atol=1e-6)
    assert torch.allclose(whole[some], part, atol=1e-6)
    other = Expectation(SHORT, draws=2)(mlp, x, goal, THREAT, rng=Rng.of(1, [], map(str, range(6))))
    assert not torch.allclose(whole, other, atol=1e-3)


def test_it_stays_in_ball_and_box_and_leaves_its_arguments_alone(mlp, images, streams):
    x = images(4)
    before = x.clone()
    x_adv = Expectation({"steps": 3}, draws=2)(mlp, x, targeted(mlp, x), THREAT, rng=streams(4))
    assert THREAT.within(x_adv, x).all()
    assert THREAT.inside_box(x_adv).all()
    assert torch.equal(x, before)


def test_another_box_is_seen_as_the_same_image(mlp, images, streams):
    x = images(4)
    wide = Expected(lambda z: mlp(z / 2 + 0.5), named("brightness", 0.2), 2, streams(4), (-1.0, 1.0))(2 * x - 1)
    plain = Expected(mlp, named("brightness", 0.2), 2, streams(4), (0.0, 1.0))(x)
    assert torch.allclose(wide, plain, atol=2e-3)


def test_what_it_finds_survives_the_transformation_better(mlp, images, streams):
    """A small network, strong noise: more of the noisy images have the target than for the plain search."""
    x = images(60, seed=4)
    order = mlp(x).argsort(1, descending=True)
    goal, rng, noise = Goal(order[:, 0], order[:, 1]), streams(60), named("noise", 0.4)

    def kept(x_adv: Tensor) -> float:
        looks = [mlp(noise(x_adv, Rng.of(7, [str(i)], map(str, range(60))))) for i in range(20)]
        return torch.stack([goal.reached(z) for z in looks]).float().mean().item()

    threat, steps = ThreatModel("linf", 0.3), {"steps": 20, "random_start": False}
    plain = PGD(**steps, early_stop=False)(mlp, x, goal, threat, rng=rng)
    survivor = Expectation(steps, {"noise": 0.4}, draws=8)(mlp, x, goal, threat, rng=rng)
    assert kept(survivor) > kept(plain) + 0.01


def test_any_attack_that_follows_gradients_will_do(mlp, images, streams):
    x = images(4)
    goal = targeted(mlp, x)
    x_adv = Expectation(FGSM(), {"noise": 0.1}, draws=5)(mlp, x, goal, THREAT, rng=streams(4))
    assert THREAT.size(x_adv, x).numpy() == pytest.approx(0.1, abs=1e-6)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Expectation({"step": 3}), "unexpected keyword"),
        (lambda: Expectation({"early_stop": True}), "must not stop at the first success"),
        (lambda: Expectation(draws=0), "draws: must be at least 1, got 0"),
        (lambda: Expectation(transformations={}), "transformations: must name at least one"),
        (lambda: Expectation(transformations={"sepia": 1.0}), "transformations: must be of brightness"),
    ],
)
def test_bad_fields_are_refused(build: Callable[[], object], says: str):
    with pytest.raises((ValueError, TypeError), match=says):
        build()


def test_points_without_a_box_are_refused(mlp, images, streams):
    x, free = images(2), ThreatModel("linf", 0.1, (-math.inf, math.inf))
    with pytest.raises(ValueError, match="the box must have bounds"):
        Expectation(SHORT)(mlp, x, targeted(mlp, x), free, rng=streams(2))


@pytest.mark.parametrize(("eps", "steps"), [(2, 3), (4, 5), (8, 10), (16, 20), (32, 36)])
def test_the_basic_iterative_method_takes_the_papers_number_of_steps(mlp, images, streams, eps, steps):
    x = images(3)
    meter = Meter(mlp, 3, torch.device("cpu"))
    threat = ThreatModel("linf", eps / 255)
    x_adv = BIM()(meter, x, targeted(mlp, x), threat, rng=streams(3))
    assert steps_for(eps) == steps
    assert meter.backwards.tolist() == [steps] * 3
    assert threat.within(x_adv, x).all()


def test_the_basic_iterative_method_goes_one_grey_level_a_step(mlp, images, streams):
    """Far from every bound the first step is the sign of the gradient, 1/255 long; a naive loop gives the rest."""
    x = 0.3 + 0.4 * images(5)
    goal = targeted(mlp, x)
    steps = [BIM(steps=n)(mlp, x, goal, ThreatModel("linf", 8 / 255), rng=streams(5)) for n in (1, 6)]
    point, best, most = x.clone(), x.clone(), torch.full((5,), -torch.inf)
    for n in range(7):
        value, gradient = logits_and_gradient(mlp, point, LOSSES["ce"], goal)
        margin = goal.margin(value)
        best = torch.where((margin > most)[:, None, None, None], point, best)
        most = torch.maximum(margin, most)
        if n == 1:
            assert torch.allclose(steps[0], best, atol=1e-6)
        point = (point + gradient.sign() / 255).clamp(x - 8 / 255, x + 8 / 255)
    assert torch.allclose(steps[1], best, atol=1e-6)
