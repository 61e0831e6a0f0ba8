"""The probes of single units on networks made by hand: what was planted is found, what is taken out is gone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from attacks.goal import Goal
from eval.data import Samples
from eval.errors import InputError
from eval.meter import Meter
from eval.units import detectors
from eval.units.firing import Watch
from eval.units.observe import chosen_layer, halves, spread, without
from eval.units.probe import Units
from eval.units.remembered import remembered
from eval.units.stimuli import Stimuli
from models.classifier import Classifier
from models.convnets import CNN
from models.errors import ModelError
from models.features import activations
from models.paper import Softmax
from models.spec import build

CPU = torch.device("cpu")
CLASSES = 4
SMALL = Units(directions=20, best=5, ablated=3, shown=2)


def images(n: int = 160, seed: int = 0) -> Samples:
    """Pictures 4 x 4 of a bright row, the class, on noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % CLASSES
    pixels = 0.4 * rng.random((n, 1, 4, 4))
    pixels[np.arange(n), 0, labels] += 0.5
    return Samples.of(pixels.astype(np.float32), labels, [str(c) for c in range(CLASSES)], "made")


def grandmothers(hidden: int = 12) -> Classifier:
    """A network with a unit for each row, in its first units, and units that say nothing of them."""
    first, last = nn.Linear(16, hidden), nn.Linear(hidden, CLASSES)
    with torch.no_grad():
        first.weight.copy_(0.3 * torch.randn(hidden, 16, generator=torch.Generator().manual_seed(0)))
        first.bias.zero_()
        last.weight.zero_(), last.bias.zero_()
        for c in range(CLASSES):
            first.weight[c] = torch.eye(4)[c].repeat_interleave(4)
            first.bias[c] = -1.5
            last.weight[c, c] = 5.0
        last.bias[0] = 2.0  # what is no other class is the first
    body = nn.Sequential(nn.Flatten(), first, nn.ReLU(), last)
    return Classifier(body, name="made", input_shape=(1, 4, 4), num_classes=CLASSES)


@pytest.fixture(scope="module")
def seen() -> dict[str, np.ndarray]:
    return SMALL(grandmothers(), images(), 64, CPU, 0)


@pytest.fixture
def cnn() -> Classifier:
    return build(CNN(), "cnn", (1, 8, 8), 10, seed=0)["cnn"].classifier("cnn", (1, 8, 8))


def test_planted_units_are_pure_detect_their_class_and_are_needed(seen: dict[str, np.ndarray]) -> None:
    order = seen["v_natural"].argmax(1)
    for c in range(CLASSES):
        i = int(np.flatnonzero(order == c)[0])
        assert seen["purity_natural"][i] == 1
        assert (seen["label"][seen["top_natural"][i]] == c).all()
        assert seen["fitted_natural"][i, c] == seen["fitted_natural"][:, c].max()
        assert seen["accuracy_natural"][i, c] > 0.98
        assert seen["area_natural"][i, c] > 0.99
    assert seen["purity_chance"].mean() < 0.6


def test_what_is_told_was_not_fitted(seen: dict[str, np.ndarray]) -> None:
    told = np.flatnonzero(~seen["fitted"])
    assert len(told) == 80
    assert all(np.isin(seen[f"top_{basis}"], told).all() for basis in ("natural", "random", "pca"))
    assert np.bincount(seen["label"][told]).tolist() == [20] * CLASSES
    assert seen["intact_right"].shape == (80,)


def test_without_a_planted_unit_its_class_is_lost_and_without_an_equal_direction_less() -> None:
    network, samples = grandmothers(), images()
    few = replace(SMALL, ablated=12)
    found = few(network, samples, 64, CPU, 0)
    labels = samples.labels[~found["fitted"]]
    assert found["intact_right"].mean() > 0.98
    for i, unit in enumerate(found["v_natural"].argmax(1)):
        lost = found["intact_right"].mean() - found["gone_right_natural"][i].mean()
        if unit < CLASSES:
            assert lost > 0.2 or unit == 0
            assert found["gone_loss_natural"][i][labels == unit].mean() > found["intact_loss"][labels == unit].mean()
        else:
            assert lost == 0
    assert found["variance_natural"][:, 0] == pytest.approx(found["variance_natural"][:, 1], rel=0.02)


def test_outcomes_do_not_depend_on_the_batch_size(seen: dict[str, np.ndarray]) -> None:
    again = SMALL(grandmothers(), images(), 7, CPU, 0)
    assert seen.keys() == again.keys()
    for name, values in seen.items():
        if values.dtype.kind == "f":
            assert again[name] == pytest.approx(values, abs=1e-4), name
        else:
            assert np.array_equal(again[name], values), name


def test_the_last_hidden_layer_is_what_enters_the_last_weights(cnn: Classifier) -> None:
    x = torch.rand(2, 1, 8, 8)
    assert chosen_layer(cnn, x, None).alias == "relu3"
    assert chosen_layer(cnn, x, "conv2").units == 32
    with pytest.raises(ModelError, match="did you mean conv2"):
        chosen_layer(cnn, x, "conv3")
    thin = nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Sigmoid(), nn.Linear(1, 3), nn.Sigmoid(), nn.Linear(3, 1))
    narrow = Classifier(thin, name="n", input_shape=(1, 8, 8), num_classes=1)
    with pytest.raises(InputError, match="sigmoid1 has 1; choose another, such as layer=fc2"):
        chosen_layer(narrow, x, "sigmoid1")
    flat = build(Softmax(), "s", (1, 8, 8), 10, seed=0)["s"].classifier("s", (1, 8, 8))
    with pytest.raises(InputError, match="has no hidden layer"):
        chosen_layer(flat, x, None)


@pytest.mark.parametrize("layer", ["conv2", "relu3"])
def test_a_direction_that_is_taken_out_says_its_mean_everywhere(cnn: Classifier, layer: str) -> None:
    x = torch.rand(6, 1, 8, 8)
    name = chosen_layer(cnn, x, layer).name
    whole = activations(cnn, name, x)
    v = torch.randn(whole.shape[1], generator=torch.Generator().manual_seed(0))
    v, mean = v / v.norm(), whole.transpose(0, 1).flatten(1).mean(1)
    before = cnn(x)
    with without(cnn, name, v, mean):
        kept = activations(cnn, name, x)
        after = cnn(x)
    along = torch.tensordot(kept, v, ([1], [0]))
    assert torch.allclose(along, (mean @ v).expand_as(along), atol=1e-5)
    assert torch.allclose(whole - kept, torch.einsum("b...,u->bu...", torch.tensordot(whole, v, ([1], [0])) - mean @ v, v), atol=1e-5)  # fmt: skip  # noqa: E501
    assert not torch.allclose(before, after)
    assert torch.equal(before, cnn(x))  # nothing stays behind


def test_mean_and_covariance_are_over_images_and_places(cnn: Classifier) -> None:
    rng = np.random.default_rng(0)
    samples = Samples.of(rng.random((20, 1, 8, 8)).astype(np.float32), [i % 10 for i in range(20)], "0123456789", "x")
    name = chosen_layer(cnn, samples.batch(np.arange(2)), "conv2").name
    mean, covariance = spread(cnn, name, samples, 7, CPU)
    flat = activations(cnn, name, samples.batch(np.arange(20))).permute(0, 2, 3, 1).flatten(0, 2).double().numpy()
    assert mean == pytest.approx(flat.mean(0), abs=1e-6)
    assert covariance == pytest.approx(np.cov(flat.T, bias=True), abs=1e-6)


def test_stimuli_of_planted_units_are_their_rows_and_move_them_elsewhere_too() -> None:
    one, other = grandmothers(), grandmothers(hidden=9)
    other.name = "other"
    found = Stimuli(SMALL, count=12, steps=60).beside({"other": other})(one, images(), 64, CPU, 0)
    natural = SMALL(one, images(), 64, CPU, 0)["v_natural"].argmax(1)
    for i, unit in enumerate(natural):
        if unit >= CLASSES:
            continue
        rows = found["stimulus"][i, 0].mean(1)
        assert rows.argmax() == unit
        best = found["centre"][0, unit].sum() + 2 * found["radius"] - 1.5  # ||w|| = 2
        assert found["on:made"][i, unit] == pytest.approx(best, rel=1e-3)
        assert found["on:other"][i, unit] == pytest.approx(found["on:made"][i, unit], rel=1e-4)
    size = np.linalg.norm((found["stimulus"] - found["centre"]).reshape(len(found["stimulus"]), -1), axis=1)
    assert (size <= found["radius"] + 1e-4).all()
    assert int(found["count"]) == 12


def test_a_watcher_keeps_what_the_units_say_of_each_image_and_of_noise_as_large() -> None:
    network, samples = grandmothers(), images(12)
    watcher = Watch("relu1", "mean", 0)(None, "made", "pgd")  # type: ignore[arg-type]
    x = samples.batch(np.arange(12))
    meter = Meter(network, 12, CPU)
    assert watcher.begin(meter, x, Goal(torch.as_tensor(samples.labels.copy()))) is meter
    x_adv = x.clone()
    x_adv[:6] = x[:6].roll(1, dims=2)  # the row moves: another class
    watcher.end(network, x_adv, samples)
    seen = watcher.arrays()
    assert seen["moved"].tolist() == [True] * 6 + [False] * 6
    assert (seen["said_after"][:6] == (samples.labels[:6] + 1) % CLASSES).all()
    assert np.array_equal(seen["before"][6:], seen["after"][6:])
    assert np.array_equal(seen["before"][6:], seen["noise"][6:])
    assert not np.array_equal(seen["before"][:6], seen["noise"][:6])


def test_random_directions_are_drawn_over_and_over_and_the_best_of_each_is_told(
    seen: dict[str, np.ndarray],
) -> None:
    right, told = seen["again_right"], ~seen["fitted"]
    assert right.shape == (20, 80, CLASSES)
    assert seen["again_area"].shape == (20, CLASSES)
    assert len(np.unique(right.mean((1, 2)))) > 5
    assert (seen["again_area"] > 0.4).all()
    member, rng, wanted = seen["label"][:, None] == np.arange(CLASSES), np.random.default_rng(99), []
    for _ in range(60):  # other draws of as many, the best of each class one by one
        r = seen["responses"] @ rng.standard_normal((len(seen["v_natural"]), seen["responses"].shape[1])).T
        fit = detectors.fit(r[seen["fitted"]], member[seen["fitted"]])
        accuracy = detectors.accuracy(r[told], member[told], fit)
        wanted.append(np.mean([accuracy[fit.fitted[:, c].argmax(), c] for c in range(CLASSES)]))
    each = right.mean((1, 2))
    assert abs(each.mean() - np.mean(wanted)) < 4 * np.std(wanted) / np.sqrt(len(each))


def test_directions_are_taken_out_on_images_of_all_classes() -> None:
    samples = images()
    ordered = samples.select(np.argsort(samples.labels, kind="stable"))  # as a folder of images is
    right = grandmothers()
    right.network[3].bias.data[:] = torch.tensor([9.0, 0, 0, 0])  # it says the first class, always
    found = replace(SMALL, ablated_images=20)(right, ordered, 64, CPU, 0)
    assert found["intact_right"].sum() == 5
    assert len(found["intact_right"]) == 20


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(InputError, match="at least 20 test samples"):
        SMALL(grandmothers(), images(12), 64, CPU, 0)
    with pytest.raises(InputError, match="at least 4"):
        halves(images(3), 0)
    with pytest.raises(InputError, match="unit: must be below the 12"):
        replace(SMALL, lead=12)(grandmothers(), images(), 64, CPU, 0)
    with pytest.raises(InputError, match="at: must be one of mean, max"):
        Units(at="median")


class Reused(nn.Module):
    """Calls a module twice, and changes what another returned in place."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.late = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act(self.stem(x))
        z = self.body(y)
        z += y
        return self.head(self.act(self.late(z)).mean((2, 3)))


@pytest.mark.parametrize("layer", ["stem", "body.0", "body", "late", "head"])
def test_a_pass_from_a_layer_on_is_the_whole_pass(layer: str) -> None:
    torch.manual_seed(0)
    network = Classifier(Reused(), name="r", input_shape=(1, 6, 6), num_classes=3)
    x = torch.rand(5, 1, 6, 6)
    units = activations(network, layer, x).shape[1]
    whole = network(x)
    v, mean = torch.eye(units)[1], torch.zeros(units)
    with without(network, layer, v, mean):
        wanted = network(x)
    with remembered(network, layer, x):
        assert torch.equal(network(x), whole)
        with without(network, layer, v, mean):
            assert torch.equal(network(x), wanted)
            assert torch.equal(network(x), wanted)  # again: nothing that is remembered was changed
    assert torch.equal(
        network(2 * x), Classifier(network.network, name="r", input_shape=(1, 6, 6), num_classes=3)(2 * x)
    )
    assert not torch.equal(network(2 * x), whole)


def test_modules_before_the_layer_are_not_called_again(cnn: Classifier) -> None:
    x = torch.rand(5, 1, 8, 8)
    first = cnn.network.get_submodule("0")
    assert isinstance(first, nn.Conv2d)
    with remembered(cnn, "8", x):
        logits = cnn(x)
        kept, first.weight.data = first.weight.data, torch.zeros_like(first.weight)
        again = cnn(x)
        first.weight.data = kept
    assert torch.equal(logits, again)
    assert torch.equal(logits, cnn(x))
