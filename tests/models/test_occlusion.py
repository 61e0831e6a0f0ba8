"""Occlusion, deletion and insertion: naive loops, closed forms, and a network of which is known where it looks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models.classifier import Classifier
from models.convnets import CNN
from models.deletion import area, blur_of, deletion, exchanged, gradient_map, insertion, order
from models.errors import ModelError
from models.occlusion import Squares, occlusion
from models.spec import build

X = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def cnn() -> Classifier:
    return build(CNN(), "cnn", (1, 8, 8), 10, seed=0)["cnn"].classifier("cnn", (1, 8, 8))


def looking_at(rows: slice, columns: slice, side: int = 12) -> Classifier:
    """A network whose class 1 is what is light in one place, and class 0 the rest."""
    layer = nn.Linear(side * side, 2)
    seen = torch.zeros(side, side)
    seen[rows, columns] = 20.0 / seen[rows, columns].numel()
    layer.weight.data = torch.stack([torch.zeros(side * side), seen.flatten()])
    layer.bias.data = torch.tensor([0.0, -15.0])
    return Classifier(nn.Sequential(nn.Flatten(), layer), name="n", input_shape=(1, side, side), num_classes=2)


def test_occlusion_is_the_naive_loop(cnn):
    squares = Squares.over(8, 8, 3, 2)
    found = occlusion(cnn, X, squares, 0.5, 4, "3")
    body = cnn.network
    channel = int(body[:4](X[None]).sum((2, 3))[0].argmax())
    assert found.channel == channel
    for i, top in enumerate((0, 2, 4, 5)):
        for j, left in enumerate((0, 2, 4, 5)):
            x = X.clone()
            for row in range(top, top + 3):
                for column in range(left, left + 3):
                    x[0, row, column] = 0.5
            p = cnn(x[None])[0].softmax(0)
            torch.testing.assert_close(found.logs[i, j].exp().float(), p, atol=1e-6, rtol=0)
            assert int(found.likeliest[i, j]) == int(p.argmax())
            torch.testing.assert_close(found.strongest[i, j], body[:4](x[None])[0, channel].sum(), atol=1e-5, rtol=0)
    watched = occlusion(cnn, X, squares, 0.5, 4, "3", channel=5)
    torch.testing.assert_close(watched.strongest[0, 0], body[:4](squares.hidden(X, 0.5, 0, 1))[0, 5].sum())
    torch.testing.assert_close(found.probability(4).float(), found.logs[..., 4].exp().float())


def test_maps_do_not_depend_on_the_batch_size(cnn):
    squares = Squares.over(8, 8, 2, 1)
    one, many = (occlusion(cnn, X, squares, 0.5, size, "7") for size in (1, 64))
    torch.testing.assert_close(one.logs, many.logs, atol=1e-6, rtol=0)
    torch.testing.assert_close(one.strongest, many.strongest, atol=1e-6, rtol=0)


@settings(max_examples=25, deadline=None)
@given(st.integers(3, 12), st.integers(3, 12), st.integers(1, 3), st.data())
def test_every_pixel_is_covered_and_gets_the_mean_of_its_squares(height, width, side, data):
    stride = data.draw(st.integers(1, side))
    squares = Squares.over(height, width, side, stride)
    values = torch.rand(squares.shape, generator=torch.Generator().manual_seed(height * width))
    spread = squares.spread(values)
    for row in range(height):
        for column in range(width):
            over = [
                values[i, j]
                for i, top in enumerate(squares.tops)
                for j, left in enumerate(squares.lefts)
                if top <= row < top + side and left <= column < left + side
            ]
            torch.testing.assert_close(spread[row, column], torch.stack(over).mean())


@settings(max_examples=10, deadline=None)
@given(st.integers(2, 7), st.integers(2, 7))
def test_the_patch_that_a_network_looks_at_is_found(top, left):
    rows, columns = slice(top, top + 3), slice(left, left + 3)
    net, x = looking_at(rows, columns), torch.ones(1, 12, 12)
    found = occlusion(net, x, Squares.over(12, 12, 3, 1), 0.5, 64).importance(1)
    assert torch.argmax(found) == (top + 1) * 12 + left + 1
    far = torch.ones(12, 12, dtype=torch.bool)
    far[max(0, top - 4) : top + 7, max(0, left - 4) : left + 7] = False
    assert float(found[far].abs().max() if far.any() else 0) == 0


def test_curves_of_the_true_map_beat_those_of_random_ones():
    net, x = looking_at(slice(2, 5), slice(6, 9)), torch.ones(1, 12, 12)
    x[:, :2] = 0.0
    truth = occlusion(net, x, Squares.over(12, 12, 3, 1), 0.0, 64).importance(1)
    mixed = torch.rand(20, 12, 12, generator=torch.Generator().manual_seed(0))
    deleted = [float(area(deletion(net, x, 1, order(m, 0), 0.0, 24, 16))) for m in (truth, *mixed)]
    inserted = [float(area(insertion(net, x, 1, order(m, 0), 24, 16))) for m in (truth, *mixed)]
    assert deleted[0] < min(deleted[1:])
    assert inserted[0] > max(inserted[1:]) - 1e-9


def test_a_network_that_always_says_the_same_has_flat_curves_and_empty_maps():
    layer = nn.Linear(64, 3)
    layer.weight.data.zero_()
    layer.bias.data = torch.tensor([0.0, 1.0, 2.0])
    net = Classifier(nn.Sequential(nn.Flatten(), layer), name="n", input_shape=(1, 8, 8), num_classes=3)
    p = float(torch.tensor([0.0, 1.0, 2.0]).softmax(0)[1])
    found = occlusion(net, X, Squares.over(8, 8, 2, 2), 0.5, 16)
    assert float(found.importance(1).abs().max()) < 1e-12
    ranked = order(found.importance(1), 0)
    for curve in (deletion(net, X, 1, ranked, 0.5, 10, 4), insertion(net, X, 1, ranked, 10, 4)):
        assert curve.tolist() == pytest.approx([p] * 11)
        assert float(area(curve)) == pytest.approx(p)
    assert float(gradient_map(net, X[None], torch.tensor([1])).abs().max()) == 0


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 9), st.integers(0, 99))
def test_pixels_are_exchanged_in_order_and_in_equal_shares(height, width, steps, seed):
    draw = torch.Generator().manual_seed(seed)
    first, then = torch.zeros(2, height, width), torch.ones(2, height, width)
    importance = torch.rand(height, width, generator=draw)
    ranked = order(importance, seed)
    path = exchanged(first, then, ranked, steps)
    assert torch.equal(path[0], first)
    assert torch.equal(path[-1], then)
    assert importance.flatten()[ranked].diff().le(0).all()
    for step, one in enumerate(path):
        gone = one[0].bool()
        assert torch.equal(one[0], one[1])
        assert int(gone.sum()) == round(height * width * step / steps)
        if gone.any() and not gone.all():
            assert importance[gone].min() >= importance[~gone].max()


def test_equal_pixels_go_in_a_random_order():
    flat = torch.zeros(6, 6)
    assert sorted(order(flat, 0).tolist()) == list(range(36))
    assert order(flat, 0).tolist() == order(flat, 0).tolist() != order(flat, 1).tolist()
    assert order(flat, 0).tolist() != list(range(36))


def test_curves_begin_and_end_with_the_images_they_stand_for(cnn):
    ranked = order(torch.rand(8, 8), 0)
    p = cnn(torch.stack([X, torch.full_like(X, 0.5), blur_of(X)])).softmax(1)[:, 3].double()
    down, up = deletion(cnn, X, 3, ranked, 0.5, 7, 3), insertion(cnn, X, 3, ranked, 7, 3)
    torch.testing.assert_close(torch.stack([down[0], down[-1], up[0], up[-1]]), p[[0, 1, 2, 0]], atol=1e-6, rtol=0)


def test_the_gradient_of_a_linear_network_is_its_weights():
    layer = nn.Linear(3 * 16, 4)
    net = Classifier(nn.Sequential(nn.Flatten(), layer), name="n", input_shape=(3, 4, 4), num_classes=4)
    labels = torch.tensor([2, 0])
    found = gradient_map(net, torch.rand(2, 3, 4, 4), labels)
    assert torch.equal(found, layer.weight.detach().view(4, 3, 4, 4)[labels].abs().amax(1))


def test_a_square_that_does_not_fit_or_leaves_gaps_is_refused():
    with pytest.raises(ModelError, match=r"occlusion.side: must be in 1..8, the image's sides, got 9"):
        Squares.over(8, 12, 9, 1)
    with pytest.raises(ModelError, match=r"occlusion.stride: must be in 1..3, the side of the square, got 4"):
        Squares.over(8, 8, 3, 4)


def test_a_layer_that_takes_no_part_is_named():
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(64, 2), nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x.flatten(1))

    net = Classifier(Idle(), name="n", input_shape=(1, 8, 8), num_classes=2)
    with pytest.raises(ModelError, match="layer: idle of n must take part in its forward pass"):
        occlusion(net, X, Squares.over(8, 8, 2, 2), 0.5, 4, "idle")
