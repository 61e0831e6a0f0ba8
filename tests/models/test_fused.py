"""A network in one piece is the network, bit by bit, and autograd's gradient of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from attacks.apgd import APGD
from attacks.base import Attack
from attacks.fgsm import FGSM
from attacks.goal import Goal
from attacks.pgd import PGD
from attacks.rng import Rng
from attacks.threat import ThreatModel
from eval.meter import Meter
from eval.speed import in_one_piece
from models.classifier import Classifier
from models.fused import Fused, fuse
from models.reduced import Quick, Reduced, agrees

SHAPE = (2, 4, 3)
X = torch.rand(7, *SHAPE, generator=torch.Generator().manual_seed(0))
ACTIVATIONS = [nn.ReLU, nn.Sigmoid, nn.Tanh, nn.SiLU, nn.GELU, nn.LeakyReLU, nn.Identity]


def classifier(network: nn.Module, mean: float = 0.0, std: float = 1.0) -> Classifier:
    return Classifier(network, name="net", input_shape=SHAPE, num_classes=5, mean=[mean], std=[std])


def dense(*widths: int, activation: type[nn.Module] = nn.ReLU, seed: int = 0, bias: bool = True) -> nn.Module:
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Flatten()]
    before = 24
    for width in widths:
        layers += [nn.Linear(before, width, bias=bias), activation()]
        before = width
    return nn.Sequential(*layers, nn.Linear(before, 5, bias=bias))


def followed(network: nn.Module, x: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor]:
    leaf = x.clone().requires_grad_()
    logits = network(leaf)
    return logits.detach(), torch.autograd.grad(logits, leaf, cotangent)[0]


def in_pieces(found: Fused, x: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor]:
    logits, pull = found.vjp(x)
    return logits, pull(cotangent)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(2, 20), max_size=3), st.sampled_from(ACTIVATIONS), st.booleans(),
    st.sampled_from([(0.0, 1.0), (0.3, 0.2)]), st.integers(1, 9), st.sampled_from([torch.float32, torch.float64]),
    st.integers(0, 10**6),
)  # fmt: skip
def test_logits_and_gradients_are_those_of_autograd(widths, activation, bias, norm, rows, dtype, seed):
    net = classifier(dense(*widths, activation=activation, seed=seed, bias=bias), *norm).to(dtype)
    draw = torch.Generator().manual_seed(seed)
    x, cotangent = (torch.rand(rows, *of, generator=draw, dtype=dtype) for of in (SHAPE, (5,)))
    found = fuse(net, x)
    assert found is not None
    for mine, theirs in zip(in_pieces(found, x, cotangent), followed(net, x, cotangent), strict=True):
        assert mine.dtype == dtype
        assert torch.equal(mine, theirs)
    apart = torch.func.vjp(net, x)[1](cotangent)[0]
    assert torch.allclose(in_pieces(found, x, cotangent)[1], apart, rtol=1e-5, atol=1e-7)


def test_the_gradient_is_the_product_of_the_layers_written_out():
    net = classifier(dense(6, 8, activation=nn.Sigmoid).double(), 0.5, 0.25)
    x, c = X.double(), torch.linspace(-1, 1, 5, dtype=torch.float64).expand(7, 5)
    found = fuse(net, x)
    assert found is not None
    first, second, last = ((m.weight.numpy(), m.bias.numpy()) for m in net.modules() if isinstance(m, nn.Linear))
    h0 = (x.flatten(1).numpy() - 0.5) / 0.25
    h1 = 1 / (1 + np.exp(-(h0 @ first[0].T + first[1])))
    h2 = 1 / (1 + np.exp(-(h1 @ second[0].T + second[1])))
    g = (c.numpy() @ last[0]) * h2 * (1 - h2)
    g = (g @ second[0]) * h1 * (1 - h1)
    logits, gradient = in_pieces(found, x, c)
    np.testing.assert_allclose(logits, h2 @ last[0].T + last[1], rtol=1e-12)
    np.testing.assert_allclose(gradient.flatten(1), g @ first[0] / 0.25, rtol=1e-12)


class Written(nn.Module):
    """Layers as people write them."""

    def __init__(self, way: str) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.way, self.first, self.middle, self.last = way, nn.Linear(24, 9), nn.Linear(9, 9), nn.Linear(9, 5)
        self.drop, self.act = nn.Dropout(0.4), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        if self.way == "view":
            x = x.view(x.size(0), -1)
        elif self.way == "shape":
            x = x.reshape(x.shape[0], 24)
        elif self.way == "number":
            x = x.view(-1, 24)
        else:
            x = torch.flatten(x, start_dim=1)
        x = self.drop(self.act(self.first(x)))
        x = {"view": F.relu, "shape": torch.tanh, "number": torch.sigmoid}.get(self.way, lambda u: u.relu())(
            self.middle(x)
        )
        return self.last(x)


@pytest.mark.parametrize("way", ["view", "shape", "number", "flatten"])
def test_it_is_found_however_it_is_written(way):
    net = classifier(Written(way))
    found = fuse(net, X)
    assert found is not None
    cotangent = torch.ones(7, 5)
    for mine, theirs in zip(in_pieces(found, X, cotangent), followed(net, X, cotangent), strict=True):
        assert torch.equal(mine, theirs)


class Past(nn.Module):
    """A way past a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(24, 9), nn.Linear(9, 9), nn.Linear(9, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.flatten(1))
        return self.last(x + self.middle(x))


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        return 3 * self.last(x.flatten(1))


class Bright(Scaled):
    """Decides by what it sees, which no trace shows."""

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x.flatten(1)) if x.mean() > 0.1 else self.last(x.flatten(1)) * 2


class Guided(Scaled):
    """Offers another network to follow the gradients of."""

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x.flatten(1))

    def differentiable(self, x: Tensor) -> Tensor:
        return self.last(x.flatten(1)).tanh()


class Other(Guided):
    """Weights that a wrapper computes of others."""

    def __init__(self) -> None:
        super().__init__()
        self.last = parametrizations.weight_norm(self.last)


Other.differentiable = None  # type: ignore[assignment, method-assign]


class Columns(nn.Module):
    """Flattened another way."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x.transpose(1, 3).flatten(1))


def hooked() -> nn.Module:
    net = dense(4)
    net[1].register_forward_hook(lambda module, inputs, output: output * 2)
    return net


OTHERS = {
    "a way past": Past(),
    "scaled": Scaled(),
    "decides": Bright(),
    "a stand-in": Guided(),
    "weights of others": Other(),
    "flattened another way": Columns(),
    "a hook": hooked(),
    "two activations": nn.Sequential(nn.Flatten(), nn.Linear(24, 5), nn.ReLU(), nn.Tanh()),
    "an activation of images": nn.Sequential(nn.Flatten(), nn.Tanh(), nn.Linear(24, 5)),
    "softmax": nn.Sequential(nn.Flatten(), nn.Linear(24, 5), nn.Softmax(1)),
    "a norm": nn.Sequential(nn.Flatten(), nn.Linear(24, 5), nn.LayerNorm(5)),
    "convolutions": nn.Sequential(nn.Conv2d(2, 3, 1), nn.Flatten(), nn.Linear(36, 5)),
    "columns": nn.Sequential(nn.Linear(3, 2), nn.Flatten(), nn.Linear(16, 5)),
    "one unit": dense(1),
    "nothing dense": nn.Sequential(nn.Flatten(), nn.ReLU()),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_something_else_stays_as_it_is(name):
    assert fuse(classifier(OTHERS[name]), X) is None


def test_a_network_that_drops_units_when_asked_stays_as_it_is():
    net = classifier(Written("view"))
    net.network.drop.train()
    assert fuse(net, X) is None


def test_a_form_that_differs_in_one_bit_is_not_used(monkeypatch):
    net = classifier(dense(6))
    assert fuse(net, X) is not None
    pulled = Classifier.pulled
    monkeypatch.setattr(Classifier, "pulled", lambda self, g: torch.nextafter(pulled(self, g), torch.tensor(2.0)))
    assert fuse(net, X) is None


def test_the_network_stays_as_it_was_and_is_asked_as_before():
    net = classifier(dense(6))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = fuse(net, X)
    assert found is not None
    cotangent = torch.ones(7, 5)
    found.vjp(X)[1](cotangent)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(found(X), net(X))
    assert torch.equal(followed(found, X, cotangent)[1], followed(net, X, cotangent)[1])
    assert found.stand_in() is None


@pytest.mark.parametrize("restarts", [1, 2])
@pytest.mark.parametrize("early_stop", [False, True])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_searches_find_the_same_at_the_same_cost(norm, early_stop, restarts):
    found_by(PGD(early_stop=early_stop, restarts=restarts), norm)


@pytest.mark.parametrize("attack", [FGSM(), APGD(), PGD(momentum=0.9)], ids=["fgsm", "apgd", "momentum"])
def test_other_searches_do_as_well(attack):
    found_by(attack, "linf")


def found_by(attack: Attack, norm: str) -> None:
    net = classifier(dense(16, 16, activation=nn.Tanh), 0.4, 0.3)
    goal, threat = Goal(net(X).argmax(1)), ThreatModel(norm, 0.05 if norm == "linf" else 0.2)
    fused = fuse(net, X)
    assert fused is not None
    pulses: list[list[int]] = [[], []]
    meters = [
        Meter(network, len(X), X.device, lambda heard=heard: heard.append(1))
        for network, heard in zip((net, fused), pulses, strict=True)
    ]
    rng = Rng.of(0, [], map(str, range(len(X))))
    plain, mine = (attack(meter, X, goal, threat, rng=rng) for meter in meters)
    assert torch.equal(plain, mine)
    assert torch.equal(meters[0].forwards, meters[1].forwards)
    assert torch.equal(meters[0].backwards, meters[1].backwards)
    assert int(meters[1].backwards.sum()) > 0
    assert len(pulses[0]) == len(pulses[1]) > 0


def test_a_meter_refuses_rows_that_are_not_there():
    fused = fuse(classifier(dense(6)), X)
    assert fused is not None
    some = Meter(fused, len(X), X.device).rows(torch.arange(3))
    with pytest.raises(ValueError, match="one sample per row, got 3 for 7 rows"):
        some.vjp(X)


def test_its_form_in_16_bits_is_in_one_piece_too():
    net = classifier(dense(16, 16), 0.4, 0.3)
    reduced = Reduced(net)
    assert reduced.vjp(X) is None
    cotangent = torch.ones(7, 5)
    theirs = followed(reduced, X, cotangent)
    whole = in_one_piece(net, reduced, X)
    assert reduced.exact() is whole
    assert isinstance(reduced.quick, Fused)
    assert isinstance(reduced.quick.network, Quick)
    known = reduced.vjp(X)
    assert known is not None
    for mine, other in zip((known[0], known[1](cotangent)), theirs, strict=True):
        assert mine.dtype == torch.float32
        assert torch.equal(mine, other)
    assert torch.equal(reduced(X), net(X))
    assert agrees(net, reduced, X)


def test_convolutions_have_no_such_form_anywhere():
    net = classifier(nn.Sequential(nn.Conv2d(2, 3, 1), nn.Flatten(), nn.Linear(36, 5)))
    reduced = Reduced(net)
    assert in_one_piece(net, reduced, X) is None
    assert reduced.exact() is net
