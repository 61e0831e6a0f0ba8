"""A network that is replayed for a few batch sizes answers as it does itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models.graphed import SIZES, Graphed, Network

NET = nn.Sequential(nn.Flatten(), nn.Linear(12, 9), nn.Tanh(), nn.Linear(9, 4)).requires_grad_(False)


class Replayed:
    """Stands for a graph: one shape, and the same memory for all its answers and gradients."""

    def __init__(self) -> None:
        self.shapes: list[torch.Size] = []

    def __call__(self, network: Network, x: Tensor) -> Network:
        assert x.requires_grad
        self.shapes.append(x.shape)
        out, back = torch.empty(len(x), 4), torch.empty_like(x)

        class Replay(torch.autograd.Function):
            @staticmethod
            def forward(ctx, images):
                assert images.shape == x.shape
                ctx.save_for_backward(images)
                return out.copy_(network(images.detach())).detach()

            @staticmethod
            def backward(ctx, cotangent):
                (images,) = ctx.saved_tensors
                with torch.enable_grad():
                    leaf = images.detach().requires_grad_()
                    (found,) = torch.autograd.grad(network(leaf), leaf, cotangent)
                return back.copy_(found).detach()

        return Replay.apply


def of(network: Network, x: Tensor) -> tuple[Tensor, Tensor]:
    leaf = x.clone().requires_grad_()
    z = network(leaf)
    (gradient,) = torch.autograd.grad(z, leaf, torch.linspace(-1, 1, z.numel()).view_as(z))
    return z.detach(), gradient


@pytest.mark.parametrize("batch", [1, 7, 8, 9, 33, 256, 257])
def test_answers_and_gradients_are_those_of_the_network(batch):
    x = torch.rand(batch, 3, 2, 2, generator=torch.Generator().manual_seed(batch))
    for ours, theirs in zip(of(Graphed(NET, Replayed(), "cpu"), x), of(NET, x), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_a_later_replay_leaves_earlier_answers_alone():
    graphed = Graphed(NET, Replayed(), "cpu")
    z, gradient = of(graphed, torch.rand(8, 3, 2, 2))
    before = z.clone(), gradient.clone()
    of(graphed, torch.rand(8, 3, 2, 2))
    assert torch.equal(z, before[0])
    assert torch.equal(gradient, before[1])


def test_few_sizes_are_captured_and_each_once():
    replayed = Replayed()
    graphed = Graphed(NET, replayed, "cpu")
    for batch in [*range(1, 40), *range(1, 40), 300]:
        of(graphed, torch.rand(batch, 3, 2, 2))
    assert [shape[0] for shape in replayed.shapes] == [8, 16, 32, 64]
    assert list(SIZES) == sorted(SIZES)


def test_without_a_gradient_and_elsewhere_nothing_is_captured():
    replayed = Replayed()
    with torch.no_grad():
        Graphed(NET, replayed, "cpu")(torch.rand(3, 3, 2, 2).requires_grad_())
    Graphed(NET, replayed, "cpu")(torch.rand(3, 3, 2, 2))
    of(Graphed(NET, replayed), torch.rand(3, 3, 2, 2))
    assert replayed.shapes == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_it_is_the_network():
    net = NET.cuda()
    try:
        for batch in (5, 20, 5):
            x = torch.rand(batch, 3, 2, 2, device="cuda")
            for ours, theirs in zip(of(Graphed(net), x), of(net, x), strict=True):
                assert torch.allclose(ours, theirs, atol=1e-5)
    finally:
        NET.cpu()
