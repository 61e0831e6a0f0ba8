from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.compact import Compact
from models.errors import ModelError
from models.spec import build


@settings(deadline=None, max_examples=10)
@given(
    side=st.integers(8, 40),
    channels=st.sampled_from([1, 3]),
    widths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
)
def test_any_size_gives_logits(side: int, channels: int, widths: list[int]) -> None:
    network = build(Compact(widths=widths), "m", (channels, side, side + 1), 7, seed=0)["m"]
    assert network.module(torch.rand(2, channels, side, side + 1)).shape == (2, 7)


def test_each_width_but_the_last_halves_the_image() -> None:
    module = build(Compact(), "m", (3, 64, 64), 10, seed=0)["m"].module
    shapes = []
    for layer in module.children():
        layer.register_forward_hook(lambda layer, x, y: shapes.append((type(layer).__name__, tuple(y.shape[1:]))))
    module(torch.rand(2, 3, 64, 64))
    sizes = [shape for kind, shape in shapes if kind == "ReLU"]
    assert sizes == [(16, 32, 32), (32, 16, 16), (64, 8, 8), (96, 4, 4), (128, 4, 4)]


def test_to_pool_before_the_relu_gives_the_same() -> None:
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(torch.max_pool2d(x, 2).relu(), torch.max_pool2d(x.relu(), 2))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"widths": []}, "widths: must be one or more"),
        ({"widths": [4, 0]}, "widths: must be one or more"),
        ({"stem": 4}, "stem: must be odd"),
        ({"std": [0.0]}, "std: must be > 0"),
    ],
)
def test_what_makes_no_network_is_refused(fields: dict[str, list[int]], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        build(Compact(**fields), "m", (3, 64, 64), 10, seed=0)


def test_too_small_images_are_refused() -> None:
    with pytest.raises(ModelError, match="at least 16 pixels a side, got 4 x 64"):
        build(Compact(), "m", (3, 4, 64), 10, seed=0)
