"""Networks whose first layer starts from weights of a given size, and that learn alike at any image size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from eval.data import Samples
from eval.data.resized import resized
from models.convnets import CNN
from models.errors import ModelError
from models.initial import Initial, first_layer
from models.paper import MLP, Softmax
from models.recipe import TrainConfig
from models.spec import build
from models.store import load_or_fit
from models.train import fit

SHAPE = (1, 8, 8)
PLAIN = Softmax()
CONFIG = TrainConfig(epochs=2, batch_size=20, val_fraction=0.0)


def samples(side: int = 8) -> Samples:
    rng = np.random.default_rng(0)
    return resized(Samples.of(rng.random((60, 1, 8, 8), np.float32), np.arange(60) % 3, list("abc"), "x"), side)


def made(scale: float, side: int = 8, base=PLAIN, seed: int = 0):
    return build(Initial(base, scale, SHAPE), "net", (1, side, side), 3, seed=seed)["net"]


@pytest.mark.parametrize("base", [PLAIN, MLP([300], "relu", decay=[0.0]), CNN([400, 4], 5)])
@pytest.mark.parametrize("scale", [0.0, 0.1, 1.0])
def test_the_first_layer_has_the_deviation_of_he_times_the_scale(base, scale):
    weight = first_layer(made(scale, 32, base).module).weight
    assert weight.std().item() == pytest.approx(scale * (2 / weight[0].numel()) ** 0.5, rel=0.06)


def test_the_seed_decides_the_start_and_other_layers_are_the_bases():
    one, same, other = (made(1.0, seed=seed).module for seed in (0, 0, 1))
    assert torch.equal(first_layer(one).weight, first_layer(same).weight)
    assert not torch.equal(first_layer(one).weight, first_layer(other).weight)
    base = MLP([4], "relu", decay=[0.0])
    usual, own = build(base, "net", SHAPE, 3, seed=0)["net"].module, made(0.0, base=base).module
    assert torch.equal(usual[3].weight, own[3].weight)


def test_paces_go_with_the_inverse_of_the_inputs():
    assert made(1.0).paces == {}
    assert made(1.0, 16).paces == {"1.weight": 1 / 4}
    assert made(1.0, 4, MLP([5, 6], "relu", decay=[0.0])).paces == {"1.weight": 4}
    assert made(1.0, 32, CNN([2, 3], 5)).paces == {"7.weight": 1 / 16}


@pytest.mark.parametrize("config", [CONFIG, replace(CONFIG, optimizer="sgd", lr=0.05)], ids=["adam", "sgd"])
def test_from_zero_each_weight_is_that_of_the_small_network_shared_out(config):
    small, large = made(0.0), made(0.0, 16)
    for network, side in ((small, 8), (large, 16)):
        fit(network, config, samples(side), seed=0)
    weights = small.module[1].weight.view(-1, 8, 8).repeat_interleave(2, 1).repeat_interleave(2, 2) / 4
    assert torch.allclose(large.module[1].weight, weights.flatten(1), rtol=1e-2, atol=1e-4)
    assert weights.abs().max() > 1e-3


@pytest.mark.parametrize("side", [8, 32])
def test_decay_shrinks_what_no_gradient_reaches_alike_at_every_pace(side):
    network = made(1.0, side)
    start = network.module[1].weight.clone()
    black = Samples.of(np.zeros((60, 1, 8, 8), np.float32), np.arange(60) % 3, list("abc"), "x")
    config = replace(CONFIG, schedule="constant", weight_decay=5.0)
    fit(network, config, resized(black, side), seed=0)
    assert torch.allclose(network.module[1].weight, start * (1 - 5.0 * 1e-2) ** 6, atol=1e-6)


def test_it_is_stored_and_found(tmp_path):
    spec = Initial(PLAIN, 0.5, SHAPE)
    keys = {"root": tmp_path, "name": "net", "data": "d", "input_shape": SHAPE, "seed": 0}
    first, again = (load_or_fit(made(0.5), spec, CONFIG, samples(), **keys) for _ in range(2))
    other = load_or_fit(made(0.6), replace(spec, scale=0.6), CONFIG, samples(), **keys)
    assert (first.loaded, again.loaded, other.loaded) == (False, True, False)
    assert again.header["model"]["base"]["class"] == "models.paper.Softmax"


def test_a_penalty_of_the_base_is_left_out():
    assert build(PLAIN, "net", SHAPE, 3, seed=0)["net"].penalty is not None
    assert made(1.0).penalty is None
    assert (
        made(1.0).description
        == "softmax regression, decay 0.0001, its penalty left out, first layer from 1 of He's weights"
    )


def test_a_wrong_scale_or_another_first_layer_is_refused():
    with pytest.raises(ModelError, match="scale: must be >= 0, got -1"):
        Initial(PLAIN, -1.0, SHAPE)
    with pytest.raises(ModelError, match="the first layer with weights must be dense or convolutional"):
        first_layer(torch.nn.Sequential(torch.nn.BatchNorm2d(1), torch.nn.Linear(2, 2)))
