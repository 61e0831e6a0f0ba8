"""What the probes measure: of networks that are as they should be, and of networks broken by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import grad as imported_grad

from attacks.goal import Goal
from attacks.threat import ThreatModel
from eval.data.samples import ArrayStore, Samples
from eval.data.subset import in_turn
from eval.diagnosis.answers import Answers, autograd_calls
from eval.diagnosis.batches import batches
from eval.diagnosis.broader import Broader
from eval.diagnosis.neighbours import Neighbours
from eval.diagnosis.paths import Paths, Recorder
from eval.diagnosis.searches import Searches
from eval.diagnosis.slopes import Slopes
from models.classifier import Classifier

CPU = torch.device("cpu")
N = 40


class Noisy(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z + 0.1 * torch.randn_like(z)


class Centred(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z - z.mean(0) / 10


class Hard(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return nn.functional.one_hot(z.argmax(1), z.shape[1]).float()


class Misleading(nn.Module):
    """The right answer with the gradient of another network."""

    def __init__(self, right: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.right, self.other = right, other

    def forward(self, x: Tensor) -> Tensor:
        z = self.other(x)
        return z + (self.right(x) - z).detach()


class Purifying(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            (step,) = torch.autograd.grad(self.network(leaf).logsumexp(1).sum(), leaf)
        return self.network(x + 1e-3 * step.sign())


def net(scale: float = 10.0, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 40), nn.Sigmoid(), nn.Linear(40, 10))
    network[1].weight.data.mul_(5)
    network[3].weight.data.mul_(scale)
    return network


def about(network: nn.Module) -> tuple[Classifier, Samples]:
    """A network and images that it names correctly, but for each tenth."""
    classifier = Classifier(network, name="net", input_shape=(1, 8, 8), num_classes=10)
    pixels = torch.rand(N, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    labels = net()(pixels).argmax(1).numpy().copy()
    labels[::10] = (labels[::10] + 1) % 10
    ids = np.array([f"test/{i:05}" for i in range(N)])
    return classifier, Samples(ids, labels, tuple("0123456789"), ArrayStore(pixels.numpy()), np.arange(N))


def measure(probe, network: nn.Module, batch_size: int = 16):
    classifier, samples = about(network)
    return probe(classifier, samples, batch_size, CPU, 0)


def test_only_samples_that_are_right_take_part():
    classifier, samples = about(net())
    for batch_size in (7, 40):
        found = list(batches(classifier, samples, 20, batch_size, CPU, 0, "x"))
        ids = [i for batch in found for i in batch.ids]
        place = {f"test/{i:05}": i for i in range(40)}
        assert len(set(ids)) == 20
        assert all(place[i] % 10 for i in ids)
        labels = torch.cat([batch.goal.labels for batch in found])
        assert labels.tolist() == [samples.labels[place[i]] for i in ids]
        assert torch.cat([batch.x for batch in found]).shape == (20, 1, 8, 8)


def test_answers_of_a_plain_network():
    seen = measure(Answers(), net())
    assert seen["images"] == 16
    assert seen["repeat"].max() == 0
    assert not seen["turned"].any()
    assert seen["alone"].max() < 1e-5
    assert not seen["probabilities"]
    assert seen["autograd"] == 0
    assert seen["levels"].min() == 10
    assert seen["num_classes"] == 10


def test_answers_that_are_drawn_shared_hard_or_probabilities():
    assert measure(Answers(), nn.Sequential(net(), Noisy()))["repeat"].max() > 1e-3
    assert measure(Answers(), nn.Sequential(net(), Centred()))["alone"].max() > 1e-3
    assert measure(Answers(), nn.Sequential(net(), nn.Softmax(1)))["probabilities"]
    hard = measure(Answers(), nn.Sequential(net(), Hard()))
    assert hard["levels"].max() == 2
    assert measure(Answers(), Purifying(net()))["autograd"] > 0


def test_the_watch_on_autograd_ends():
    before = torch.autograd.grad
    with pytest.raises(RuntimeError, match="x"), autograd_calls():
        raise RuntimeError("x")
    assert torch.autograd.grad is before


def test_slopes_of_a_linear_network_are_one():
    torch.manual_seed(0)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    classifier = Classifier(linear, name="net", input_shape=(1, 8, 8), num_classes=2)
    pixels = torch.full((10, 1, 8, 8), 0.5) + 0.1 * torch.rand(10, 1, 8, 8)
    labels = classifier(pixels).argmax(1).numpy()
    samples = Samples(np.array(list("abcdefghij")), labels, ("a", "b"), ArrayStore(pixels.numpy()), np.arange(10))
    for norm, eps in (("linf", "0.1"), ("l2", "0.5"), ("l1", "2")):
        seen = Slopes(norm=norm, eps=eps)(classifier, samples, 4, CPU, 0)
        np.testing.assert_allclose(seen["slope"], 1.0, atol=1e-2)


def test_slopes_of_gradients_that_are_there_and_that_are_not():
    plain = measure(Slopes(eps="0.05"), net())
    assert 0.5 < np.median(plain["slope"][:, 0]) < 1.5
    assert not plain["zero"].any()
    assert not plain["none"]
    wrong = measure(Slopes(eps="0.05"), Misleading(net(), net(seed=7)))
    assert abs(np.median(wrong["slope"][:, 0])) < 0.2
    sure = measure(Slopes(eps="0.05"), net(scale=1e6))
    assert sure["zero"].mean() > 0.5
    assert not sure["zero_margin"].any()


def test_the_recorder_sees_every_point_of_a_path():
    network = net()
    x, labels = torch.rand(3, 1, 8, 8), torch.tensor([0, 1, 2])
    recorder = Recorder(network, Goal(labels))
    z = recorder(x)
    assert torch.equal(z, network(x))
    torch.testing.assert_close(recorder.losses[0], nn.functional.cross_entropy(z, labels, reduction="none"))
    assert torch.equal(recorder.reached[0], z.argmax(1) != labels)


def test_paths_of_a_plain_network_succeed_without_a_budget():
    seen = measure(Paths(eps="0.05", images=12, steps=10), net())
    assert seen["loss"].shape == seen["reached"].shape == (12, 11)
    assert not seen["reached"][:, 0].any()
    assert seen["unbounded"].all()
    assert seen["last"].tolist() == seen["reached"][:, -1].tolist()


def test_a_search_that_goes_the_wrong_way_fails_without_a_budget_too():
    seen = measure(Paths(eps="0.05", images=12, steps=10), Misleading(net(), net(seed=7)))
    assert not seen["unbounded"].all()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_searches_of_a_plain_network_leave_nothing_to_weaker_ones(norm):
    eps = {"linf": "0.06", "l2": "0.5", "l1": "2.5"}[norm]
    seen = measure(
        Searches(norm=norm, eps=eps, images=24, steps=10, draws=20, queries=0 if norm == "l1" else 60), net()
    )
    assert 0 < seen["pgd"].sum() < 24
    for name in ("step", "half", "noise", *(("scores",) if norm != "l1" else ())):
        assert not seen[name].any()
    assert len(seen["sample"]) == 24


def test_searches_find_what_misled_gradients_miss():
    seen = measure(Searches(eps="0.1", images=24, steps=10, draws=20, queries=60), Misleading(net(), net(seed=7)))
    assert (seen["scores"] | seen["noise"]).any()
    assert not (seen["scores"] & (seen["pgd"] | seen["longer"] | seen["again"] | seen["targeted"])).any()


def test_outcomes_do_not_depend_on_the_batch_size():
    probes = Slopes(eps="0.05"), Paths(eps="0.05", images=12, steps=5), Searches(images=12, steps=5, queries=20)
    for probe in (*probes, Neighbours(), Broader()):
        small, large = (measure(probe, net(), batch_size) for batch_size in (5, 40))
        assert small.keys() == large.keys()
        for name, values in small.items():
            if values.dtype.kind == "f":
                np.testing.assert_allclose(values, large[name], rtol=1e-3, atol=1e-4)
            else:
                assert values.tolist() == large[name].tolist()


@pytest.mark.parametrize("norm", ["linf", "l2", pytest.param("l1", marks=pytest.mark.slow)])
def test_the_way_to_a_neighbour_crosses_the_boundary_where_halving_says(norm):
    torch.manual_seed(3)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    network[1].weight.data -= network[1].weight.data.mean(1, keepdim=True)
    x = torch.rand(24, 1, 8, 8)
    labels = network(x).argmax(1)
    assert len(labels.unique()) == 4
    classifier = Classifier(network, name="net", input_shape=(1, 8, 8), num_classes=4)
    samples = Samples.of(x.numpy(), labels.tolist(), "abcd", "test")
    seen = Neighbours(norm=norm, eps="0.2")(classifier, samples, 16, CPU, 0)
    kept = [samples.ids.tolist().index(i) for i in seen["sample"]]
    x, labels = x[kept], labels[kept]
    size = ThreatModel(norm, 1.0).size
    walks = []
    for image, label in zip(x, labels, strict=True):  # the same by walking in small steps
        others = x[labels != label]
        order = size(others, image.expand_as(others)).argsort()[:3]
        lines = [image + t * (others[order] - image) for t in torch.linspace(0, 1, 4001)]
        crossed = [size(p, image.expand_as(p))[network(p).argmax(1) != label] for p in lines]
        walks.append(min(float(s) for sizes in crossed for s in sizes))
    assert seen["walk"] == pytest.approx(walks, rel=5e-3)
    if norm == "linf":
        assert seen["near"].tolist() == [w <= 0.2 for w in walks]


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_ways_of_all_images_at_once_end_where_they_end_one_at_a_time(norm):
    classifier, samples = about(net())
    seen = Neighbours(norm=norm, eps="0.3", images=30)(classifier, samples, 16, CPU, 0)
    threat = ThreatModel(norm, 0.3)
    kept = np.array([samples.ids.tolist().index(i) for i in seen["sample"]])
    x, labels = samples.batch(kept), torch.from_numpy(samples.labels[kept].copy())
    walks, near = [], []
    for image, label in zip(x, labels, strict=True):
        others = x[labels != label]
        found = [(np.inf, False)]
        for i in threat.size(others, image.expand_as(others)).argsort(stable=True)[:3]:
            low, high, way = 0.0, 1.0, others[i] - image
            for _ in range(12):
                middle = (low + high) / 2
                crossed = classifier((image + middle * way)[None]).argmax(1) != label
                low, high = (low, middle) if crossed else (middle, high)
            point = (image + high * way).clamp(0, 1)[None]
            if classifier(point).argmax(1) != label:
                found.append((float(threat.size(point, image[None])), bool(threat.within(point, image[None]))))
        walks.append(min(found)[0])
        near.append(min(found)[1])
    assert np.isfinite(walks).all()
    assert seen["walk"].tolist() == walks
    assert seen["near"].tolist() == near


def test_neighbours_without_another_class_are_nowhere():
    classifier, samples = about(net())
    one = samples.labels == samples.labels[1]
    seen = Neighbours(eps="0.2")(classifier, samples.select(np.flatnonzero(one)), 16, CPU, 0)
    assert np.isinf(seen["walk"]).all()
    assert not seen["near"].any()
    assert len(seen["sample"]) > 0


def test_broader_tries_every_turn_and_move():
    corner = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))  # says 1 where the upper left pixel is bright
    with torch.no_grad():
        corner[1].weight.zero_()[1, 0] = 10.0
        corner[1].bias.copy_(torch.tensor([5.0, 0.0]))
    pixels = np.zeros((2, 1, 8, 8), np.float32)
    pixels[:, 0, :3, :3] = 1.0
    pixels[1] = 1.0
    samples = Samples.of(pixels, [1, 1], "ab", "test")
    classifier = Classifier(corner, name="net", input_shape=(1, 8, 8), num_classes=2)
    seen = Broader()(classifier, samples, 5, CPU, 0)
    assert seen["turned"].tolist() == [True, False]  # the first has a dark rest that a turn brings to the corner
    assert not seen["noise_0"].any()


class Descending(nn.Module):
    """Takes a gradient step of its own on the image, by a name that was imported before anybody looked."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            own = x.detach().requires_grad_()
            (step,) = imported_grad(self.network(own).sum(), own)
        return self.network(x + 0 * step)


def test_gradients_inside_forward_are_seen_whatever_name_they_go_by():
    assert measure(Answers(), Descending(net()))["autograd"] > 0
    by_func = Descending(net())
    by_func.forward = lambda x: by_func.network(x + 0 * torch.func.grad(lambda y: by_func.network(y).sum())(x))
    assert measure(Answers(), by_func)["autograd"] > 0
    assert measure(Answers(), net())["autograd"] == 0


def sorted_by_class(wrong: tuple[int, ...] = ()) -> tuple[Classifier, Samples]:
    """A network that reads the class from the first pixels, but for some images, and 8 images a class, in order."""
    labels = np.repeat(np.arange(4), 8)
    pixels = np.zeros((32, 1, 2, 2), np.float32)
    pixels.reshape(32, 4)[np.arange(32), labels] = 1
    for i in wrong:
        pixels[i] = pixels[i][:, ::-1, ::-1]
    classifier = Classifier(nn.Flatten(), name="n", input_shape=(1, 2, 2), num_classes=4)
    return classifier, Samples.of(pixels, labels, "abcd", "sorted")


@pytest.mark.parametrize("batch_size", [5, 32])
def test_some_samples_of_a_folder_in_order_are_of_all_its_classes(batch_size: int):
    classifier, samples = sorted_by_class(wrong=(0, 1, 2, 3, 4, 5))  # two of the first class are right

    def labels(images: int) -> list[int]:
        found = batches(classifier, samples, images, batch_size, CPU, 0, "x")
        return [int(k) for batch in found for k in batch.goal.labels]

    assert np.bincount(labels(8), minlength=4).tolist() == [2] * 4
    assert np.bincount(labels(14), minlength=4).tolist() == [2, 4, 4, 4]
    order = labels(100)
    assert len(order) == 26
    assert all(a != b for a, b in pairwise(order))


def test_no_more_samples_are_asked_of_than_are_needed():
    classifier, samples = sorted_by_class(wrong=(0, 9))
    asked: list[int] = []
    classifier.register_forward_hook(lambda _m, args, _out: asked.append(len(args[0])))
    found = [i for batch in batches(classifier, samples, 8, 5, CPU, 0, "x") for i in batch.ids]
    right = np.ones(32, dtype=bool)
    right[[0, 9]] = False
    assert found == samples.ids[in_turn(samples.labels, 0, right)[:8]].tolist()  # as if all had been asked of
    assert sum(asked) <= 10


def test_networks_that_get_other_samples_right_share_most():
    def ids(wrong: tuple[int, ...]) -> set[str]:
        classifier, samples = sorted_by_class(wrong)
        return {i for batch in batches(classifier, samples, 12, 32, CPU, 0, "x") for i in batch.ids}

    assert len(ids((0, 9)) & ids((17, 30))) >= 9
