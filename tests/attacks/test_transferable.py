from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from attacks.goal import Goal
from attacks.losses import logits_and_gradient, loss_named
from attacks.pgd import PGD
from attacks.rng import Rng
from attacks.threat import ThreatModel
from attacks.transferable import Transferable, diverse, gaussian, shrunk, smoothed
from tests.attacks.small_networks import Counter

OFF = {"momentum": 0.0, "diversity": 0.0, "kernel": 1}
VARIANTS = {
    "ifgsm": OFF,
    "mi": {**OFF, "momentum": 1.0},
    "di": {**OFF, "diversity": 1.0, "smallest": 0.6},
    "ti": {**OFF, "kernel": 3},
    "all": {"momentum": 1.0, "diversity": 0.5, "smallest": 0.6, "kernel": 3},
}
EACH = pytest.mark.parametrize("variant", VARIANTS)
THREAT = ThreatModel("linf", 0.1)


@pytest.fixture(scope="module")
def convnet() -> nn.Module:
    """A small convolutional network of 3x16x16 images and five classes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), nn.AvgPool2d(4), nn.Flatten(), nn.Linear(128, 5))
    net[4].weight.data.mul_(20)
    return net.eval().requires_grad_(False)


@pytest.fixture
def colour(images):
    return images(12, 3, 16, 16)


def goals(network, x):
    labels = network(x).argmax(1)
    return [Goal(labels), Goal(labels, (labels + 1) % 5)]


@EACH
def test_stays_in_ball_and_box_and_leaves_the_image_alone(convnet, colour, streams, variant):
    before = colour.clone()
    for goal in goals(convnet, colour):
        x_adv = Transferable(**VARIANTS[variant])(convnet, colour, goal, THREAT, rng=streams(12))
        assert x_adv.shape == colour.shape
        assert THREAT.inside_box(x_adv).all()
        assert THREAT.within(x_adv, colour).all()
    assert torch.equal(colour, before)


@EACH
def test_comes_nearer_to_the_goal(convnet, colour, streams, variant):
    for goal in goals(convnet, colour):
        x_adv = Transferable(**VARIANTS[variant])(convnet, colour, goal, THREAT, rng=streams(12))
        assert (goal.margin(convnet(x_adv)) > goal.margin(convnet(colour))).float().mean() >= 0.9


@EACH
def test_a_row_depends_on_itself_alone(convnet, colour, streams, variant):
    net, attack, rng = copy.deepcopy(convnet).double(), Transferable(**VARIANTS[variant]), streams(12)
    x = colour.double()
    goal, few = goals(net, x)[1], torch.tensor([7, 2])
    whole = attack(net, x, goal, THREAT, rng=rng)
    part = attack(net, x[few], goal[few], THREAT, rng=rng[few])
    assert torch.allclose(part, whole[few], atol=1e-9)


@EACH
def test_the_same_streams_give_the_same_result_and_others_another_one(convnet, colour, streams, variant):
    attack, goal = Transferable(**VARIANTS[variant]), goals(convnet, colour)[0]
    first, again = (attack(convnet, colour, goal, THREAT, rng=streams(12)) for _ in range(2))
    other = attack(convnet, colour, goal, THREAT, rng=Rng.of(1, ["test"], map(str, range(12))))
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (attack.diversity == 0)


def last_points(network, x, goal, steps, length, momentum=0.0):
    """The textbook loop, from the image: its last point."""
    x_adv, velocity = x.clone(), torch.zeros_like(x)
    for _ in range(steps):
        leaf = x_adv.clone().requires_grad_()
        (g,) = torch.autograd.grad(F.cross_entropy(network(leaf), goal.labels, reduction="sum"), leaf)
        velocity = momentum * velocity + g / g.abs().sum(dim=(1, 2, 3), keepdim=True)
        x_adv = torch.clamp(x_adv + length * velocity.sign(), x - THREAT.eps, x + THREAT.eps).clamp(0, 1)
    return x_adv


@pytest.mark.parametrize("momentum", [0.0, 0.5, 1.0])
def test_is_the_textbook_loop_without_diversity_and_kernel(convnet, colour, streams, momentum):
    goal = goals(convnet, colour)[0]
    ours = Transferable(**{**OFF, "momentum": momentum})(convnet, colour, goal, THREAT, rng=streams(12))
    theirs = last_points(convnet, colour, goal, 10, THREAT.eps / 10, momentum)
    assert (ours - theirs).abs().amax() < 1e-6


def test_all_off_is_the_plain_iteration_bit_for_bit(linear, images, streams):
    network, x = linear(), images(20, 1, 3, 4)
    goal = Goal(network(x).argmax(1))
    ours = Transferable(**OFF, step_size="0.03", steps=7)(network, x, goal, THREAT, rng=streams(20))
    plain = PGD(7, "0.03", random_start=False, early_stop=False)  # its best point: on a linear network the last
    assert torch.equal(ours, plain(network, x, goal, THREAT, rng=streams(20)))


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_momentum_agrees_with_torchattacks(convnet, colour, streams, decay, targeted):
    torchattacks = pytest.importorskip("torchattacks")
    goal = goals(convnet, colour)[targeted]
    theirs = torchattacks.MIFGSM(convnet, eps=0.1, alpha=0.013, steps=10, decay=decay)
    if targeted:
        theirs.set_mode_targeted_by_label(quiet=True)
    ours = Transferable(step_size="0.013", **{**OFF, "momentum": decay}, loss="ce")
    x_adv = ours(convnet, colour, goal, THREAT, rng=streams(12))
    assert ((x_adv - theirs(colour, goal.classes)).abs() > 1e-5).float().mean() < 1e-3  # signs of rounding errors


def test_the_kernel_agrees_with_torchattacks(convnet, colour, streams):
    torchattacks = pytest.importorskip("torchattacks")
    goal = goals(convnet, colour)[0]
    theirs = torchattacks.TIFGSM(convnet, eps=0.1, alpha=0.02, steps=5, decay=1.0, len_kernel=7, diversity_prob=0.0)
    ours = Transferable(5, "0.02", momentum=1.0, diversity=0.0, kernel=7)
    x_adv = ours(convnet, colour, goal, THREAT, rng=streams(12))
    assert ((x_adv - theirs(colour, goal.labels)).abs() > 1e-5).float().mean() < 1e-3
    weights = gaussian(15, None)
    assert torch.allclose(weights.outer(weights), torch.as_tensor(theirs.gkern(15, 3)))


def test_a_kernel_is_symmetric_sums_to_one_and_has_its_standard_deviation():
    weights, taps = gaussian(41, 4.0), torch.arange(-20.0, 21.0)
    assert torch.equal(weights, weights.flip(0))
    assert float(weights.sum()) == pytest.approx(1.0)
    assert float((weights * taps.square()).sum()) == pytest.approx(16.0, rel=1e-3)


def test_smoothing_a_point_shows_the_kernel_on_its_own_channel():
    point = torch.zeros(1, 2, 9, 9)
    point[0, 1, 4, 4] = 1.0
    weights, out = gaussian(5, 1.0), smoothed(point, gaussian(5, 1.0))
    assert torch.allclose(out[0, 1, 2:7, 2:7], weights.outer(weights).float())
    assert torch.equal(out[0, 0], torch.zeros(9, 9))


@pytest.mark.parametrize(("h", "w", "top", "left"), [(12, 12, 0, 0), (12, 14, 3, 1), (15, 13, 1, 3), (16, 16, 0, 0)])
def test_shrinking_is_torchs_resize_and_pad(images, h, w, top, left):
    x = images(3, 2, 16, 16)
    frame = F.interpolate(x, (h, w), mode="bilinear", align_corners=False)
    expected = F.pad(frame, [left, 16 - w - left, top, 16 - h - top], value=0.25)
    ours = shrunk(x, *(torch.full((3,), float(v)) for v in (h, w, top, left)), fill=0.25)
    assert torch.allclose(ours, expected, atol=1e-5)


def test_sizes_and_places_are_uniform_and_images_draw_their_own():
    x = torch.ones(4000, 1, 10, 20)
    seen = diverse(x, Rng.of(0, ["test"], map(str, range(4000))), 0.7, 0.75, 0.0)
    changed = ~(seen == 1).flatten(1).all(1)
    assert changed.float().mean() == pytest.approx(0.7, abs=0.03)
    inside = seen[changed, 0] > 0.5
    heights, widths = inside.any(2).sum(1), inside.any(1).sum(1)
    assert sorted(set(heights.tolist())) == [7, 8, 9]
    assert sorted(set(widths.tolist())) == [15, 16, 17, 18, 19]
    assert (widths == 15).float().mean() == pytest.approx(0.2, abs=0.03)
    tops = inside.any(2).int().argmax(1)[heights == 7]
    assert (tops == 3).float().mean() == pytest.approx(0.25, abs=0.05)  # 0, 1, 2 or 3


def test_towards_a_target_the_logit_is_followed_and_away_from_a_label_the_cross_entropy(convnet, colour, streams):
    for goal, loss in zip(goals(convnet, colour), ("ce", "logit"), strict=True):
        chosen, named = (
            Transferable(**OFF, loss=name)(convnet, colour, goal, THREAT, rng=streams(12)) for name in (None, loss)
        )
        assert torch.equal(chosen, named)


def test_the_logit_loss_pulls_as_hard_when_the_source_is_sure(convnet, colour):
    goal = goals(convnet, colour)[1]
    sure = 60.0 * F.one_hot(goal.classes, 5).float()

    def network(x):
        return convnet(x) + sure

    sizes = [logits_and_gradient(network, colour, loss_named(name), goal)[1].abs().mean() for name in ("logit", "ce")]
    assert sizes[0] > 1e-3
    assert sizes[1] < 1e-9


def test_costs_a_forward_and_a_backward_a_step(convnet, colour, streams):
    counter = Counter(convnet, 12)
    Transferable(7)(counter, colour, goals(convnet, colour)[0], THREAT, rng=streams(12))
    assert counter.forwards.tolist() == counter.backwards.tolist() == [7.0] * 12


def test_a_flat_network_moves_nothing(colour, streams):
    def flat(x):
        return x.flatten(1)[:, :5] * 0.0

    goal = Goal(torch.zeros(12, dtype=torch.int64))
    x_adv = Transferable(**VARIANTS["all"])(flat, colour, goal, THREAT, rng=streams(12))
    assert torch.equal(x_adv, colour)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("steps", 0, "steps: must be at least 1"),
        ("step_size", "0", "step_size: must be > 0"),
        ("momentum", -1.0, "momentum: must be >= 0"),
        ("diversity", 1.5, "diversity: must be a probability"),
        ("smallest", 1.0, "smallest: must be a share"),
        ("kernel", 4, "kernel: must be an odd number"),
        ("sigma", 0.0, "sigma: must be > 0"),
        ("loss", "hinge", "loss: must be one of"),
    ],
)
def test_a_bad_field_is_named(field, value, says):
    with pytest.raises(ValueError, match=says):
        Transferable(**{field: value})
