from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models.errors import ModelError
from models.paper import MLP, Softmax
from models.spec import Network, build


def one(spec: Softmax | MLP, shape: tuple[int, int, int] = (1, 8, 8)) -> Network:
    return build(spec, "m", shape, 10, seed=0)["m"]


def decay(network: Network) -> float:
    assert network.penalty is not None
    return network.penalty().item()


def weights(network: Network) -> list[nn.Linear]:
    return [m for m in network.module.modules() if isinstance(m, nn.Linear)]


def test_softmax_regression_is_one_linear_layer() -> None:
    network = one(Softmax())
    (layer,) = weights(network)
    x = torch.rand(3, 1, 8, 8)
    assert torch.allclose(network.module(x), x.flatten(1) @ layer.weight.T + layer.bias)


@pytest.mark.parametrize(("form", "factor"), [("half", 0.5), ("full", 1.0), ("per_unit", 0.1)])
def test_decay_of_softmax_regression_in_each_form(form: str, factor: float) -> None:
    network = one(Softmax(decay=0.2, decay_form=form))
    (layer,) = weights(network)
    expected = 0.2 * factor * sum(w**2 for w in layer.weight.flatten().tolist())
    assert decay(network) == pytest.approx(expected, rel=1e-5)


def test_decay_has_the_gradient_lambda_w() -> None:
    network = one(Softmax(decay=0.2))
    (layer,) = weights(network)
    assert network.penalty is not None
    network.penalty().backward()
    assert layer.weight.grad is not None
    assert torch.allclose(layer.weight.grad, 0.2 * layer.weight)


def test_decay_of_an_mlp_is_one_value_a_layer() -> None:
    network = one(MLP(widths=[5, 4], decay=[1.0, 2.0, 4.0]))
    expected = sum(s * m.weight.square().sum().item() / 2 for s, m in zip((1, 2, 4), weights(network), strict=True))
    assert decay(network) == pytest.approx(expected, rel=1e-5)


def test_one_decay_serves_all_layers() -> None:
    single, each = one(MLP(widths=[5], decay=[2.0])), one(MLP(widths=[5], decay=[2.0, 2.0]))
    assert decay(single) == decay(each)


def test_no_decay_is_no_penalty() -> None:
    assert one(Softmax(decay=0.0)).penalty is None


@settings(deadline=None, max_examples=20)
@given(
    widths=st.lists(st.integers(1, 20), max_size=3),
    channels=st.sampled_from([1, 3]),
    relu=st.booleans(),
    drop=st.booleans(),
)
def test_mlp_has_the_layers_that_were_asked_for(widths: list[int], channels: int, relu: bool, drop: bool) -> None:
    spec = MLP(widths=widths, activation="relu" if relu else "sigmoid", dropout=0.5 if drop else 0.0, decay=[1e-5])
    network = one(spec, (channels, 8, 8))
    sizes = [(m.in_features, m.out_features) for m in weights(network)]
    assert sizes == list(zip([64 * channels, *widths], [*widths, 10], strict=True))
    assert sum(isinstance(m, nn.ReLU if relu else nn.Sigmoid) for m in network.module) == len(widths)  # type: ignore[union-attr]
    assert network.module(torch.rand(2, channels, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"widths": [0]}, "widths"),
        ({"activation": "tanh"}, "sigmoid, relu"),
        ({"dropout": 1.0}, "dropout"),
        ({"decay": [1.0, 2.0]}, "one for each of 3 layers"),
        ({"decay": [-1.0]}, ">= 0"),
        ({"decay_form": "l2"}, "half, full, per_unit"),
    ],
)
def test_wrong_hyper_parameters_are_named(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        MLP(**wrong)  # type: ignore[arg-type]


def test_normalisation_must_fit_the_channels() -> None:
    with pytest.raises(ModelError, match="1 or 3 values"):
        one(Softmax(mean=[0.1, 0.2]), (3, 8, 8))


def test_initialisation_depends_on_seed_and_name_alone() -> None:
    def first(name: str, seed: int) -> torch.Tensor:
        torch.manual_seed(99)
        return next(build(Softmax(), name, (1, 8, 8), 10, seed=seed)[name].module.parameters())

    torch.rand(5)
    assert torch.equal(first("a", 0), first("a", 0))
    assert not torch.equal(first("a", 0), first("b", 0))
    assert not torch.equal(first("a", 0), first("a", 1))


def test_building_leaves_the_global_random_state() -> None:
    before = torch.get_rng_state()
    one(MLP())
    assert torch.equal(torch.get_rng_state(), before)
