"""Steps that are recorded and replayed, as on a GPU: the same points, the same best ones, the same counts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from attacks import asking
from attacks.goal import Goal
from attacks.pgd import PGD
from attacks.rng import Rng
from attacks.threat import ThreatModel
from eval.meter import Meter
from models.captured import Network
from models.classifier import Classifier
from models.graphed import Graphed
from models.reduced import Reduced
from tests.attacks.small_networks import images, rugged, smooth
from tests.models.graph_stand_ins import Films, Same

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "waits", lambda x: True)


def graphed(network: nn.Module, films: Films) -> Graphed:
    return Graphed(network, Same, "cpu", films)


def found(network: Network, attack: PGD, x: Tensor, goal: Goal, eps: float) -> tuple[Tensor, Meter]:
    meter = Meter(network, len(x), CPU)
    return attack(meter, x, goal, ThreatModel("linf", eps), rng=Rng.of(0, [], map(str, range(len(x))))), meter


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("restarts", [1, 3])
@pytest.mark.parametrize(
    ("early_stop", "eps"), [(False, 0.02), (True, 0.02), (True, 0.05)], ids=["whole", "leaving", "leaving soon"]
)
def test_replayed_steps_find_what_steps_find(early_stop: bool, eps: float, restarts: int, targeted: bool) -> None:
    net, films = smooth(), Films()
    x, labels, targets = images(net)
    goal, attack = Goal(labels, targets if targeted else None), PGD(early_stop=early_stop, restarts=restarts)
    plain, asked = found(net, attack, x, goal, eps)
    ours, replayed = found(graphed(net, films), attack, x, goal, eps)
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-6)
    assert torch.equal(goal.reached(net(ours)), goal.reached(net(plain)))
    assert torch.equal(replayed.forwards, asked.forwards)
    assert torch.equal(replayed.backwards, asked.backwards)
    assert films.replays >= (40 if not early_stop else 3)
    assert len(films.sizes) == len(set(films.sizes))  # none twice


def test_what_is_not_a_sign_in_a_cube_is_not_replayed() -> None:
    net, films = rugged(), Films()
    x, labels, _ = images(net)
    for attack, threat in ((PGD(momentum=1), ThreatModel("linf", 0.1)), (PGD(), ThreatModel("l2", 0.5))):
        plain, ours = (
            attack(network, x, Goal(labels), threat, rng=Rng.of(0, [], map(str, range(len(x)))))
            for network in (net, graphed(net, films))
        )
        torch.testing.assert_close(ours, plain, rtol=0, atol=1e-6)
    assert films.sizes == []


@pytest.mark.parametrize("early_stop", [True, False])
def test_a_rough_search_is_replayed_in_16_bits_and_ends_exactly(early_stop: bool) -> None:
    net = Classifier(smooth(), name="n", input_shape=(1, 6, 6), num_classes=10)
    x, labels, _ = images(net)
    goal, attack, films = Goal(labels), PGD(early_stop=early_stop), (Films(), Films())
    plain, asked = found(Reduced(net), attack, x, goal, 0.05)
    ours = Reduced(net)
    ours.whole, ours.quick = graphed(net, films[0]), graphed(ours.quick, films[1])
    again, replayed = found(ours, attack, x, goal, 0.05)
    torch.testing.assert_close(again, plain, rtol=0, atol=1e-6)
    assert torch.equal(replayed.backwards, asked.backwards)
    assert films[1].replays > 0
    if not early_stop:
        assert (films[0].replays, films[1].replays) == (4, 36)


def test_memory_is_given_back_and_a_batch_that_is_too_large_goes_without() -> None:
    net, films = smooth(), Films()
    x, labels, _ = images(net, 24)
    network = graphed(net, films)
    attack = PGD(steps=4, early_stop=False)
    for _ in range(2):
        found(network, attack, x, Goal(labels), 0.02)
        network.forget()
    assert films.sizes == [32, 32]
    many = x.repeat(11, 1, 1, 1)
    found(network, attack, many, Goal(labels.repeat(11)), 0.02)
    assert films.sizes == [32, 32]


@pytest.mark.gpu
def test_on_a_gpu_replayed_steps_find_what_steps_find() -> None:
    net = smooth().cuda()
    x, labels, _ = images(smooth())
    x, goal = x.cuda(), Goal(labels.cuda())
    for early_stop in (True, False):
        attack, rng = PGD(early_stop=early_stop), Rng.of(0, [], map(str, range(len(x))), x.device)
        plain, ours = (attack(network, x, goal, ThreatModel("linf", 0.05), rng=rng) for network in (net, Graphed(net)))
        torch.testing.assert_close(goal.margin(net(ours)), goal.margin(net(plain)), rtol=1e-3, atol=1e-3)
