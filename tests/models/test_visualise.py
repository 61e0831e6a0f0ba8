"""Activation maximisation: closed forms for linear units, and what its rows promise."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models.classifier import Classifier
from models.convnets import CNN
from models.errors import ModelError
from models.spec import build
from models.visualise import Ascent, blurred, excitation, noise, stimuli

CPU = torch.device("cpu")
BARE = Ascent(steps=200, step=0.05, decay=0.0, blur=0.0, shift=0)


def linear(weights: torch.Tensor, bounds: tuple[float, float] = (0.0, 1.0)) -> Classifier:
    """Its logits are inner products with images."""
    layer = nn.Linear(weights[0].numel(), len(weights), bias=False)
    layer.weight.data = weights.flatten(1).clone()
    body = nn.Sequential(nn.Flatten(), layer)
    shape = tuple(weights.shape[1:])
    return Classifier(body, name="n", input_shape=shape, num_classes=len(weights), bounds=bounds)  # type: ignore[arg-type]


def weights(seed: int, units: int = 3, shape: tuple[int, ...] = (2, 5, 6)) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    w = torch.randn(units, *shape, generator=draw)
    return w + 0.2 * w.sign()  # no entry so small that it takes long to reach its corner


def best(net: Classifier, ascent: Ascent, layer: str | None = None, batch_size: int = 8, seed: int = 0) -> torch.Tensor:
    units = range(excitation(net, layer, torch.zeros(1, *net.input_shape)).shape[1])
    return torch.cat(list(stimuli(net, layer, units, ascent, seed, batch_size, CPU)))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)]))
def test_a_linear_unit_is_maximised_at_the_corner_of_the_box(seed, bounds):
    w = weights(seed)
    found = best(linear(w, bounds), BARE)
    assert torch.equal(found, torch.where(w > 0, bounds[1], bounds[0]))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 0.1))
def test_within_a_ball_that_lies_in_the_box_it_is_maximised_along_its_weights(seed, radius):
    w = weights(seed)
    found = best(linear(w), Ascent(steps=200, step=0.02, decay=0.0, blur=0.0, shift=0, radius=radius))
    size = w.flatten(1).square().mean(1).sqrt().view(-1, 1, 1, 1)
    torch.testing.assert_close(found, 0.5 + radius * w / size, atol=0.05 * radius, rtol=0)


def test_decay_alone_ends_where_a_step_takes_away_what_it_gives():
    w = weights(0)
    step, decay = 0.005, 0.1
    found = best(linear(w), Ascent(steps=300, step=step, decay=decay, blur=0.0, shift=0))
    size = w.flatten(1).square().mean(1).sqrt().view(-1, 1, 1, 1)
    ends = 0.5 + (step * w / size + 0.0) / decay * (1 - decay)
    torch.testing.assert_close(found, ends, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    "ascent",
    [BARE, Ascent(steps=9), Ascent(steps=9, variation=0.3, clip=0.2, contribution=0.2, shift=3, radius=0.2, every=2)],
)
def test_images_stay_in_box_and_ball_and_excite_more_than_the_noise_they_began_with(ascent):
    net = build(CNN(), "cnn", (1, 8, 8), 10, seed=0)["cnn"].classifier("cnn", (1, 8, 8))
    found = best(net, ascent, "3")
    begun = best(net, Ascent(steps=1, step=1e-9, decay=0.0, blur=0.0, shift=0), "3")
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    if ascent.radius is not None:
        assert float((found - 0.5).flatten(1).square().mean(1).sqrt().max()) <= ascent.radius + 1e-6
    own, before = (excitation(net, "3", x).diagonal() for x in (found, begun))
    if not ascent.variation:  # which may ask for less
        assert bool((own > before).all())


def test_an_image_depends_on_its_unit_and_the_seed_alone():
    net = build(CNN(), "cnn", (1, 8, 8), 10, seed=0)["cnn"].classifier("cnn", (1, 8, 8))
    ascent = Ascent(steps=6, clip=0.1, variation=0.1, shift=2)
    whole = best(net, ascent, "3", batch_size=32)
    torch.testing.assert_close(best(net, ascent, "3", batch_size=5), whole, atol=1e-5, rtol=0)
    (one,) = stimuli(net, "3", [7], ascent, 0, 4, CPU)
    torch.testing.assert_close(one[0], whole[7], atol=1e-5, rtol=0)
    assert not torch.equal(best(net, ascent, "3", seed=1), whole)


def test_a_network_scaled_by_any_factor_gets_the_same_image():
    w = weights(1)
    ascent = Ascent(steps=20)
    torch.testing.assert_close(best(linear(1000 * w), ascent), best(linear(w), ascent), atol=1e-4, rtol=0)


def test_a_unit_that_is_silent_on_grey_is_found_by_louder_noise():
    layer = nn.Linear(16, 1)
    layer.weight.data = torch.randn(1, 16, generator=torch.Generator().manual_seed(0))
    layer.bias.data = -(layer.weight.data.sum(1) * 0.5) - 0.3
    body = nn.Sequential(nn.Flatten(), layer, nn.ReLU())
    net = Classifier(body, name="n", input_shape=(1, 4, 4), num_classes=1)
    assert float(net(torch.full((1, 1, 4, 4), 0.5))) == 0
    found = best(net, BARE)
    assert torch.equal(found.flatten(), (layer.weight.data[0] > 0).float())


def test_an_image_does_not_depend_on_a_silent_neighbour():
    net = build(CNN(), "cnn", (1, 8, 8), 10, seed=0)["cnn"].classifier("cnn", (1, 8, 8))
    net.get_submodule("network.3").bias.data[1] = -50.0  # which ReLU keeps silent everywhere
    ascent = Ascent(steps=4, shift=2)
    (both,) = stimuli(net, "5", [0, 1], ascent, 0, 4, CPU)
    (alone,) = stimuli(net, "5", [0], ascent, 0, 4, CPU)
    torch.testing.assert_close(both[0], alone[0], atol=1e-5, rtol=0)


def test_total_variation_makes_images_smoother():
    w = weights(2, shape=(1, 8, 8))
    rough, smooth = (best(linear(w), Ascent(steps=40, blur=0.0, variation=v)) for v in (0.0, 0.5))
    assert float(smooth.diff(dim=-1).abs().mean()) < 0.7 * float(rough.diff(dim=-1).abs().mean())


def test_clipping_turns_the_smallest_pixels_grey():
    w = weights(3, shape=(3, 8, 8))
    found = best(linear(w), Ascent(steps=8, decay=0.0, blur=0.0, shift=0, clip=0.25, every=8))
    assert ((found == 0.5).all(1).flatten(1).sum(1) == 16).all()


@settings(max_examples=20, deadline=None)
@given(st.floats(0.3, 4.0), st.integers(1, 9), st.integers(1, 9))
def test_blur_keeps_a_constant_and_its_kernel_is_the_naive_one(sigma, height, width):
    flat = torch.full((2, 3, height, width), 0.7)
    torch.testing.assert_close(blurred(flat, sigma), flat)
    line = torch.zeros(1, 1, 1, 41)
    line[..., 20] = 1.0
    reach = math.ceil(3 * sigma)
    bell = torch.tensor([math.exp(-0.5 * (i / sigma) ** 2) if abs(i) <= reach else 0.0 for i in range(-20, 21)])
    torch.testing.assert_close(blurred(line, sigma)[0, 0, 0], bell / bell.sum())


def test_noise_has_its_width_around_the_middle():
    x = noise([torch.Generator().manual_seed(s) for s in range(4)], (3, 20, 20), (-1.0, 3.0), 0.5)
    assert 0.0 <= float(x.min()) < 0.01
    assert 1.99 < float(x.max()) <= 2.0


@pytest.mark.parametrize(
    "field", ["steps", "step", "decay", "blur", "variation", "shift", "clip", "contribution", "every", "radius"]
)
def test_what_cannot_be_is_refused_in_one_line(field):
    with pytest.raises(ModelError, match=rf"^ascent.{field}: must be .*, got -1"):
        Ascent(**{field: -1})
