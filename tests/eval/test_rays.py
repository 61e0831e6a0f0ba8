"""Logits along the gradient's sign: what is known in closed form of linear networks, and of one that is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from eval.data import Samples
from eval.errors import InputError
from eval.rays import Rays, straightness
from eval.studies.traced import consecutive
from models.classifier import Classifier
from models.logistic import Logistic
from models.spec import build

CPU = torch.device("cpu")
SHAPE = (1, 5, 5)


def samples(n: int, classes: int = 4, seed: int = 0) -> Samples:
    rng = np.random.default_rng(seed)
    names = [str(k) for k in range(classes)]
    return Samples.of(rng.random((n, *SHAPE), np.float32), rng.integers(0, classes, n), names, "s")


def network(module: nn.Module, classes: int = 4) -> Classifier:
    return Classifier(module, name="m", input_shape=SHAPE, num_classes=classes)


def linear(classes: int = 4) -> Classifier:
    torch.manual_seed(0)
    return network(nn.Sequential(nn.Flatten(), nn.Linear(25, classes)), classes)


def test_the_logits_of_a_linear_network_are_straight_lines():
    found = Rays()(linear(), samples(30), 8, CPU, 0)

    assert found["r2"].shape == (30, 4)
    assert found["r2"] == pytest.approx(1.0, abs=1e-6)
    assert found["prediction"].shape == (30, 161)
    assert found["e"][80] == 0


def test_a_linear_network_is_right_on_one_stretch_of_the_ray():
    found = Rays(reach=8.0)(linear(), samples(200), 64, CPU, 0)
    right = found["prediction"] == found["label"][:, None]

    assert consecutive(right).all()
    assert right.any(1).mean() > 0.5


def test_with_two_classes_the_lead_rises_by_eps_times_the_l1_norm_of_the_weights():
    classifier = build(Logistic((1, 3)), "m", SHAPE, 4, seed=0)["m"].classifier("m", SHAPE)
    data = samples(60)
    pair = data.select(np.flatnonzero(np.isin(data.labels, (1, 3))))
    found = Rays(eps=0.3)(classifier, pair, 16, CPU, 0)
    w = classifier.network.linear.weight.abs().sum().item()

    assert found["predicted"] == pytest.approx(0.3 * w, rel=1e-5)
    assert found["measured"] == pytest.approx(0.3 * w, rel=1e-4)
    assert np.isnan(found["r2"][:, [0, 2]]).all()  # those classes have a constant
    assert found["r2"][:, [1, 3]] == pytest.approx(1.0, abs=1e-6)


def test_with_more_classes_the_lead_of_a_linear_network_rises_by_no_more():
    found = Rays()(linear(), samples(100), 32, CPU, 0)
    ratio = found["measured"] / found["predicted"]

    assert (ratio <= 1 + 1e-5).all()
    assert ratio.max() > 0.5


def test_what_is_kept_belongs_to_the_first_samples():
    data, classifier = samples(20), linear()
    found = Rays(shown=5)(classifier, data, 3, CPU, 0)
    x, sign = torch.from_numpy(found["x"]), torch.from_numpy(found["direction"])

    assert [len(found[k]) for k in ("logits", "x", "direction", "weights")] == [5] * 4
    assert found["sample"].tolist() == data.ids.tolist()
    torch.testing.assert_close(x, data.batch(np.arange(5)))
    at = torch.from_numpy(found["e"])[100]
    torch.testing.assert_close(torch.from_numpy(found["logits"])[:, 100], classifier(x + at * sign))
    leaf = x.clone().requires_grad_()
    nn.functional.cross_entropy(classifier(leaf), torch.from_numpy(data.labels[:5].copy())).backward()
    assert torch.equal(sign, leaf.grad.sign())


def test_a_bent_network_is_told_from_a_straight_one():
    class Bent(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            z = x.flatten(1) - 0.5
            return torch.stack([z.sum(1), (6 * z[:, :4]).square().sum(1)], 1)

    found = Rays()(network(Bent(), 2), samples(20, 2), 8, CPU, 0)
    assert found["r2"][:, 0] == pytest.approx(1.0, abs=1e-6)
    assert np.median(found["r2"][:, 1]) < 0.9


def test_another_batch_size_gives_the_same():
    one, other = (Rays(points=21)(linear(), samples(17), size, CPU, 0) for size in (4, 100))
    assert set(one) == set(other)
    assert (one["prediction"] == other["prediction"]).all()
    np.testing.assert_allclose(one["measured"], other["measured"], rtol=1e-4)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.integers(3, 40))
def test_straightness_is_the_square_of_the_correlation(seed, n):
    rng = np.random.default_rng(seed)
    e, z = np.linspace(-0.5, 0.5, n), rng.normal(size=(n, 3))
    z[:, 2] = 3.0
    found = straightness(torch.from_numpy(e), torch.from_numpy(z)).numpy()

    assert found[:2] == pytest.approx([stats.pearsonr(e, z[:, k]).statistic ** 2 for k in range(2)], abs=1e-9)
    assert np.isnan(found[2])


@pytest.mark.parametrize(
    ("points", "whole"),
    [("0000", True), ("1111", True), ("0110", True), ("1001", False), ("0101", False), ("1000", True), ("0011", True)],
)
def test_points_are_consecutive_or_not(points, whole):
    assert consecutive(np.array([[c == "1" for c in points]])).tolist() == [whole]


@pytest.mark.parametrize(
    ("change", "says"),
    [({"points": 10}, "points: must be an odd number"), ({"reach": 0.2}, "reach: must be at least 0.5")],
)
def test_bad_rays_are_refused(change, says):
    with pytest.raises(InputError, match=says):
        Rays(**change)
