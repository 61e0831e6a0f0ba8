from __future__ import annotations

import importlib.util
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import yaml
from scipy.optimize import minimize
from torch import Tensor, nn

from attacks import lbfgs as lbfgs_module
from attacks.base import Logits
from attacks.goal import Goal
from attacks.lbfgs import LBFGS
from attacks.rng import Rng
from attacks.threat import ThreatModel, unlimited

PAPER = LBFGS(
    evaluations=1000, climb=0, steps=1000, loss="ce", weights=20, growth=10.0, guess=False, accuracy=0.0, memory=10,
    decrease=1e-6, candidates=1, classes=1, patience=0,
)  # fmt: skip
QUICK = LBFGS(evaluations=60, stride=0.05, steps=12, classes=1)
STRONG = LBFGS(evaluations=1000, steps=40, classes=3, patience=25)
MARGIN = LBFGS(loss="margin", guess=False, steps=60)
SHAPE = (1, 6, 6)


def run(attack: LBFGS, net: Logits, x: Tensor, goal: Goal, box: tuple[float, float] = (0.0, 1.0)) -> Tensor:
    return attack(net, x, goal, unlimited("l2", box), rng=Rng.of(0, [], map(str, range(len(x)))))


def linear(scale: float = 1.0, classes: int = 10) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, classes))
    net[1].weight.data.mul_(scale * 6)
    return net.requires_grad_(False)


def smooth() -> nn.Module:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 30), nn.Sigmoid(), nn.Linear(30, 10))
    net[1].weight.data.mul_(6)
    net[3].weight.data.mul_(20)
    return net.requires_grad_(False)


def images(net: nn.Module, number: int = 24, seed: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Images, the classes they get, and the third likeliest ones."""
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(number, *SHAPE, generator=g)
    labels = net(x).argmax(1)
    return x, labels, net(x).argsort(1, descending=True)[:, 2]


def length(x_adv: Tensor, x: Tensor) -> Tensor:
    return (x_adv - x).double().flatten(1).norm(dim=1)


def exact(net: nn.Module, x: Tensor, label: int, target: int | None, box: tuple[float, float]) -> float:
    """The exact distance for a linear network, by quadratic programs over half-spaces and box."""
    w, b = net[1].weight.double().numpy(), net[1].bias.double().numpy()
    x0 = x.flatten().double().numpy()
    wanted = [k for k in range(len(w)) if k != label] if target is None else [target]
    best = np.inf
    for k in wanted:
        rivals = [label] if target is None else [j for j in range(len(w)) if j != k]
        normals, offsets = w[k] - w[rivals], b[k] - b[rivals]
        constraint = {"type": "ineq", "fun": lambda v, n=normals, o=offsets: n @ v + o, "jac": lambda v, n=normals: n}
        result = minimize(
            lambda v: ((v - x0) @ (v - x0), 2 * (v - x0)), x0, jac=True, method="SLSQP",
            constraints=[constraint], bounds=[box] * len(x0), options={"ftol": 1e-12, "maxiter": 300},
        )  # fmt: skip
        if result.success:
            best = min(best, float(np.sqrt(result.fun)))
    return best


@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_linear_untargeted_without_box_is_the_distance_to_the_nearest_hyperplane(scale: float) -> None:
    net = linear(scale)
    x, labels, _ = images(net)
    z, w = net(x), net[1].weight
    gaps = z.gather(1, labels[:, None]) - z  # (B, K)
    widths = (w[labels][:, None] - w).norm(dim=2)
    distance = torch.where(gaps > 0, gaps / widths, torch.inf).amin(1).double()
    x_adv = run(LBFGS(), net, x, Goal(labels), (-100.0, 100.0))
    assert bool(Goal(labels).reached(net(x_adv)).all())
    torch.testing.assert_close(length(x_adv, x), distance, rtol=0.01, atol=0)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("box", [(-100.0, 100.0), (0.0, 1.0)])
def test_linear_agrees_with_a_quadratic_program(targeted: bool, box: tuple[float, float]) -> None:
    net = linear()
    x, labels, targets = images(net, 10 if targeted else 4)
    goal = Goal(labels, targets if targeted else None)
    distance = [exact(net, x[i], int(labels[i]), int(targets[i]) if targeted else None, box) for i in range(len(x))]
    reachable = torch.tensor(distance).isfinite()
    assert int(reachable.sum()) >= 4
    x_adv = run(LBFGS(), net, x, goal, box)
    assert bool(goal.reached(net(x_adv))[reachable].all())
    torch.testing.assert_close(
        length(x_adv, x)[reachable], torch.tensor(distance).double()[reachable], rtol=0.01, atol=0
    )


def test_the_papers_form_comes_within_a_few_percent_of_a_linear_network() -> None:
    net = linear()
    x, labels, targets = images(net)
    goal = Goal(labels, targets)
    paper, default = run(PAPER, net, x, goal), run(LBFGS(), net, x, goal)
    assert bool(goal.reached(net(paper)).all())
    assert float(length(paper, x).mean()) < 1.1 * float(length(default, x).mean())


@pytest.mark.parametrize(
    "attack", [LBFGS(), PAPER, QUICK, STRONG, MARGIN, LBFGS(loss="ce"), LBFGS(climb=0, patience=0, candidates=1)]
)
@pytest.mark.parametrize("targeted", [False, True])
def test_promises_of_an_attack(attack: LBFGS, targeted: bool) -> None:
    net = smooth()
    x, labels, targets = images(net)
    goal = Goal(labels, targets if targeted else None)
    before = x.clone()
    x_adv = run(attack, net, x, goal)
    assert torch.equal(x, before)
    assert x_adv.shape == x.shape
    assert not x_adv.requires_grad
    assert bool(unlimited("l2").inside_box(x_adv).all())
    assert bool(goal.reached(net(x_adv)).all())


@pytest.mark.parametrize("targeted", [False, True])
def test_rows_do_not_depend_on_the_batch(targeted: bool) -> None:
    net = smooth()
    x, labels, targets = images(net)
    goal = Goal(labels, targets if targeted else None)
    rng = Rng.of(0, [], map(str, range(len(x))))

    def part(rows: Tensor) -> Tensor:
        return LBFGS()(net, x[rows], goal[rows], unlimited("l2"), rng=rng[rows])

    everyone = torch.arange(len(x))
    together = part(everyone)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    # A batch of another size rounds otherwise, and where a walk turns is decided by comparisons.
    torch.testing.assert_close(length(part(order), x[order]), length(together, x)[order], rtol=3e-3, atol=0)
    split = torch.cat([part(everyone[:5]), part(everyone[5:])])
    torch.testing.assert_close(length(split, x), length(together, x), rtol=3e-3, atol=0)
    assert torch.equal(goal.reached(net(split)), goal.reached(net(together)))


def test_images_that_reach_the_goal_are_returned_after_one_forward() -> None:
    net = smooth()
    x, labels, _ = images(net)
    counter = Counter(net, len(x))
    already = torch.arange(len(x)) % 2 == 0
    goal = Goal(torch.where(already, (labels + 1) % 10, labels))
    x_adv = run(LBFGS(), counter, x, goal)
    assert torch.equal(x_adv[already], x[already])
    assert counter.forwards[already].tolist() == [1] * int(already.sum())
    assert counter.backwards[already].sum() == 0
    assert bool((counter.forwards[~already] > 5).all())


class Counter:
    """A meter: forwards and backwards per sample."""

    def __init__(self, net: Logits, number: int) -> None:
        self.net, self.forwards, self.backwards = net, torch.zeros(number), torch.zeros(number)

    def __call__(self, x: Tensor) -> Tensor:
        return self.rows(torch.arange(len(x)))(x)

    def count(self, index: Tensor) -> None:
        self.backwards.index_add_(0, index, torch.ones(len(index)))

    def rows(self, index: Tensor) -> Logits:
        def call(x: Tensor) -> Tensor:
            assert len(x) == len(index)
            self.forwards.index_add_(0, index, torch.ones(len(index)))
            z = self.net(x)
            if z.requires_grad:
                z.register_hook(lambda g: self.count(index))
            return z

        return call


def test_a_row_whose_logits_are_nan_leaves_the_others_alone() -> None:
    net = smooth()
    x, labels, targets = images(net)
    bad = x[3, 0, 0, 0]

    def broken(v: Tensor) -> Tensor:
        # The network fails for the third image, as soon as it moves.
        near = (v[:, 0, 3:] - x[3, 0, 3:]).flatten(1).norm(dim=1) < 1.0
        moved = near & (v[:, 0, 0, 0] != bad)
        return torch.where(moved[:, None], torch.nan, net(v))

    goal = Goal(labels, targets)
    fine, x_adv = run(LBFGS(), net, x, goal), run(LBFGS(), broken, x, goal)
    assert bool(torch.isfinite(x_adv).all())
    others = torch.arange(len(x)) != 3
    torch.testing.assert_close(length(x_adv, x)[others], length(fine, x)[others], rtol=1e-4, atol=0)


def test_a_network_that_never_gives_in_returns_a_finite_try() -> None:
    def stubborn(v: Tensor) -> Tensor:
        flat = v.flatten(1)
        return torch.stack([flat.sum(1) * 0 + 5.0, flat.mean(1)], 1)

    x = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(0))
    x_adv = run(LBFGS(), stubborn, x, Goal(torch.zeros(3, dtype=torch.int64)))
    assert bool(unlimited("l2").inside_box(x_adv).all())


def test_a_constant_network_and_an_empty_batch() -> None:
    x = torch.rand(3, *SHAPE)
    constant = lambda v: v.flatten(1)[:, :3] * 0 + torch.tensor([2.0, 1.0, 0.0])  # noqa: E731
    zero = Goal(torch.zeros(3, dtype=torch.int64))
    assert bool(torch.isfinite(run(LBFGS(), constant, x, zero)).all())
    assert run(LBFGS(), constant, x[:0], zero[torch.arange(0)]).shape == (0, *SHAPE)


def test_fields_are_checked() -> None:
    with pytest.raises(ValueError, match=r"lbfgs.growth: must be > 1 and finite"):
        LBFGS(growth=1.0)
    with pytest.raises(ValueError, match=r"lbfgs.memory: must be >= 1"):
        LBFGS(memory=0)
    with pytest.raises(ValueError, match=r"lbfgs.stride"):
        LBFGS(stride=8.0)
    with pytest.raises(ValueError, match=r"lbfgs.patience: must be >= 0"):
        replace(LBFGS(), patience=-1)
    with pytest.raises(ValueError, match=r"lbfgs.loss: must be one of pairwise, ce, margin, got 'hinge'"):
        LBFGS(loss="hinge")
    with pytest.raises(ValueError, match=r"lbfgs.guess: must be false with loss=margin"):
        LBFGS(loss="margin")


def known_networks(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("known_networks", folder / "nets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def plain_pgd(net: nn.Module, x: Tensor, goal: Goal, eps: float, steps: int) -> Tensor:
    """Whether plain PGD in Linf reaches the goal (B,)."""
    r, hit = torch.zeros_like(x), torch.zeros(len(x), dtype=torch.bool)
    for _ in range(steps):
        v = (x + r).requires_grad_()
        z = net(v)
        hit |= goal.reached(z)
        value = nn.functional.cross_entropy(z, goal.classes, reduction="sum") * -goal.direction
        (grad,) = torch.autograd.grad(value, v)
        r = (x + (r + grad.sign() * 2.5 * eps / steps).clamp(-eps, eps)).clamp(0, 1) - x
    return hit | goal.reached(net(x + r))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist_lenet5_clean", "mnist_lenet5_adv"])
@pytest.mark.parametrize("targeted", [False, True])
def test_known_networks_give_in_wherever_pgd_succeeds(real_data: Path, name: str, targeted: bool) -> None:
    from torchvision.datasets import MNIST

    data = MNIST(real_data, train=False, download=False)
    net = getattr(known_networks(real_data), name)().requires_grad_(False)
    x, labels = data.data[:120, None].float() / 255, data.targets[:120]
    right = net(x).argmax(1) == labels
    x, labels = x[right][:100], labels[right][:100]
    goal = Goal(labels, (labels + 1 + torch.arange(len(labels)) % 9) % 10 if targeted else None)
    reached = plain_pgd(net, x, goal, eps=0.4, steps=40)
    assert int(reached.sum()) >= 50
    x_adv = run(LBFGS(), net, x, goal)
    assert bool(goal.reached(net(x_adv))[reached].all())
    assert float((length(x_adv, x) / 28).mean()) < 0.12


@pytest.mark.parametrize("outward", [True, False])
def test_a_ball_is_left_or_entered_along_its_radius(outward: bool) -> None:
    """Curved boundaries: the adversarial region is the outside, or the inside, of a ball of radius 2."""
    g = torch.Generator().manual_seed(5)
    centre = torch.rand(36, generator=g)
    direction = nn.functional.normalize(torch.randn(20, 36, generator=g), dim=1)
    radius = torch.linspace(0.5, 1.9, 20) if outward else torch.linspace(2.2, 6.0, 20)

    def ball(v: Tensor) -> Tensor:
        beyond = (v.flatten(1) - centre).square().sum(1) - 4.0
        return torch.stack([torch.zeros_like(beyond), beyond if outward else -beyond], 1)

    x = (centre + radius[:, None] * direction).view(20, *SHAPE)
    goal = Goal(torch.zeros(20, dtype=torch.int64))
    x_adv = run(LBFGS(), ball, x, goal, (-100.0, 100.0))
    assert bool(goal.reached(ball(x_adv)).all())
    torch.testing.assert_close(length(x_adv, x), (radius - 2.0).abs().double(), rtol=0.01, atol=0)


def test_the_configurations_are_those_of_the_code() -> None:
    folder = Path(lbfgs_module.__file__).parents[1] / "conf" / "attack"
    forms = {"lbfgs": LBFGS(), "lbfgs/paper": PAPER, "lbfgs/quick": QUICK, "lbfgs/strong": STRONG}
    assert {f"lbfgs/{p.stem}" for p in (folder / "lbfgs").glob("*.yaml")} | {"lbfgs"} == set(forms)
    for name, expected in forms.items():
        content = yaml.safe_load((folder / f"{name}.yaml").read_text())
        del content["_target_"], content["defaults"]
        assert LBFGS(**content) == expected
        assert set(content) == {f.name for f in fields(LBFGS)}


def test_the_budget_of_the_threat_model_is_ignored() -> None:
    net = smooth()
    x, labels, _ = images(net, 4)
    rng = Rng.of(0, [], map(str, range(4)))
    small = LBFGS()(net, x, Goal(labels), ThreatModel("l2", 1e-3), rng=rng)
    assert torch.equal(small, run(LBFGS(), net, x, Goal(labels)))


def test_no_image_costs_more_than_the_evaluations_allowed() -> None:
    net = smooth()
    x, labels, targets = images(net)
    for attack in (replace(LBFGS(), evaluations=20), QUICK, LBFGS(), replace(STRONG, evaluations=300)):
        for goal in (Goal(labels), Goal(labels, targets)):
            counter = Counter(net, len(x))
            attack_on = attack(counter, x, goal, unlimited("l2"), rng=Rng.of(0, [], map(str, range(len(x)))))
            assert bool(goal.reached(net(attack_on)).all())
            assert float(counter.forwards.max()) <= attack.evaluations + 1  # the clean image


def rugged() -> nn.Module:
    torch.manual_seed(3)
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 200), nn.ReLU(), nn.Linear(200, 60), nn.ReLU(), nn.Linear(60, 10))
    for layer in (net[1], net[3], net[5]):
        layer.weight.data.mul_(4)
    return net.requires_grad_(False)


@pytest.mark.parametrize("targeted", [False, True])
def test_more_evaluations_give_smaller_perturbations_on_a_rugged_boundary(targeted: bool) -> None:
    net = rugged()
    x, labels, targets = images(net, 60)
    goal = Goal(labels, targets if targeted else None)
    sizes = [float(length(run(form, net, x, goal), x).mean()) for form in (QUICK, LBFGS(), STRONG)]
    assert sizes[0] > sizes[1] > sizes[2]


def test_an_image_alone_gets_what_it_gets_among_others() -> None:
    net = rugged()
    x, labels, targets = images(net, 16)
    goal, rng = Goal(labels, targets), Rng.of(0, [], map(str, range(16)))
    together = LBFGS()(net, x, goal, unlimited("l2"), rng=rng)
    one_by_one = [LBFGS()(net, x[i], goal[i], unlimited("l2"), rng=rng[i]) for i in torch.arange(len(x)).split(1)]
    torch.testing.assert_close(length(torch.cat(one_by_one), x), length(together, x), rtol=3e-3, atol=0)


@pytest.mark.parametrize("form", [LBFGS(), QUICK, PAPER])
def test_a_class_that_is_masked_out_is_no_obstacle(form: LBFGS) -> None:
    net = smooth()
    masked = torch.zeros(10).index_fill(0, torch.tensor([4, 7]), -torch.inf)
    x, labels, _ = images(net)
    labels = (net(x) + masked).argmax(1)
    goal = Goal(labels)
    x_adv = run(form, lambda v: net(v) + masked, x, goal)
    assert bool(goal.reached(net(x_adv) + masked).all())


def test_a_network_that_is_flat_around_the_images_is_climbed_out_of() -> None:
    """Saturated: no gradient worth following before some way is gone, as on adversarially trained networks."""
    w = torch.randn(36, generator=torch.Generator().manual_seed(4))

    def flat(v: Tensor) -> Tensor:
        beyond = 40 * ((v.flatten(1) - 0.5) @ w / w.norm() - 1.0)
        return torch.stack([torch.zeros_like(beyond), torch.nn.functional.softplus(beyond) - 0.01], 1)

    x = torch.full((4, *SHAPE), 0.5)
    goal = Goal(torch.zeros(4, dtype=torch.int64))
    alone = run(LBFGS(climb=0), flat, x, goal)
    assert not bool(goal.reached(flat(alone)).any())
    x_adv = run(LBFGS(), flat, x, goal)
    assert bool(goal.reached(flat(x_adv)).all())
    assert float(length(x_adv, x).max()) < 1.0


def test_the_seed_reaches_the_walks_and_only_the_seed() -> None:
    net = smooth()
    x, labels, targets = images(net)
    goal = Goal(labels, targets)
    assert torch.equal(run(LBFGS(), net, x, goal), run(LBFGS(), net, x, goal))
    other = LBFGS()(net, x, goal, unlimited("l2"), rng=Rng.of(1, [], map(str, range(len(x)))))
    assert not torch.equal(other, run(LBFGS(), net, x, goal))
    torch.testing.assert_close(length(other, x), length(run(LBFGS(), net, x, goal), x), rtol=0.02, atol=0)
