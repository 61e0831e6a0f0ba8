"""What is measured around images, on networks whose answer is known: half-spaces, spheres, replicated pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from attacks.fab import FAB
from attacks.goal import Goal
from attacks.lbfgs import LBFGS
from attacks.rng import Rng
from eval.data import Samples
from eval.data.resized import resized
from eval.dimension.boundary import Boundary, crossing, unit
from eval.dimension.gradients import Gradients
from eval.dimension.separation import Separation
from eval.dimension.span import Projected, Span
from eval.dimension.subspaces import Subspaces, orthonormal
from eval.errors import InputError
from eval.exponents import exponent, farthest_error, half_space
from models.classifier import Classifier
from models.spec import derive

CPU = torch.device("cpu")
QUICK = LBFGS(evaluations=60, stride=0.05, classes=1)


def classifier(network: nn.Module, shape: tuple[int, int, int], classes: int = 2) -> Classifier:
    return Classifier(network, name="toy", input_shape=shape, num_classes=classes)


class Sides(nn.Module):
    """Which side of a hyperplane at x = 0.5 everywhere: class 1 beyond."""

    def __init__(self, w: Tensor) -> None:
        super().__init__()
        self.linear = nn.Linear(len(w), 1)
        self.linear.weight.data[:] = w
        self.linear.bias.data[:] = -w.sum() / 2

    def forward(self, x: Tensor) -> Tensor:
        z = self.linear(x.flatten(1))
        return torch.cat([torch.zeros_like(z), z], 1)


@pytest.fixture
def half() -> tuple[Classifier, Samples, np.ndarray]:
    """A half-space in 64 dimensions, images of both sides, and their distances."""
    w = torch.randn(64, generator=torch.Generator().manual_seed(1))
    network = classifier(Sides(w), (1, 8, 8))
    x = np.random.default_rng(2).random((40, 1, 8, 8)).astype(np.float32)
    with torch.no_grad():
        z = network(torch.from_numpy(x))
    samples = Samples.of(x, z.argmax(1).numpy(), ["a", "b"], "t")
    return network, samples, ((z[:, 1] - z[:, 0]).abs() / w.norm()).numpy()


def test_the_distance_of_a_hyperplane_is_exact(half):
    network, samples, exact = half
    for attack in (QUICK, FAB()):
        found = Boundary(attack)(network, samples, 16, CPU, 0)["adversarial"]
        assert found == pytest.approx(exact, rel=2e-3)


def test_along_a_line_it_is_that_over_the_cosine_and_steps_as_long_stay(half):
    network, samples, exact = half
    found = Boundary(QUICK, lines=3, steps=20)(network, samples, 40, CPU, 0)
    rng = Rng.of(0, ["boundary"], samples.ids.tolist())
    x = samples.batch(np.arange(40))
    w = network.network.linear.weight.detach()[0]
    cosine = torch.stack([(unit(rng.fold(1, i), x).flatten(1) @ w / w.norm()).abs() for i in range(3)], 1)
    wanted = exact[:, None] / cosine.numpy()
    reach = 20 * 8 / 2**0.5
    assert found["random"][wanted < reach] == pytest.approx(wanted[wanted < reach], rel=0.02)
    assert (found["left"][:, 0] == 0).all()
    assert (found["random"] > found["adversarial"][:, None]).all()


def test_errors_in_noise_say_how_far_the_hyperplane_is(half):
    network, samples, exact = half
    found = Boundary(QUICK, noise=(1.0, 2.0), draws=2000)(network, samples, 40, CPU, 0)
    for k, times in enumerate((1.0, 2.0)):
        assert found["error"][:, k].mean() == pytest.approx(stats.norm.sf(1 / times), abs=0.005)
        predicted = half_space(times * exact, found["error"][:, k])
        assert predicted == pytest.approx(exact, rel=0.25)


def test_in_a_subspace_it_is_that_over_the_part_of_the_normal_inside(half):
    network, samples, exact = half
    found = Subspaces(QUICK, (1, 4, 32), draws=2)(network, samples, 40, CPU, 5)
    w = network.network.linear.weight.detach()[0]
    assert found["distance"].shape == (40, 2, 3)
    for draw in range(2):
        for k, m in enumerate((1, 4, 32)):
            inside = (orthonormal(64, m, derive(5, draw, m)).T @ (w / w.norm())).norm().item()
            wanted = exact / inside
            met = found["distance"][:, draw, k]
            assert met[wanted < 100] == pytest.approx(wanted[wanted < 100], rel=0.02)
            assert m == 1 or (wanted < 100).all()
    q = orthonormal(64, 8, 0)
    assert torch.allclose(q.T @ q, torch.eye(8), atol=1e-5)


def test_it_depends_on_no_other_image_and_on_no_batch(half):
    network, samples, _ = half
    probe = Boundary(QUICK, lines=2, steps=3, noise=(1.0,), draws=20)
    whole = probe(network, samples, 40, CPU, 0)
    parts = probe(network, samples, 7, CPU, 0)
    some = probe(network, samples.select(np.arange(5, 9)), 40, CPU, 0)
    for (
        name,
        values,
    ) in whole.items():  # where logits round otherwise, a line at a flat angle crosses a little elsewhere
        assert parts[name] == pytest.approx(values, rel=1e-3, abs=5e-4), name
        assert some[name] == pytest.approx(values[5:9], rel=1e-3, abs=5e-4), name
    assert not np.allclose(probe(network, samples, 40, CPU, 1)["random"], whole["random"], rtol=0.05)


def test_what_is_wrong_unperturbed_is_at_distance_0(half):
    network, samples, _ = half
    found = Boundary(QUICK, lines=1, steps=1)(network, samples.relabelled(1 - samples.labels), 40, CPU, 0)
    assert (found["adversarial"] == 0).all()
    assert (found["random"] == 0).all()


class Spheres(nn.Module):
    """Which of two concentric spheres around (1/2, ...): class 1 beyond a radius."""

    def __init__(self, radius: float) -> None:
        super().__init__()
        self.radius = radius

    def forward(self, x: Tensor) -> Tensor:
        z = (x - 0.5).flatten(1).norm(dim=1, keepdim=True) - self.radius
        return torch.cat([-z, z], 1)


def on_spheres(n: int, side: int) -> tuple[Samples, np.ndarray]:
    """Points of spheres of radius 1 and 1.3 around (1/2, ...), and the points themselves."""
    v = np.random.default_rng(3).normal(size=(n, 1, side, side))
    radius = np.where(np.arange(n) % 2 == 0, 1.0, 1.3)
    v *= (radius / np.linalg.norm(v.reshape(n, -1), axis=1))[:, None, None, None]
    return Samples.of((0.5 + v).astype(np.float32), np.arange(n) % 2, ["inner", "outer"], "s"), v.reshape(n, -1)


def test_between_concentric_spheres_the_boundary_is_half_way_and_lines_meet_it_where_they_must():
    samples, v = on_spheres(24, 22)
    network = classifier(Spheres(1.15), (1, 22, 22))
    found = Boundary(QUICK, lines=2)(network, samples, 24, CPU, 0)
    assert found["adversarial"] == pytest.approx(np.full(24, 0.15), rel=5e-3)
    rng, x = Rng.of(0, ["boundary"], samples.ids.tolist()), samples.batch(np.arange(24))
    for i in range(2):
        along = (unit(rng.fold(1, i), x).flatten(1).double().numpy() * v).sum(1)
        inner = np.arange(24) % 2 == 0
        wanted = np.sqrt(along**2 + 1.15**2 - 1) - np.abs(along)  # |v + t u| = 1.15, on the nearer side
        assert found["random"][inner, i] == pytest.approx(wanted[inner], rel=0.02)


class Cap(nn.Module):
    """Calls everything of the unit sphere inner but a cap, which holds a given share of it."""

    def __init__(self, share: float, d: int) -> None:
        super().__init__()
        self.edge = farthest_error(share, d)

    def forward(self, x: Tensor) -> Tensor:
        z = (x - 0.5).flatten(1)[:, :1] - self.edge
        return torch.cat([-z, z], 1)


def test_the_mean_distance_to_a_cap_is_what_isoperimetry_allows_at_most():
    samples, _ = on_spheres(400, 22)
    inner = samples.select(np.arange(0, 400, 2))
    network = classifier(Cap(0.01, 484), (1, 22, 22))
    found = Boundary(QUICK)(network, inner, 100, CPU, 0)["adversarial"]
    bound = farthest_error(0.01, 484)
    assert found.mean() == pytest.approx(bound, rel=0.05)
    assert found.mean() * 484**0.5 == pytest.approx(-stats.norm.ppf(0.01), rel=0.05)


def test_a_line_that_never_crosses_is_infinite():
    x = torch.rand(3, 1, 2, 2)
    never = classifier(Cap(0.5, 4), (1, 2, 2))
    goal = Goal(never(x).argmax(1))
    along = torch.zeros(3, 1, 2, 2)
    along[:, 0, 1, 1] = 1.0  # which the network does not look at
    found = crossing(never, x, goal, along, torch.full((3,), 0.1), 5.0)
    assert found.isinf().all()


def test_gradients_are_those_of_a_linear_network():
    linear = nn.Linear(16, 3)
    network = classifier(nn.Sequential(nn.Flatten(), linear), (1, 4, 4), 3)
    samples = Samples.of(np.random.default_rng(0).random((9, 1, 4, 4)).astype(np.float32), [0] * 9, list("abc"), "x")
    found = Gradients()(network, samples, 4, CPU, 0)
    with torch.no_grad():
        z = network(samples.batch(np.arange(9)))
        w = linear.weight
        p = z.softmax(1) - torch.eye(3)[[0] * 9]
        rival = z[:, 1:].argmax(1) + 1
        wanted = [p @ w, w[rival] - w[[0] * 9]]
    for name, gradient in zip(("loss", "lead"), wanted, strict=True):
        assert found[name] == pytest.approx(
            np.stack([gradient.abs().sum(1).numpy(), gradient.norm(dim=1).numpy()], 1), rel=1e-4
        )
    assert (found["right"] == (z.argmax(1) == 0).numpy()).all()


def test_separation_is_the_distance_to_the_nearest_of_another_class():
    rng = np.random.default_rng(0)
    train = Samples.of(rng.random((1100, 1, 3, 3)).astype(np.float32), np.arange(1100) % 4, list("abcd"), "x")
    test = Samples.of(rng.random((10, 1, 3, 3)).astype(np.float32), np.arange(10) % 4, list("abcd"), "y")
    network = classifier(nn.Sequential(nn.Flatten(), nn.Linear(9, 4)), (1, 3, 3), 4)
    found = Separation(train, train.fingerprint)(network, test, 4, CPU, 0)["other"]
    own, others = (s.batch(np.arange(len(s))).flatten(1).numpy() for s in (test, train))
    wanted = [min(np.linalg.norm(x - others[train.labels != k], axis=1)) for x, k in zip(own, test.labels, strict=True)]
    assert found == pytest.approx(wanted, rel=1e-3)
    alone = train.relabelled(np.zeros(1100, dtype=np.int64))
    with pytest.raises(InputError, match="must have training samples of two classes"):
        Separation(alone, "")(network, test.relabelled(np.zeros(10, dtype=np.int64)), 4, CPU, 0)


def replicated(start: float, decay: float, sides: tuple[int, ...] = (7, 14, 28, 56)) -> tuple[list[float], list, list]:
    """Logistic regressions on the same images with each pixel replicated: distances, networks and samples, by side.

    Plain gradient descent on all samples, with a step that goes with the inverse of the number of pixels.
    """
    rng = np.random.default_rng(0)
    prototypes = rng.random((2, 1, 7, 7))
    labels = np.arange(120) % 2
    small = np.clip(prototypes[labels] + rng.normal(0, 0.25, (120, 1, 7, 7)), 0, 1).astype(np.float32)
    native = Samples.of(small, labels, ["a", "b"], "t")
    distances, networks, seen = [], [], []
    for side in sides:
        samples = resized(native, side)
        x, y = samples.batch(np.arange(120)).flatten(1).double(), torch.from_numpy(labels * 2.0 - 1)
        d = side * side
        w = start * (2 / d) ** 0.5 * torch.randn(d, generator=torch.Generator().manual_seed(side), dtype=torch.float64)
        b = torch.zeros((), dtype=torch.float64)
        for _ in range(300):
            pull = y * torch.sigmoid(-y * (x @ w + b))
            w = w * (1 - decay / 300) + 20 / d * (pull[:, None] * x).mean(0)
            b = b + 0.4 * pull.mean()
        network = Sides(w.float())
        network.linear.bias.data[:] = b.float()
        toy = classifier(network, (1, side, side))
        right = (toy(x.float().view(-1, 1, side, side)).argmax(1).numpy() == labels).mean()
        assert right > 0.9
        distances.append(np.abs((x @ w + b).numpy()) / w.norm().item())
        networks.append(toy)
        seen.append(samples)
    return distances, networks, seen


def alpha(distances: list) -> float:
    return exponent(np.array([7, 14, 28, 56]) ** 2, np.stack(distances)[None]).mean


def test_replicated_pixels_move_the_boundary_as_the_images_unless_the_start_is_in_the_way():
    from_zero, from_he = replicated(0.0, 0.0)[0], replicated(1.0, 0.0)[0]
    decayed, both = replicated(1.0, 3.0)[0], replicated(0.0, 3.0)[0]
    assert alpha(from_zero) == pytest.approx(0.5, abs=1e-6)
    assert alpha(both) == pytest.approx(0.5, abs=1e-6)
    assert alpha(from_he) < 0.46
    assert alpha(from_he) + 0.03 < alpha(decayed) < 0.5


def test_confined_to_the_span_of_the_images_it_moves_as_they_do_and_answers_the_same():
    before, networks, seen = replicated(1.0, 0.0)
    after = []
    for network, samples, distance in zip(networks, seen, before, strict=True):
        span = Span(samples, samples.fingerprint)
        x = samples.batch(np.arange(len(samples)))
        confined = span.confined(network)
        assert span.basis.shape == (x[0].numel(), 49)
        assert torch.allclose(confined(x), network(x), atol=1e-3)
        assert not torch.equal(confined.network.linear.weight, network.network.linear.weight) or x[0].numel() == 49
        some = samples.select(np.arange(30))
        plain = Boundary(QUICK)(network, some, 30, CPU, 0)["adversarial"]
        assert plain[plain > 0] == pytest.approx(distance[:30][plain > 0], rel=5e-3)
        after.append(Projected(Boundary(QUICK), span)(network, some, 30, CPU, 0)["adversarial"])
    assert alpha([np.where(a == 0, math.nan, a) for a in after]) > 0.47
    assert alpha([d[:30] for d in before]) < 0.46


def test_a_network_that_does_not_see_all_pixels_at_once_is_refused():
    samples = Samples.of(np.zeros((2, 1, 4, 4), np.float32), [0, 1], ["a", "b"], "x")
    network = classifier(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()), (1, 4, 4), 8)
    with pytest.raises(InputError, match=r"first layer of toy must see all pixels at once .*got Conv2d; leave the net"):
        Span(samples, "").confined(network)
