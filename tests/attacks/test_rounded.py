"""The fast gradient as automatic differentiation gives it: the same where nothing cancels, weaker where it does."""

from __future__ import annotations

import torch

from attacks.fgsm import FGSM
from attacks.goal import Goal
from attacks.rounded import RoundedFGSM
from attacks.threat import ThreatModel

WIDE = ThreatModel("linf", 0.1, (-9.0, 9.0))


def test_the_step_is_the_sign_of_what_autograd_gives(mlp, images, streams, own_labels):
    x = images(8)
    goal = own_labels(mlp, x)
    leaf = x.clone().requires_grad_()
    torch.nn.functional.cross_entropy(mlp(leaf), goal.labels, reduction="sum").backward()
    x_adv = RoundedFGSM()(mlp, x, goal, WIDE, rng=streams(8))
    torch.testing.assert_close(x_adv, x + 0.1 * leaf.grad.sign())


def test_towards_a_target_it_lowers_the_targets_loss(mlp, images, streams, own_labels):
    x = images(8)
    labels = own_labels(mlp, x).labels
    targets = (labels + 1) % mlp(x).shape[1]
    loss = torch.nn.functional.cross_entropy
    x_adv = RoundedFGSM()(mlp, x, Goal(labels, targets), ThreatModel("linf", 1e-3, (-9.0, 9.0)), rng=streams(8))
    assert loss(mlp(x_adv), targets) < loss(mlp(x), targets)


def test_where_the_network_is_sure_it_forgets_to_push_the_label_down(streams):
    rows = torch.tensor([[4.0, 3.0], [-1.0, 2.0], [-6.0, -1.0]])

    def sure(x):
        return x.flatten(1) @ rows.T

    x = torch.tensor([6.0, 1.0]).view(1, 1, 1, 2)  # logits 27, -4, -37: 1 - p cancels to 0, the second p does not
    goal = Goal(torch.tensor([0]))
    exact, rounded = (attack(sure, x, goal, WIDE, rng=streams(1)) for attack in (FGSM(), RoundedFGSM()))

    assert torch.equal((exact - x).sign().flatten(), (rows[1] - rows[0]).sign())
    assert torch.equal((rounded - x).sign().flatten(), rows[1].sign())
    assert goal.margin(sure(exact)) > goal.margin(sure(rounded))
