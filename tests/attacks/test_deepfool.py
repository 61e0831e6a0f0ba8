"""DeepFool: exact where the network is linear, beside the library's, and independent of the batch."""

from __future__ import annotations

import pytest
import torch

from attacks.deepfool import deepfool
from attacks.foolbox import Foolbox
from attacks.threat import unlimited


def test_the_boundary_of_a_linear_network_is_met_at_once(linear, images):
    net, x = linear(classes=5, dim=16), images(30)
    z = net(x)
    label = z.argmax(1)
    r, fooled = deepfool(net, x)
    w = net.weight[None] - net.weight[label][:, None]  # (B, K, D)
    far = (z.gather(1, label[:, None]) - z) / w.norm(dim=2).clamp(min=1e-12)
    far = far.scatter(1, label[:, None], torch.inf).amin(1)

    assert fooled.all()
    assert (net(x + r).argmax(1) != label).all()
    assert r.flatten(1).norm(dim=1) == pytest.approx(1.02 * (far + 1e-4), rel=1e-4)


def test_it_is_about_as_near_as_the_librarys(mlp, images, own_labels, streams):
    x = images(40)
    r, fooled = deepfool(mlp, x, iterations=50)
    library = Foolbox("deepfool", options={"steps": 50, "candidates": 10, "overshoot": 0.02})
    theirs = library(mlp, x, own_labels(mlp, x), unlimited("l2", (-9.0, 10.0)), rng=streams(40)) - x

    assert fooled.all()
    assert float(r.flatten(1).norm(dim=1).mean()) == pytest.approx(
        float(theirs.flatten(1).norm(dim=1).mean()), rel=0.05
    )


def test_each_image_goes_its_own_way(mlp, images):
    x = images(8)
    together, _ = deepfool(mlp, x)
    alone = torch.cat([deepfool(mlp, x[i : i + 1])[0] for i in range(8)])

    assert together == pytest.approx(alone, abs=1e-5)


def test_a_flat_network_is_not_fooled_and_nothing_breaks(images):
    def flat(x: torch.Tensor) -> torch.Tensor:
        return torch.tensor([1.0, 0.0, 0.0]).expand(len(x), 3) + 0 * x.flatten(1).sum(1, keepdim=True)

    r, fooled = deepfool(flat, images(3))
    assert not fooled.any()
    assert (r == 0).all()
