"""What the probes of `eval.inside` measure, on networks of which is known what they look at."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch import nn

from attacks.lbfgs import LBFGS
from attacks.pgd import PGD
from eval.data import Samples
from eval.errors import InputError
from eval.inside.another import another, in_common
from eval.inside.layer import at_once, chosen, units_of
from eval.inside.mapped import Mapped, Square
from eval.inside.maximised import Maximised, _noise
from eval.inside.randomised import Randomised
from eval.inside.ranks import rank_correlation
from eval.studies.inside_maps import MAPS, gains
from models.classifier import Classifier
from models.convnets import CNN
from models.features import layers
from models.spec import build
from models.visualise import Ascent, excitation

CPU = torch.device("cpu")
SIDE = 8
FAST = Ascent(steps=12)


def samples(n: int = 24, seed: int = 0, side: int = SIDE) -> Samples:
    """Noise, of which class 1 has a light place from row 2 and column 5 on, and class 0 a dark one."""
    x = np.random.default_rng(seed).random((n, 1, side, side), np.float32) * 0.2 + 0.4
    labels = np.arange(n) % 2
    x[:, 0, 2:5, 5:8] = np.where(labels == 1, 0.95, 0.05)[:, None, None]
    return Samples.of(x, labels, ("dark", "light"), "test")


def watcher(name: str = "n", scale: float = 1.0) -> Classifier:
    """A network that looks at that place alone."""
    first, last = nn.Linear(SIDE * SIDE, 3), nn.Linear(3, 2)
    seen = torch.zeros(SIDE, SIDE)
    seen[2:5, 5:8] = scale / 9
    first.weight.data = torch.stack([seen, -seen, torch.zeros(SIDE, SIDE)]).flatten(1)
    first.bias.data = torch.tensor([-0.5, 0.5, 0.0]) * scale
    last.weight.data = torch.tensor([[-4.0, 4.0, 0.0], [4.0, -4.0, 0.0]])
    last.bias.data.zero_()
    body = nn.Sequential(nn.Flatten(), first, last)
    return Classifier(body, name=name, input_shape=(1, SIDE, SIDE), num_classes=2)


def cnn(seed: int = 0) -> Classifier:
    network = build(CNN([4, 6], 8), "cnn", (1, SIDE, SIDE), 2, seed=seed)["cnn"]
    return network.classifier("cnn", (1, SIDE, SIDE))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.floats(-1, 1)), min_size=3, max_size=40))
def test_rank_correlation_is_that_of_scipy(pairs):
    one, other = (torch.tensor(values, dtype=torch.float64) for values in zip(*pairs, strict=True))
    found = rank_correlation(one, other)
    if len(one.unique()) < 2 or len(other.unique()) < 2:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(spearmanr(one.numpy(), other.numpy()).statistic, abs=1e-9)


def test_the_last_convolution_or_else_the_first_dense_layer_is_looked_at():
    x = samples().batch(np.arange(2))
    assert chosen(cnn(), x, None).alias == "conv2"
    assert chosen(watcher(), x, None).alias == "fc1"
    body = nn.Sequential(nn.Conv2d(1, 5, 3), nn.Conv2d(5, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    ends = Classifier(body, name="n", input_shape=(1, SIDE, SIDE), num_classes=2)
    assert chosen(ends, x, None).alias == "conv1"  # the last has a map for each class
    assert chosen(cnn(), x, "fc1").units == 8
    layer = next(one for one in layers(cnn(), x) if one.alias == "conv2")
    assert units_of(layer, None, 4) == [0, 1, 2, 3]
    assert units_of(layer, 5, 4) == [5]
    with pytest.raises(InputError, match=r"unit: must be in 0..5, the units of conv2, got 6"):
        units_of(layer, 6, 4)


def test_large_images_go_to_a_network_a_few_at_a_time():
    assert at_once(cnn(), 256) == 256
    wide = Classifier(nn.Flatten(), name="n", input_shape=(3, 1024, 1024), num_classes=2)
    assert at_once(wide, 256) == 1


def test_images_of_units_excite_them_and_the_same_network_agrees_with_itself():
    net, twin = watcher(), watcher("twin")
    probe = Maximised("fc1", units=2, classes=2, starts=2, noises=8, ascent=FAST)
    found = probe.beside({"twin": twin, "cnn": cnn()})(net, samples(), 8, CPU, 0)
    assert found["layer"] == "fc1"
    assert (found["made"] > found["noise"]).all()
    assert found["matched"][0].tolist() == [0, 1]
    assert found["alike"][0] == pytest.approx([1, 1])
    assert np.diag(found["answers"][0]) == pytest.approx(found["made"], abs=1e-3)  # the images are whole, not bytes
    assert found["answers_real"][0] == pytest.approx(found["real"])
    assert found["class_said"].tolist() == found["class_unit"].tolist() == [0, 1, 0, 1]
    assert found["said"][0].tolist() == found["class_said"].tolist()
    assert (found["matched"][1] == -1).all()  # another architecture has no unit to compare
    assert np.isnan(found["answers"][1]).all()


def test_without_another_network_units_are_measured_all_the_same():
    found = Maximised(units=2, classes=2, noises=4, ascent=FAST).beside({})(cnn(), samples(), 8, CPU, 0)
    assert len(found["other"]) == 0
    assert "answers" not in found
    assert found["image"].dtype == np.uint8


def test_images_are_at_most_as_far_from_grey_as_real_ones():
    data = samples()
    found = Maximised(units=3, classes=2, noises=4, ascent=FAST).beside({})(cnn(), data, 8, CPU, 0)
    sizes = np.sqrt(((data.batch(np.arange(len(data))).numpy() - 0.5) ** 2).mean((1, 2, 3)))
    assert float(found["radius"]) == pytest.approx(np.median(sizes), rel=0.02)
    made = np.sqrt(((found["image"] / 255.0 - 0.5) ** 2).mean((1, 2, 3)))
    assert (made <= float(found["radius"]) + 0.005).all()


@pytest.mark.parametrize("radius", [0.05, 0.3, 0.424, 0.49])
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-2.0, 4.0)])
def test_noise_is_as_far_from_grey_as_asked_once_the_box_has_cut_it_off(radius, bounds):
    net = Classifier(watcher().network, name="n", bounds=bounds, input_shape=(1, SIDE, SIDE), num_classes=2)
    low, high = bounds
    drawn = torch.cat(list(_noise(net, Ascent(radius=radius), 20, 0, 7)))
    assert drawn.shape == (20, 1, SIDE, SIDE)
    assert low <= drawn.min()
    assert drawn.max() <= high
    sizes = ((drawn - (low + high) / 2) / (high - low)).flatten(1).square().mean(1).sqrt()
    assert sizes.numpy() == pytest.approx(radius, rel=1e-4)
    assert len(drawn.flatten(1).unique(dim=0)) == 20
    assert torch.equal(drawn, torch.cat(list(_noise(net, Ascent(radius=radius), 20, 0, 3))))  # however it is batched


def test_there_is_as_much_noise_as_there_are_images_and_the_strongest_of_it_counts():
    net, data = watcher(), samples(50)
    found = Maximised("fc1", units=2, classes=1, ascent=FAST).beside({})(net, data, 8, CPU, 0)
    assert int(found["noises"]) == 50
    assert int(found["there"]) == 3
    assert int(found["class_there"]) == 2
    drawn = torch.cat(list(_noise(net, Ascent(radius=float(found["radius"])), 50, 0, 64)))
    assert found["noise"] == pytest.approx(excitation(net, "1", drawn).amax(0)[:2].numpy(), rel=1e-5)
    assert found["class_noise"] == pytest.approx([float(net(drawn)[:, 0].max())], rel=1e-5)


def test_a_network_that_looks_at_one_place_has_a_map_that_beats_chance():
    probe = Mapped("fc1", images=12, square=Square(0.375, 0.125), attacks={"pgd": PGD(steps=10)}, eps="0.5")
    found = probe(watcher(scale=4.0), samples(), 8, CPU, 0)
    assert len(found["label"]) == 12
    peak = np.abs(found["map"][0])
    inside = np.zeros((SIDE, SIDE), dtype=bool)
    inside[1:6, 4:8] = True
    assert inside.ravel()[peak.argmax()]
    down, up = gains(found, 0, MAPS.index("occlusion"))
    assert down.mean() > 0.05
    assert up.mean() > 0
    assert found["state"].tolist() == ["clean", "pgd:attacked", "pgd:noise"]
    assert found["deletion"].shape == (12, 3, 4)
    assert found["deletion_curve"].shape == (4, 17)
    assert np.nanmax(np.abs(found["label_noise"])) <= 1 + 1e-9


def test_where_an_attack_fails_nothing_is_said_of_it():
    found = Mapped(images=6, attacks={"pgd": PGD(steps=2)}, eps="0.0001")(watcher(scale=4.0), samples(), 8, CPU, 0)
    assert np.isnan(found["size"]).all()
    assert np.isnan(found["deletion"][:, 1:]).all()
    assert not np.isnan(found["deletion"][:, 0]).any()
    assert not found["x_attacked"].any()


def test_maps_depend_on_neither_batch_size_nor_neighbours():
    probe = Mapped(images=8, attacks={"lbfgs": LBFGS(evaluations=30)})
    net, data = cnn(), samples()
    with torch.no_grad():
        data = data.relabelled(net(data.batch(np.arange(len(data)))).argmax(1).numpy())
    one, other = (probe(net, data, size, CPU, 0) for size in (3, 64))
    for name in ("drop", "deletion", "insertion", "label_attacked", "said_clean"):
        np.testing.assert_allclose(one[name], other[name], atol=1e-5, err_msg=name)
    few = Mapped(images=3, attacks={"lbfgs": LBFGS(evaluations=30)})(net, data, 64, CPU, 0)
    np.testing.assert_allclose(few["drop"], other["drop"][:3], atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=20))
def test_another_image_is_of_another_class_where_there_is_one(labels):
    found = another(labels)
    n = len(labels)
    for i, j in enumerate(found):
        near = [(i - k) % n for k in range(1, n)]
        assert j == next((k for k in near if labels[k] != labels[i]), near[0] if near else i)
    assert len(another([])) == 0


def test_what_two_maps_have_in_common_is_not_that_of_one_with_itself():
    maps = torch.rand(3, 4, 4)
    found = in_common(maps, np.array([1, 0, 2]))
    assert found[0] == found[1] == pytest.approx(rank_correlation(maps[0], maps[1]))
    assert math.isnan(found[2])


def test_the_null_of_a_folder_in_order_is_of_images_of_two_classes():
    data = samples(24)
    ordered = data.select(np.argsort(data.labels, kind="stable"))
    found = Mapped("fc1", images=8)(watcher(scale=4.0), ordered, 64, CPU, 0)
    assert np.bincount(found["label"]).tolist() == [4, 4]
    assert (found["label"][found["partner"]] != found["label"]).all()
    drops = torch.from_numpy(found["drop"])
    assert found["another"] == pytest.approx(in_common(drops, found["partner"]))
    drawn = Randomised(8, layers=2, draws=1)(watcher(), ordered, 64, CPU, 0)
    kinds = dict(zip(ordered.ids.tolist(), ordered.labels.tolist(), strict=True))
    labels = np.array([kinds[i] for i in drawn["sample"]])
    assert (labels[drawn["partner"]] != labels).all()
    assert set(drawn["sample"]) == set(found["sample"])
    (alone,) = Mapped("fc1", images=1)(watcher(scale=4.0), ordered, 64, CPU, 0)["another"]
    assert math.isnan(alone)  # and not 1, as with itself


class Scaled(nn.Module):
    """Has a parameter of its own that nobody can draw again."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


class Recurrent(nn.Module):
    """Has a part that answers with no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.last = nn.LSTM(SIDE, 4, batch_first=True), nn.Linear(4 * SIDE, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.inner(x[:, 0])[0].flatten(1))


@pytest.mark.parametrize(
    ("body", "left"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 4), Scaled(), nn.Linear(4, 2)), ["2"]),
        (Recurrent(), ["inner"]),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.Linear(4, 2)), []),
    ],
)
def test_parts_that_stay_as_they_were_are_named(body, left):
    net = Classifier(body, name="n", input_shape=(1, SIDE, SIDE), num_classes=2)
    data = samples()
    with torch.no_grad():
        data = data.relabelled(net(data.batch(np.arange(len(data)))).argmax(1).numpy())
    found = Randomised(2, layers=2, draws=1)(net, data, 8, CPU, 0)
    assert found["left"].tolist() == left


def test_a_network_that_is_always_wrong_has_no_maps():
    data = samples()
    found = Mapped(images=4)(watcher(), data.relabelled(1 - data.labels), 8, CPU, 0)
    assert "drop" not in found
    assert len(Randomised(4)(watcher(), data.relabelled(1 - data.labels), 8, CPU, 0)["layer"]) == 0


def test_layers_are_drawn_again_from_the_top_and_the_network_is_left_as_it_was():
    net = cnn()
    before = [p.clone() for p in net.parameters()]
    data = samples()
    with torch.no_grad():
        said = net(data.batch(np.arange(len(data)))).argmax(1).numpy()
    found = Randomised(6, layers=3, draws=2)(net, data.relabelled(said), 8, CPU, 0)
    assert found["layer"].tolist() == ["fc2", "conv2", "conv1"]  # of four, with the last and the first
    assert found["occlusion_cascade"].shape == found["gradient_alone"].shape == (6, 3)
    np.testing.assert_allclose(found["gradient_cascade"][:, 0], found["gradient_alone"][:, 0])
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    assert found["first_gradient"].shape == (4, SIDE, SIDE)


def test_a_map_that_does_not_depend_on_the_weights_of_a_layer_stays():
    net = watcher()
    first = net.network[1]
    first.reset_parameters = lambda: None  # drawn again, this layer stays as it is
    found = Randomised(6, layers=2)(net, samples(), 8, CPU, 0)
    assert found["layer"].tolist() == ["fc2", "fc1"]
    np.testing.assert_allclose(found["gradient_alone"][:, 1], 1.0)
    np.testing.assert_allclose(found["occlusion_alone"][:, 1], 1.0)
