from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models.convnets import CNN, CatsDogs, ResNet18
from models.errors import ModelError
from models.spec import build


@pytest.mark.parametrize("spec", [CNN(), CatsDogs(), ResNet18(width=4)])
@settings(deadline=None, max_examples=6)
@given(side=st.integers(8, 33), channels=st.sampled_from([1, 3]), classes=st.integers(2, 12))
def test_any_size_gives_logits(spec: CNN | CatsDogs | ResNet18, side: int, channels: int, classes: int) -> None:
    network = build(spec, "m", (channels, side, side + 1), classes, seed=0)["m"]
    assert network.module(torch.rand(2, channels, side, side + 1)).shape == (2, classes)


def test_cats_dogs_has_the_layers_of_the_tutorial() -> None:
    module = build(CatsDogs(), "m", (3, 128, 128), 2, seed=0)["m"].module
    assert isinstance(module, nn.Sequential)
    kinds = [type(layer).__name__ for layer in module]
    assert kinds == ["Conv2d", "MaxPool2d", "ReLU"] * 3 + ["Flatten", "Linear", "ReLU", "Linear"]
    shapes = [tuple(p.shape) for name, p in module.named_parameters() if name.endswith("weight")]
    assert shapes == [(32, 3, 3, 3), (32, 32, 3, 3), (64, 32, 3, 3), (128, 16 * 16 * 64), (2, 128)]


def test_cats_dogs_starts_from_a_cut_normal_and_positive_biases() -> None:
    module = build(CatsDogs(), "m", (3, 128, 128), 2, seed=0)["m"].module
    for name, p in module.named_parameters():
        if name.endswith("bias"):
            assert torch.equal(p, torch.full_like(p, 0.05))
        else:
            assert float(p.detach().abs().max()) <= 0.1
    big = module.get_parameter("10.weight").detach()
    shrunk = math.sqrt(1 - 2 * 2 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2)))
    assert float(big.std()) == pytest.approx(0.05 * shrunk, rel=0.01)  # of a normal cut at two deviations


@given(size=st.integers(2, 300))
@settings(deadline=None, max_examples=30)
def test_cats_dogs_pools_as_same_padding_does(size: int) -> None:
    layer = build(CatsDogs(filters=[1], hidden=1), "m", (1, size, 4), 2, seed=0)["m"].module
    assert isinstance(layer, nn.Sequential)
    assert layer[1](torch.zeros(1, 1, size, 4)).shape[2] == math.ceil(size / 2)


def test_resnet18_has_the_parameters_of_the_cifar_network() -> None:
    module = build(ResNet18(), "m", (3, 32, 32), 10, seed=0)["m"].module
    assert sum(p.numel() for p in module.parameters()) == 11_173_962
    assert not any(isinstance(m, nn.MaxPool2d) for m in module.modules())


def test_resnet18_adds_its_shortcut() -> None:
    module = build(ResNet18(width=4), "m", (3, 8, 8), 10, seed=0)["m"].module.eval()
    block = module.get_submodule("3")
    for conv in ("conv1", "conv2"):
        nn.init.zeros_(block.get_submodule(conv).weight)  # type: ignore[arg-type]
    x = torch.randn(1, 4, 8, 8)
    assert torch.equal(block(x), x.relu())


def test_too_small_images_are_refused() -> None:
    with pytest.raises(ModelError, match="at least 4 pixels a side, got 3 x 8"):
        build(CNN(), "m", (1, 3, 8), 10, seed=0)


@pytest.mark.parametrize("make", [lambda: CNN(widths=[]), lambda: CNN(dropout=2.0), lambda: ResNet18(width=0)])
def test_wrong_hyper_parameters_are_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(ModelError, match="must be"):
        make()
