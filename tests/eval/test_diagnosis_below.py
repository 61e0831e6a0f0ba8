"""What is proved of networks, beside what attacks find: a proof never reaches as far as a perturbation."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attacks.apgd import APGD
from attacks.base import Attack
from attacks.goal import Goal
from attacks.lbfgs import LBFGS
from attacks.rng import Rng
from attacks.smallest_eps import SmallestEps
from attacks.threat import ThreatModel, unlimited
from eval.data.samples import ArrayStore, Samples
from eval.diagnosis.below import Below
from eval.diagnosis.smoothing import Smoothing, lower_bound, radii
from eval.errors import InputError
from models.classifier import Classifier

CPU = torch.device("cpu")
SHAPE = (1, 6, 6)
N = 30


def trained(*layers: nn.Module, steps: int = 60, robust: float = 0.0) -> tuple[Classifier, Samples]:
    """A network that has learnt three blurred patterns, and samples of them."""
    torch.manual_seed(0)
    network = nn.Sequential(*layers)
    g = torch.Generator().manual_seed(1)
    patterns = torch.rand(3, *SHAPE, generator=g)
    labels = torch.arange(300) % 3
    x = (0.5 * patterns[labels] + 0.25 + 0.1 * torch.randn(300, *SHAPE, generator=g)).clamp(0, 1)
    optimiser = torch.optim.Adam(network.parameters(), 0.01, weight_decay=robust)
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(x[N:]), labels[N:]).backward()
        optimiser.step()
    net = Classifier(network, name="net", input_shape=SHAPE, num_classes=3)
    store = ArrayStore(np.round(x[:N].numpy() * 255).astype(np.uint8))
    ids = np.array([f"test/{i}" for i in range(N)])
    return net, Samples(ids, labels[:N].numpy(), ("a", "b", "c"), store, np.arange(N))


def networks() -> dict[str, list[nn.Module]]:
    flat = nn.Flatten()
    return {
        "linear": [flat, nn.Linear(36, 3)],
        "mlp": [flat, nn.Linear(36, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 3)],
        "sigmoid": [flat, nn.Linear(36, 24), nn.Sigmoid(), nn.Linear(24, 3)],
        "cnn": [nn.Conv2d(1, 6, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(6, 6, 2), nn.ReLU(), flat,
                nn.Linear(24, 3)],
        "overlapping": [nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 1), flat, nn.Linear(96, 3)],
    }  # fmt: skip


def measure(probe: Below | Smoothing, net: Classifier, samples: Samples) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    return probe(net, samples, 16, CPU, 0)


def images(net: Classifier, samples: Samples) -> tuple[Tensor, Tensor]:
    x = samples.batch(np.arange(N))
    labels = torch.tensor(samples.labels)
    right = net(x).argmax(1) == labels
    assert right.sum() > 20
    return x[right], labels[right]


def nearest(net: Classifier, x: Tensor, labels: Tensor, norm: str) -> Tensor:
    """The size of the smallest perturbation that was found (B,), infinity where none was."""
    goal, rng = Goal(labels), Rng.of(0, [], map(str, range(len(x))))
    found = torch.full((len(x),), math.inf, dtype=torch.float64)
    attacks: list[tuple[Attack, ThreatModel]] = [(SmallestEps(steps=20, most=1.0, eight_bit=False), unlimited(norm))]
    if norm == "l2":
        attacks = [(LBFGS(), unlimited("l2"))]
    attacks += [(APGD(steps=20), ThreatModel(norm, eps)) for eps in ({"linf": (0.05, 0.1), "l2": (0.3, 0.6)}[norm])]
    for attack, threat in attacks:
        x_adv = attack(net, x, goal, threat, rng=rng)
        size = threat.size(x_adv.double(), x.double())
        found = torch.where(goal.reached(net(x_adv)), torch.minimum(found, size), found)
    return found


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", networks())
def test_no_proof_reaches_as_far_as_a_perturbation(name: str, norm: str) -> None:
    net, samples = trained(*networks()[name])
    eps = {"linf": "0.03", "l2": "0.2"}[norm]
    found = measure(Below(norm, eps, images=N, tries=8), net, samples)
    far = nearest(net, *images(net, samples), norm).numpy()
    assert np.isfinite(far).mean() > 0.9
    for proof in ("norms", "bounds"):
        mine = found[proof][found["right"]]
        assert (mine > 0).all()
        assert (mine <= far).all()


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_of_a_linear_network_both_ends_meet(norm: str) -> None:
    net, samples = trained(*networks()["linear"], robust=0.1)
    found = measure(Below(norm, "0.05", images=N, tries=24), net, samples)
    x, labels = images(net, samples)
    weight, z = net.network[1].weight.double(), net(x).double()  # type: ignore[index,operator]
    apart = torch.linalg.vector_norm(weight[labels][:, None] - weight, 2 if norm == "l2" else 1, dim=2)
    lead = z.gather(1, labels[:, None]) - z
    exact = torch.where(apart > 0, lead / apart, torch.inf).amin(1).numpy()
    bounds = found["bounds"][found["right"]]
    assert np.all(bounds >= exact * 0.99)  # the box may allow more than the plane, never less
    if norm == "l2":
        assert np.allclose(found["norms"][found["right"]], exact, rtol=0.01)
        far = nearest(net, x, labels, norm).numpy()
        inside = np.isclose(far, exact, rtol=0.01)  # where the way to the boundary stays inside the box
        assert inside.sum() > 5


def test_wrong_samples_have_no_radius() -> None:
    net, samples = trained(*networks()["mlp"], steps=0)
    found = measure(Below("l2", "0.2", images=N), net, samples)
    assert not found["right"].all()
    for proof in ("norms", "bounds"):
        assert (found[proof][~found["right"]] == 0).all()


class Odd(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sort(1).values


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 0.5 * torch.randn(x.shape[1:])


def test_a_network_without_a_known_bound_is_left_alone_with_the_reason() -> None:
    net, samples = trained(nn.Flatten(), nn.Linear(36, 3), Odd(), steps=0)
    found = measure(Below("linf", "0.1", images=N), net, samples)
    assert "sort" in str(found["norms_refused"])
    assert "norms" not in found


def test_a_network_that_does_something_else_than_its_layers_is_left_alone() -> None:
    net, samples = trained(nn.Flatten(), nn.Linear(36, 3), Noisy(), steps=0)
    found = measure(Below("linf", "0.1", images=N), net, samples)
    assert "bounds" not in found
    assert "something else" in str(found["bounds_refused"])


class Batched(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn(x.shape)


def test_what_depends_on_the_batch_is_left_alone() -> None:
    net, samples = trained(nn.Flatten(), nn.Linear(36, 3), Batched(), steps=0)
    assert "no known bound" in str(measure(Below("linf", "0.1", images=N), net, samples)["norms_refused"])


def test_the_work_chooses_the_method() -> None:
    net, samples = trained(*networks()["mlp"])
    spent = {w: measure(Below("linf", "0.1", images=N, work=w), net, samples) for w in (1e12, 3e6, 3e5, 1.0)}
    assert str(spent[1e12]["method"]) == "crown"
    assert [str(found.get("method")) for found in spent.values()] == ["crown", "crown_ibp", "ibp", "None"]
    assert "exceed" in str(spent[1.0]["bounds_refused"])
    assert "more than the work" in str(spent[1.0]["norms_refused"])


def test_gains_stand_beside_the_layers() -> None:
    net, samples = trained(*networks()["cnn"])
    found = measure(Below("l2", "0.1", images=N), net, samples)
    assert list(found["kinds"]) == [
        "convolution", "max-pool", "activation", "convolution", "activation", "selection", "dense"
    ]  # fmt: skip
    assert found["gains"].shape == found["kinds"].shape


def test_an_unknown_proof_is_refused() -> None:
    with pytest.raises(InputError, match="norms, bounds"):
        Below(proofs=("crown",))


class Half(nn.Module):
    """Two classes, divided by a plane."""

    def __init__(self) -> None:
        super().__init__()
        self.direction = nn.Parameter(torch.randn(36, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Tensor:
        z = (x.flatten(1) - 0.5) @ self.direction
        return torch.stack([z, -z], 1)


def test_the_smoothed_half_space_is_certified_up_to_its_plane() -> None:
    net = Classifier(Half(), name="half", input_shape=SHAPE, num_classes=2)
    g = torch.Generator().manual_seed(2)
    x = np.round(torch.rand(N, *SHAPE, generator=g).numpy() * 255).astype(np.uint8)
    store = ArrayStore(x)
    labels = net(torch.from_numpy(x / 255).float()).argmax(1).numpy()
    samples = Samples(np.array([f"t/{i}" for i in range(N)]), labels, ("a", "b"), store, np.arange(N))
    direction = net.network.direction.double()
    images = samples.batch(np.arange(N)).double().flatten(1)
    exact = ((images - 0.5) @ direction / direction.norm()).abs().numpy()  # of g as of f, by symmetry
    found = measure(Smoothing("l2", 0.25, images=N, draws=2000), net, samples)
    most = 0.25 * NormalDist().inv_cdf(lower_bound(2000, 2000, 0.001))
    assert (found["radius"] <= exact).all()  # each with probability 0.999
    near = found["right"] & (exact < 0.6 * most) & (exact > 0.1)
    assert near.sum() > 3
    assert (found["radius"][near] > 0.6 * exact[near]).all()
    assert (found["radius"] <= most).all()
    assert found["abstained"][exact < 1e-3].all()


def test_the_lower_bound_holds_as_often_as_it_says() -> None:
    from scipy.stats import binomtest

    for k, n, alpha in ((990, 1000, 0.001), (7, 10, 0.05), (1, 3, 0.01)):
        interval = binomtest(k, n, alternative="greater").proportion_ci(1 - alpha, method="exact")
        assert lower_bound(k, n, alpha) == pytest.approx(interval.low)
    rng = np.random.default_rng(0)
    missed = np.mean([lower_bound(int(k), 200, 0.05) > 0.8 for k in rng.binomial(200, 0.8, 4000)])
    assert missed <= 0.05 + 0.01


def test_radii_grow_with_the_probability() -> None:
    assert np.allclose(radii(np.array([0.5, NormalDist().cdf(1.0)]), 0.25), [0.0, 0.25])


def test_smoothing_depends_on_no_batch() -> None:
    net, samples = trained(*networks()["mlp"])
    probe = Smoothing("linf", 0.3, images=6, first=30, draws=150)
    one, other = probe(net, samples, 7, CPU, 0), probe(net, samples, 64, CPU, 0)
    assert np.array_equal(one["radius"], other["radius"])


@pytest.mark.parametrize("wrong", [{"sigma": 0.0}, {"alpha": 0.7}, {"draws": 0}])
def test_smoothing_refuses_what_makes_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="smoothing"):
        Smoothing(**wrong)  # type: ignore[arg-type]
