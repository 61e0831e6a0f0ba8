from __future__ import annotations

import torch

from attacks.substitute import augmented


def test_new_points_go_where_the_told_class_changes_most(mlp, images):
    x = images(20)
    told = (mlp(x).argmax(1) + torch.arange(20)) % 5  # what the oracle tells need not be what the substitute thinks
    new = augmented(mlp, x, told, 0.1, (0.0, 1.0))
    leaf = x.clone().requires_grad_()
    p = mlp(leaf).softmax(1).gather(1, told[:, None]).sum()
    (jacobian,) = torch.autograd.grad(p, leaf)
    torch.testing.assert_close(new, (x + 0.1 * jacobian.sign()).clamp(0, 1))


def test_the_sign_is_known_where_the_probability_vanishes(linear):
    net = linear(classes=2, dim=16)
    net.weight *= 1000
    x = torch.full((1, 1, 4, 4), 0.5)
    told = net(x).argmin(1)
    assert float(net(x).softmax(1)[0, told]) == 0
    moved = (augmented(net, x, told, 0.1, (0.0, 1.0)) - x).flatten(1)
    towards = (net.weight[told] - net.weight[1 - told]).sign()
    torch.testing.assert_close(moved, 0.1 * towards)


def test_points_stay_in_the_box_and_alternate_signs_lead_back(mlp, images):
    x = images(6)
    told = mlp(x).argmax(1)
    far = augmented(mlp, x, told, 5.0, (0.0, 1.0))
    assert ((far == 0) | (far == 1)).all()
    inside = 0.4 + 0.2 * x
    ahead, back = (augmented(mlp, inside, told, step, (0.0, 1.0)) - inside for step in (0.1, -0.1))
    torch.testing.assert_close(ahead, -back)
