"""A network that is replayed for a few batch sizes answers as it does itself."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attacks.goal import Goal
from attacks.lbfgs import LBFGS
from attacks.rng import Rng
from attacks.threat import unlimited
from eval.speed import graph, replay
from models.captured import Captured, Network, State, Step
from models.classifier import Classifier
from models.graphed import SIZES, Graphed, forget, replays
from models.reduced import Quick, Reduced
from tests.models.graph_stand_ins import Films, Noted, Same

NET = nn.Sequential(nn.Flatten(), nn.Linear(12, 9), nn.Tanh(), nn.Linear(9, 4)).requires_grad_(False)


def images(batch: int, seed: int = 0) -> Tensor:
    return torch.rand(batch, 3, 2, 2, generator=torch.Generator().manual_seed(seed))


def of(network: Network, x: Tensor) -> tuple[Tensor, Tensor]:
    leaf = x.clone().requires_grad_()
    z = network(leaf)
    (gradient,) = torch.autograd.grad(z, leaf, torch.linspace(-1, 1, z.numel(), device=z.device).view_as(z))
    return z.detach(), gradient


@pytest.mark.parametrize("batch", [1, 7, 8, 9, 33, 256, 257])
def test_answers_and_gradients_are_those_of_the_network(batch):
    graphed = Graphed(NET, Same, "cpu")
    of(graphed, images(batch, seed=1))
    for ours, theirs in zip(of(graphed, images(batch)), of(NET, images(batch)), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)
    with torch.no_grad():
        assert torch.allclose(graphed(images(batch, seed=2)), NET(images(batch, seed=2)), atol=1e-6)


def test_the_network_itself_stays_as_it_was():
    graphed, forward = Graphed(NET, Same, "cpu"), NET.forward
    of(graphed, images(5))
    assert NET.forward == forward
    assert "forward" not in vars(NET)
    assert NET(images(3)).shape == (3, 4)


def test_a_later_replay_leaves_earlier_answers_alone():
    graphed = Graphed(NET, Same, "cpu")
    z, gradient = of(graphed, images(8))
    before = z.clone(), gradient.clone()
    of(graphed, images(8, seed=1))
    assert torch.equal(z, before[0])
    assert torch.equal(gradient, before[1])


def test_a_gradient_is_that_of_its_own_question_whatever_was_asked_since():
    graphed = Graphed(NET, Same, "cpu")
    leaves = [images(8, seed).requires_grad_() for seed in range(3)]
    asked = [graphed(leaf) for leaf in leaves]
    with torch.no_grad():
        graphed(images(5))
    for k in (1, 0, 2, 0):
        weights = torch.linspace(-1, 1, 32).view(8, 4)
        (gradient,) = torch.autograd.grad(asked[k], leaves[k], weights, retain_graph=True)
        assert torch.allclose(gradient, of(NET, leaves[k].detach())[1], atol=1e-6)


def test_one_question_has_as_many_gradients_as_are_wanted():
    graphed, leaf = Graphed(NET, Same, "cpu"), images(6).requires_grad_()
    own = images(6).requires_grad_()
    out, exact = graphed(leaf), NET(own)
    for k in range(4):
        (ours,) = torch.autograd.grad(out[:, k].sum(), leaf, retain_graph=True)
        (theirs,) = torch.autograd.grad(exact[:, k].sum(), own, retain_graph=True)
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_a_mean_of_several_looks_has_the_gradient_of_the_mean():
    graphed, leaf, own = Graphed(NET, Same, "cpu"), images(4).requires_grad_(), images(4).requires_grad_()
    moved = [images(4, seed) / 4 for seed in range(5)]
    (ours,) = torch.autograd.grad(sum(graphed(leaf + by).exp() for by in moved).sum(), leaf)
    (theirs,) = torch.autograd.grad(sum(NET(own + by).exp() for by in moved).sum(), own)
    assert torch.allclose(ours, theirs, rtol=1e-4)


def test_a_search_finds_what_it_finds_of_the_network():
    x = images(12)
    goal, rng = Goal(NET(x).argmax(1)), Rng.of(0, [], map(str, range(12)))
    ours, theirs = (
        LBFGS()(network, x, goal, unlimited("l2", (0.0, 1.0)), rng=rng) for network in (Graphed(NET, Same, "cpu"), NET)
    )
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_few_sizes_are_captured_and_each_once():
    noted = Noted()
    graphed = Graphed(NET, noted, "cpu")
    for batch in [*range(1, 40), *range(1, 40), 300]:
        of(graphed, images(batch))
    assert noted == [8, 16, 32, 64]
    assert list(SIZES) == sorted(SIZES)
    double = Graphed(nn.Sequential(nn.Flatten(), nn.Linear(12, 4).double()), noted, "cpu")
    assert double(images(3).double()).shape == (3, 4)  # of its own, though the shape is the same
    assert noted[4:] == [8]


def test_elsewhere_nothing_is_captured():
    noted = Noted()
    of(Graphed(NET, noted), images(3))
    assert Graphed(NET, noted, "cpu")(images(0)).shape == (0, 4)
    assert noted == []


class Noise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = NET(x + torch.rand_like(x))
        return out


class Branch(nn.Module):
    """Decides by what it sees, which a graph does once for ever."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = NET(x if self.bright(x) else -x)
        return out

    def bright(self, x: Tensor) -> bool:
        return float(x.detach().mean()) > 0.4


class Frozen(Same):
    """As graphs are: the way that was taken once."""

    def __init__(self, network: Network, x: Tensor) -> None:
        super().__init__(network, x)
        if isinstance(network, Branch):
            bright = network.bright(x)
            self.network = lambda images: NET(images if bright else -images)


class Coupled(nn.Module):
    """Looks at its batch as a whole."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = NET(x - x.mean(0, keepdim=True))
        return out


OTHERWISE = "replays do not answer as the network does"


def test_what_cannot_be_replayed_is_not():
    x = images(8)
    assert replays(Graphed(NET, Same, "cpu", Films()), x)
    assert isinstance(graph(NET, x, Same, Films()), Graphed)
    assert graph(Noise(), x, Same, Films()) == OTHERWISE
    assert graph(Branch(), x, Frozen, Films()) == OTHERWISE
    assert graph(Coupled(), x, Same, Films()) == OTHERWISE

    def refuses(network: Network, *_: object) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing\nmore of it")

    said = "RuntimeError: operation not permitted when stream is capturing"
    assert graph(NET, x, refuses, Films()) == said
    assert graph(NET, x, Same, refuses) == said  # steps are tried too


def test_steps_that_come_out_otherwise_are_no_steps():
    def still(network: Network, step: Step, state: State) -> Callable[[], None]:
        return lambda: None

    assert graph(NET, images(8), Same, still) == OTHERWISE


def test_a_trial_changes_nothing_that_is_drawn_later():
    torch.manual_seed(0)
    drawn = torch.rand(3)
    torch.manual_seed(0)
    graph(Noise(), images(8), Same, Films())
    assert torch.equal(torch.rand(3), drawn)


def classifier(network: nn.Module) -> Classifier:
    return Classifier(network, name="n", input_shape=(3, 2, 2), num_classes=4, mean=[0.3], std=[0.4])


def test_both_forms_of_a_reduced_network_are_replayed():
    net = classifier(copy.deepcopy(NET))
    plain, reduced, noted, x = Reduced(net), Reduced(net), Noted(), images(8)
    found, why = replay(net, reduced, x, noted, Films())
    assert why == ""
    assert reduced.exact() is reduced.whole is found
    assert isinstance(reduced.quick, Graphed)
    for ours, theirs in zip(of(reduced, x), of(plain, x), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)
    with torch.no_grad():
        assert torch.equal(reduced(x), net(x))
    assert noted == [8, 8]
    assert [type(network) for network in (plain.whole, plain.quick)] == [Classifier, Quick]


def test_what_is_not_replayed_is_told():
    net, x = classifier(Noise()), images(8)
    reduced = Reduced(net)
    assert replay(net, reduced, x, Same, Films()) == (None, OTHERWISE)
    assert reduced.exact() is net
    net = classifier(copy.deepcopy(NET))
    reduced = Reduced(net)

    def no_16_bits(network: Network, x: Tensor) -> Same:
        if isinstance(network, Quick):
            raise RuntimeError("no kernel")
        return Same(network, x)

    found, why = replay(net, reduced, x, no_16_bits, Films())
    assert isinstance(found, Graphed)
    assert why == "in 16 bits: RuntimeError: no kernel"
    assert reduced.exact() is net  # both or none


def test_without_memory_for_graphs_there_are_none_and_nothing_is_kept():
    def full(network: Network, x: Tensor) -> Same:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    found = graph(NET, images(8), full, Films())
    assert found == "OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"


def test_all_graphs_are_forgotten_at_once():
    noted = Noted()
    several = [Graphed(NET, noted, "cpu") for _ in range(2)]
    for graphed in several:
        graphed(images(3))
    forget()
    for graphed in several:
        graphed(images(3))
    assert noted == [8] * 4


@pytest.fixture
def on_gpu():
    yield NET.cuda()
    NET.cpu()


@pytest.mark.gpu
def test_on_a_gpu_it_is_the_network(on_gpu):
    graphed = Graphed(on_gpu)
    for batch in (5, 20, 5, 300):
        x = images(batch).cuda()
        for ours, theirs in zip(of(graphed, x), of(on_gpu, x), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-5)
        with torch.no_grad():
            assert torch.allclose(graphed(x), on_gpu(x), atol=1e-5)
    assert on_gpu(images(3).cuda()).shape == (3, 4)


@pytest.mark.gpu
def test_on_a_gpu_gradients_are_those_of_their_own_questions(on_gpu):
    graphed = Graphed(on_gpu)
    leaves = [images(8, seed).cuda().requires_grad_() for seed in range(3)]
    asked = [graphed(leaf) for leaf in leaves]
    weights = torch.linspace(-1, 1, 32, device="cuda").view(8, 4)
    for k in (1, 0, 2, 0):
        (gradient,) = torch.autograd.grad(asked[k], leaves[k], weights, retain_graph=True)
        assert torch.allclose(gradient, of(on_gpu, leaves[k].detach())[1], atol=1e-5)


@pytest.mark.gpu
def test_on_a_gpu_what_cannot_be_captured_leaves_no_trace(on_gpu):
    x = images(8).cuda()
    before = torch.cuda.current_stream()
    assert "captur" in str(graph(Branch().cuda(), x))
    assert torch.cuda.current_stream() == before
    torch.cuda.empty_cache()  # which fails while a capture is under way
    assert float(torch.rand(1, device="cuda")) >= 0  # and this where the generator thinks that one is
    assert graph(Noise().cuda(), x) == OTHERWISE
    assert isinstance(graph(on_gpu, x), Graphed)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_on_the_second_gpu_too():
    net = NET.to("cuda:1")
    try:
        x = images(8).to("cuda:1")
        static = Captured(net, x)
        static.images.copy_(x / 2)
        static.forward()
        assert torch.allclose(static.logits, net(x / 2), atol=1e-5)
    finally:
        NET.cpu()
