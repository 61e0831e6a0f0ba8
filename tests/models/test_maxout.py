"""Maxout layers against a loop, and the networks of them that the papers train."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models.errors import ModelError
from models.maxout import Maxout, MaxoutLayer
from models.spec import Network, build


def one(spec: Maxout, shape: tuple[int, int, int] = (1, 4, 4)) -> Network:
    return build(spec, "m", shape, 10, seed=0)["m"]


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(0, 99))
def test_a_unit_is_the_greatest_of_its_pieces(inputs: int, units: int, pieces: int, seed: int) -> None:
    torch.manual_seed(seed)
    layer = MaxoutLayer(inputs, units, pieces)
    x = torch.randn(3, inputs)
    w, b = layer.linear.weight.view(pieces, units, inputs), layer.linear.bias.view(pieces, units)
    naive = torch.stack([torch.stack([w[j] @ row + b[j] for j in range(pieces)]).max(0).values for row in x])
    torch.testing.assert_close(layer(x), naive)


def test_two_opposite_pieces_are_the_absolute_value() -> None:
    layer = MaxoutLayer(1, 1, 2)
    with torch.no_grad():
        layer.linear.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        layer.linear.bias.zero_()
    x = torch.tensor([[-2.0], [0.5]])
    torch.testing.assert_close(layer(x), x.abs())


def test_the_network_is_convex_up_to_its_last_layer_and_piecewise_linear() -> None:
    module = one(Maxout([6], pieces=3)).module.eval()
    hidden = module[:-1]  # type: ignore[index]
    a, b = torch.rand(2, 20, 1, 4, 4)
    assert (hidden((a + b) / 2) <= (hidden(a) + hidden(b)) / 2 + 1e-6).all()


def test_dropout_acts_on_pixels_and_units_while_training_alone() -> None:
    spec = Maxout([8, 8], input_dropout=0.2, dropout=0.5)
    module, x = one(spec).module, torch.rand(2, 1, 4, 4)
    assert [m.p for m in module.modules() if isinstance(m, nn.Dropout)] == [0.2, 0.5, 0.5]
    assert not torch.equal(module.train()(x), module(x))
    assert torch.equal(module.eval()(x), module(x))


def test_the_network_of_the_paper_has_its_sizes() -> None:
    network = one(Maxout(), (1, 28, 28))
    assert sum(p.numel() for p in network.module.parameters()) == (784 + 1) * 1200 + (240 + 1) * 1200 + 241 * 10
    assert network.description == "maxout network 240-240, 5 pieces"
    assert "pieces=5" in str(network.module)  # the name of a checkpoint depends on it


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"widths": []}, r"Maxout.widths: must be one layer or more, of >= 1 unit each, got \[\]"),
        ({"widths": [3, 0]}, "Maxout.widths"),
        ({"pieces": 0}, "Maxout.pieces: must be >= 1, got 0"),
        ({"dropout": 1.0}, r"Maxout.dropout: must be in \[0, 1\), got 1"),
        ({"input_dropout": -0.1}, "Maxout.input_dropout"),
    ],
)
def test_bad_hyper_parameters_are_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        Maxout(**change)  # type: ignore[arg-type]
