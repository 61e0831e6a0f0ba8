"""The baselines find what they must on linear networks, where the smallest perturbation is known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from attacks.goal import Goal
from eval.errors import InputError
from tests.benchmarks.measure import Counted, judge, measure
from tests.benchmarks.peers import Method, methods
from tests.benchmarks.scipy_peers import cleverhans3, foolbox2, wanted_classes

DIM = 12
COARSE = 1e-3  # width at which Foolbox 2's bisection of c ends, for the sake of time; there 1e-5


@pytest.fixture(scope="module")
def linear():
    """A linear network with images far from the box, their labels, and the distance to each class (n, 4)."""
    torch.manual_seed(0)
    layer = nn.Linear(DIM, 4)
    nn.init.normal_(layer.weight, std=3.0)
    net = nn.Sequential(nn.Flatten(), layer).requires_grad_(False).eval()
    x = 0.5 + 0.05 * torch.randn(4, 1, 3, 4)
    z = net(x)
    labels = z.argmax(1)
    gap = z.gather(1, labels[:, None]) - z  # (n, 4)
    steep = (layer.weight[labels][:, None] - layer.weight).norm(dim=2)
    distance = torch.where(gap > 0, gap / steep, torch.inf)
    return net, x, labels, distance


def reached_and_length(net, x, goal, x_adv):
    return judge(net, x_adv, goal), (x_adv - x).flatten(1).norm(dim=1)


def test_foolbox2_reaches_the_nearest_boundary_of_two_classes(linear):
    net, x, _, _ = linear
    weight, bias = net[1].weight[:2], net[1].bias[:2]
    two = nn.Sequential(nn.Flatten(), nn.Linear(DIM, 2)).requires_grad_(False)
    two[1].weight.copy_(weight), two[1].bias.copy_(bias)
    z = two(x)
    exact = (z[:, 0] - z[:, 1]).abs() / (weight[0] - weight[1]).norm()
    goal = Goal(z.argmax(1))
    reached, length = reached_and_length(two, x, goal, foolbox2(two, x, goal, epsilon=COARSE))
    assert reached.all()
    assert (length >= 0.999 * exact).all()
    assert (length <= 1.03 * exact).all()


def test_both_forms_of_scipy_come_close_to_the_target(linear):
    net, x, labels, _ = linear
    goal = Goal(labels, (labels + 1) % 4)
    ours = methods(["default"])[0].run(net, x, goal, 0)
    best = (ours - x).flatten(1).norm(dim=1)
    for x_adv, slack in ((foolbox2(net, x, goal, epsilon=COARSE), 1.05), (cleverhans3(net, x, goal), 2.0)):
        reached, length = reached_and_length(net, x, goal, x_adv)
        assert reached.all()
        assert (length >= 0.99 * best).all()
        assert (length <= slack * best).all()


def test_more_rounds_bring_cleverhans3_closer(linear):
    net, x, labels, _ = linear
    goal = Goal(labels, (labels + 1) % 4)
    few, many = (
        reached_and_length(net, x, goal, cleverhans3(net, x, goal, rounds=rounds))[1].mean() for rounds in (5, 12)
    )
    ours = (methods(["default"])[0].run(net, x, goal, 0) - x).flatten(1).norm(dim=1).mean()
    assert many <= few
    assert many <= 1.03 * ours


def test_scipy_stays_in_the_box_and_leaves_the_images_alone(linear):
    net, x, labels, _ = linear
    edge = torch.where(x > 0.5, 1.0, 0.0)
    labels = net(edge).argmax(1)
    goal, before = Goal(labels), edge.clone()
    for x_adv in (foolbox2(net, edge, goal, epsilon=COARSE), cleverhans3(net, edge, goal)):
        assert goal.reached(net(x_adv)).any()
        assert x_adv.min() >= 0
        assert x_adv.max() <= 1
    assert torch.equal(edge, before)


def test_where_nothing_is_found_the_image_comes_back():
    net = nn.Sequential(nn.Flatten(), nn.Linear(DIM, 3)).requires_grad_(False)
    net[1].weight.zero_(), net[1].bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
    x, goal = torch.rand(2, 1, 3, 4), Goal(torch.zeros(2, dtype=torch.int64))
    assert torch.equal(foolbox2(net, x, goal, doublings=3), x)
    assert torch.equal(cleverhans3(net, x, goal), x)


def test_without_a_target_scipy_goes_to_the_likeliest_other_class(linear):
    net, x, labels, _ = linear
    second = net(x).topk(2).indices[:, 1]
    assert torch.equal(wanted_classes(net, x, Goal(labels)), second)


@pytest.mark.parametrize("method", ["default", "ddn-100", "ddn-1000"])
def test_untargeted_methods_reach_the_nearest_class(linear, method):
    net, x, labels, distance = linear
    goal = Goal(labels)
    reached, length = reached_and_length(net, x, goal, methods([method])[0].run(net, x, goal, 0))
    exact = distance.amin(1)
    assert reached.all()
    assert (length >= 0.999 * exact).all()
    assert length.mean() <= 1.03 * exact.mean()


@pytest.mark.parametrize("method", ["advlib-ddn-1000", "alma-1000", "alma-1000-far", "pdgd-500"])
def test_adv_lib_is_called_rightly(linear, method):
    pytest.importorskip("adv_lib", exc_type=ImportError)
    net, x, labels, distance = linear
    for goal, exact in ((Goal(labels), distance.amin(1)), (Goal(labels, (labels + 1) % 4), None)):
        reached, length = reached_and_length(net, x, goal, methods([method])[0].run(net, x, goal, 0))
        assert reached.float().mean() >= 0.5
        if exact is not None:
            assert (length >= 0.999 * exact)[reached].all()


def test_counted_counts_images_forward_and_backward(linear):
    net, x, _, _ = linear
    counted = Counted(net)
    leaf = x.clone().requires_grad_()
    z = counted(leaf)
    torch.autograd.grad(z.sum(), leaf, retain_graph=True)
    torch.autograd.grad(z[:, 0].sum(), leaf)
    counted(x[:2])
    assert (counted.forwards, counted.backwards) == (6, 8)


def test_a_measurement_is_of_the_run_after_the_warm_up(linear):
    net, x, labels, _ = linear
    calls = []

    def shift(net, x, goal, seed):
        calls.append(len(x))
        net(x)
        return x + 0.25

    made = measure(Method("shift", "shift", "", shift), net, x, Goal(labels), 0)
    assert calls[:2] == [2, 4]
    assert made.rms == pytest.approx([0.25] * 4)
    assert (made.forwards, made.backwards) == (1.0, 0.0)
    assert made.reached == (net(x + 0.25).argmax(1) != labels).tolist()


def test_the_judge_takes_no_image_outside_the_box_or_with_nan(linear):
    net, x, labels, _ = linear
    goal = Goal(labels)
    far = 0.5 + 1e3 * (torch.rand(4, 1, 3, 4) - 0.5)
    assert goal.reached(net(far)).any()
    assert not judge(net, far, goal).any()
    assert not judge(net, torch.full_like(x, torch.nan), goal).any()


def test_a_bad_name_is_told_with_the_good_ones():
    with pytest.raises(InputError, match=r"'fgsm' is none of default, .*scipy-foolbox2"):
        methods(["default", "fgsm"])
