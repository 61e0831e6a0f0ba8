"""Searched in 16 bits, asked in 32."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from attacks.goal import Goal
from attacks.pgd import PGD
from attacks.rng import Rng
from attacks.threat import ThreatModel
from models.classifier import Classifier
from models.convnets import CNN
from models.reduced import Reduced, agrees
from models.spec import build

X = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def net() -> Classifier:
    return build(CNN(mean=[0.3], std=[0.4]), "cnn", (1, 8, 8), 10, seed=0)["cnn"].classifier("cnn", (1, 8, 8))


def test_without_a_gradient_it_is_the_network_itself(net):
    with torch.no_grad():
        assert torch.equal(Reduced(net)(X.clone().requires_grad_()), net(X))
    assert torch.equal(Reduced(net)(X), net(X))


def test_logits_and_gradients_in_16_bits_are_near(net):
    def of(network: nn.Module) -> tuple[Tensor, Tensor]:
        leaf = X.clone().requires_grad_()
        z = network(leaf)
        (g,) = torch.autograd.grad(z[:, 3].sum(), leaf)
        return z.detach(), g

    (z, g), (quick, about) = of(net), of(Reduced(net))
    assert quick.dtype == about.dtype == torch.float32
    assert not torch.equal(z, quick)
    assert torch.allclose(z, quick, atol=0.02 * float(z.abs().max()))
    assert float(torch.cosine_similarity(g.flatten(1), about.flatten(1)).min()) > 0.95


def test_the_network_is_left_as_it_was(net):
    before = [p.clone() for p in net.parameters()]
    Reduced(net)(X.clone().requires_grad_())
    assert all(torch.equal(a, b) and b.dtype == torch.float32 for a, b in zip(before, net.parameters(), strict=True))


def test_a_search_in_16_bits_breaks_what_holds_in_32(net):
    labels, threat = net(X).argmax(1), ThreatModel("linf", 0.2)
    rng = Rng.of(0, [], map(str, range(len(X))))
    found = PGD(steps=20)(Reduced(net), X, Goal(labels), threat, rng=rng)
    exact = PGD(steps=20)(net, X, Goal(labels), threat, rng=rng)
    assert int((net(found).argmax(1) != labels).sum()) >= int((net(exact).argmax(1) != labels).sum()) - 1


class Wide(nn.Module):
    """Values that 16 bits cannot tell apart."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x.flatten(1).mean(1)
        return torch.stack([1000 + mean, 1000.5 + 0 * mean], 1) if x.dtype == torch.bfloat16 else torch.stack(
            [mean, 0.9 + 0 * mean], 1
        )  # fmt: skip


class Constant(nn.Module):
    """A constant in 32 bits that is no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.w = torch.rand(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.w


def test_networks_that_16_bits_change_are_told(net):
    assert agrees(net, Reduced(net), X)
    for module in (Wide(), Constant()):
        odd = Classifier(module, name="odd", input_shape=(1, 8, 8), num_classes=2)
        assert not agrees(odd, Reduced(odd), X)
