"""A network in one piece is the network, bit by bit, and autograd's gradient of it."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from attacks.apgd import APGD
from attacks.base import Attack, differentiated
from attacks.fgsm import FGSM
from attacks.goal import Goal
from attacks.losses import logits_and_gradient, loss_named
from attacks.pgd import PGD
from attacks.rng import Rng
from attacks.threat import ThreatModel
from eval.meter import Meter
from eval.speed import in_one_piece
from models.classifier import Classifier
from models.fused import Fused, fuse
from models.quick import Quick
from models.reduced import Reduced, agrees

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


class Own(nn.Module):
    """Dense layers in a forward of somebody's own, which may do anything beside."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x.flatten(1))


class Clamped(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).clamp(max=9)


def with_hook(kind: str) -> nn.Module:
    """Somebody looks, and changes nothing."""
    net = dense(4)
    getattr(net[1], f"register_{kind}")(lambda *_: None)
    return net


def with_forward() -> nn.Module:
    net = dense(4)
    forward = net[1].forward
    net[1].forward = lambda x: forward(x).clamp(max=9)
    return net


class Kind(torch.Tensor):
    """A tensor that might do its products otherwise, as quantised ones do."""


def with_weight(layer: nn.Linear, name: str) -> nn.Linear:
    setattr(layer, name, nn.Parameter(getattr(layer, name).detach().as_subclass(Kind)))
    return layer


def with_stand_in() -> nn.Module:
    net = dense(4)
    net.differentiable = net.forward
    return net


OTHERS: dict[str, nn.Module] = {
    "a forward of its own": Own(),
    "a layer of its own": nn.Sequential(nn.Flatten(), Clamped(24, 5)),
    "weights of others": nn.Sequential(nn.Flatten(), parametrizations.weight_norm(nn.Linear(24, 5))),
    **{kind: with_hook(kind) for kind in (
        "forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook"
    )},
    "a forward put in its place": with_forward(),
    "dropout that drops": nn.Sequential(nn.Flatten(), nn.Linear(24, 5), nn.Dropout(1e-9)),
    "two activations": nn.Sequential(nn.Flatten(), nn.Linear(24, 5), nn.ReLU(), nn.Tanh()),
    "an activation of images": nn.Sequential(nn.Flatten(), nn.Tanh(), nn.Linear(24, 5)),
    "softmax": nn.Sequential(nn.Flatten(), nn.Linear(24, 5), nn.Softmax(1)),
    "a norm": nn.Sequential(nn.Flatten(), nn.Linear(24, 5), nn.LayerNorm(5)),
    "convolutions": nn.Sequential(nn.Conv2d(2, 3, 1), nn.Flatten(), nn.Linear(36, 5)),
    "columns": nn.Sequential(nn.Linear(3, 2), nn.Flatten(), nn.Linear(16, 5)),
    "flattened in part": nn.Sequential(nn.Flatten(2), nn.Linear(12, 5)),
    "flattened in front": nn.Sequential(nn.Flatten(1, 2), nn.Linear(3, 5)),
    "weights of another kind": nn.Sequential(nn.Flatten(), with_weight(nn.Linear(24, 5), "weight")),
    "biases of another kind": nn.Sequential(nn.Flatten(), with_weight(nn.Linear(24, 5), "bias")),
    "a stand-in": with_stand_in(),
    "one unit": dense(1),
    "nothing dense": nn.Sequential(nn.Flatten(), nn.ReLU()),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_something_else_stays_as_it_is(name, monkeypatch):
    net = classifier(OTHERS[name])
    if name == "dropout that drops":
        net.network.train()
    monkeypatch.setattr("models.fused._same", lambda *_: True)  # by its structure, not by what it answers
    assert fuse(net, X) is None


def test_a_classifier_that_somebody_changed_or_watches_stays_as_it_is(monkeypatch):
    class Another(Classifier):
        pass

    monkeypatch.setattr("models.fused._same", lambda *_: True)
    net = classifier(dense(4))
    assert fuse(net, X) is not None
    net.register_forward_hook(lambda *_: None)
    assert fuse(net, X) is None
    assert fuse(Another(dense(4), name="net", input_shape=SHAPE, num_classes=5), X) is None


@pytest.mark.parametrize("kind", ["forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook"])
def test_where_somebody_watches_all_modules_none_is_taken(kind, monkeypatch):
    monkeypatch.setattr("models.fused._same", lambda *_: True)
    hook = getattr(nn.modules.module, f"register_module_{kind}")(lambda *_: None)
    try:
        assert fuse(classifier(dense(4)), X) is None
    finally:
        hook.remove()
    assert fuse(classifier(dense(4)), X) is not None


def test_weights_that_change_are_followed():
    net = classifier(dense(6))
    fused = fuse(net, X)
    assert fused is not None
    cotangent = torch.ones(7, 5)
    before = fused.vjp(X)[0]
    with torch.no_grad():
        net.network[1].weight.mul_(0.5)
    net.network[3].bias = nn.Parameter(torch.arange(5.0))
    net.network[1].weight.requires_grad_()
    for mine, theirs in zip(in_pieces(fused, X, cotangent), followed(net, X, cotangent), strict=True):
        assert torch.equal(mine, theirs)
        assert not mine.requires_grad
    assert not torch.equal(fused.vjp(X)[0], before)


def test_images_that_want_a_gradient_get_no_graph():
    fused = fuse(classifier(dense(6)), X)
    assert fused is not None
    for mine in in_pieces(fused, X.clone().requires_grad_(), torch.ones(7, 5, requires_grad=True)):
        assert not mine.requires_grad


def test_sequences_within_sequences_are_followed():
    inner = nn.Sequential(nn.Linear(24, 6), nn.Sequential(nn.Identity(), nn.ReLU(inplace=True), nn.Dropout(0.5)))
    net = classifier(nn.Sequential(nn.Flatten(), inner, nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 5)), nn.Tanh()))
    found = fuse(net, X)
    assert found is not None
    cotangent = torch.ones(7, 5)
    for mine, theirs in zip(in_pieces(found, X, cotangent), followed(net, X, cotangent), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(("activation", "reads"), [(nn.ReLU, True), (nn.SiLU, True), (nn.Identity, False)])
def test_nothing_is_held_but_what_the_way_back_reads(activation, reads):
    net = classifier(dense(64, 64, 64, activation=activation))
    found = fuse(net, X)
    assert found is not None
    _, pull = found.vjp(X)
    held = inspect.getclosurevars(inspect.unwrap(pull)).nonlocals["kept"]
    assert [tensor is not None for tensor in held] == [reads] * 3 + [False]


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


def test_every_row_of_a_meter_is_counted_and_heard_before_the_network_is_asked():
    fused = fuse(classifier(dense(6)), X)
    assert fused is not None
    heard: list[int] = []
    meter = Meter(fused, len(X), X.device, lambda: heard.append(1))
    logits, pull = meter.vjp(X)
    assert torch.equal(logits, fused(X))
    assert (meter.forwards.tolist(), meter.backwards.tolist(), len(heard)) == ([1] * 7, [0] * 7, 1)
    pull(torch.ones(7, 5))
    assert meter.backwards.tolist() == [1] * 7
    with pytest.raises(RuntimeError):
        meter.vjp(X[:, :1])  # which the network cannot take
    assert (meter.shared, meter.forwards.tolist(), len(heard)) == ([0, 0], [2] * 7, 2)


class Wrapped:
    """Somebody's own form of a network, which hands on all that it has not itself."""

    def __init__(self, inner: Meter) -> None:
        self.inner = inner

    def __call__(self, x: Tensor) -> Tensor:
        return self.inner(x * 0.5)

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)


def test_what_wraps_a_network_is_not_gone_past():
    net = classifier(dense(6))
    fused = fuse(net, X)
    assert fused is not None
    meter = Meter(fused, len(X), X.device)
    assert differentiated(meter) is meter
    wrapped = Wrapped(meter)
    assert wrapped.offers_vjp is True
    assert differentiated(wrapped) is None
    logits, _ = logits_and_gradient(wrapped, X, loss_named("ce"), Goal(net(X).argmax(1)))
    assert torch.equal(logits, net(X * 0.5))


@pytest.mark.parametrize("normalised", [(), (0.4, 0.3)])
def test_its_form_in_16_bits_is_in_one_piece_too(normalised):
    net = classifier(dense(16, 16), *normalised)
    reduced = Reduced(net)
    assert not reduced.offers_vjp
    cotangent = torch.ones(7, 5)
    theirs = followed(reduced, X, cotangent)
    whole = in_one_piece(net, reduced, X)
    assert reduced.exact() is whole
    assert isinstance(reduced.quick, Fused)
    assert isinstance(reduced.quick.network, Quick)
    assert reduced.offers_vjp
    logits, pull = reduced.vjp(X)
    for mine, other in zip((logits, pull(cotangent)), theirs, strict=True):
        assert mine.dtype == torch.float32
        assert torch.equal(mine, other)
    assert torch.equal(reduced(X), net(X))
    assert agrees(net, reduced, X)


def test_elsewhere_than_on_a_cpu_nobody_asks_for_it():
    assert in_one_piece(classifier(dense(6)), None, X) is not None
    assert in_one_piece(classifier(dense(6)).to("meta"), None, X.to("meta")) is None


def test_convolutions_have_no_such_form_anywhere():
    net = classifier(nn.Sequential(nn.Conv2d(2, 3, 1), nn.Flatten(), nn.Linear(36, 5)))
    reduced = Reduced(net)
    assert in_one_piece(net, reduced, X) is None
    assert reduced.exact() is net
