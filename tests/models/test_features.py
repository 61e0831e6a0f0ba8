"""A named layer tells what it returned."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.classifier import Classifier
from models.convnets import CNN, ResNet18
from models.errors import ModelError
from models.features import activations, find_layer, layers, responses
from models.randomise import randomise
from models.spec import build

X = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def cnn() -> Classifier:
    return build(CNN(), "cnn", (1, 8, 8), 10, seed=0)["cnn"].classifier("cnn", (1, 8, 8))


def test_layers_are_named_by_kind_and_place(cnn: Classifier) -> None:
    found = {layer.alias: layer for layer in layers(cnn, X)}
    assert list(found) == ["conv1", "pool1", "relu1", "conv2", "pool2", "relu2", "", "fc1", "relu3", "fc2"]
    assert found["conv2"].shape == (32, 4, 4)
    assert found["conv2"].units == 32
    assert found["conv2"].name == "3" == find_layer(cnn, X, "conv2").name == find_layer(cnn, X, "3").name


@pytest.mark.parametrize(
    ("part", "alias"),
    [
        (nn.ReLU(), "relu1"),
        (nn.ReLU6(), "relu1"),
        (nn.LeakyReLU(), "leakyrelu1"),
        (nn.Sigmoid(), "sigmoid1"),
        (nn.Tanh(), "tanh1"),
        (nn.GELU(), "gelu1"),
        (nn.SiLU(), "silu1"),
        (nn.ELU(), "elu1"),
        (nn.Hardswish(), "hardswish1"),
        (nn.Softplus(), "softplus1"),
    ],
)
def test_an_activation_function_is_named_after_what_it_is(part: nn.Module, alias: str) -> None:
    body = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), part, nn.Linear(4, 2))
    net = Classifier(body, name="n", input_shape=(1, 8, 8), num_classes=2)
    assert [layer.alias for layer in layers(net, X)] == ["", "fc1", alias, "fc2"]
    assert find_layer(net, X, alias).name == "2"


def test_each_kind_of_activation_function_is_counted_for_itself() -> None:
    parts = (nn.Sigmoid(), nn.ReLU(), nn.Sigmoid(), nn.ReLU())
    body = nn.Sequential(nn.Flatten(), *(part for one in parts for part in (nn.Linear(64, 64), one)), nn.Linear(64, 2))
    net = Classifier(body, name="n", input_shape=(1, 8, 8), num_classes=2)
    aliases = [layer.alias for layer in layers(net, X) if layer.kind in ("Sigmoid", "ReLU")]
    assert aliases == ["sigmoid1", "relu1", "sigmoid2", "relu2"]
    with pytest.raises(ModelError, match="got 'relu3'; did you mean relu2 or relu1"):
        find_layer(net, X, "relu3")


def test_activations_are_what_the_layer_returns(cnn: Classifier) -> None:
    body = cnn.network
    assert isinstance(body, nn.Sequential)
    assert torch.equal(activations(cnn, "3", X), body[:4](X))
    assert torch.allclose(responses(cnn, "3", X), body[:4](X).mean((2, 3)))
    assert torch.equal(responses(cnn, "3", X, at="max"), body[:4](X).amax((2, 3)))
    assert torch.equal(responses(cnn, "9", X), body(X))


def test_gradients_flow_from_a_layer_to_the_images(cnn: Classifier) -> None:
    x = X.clone().requires_grad_()
    (got,) = torch.autograd.grad(activations(cnn, "3", x)[:, 5].sum(), x)
    again = X.clone().requires_grad_()
    (want,) = torch.autograd.grad(cnn.network[:4](again)[:, 5].sum(), again)  # type: ignore[index]
    assert torch.equal(got, want)
    assert float(got.abs().max()) > 0


def test_what_an_activation_function_changes_in_place_is_told_as_the_layer_returned_it() -> None:
    body = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    net = Classifier(body, name="n", input_shape=(1, 8, 8), num_classes=2)
    assert torch.allclose(activations(net, "1", X), body[1](body[0](X)))


def test_a_module_with_the_name_of_a_kind_keeps_it() -> None:
    net = build(ResNet18(width=4), "r", (3, 16, 16), 10, seed=0)["r"].classifier("r", (3, 16, 16))
    x = torch.rand(2, 3, 16, 16)
    assert find_layer(net, x, "3.conv2").name == "3.conv2"
    assert find_layer(net, x, "conv1").name == "0"


def test_an_unknown_layer_is_refused_with_the_nearest(cnn: Classifier) -> None:
    with pytest.raises(ModelError, match=r"layer: must name a layer of cnn, got 'conv3'; did you mean conv\d"):
        find_layer(cnn, X, "conv3")
    with pytest.raises(ModelError, match="it has conv1, pool1"):
        find_layer(cnn, X, "quux")


def test_randomised_weights_depend_on_the_seed_alone(cnn: Classifier) -> None:
    before = [p.clone() for p in cnn.parameters()]
    state = torch.random.get_rng_state()
    randomise(cnn, 1)
    first = [p.clone() for p in cnn.parameters()]
    randomise(cnn, 1)
    assert all(torch.equal(a, b) for a, b in zip(first, cnn.parameters(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, before, strict=True))
    assert torch.equal(state, torch.random.get_rng_state())


def test_one_layer_can_be_randomised(cnn: Classifier) -> None:
    before = {name: p.clone() for name, p in cnn.named_parameters()}
    randomise(cnn.network, 1, only="3")
    changed = {name for name, p in cnn.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {"network.3.weight", "network.3.bias"}


def test_parameters_that_cannot_be_drawn_again_are_refused() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(1))

    with pytest.raises(ModelError, match="must have a reset_parameters"):
        randomise(nn.Sequential(Odd()), 0)


class Tokens(nn.Module):
    """Patches as tokens, and their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.mix = nn.Conv2d(1, 6, 4, 4), nn.Linear(6, 6)
        self.norm, self.head = nn.LayerNorm(6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patch(x).flatten(2).mT
        return self.head(self.norm(self.mix(tokens)).mean(1))


def test_tokens_are_not_taken_for_units() -> None:
    net = Classifier(Tokens(), name="t", input_shape=(1, 8, 8), num_classes=3)
    assert [layer.name for layer in layers(net, X)] == ["patch", "head"]
    assert [layer.name for layer in layers(net, X, every=True)] == ["patch", "mix", "norm", "head"]
    with pytest.raises(ModelError, match="of those that return values or maps of units"):
        find_layer(net, X, "norm")
