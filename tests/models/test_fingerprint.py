"""Edge fingerprints beside NumPy and SciPy, on images small enough to follow, and their gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, signal
from torch.nn import functional as F

from models.errors import ModelError
from models.fingerprint import Fingerprint, Fingerprints, drawn_by_hand, standardised
from models.logistic import NEVER
from models.source import Source
from models.spec import Network, build
from models.store import load_or_fit
from models.train import TrainConfig, fit

TOP = np.array([[-1, -1, -1], [1, 1, 1], [0, 0, 0]], float)
BR = np.array([[0, 0, 1], [0, 1, -1.5], [1, -1.5, 0]], float)
ROTS = [np.rot90(f, i) for f in (TOP, BR) for i in range(4)]
PLAIN = TrainConfig(epochs=2, val_fraction=0.0)


def made(shape: tuple[int, int, int] = (1, 28, 28), classes: int = 3, **fields: object) -> Network:
    return build(Fingerprint(**fields), "fingerprint", shape, classes, seed=0)["fingerprint"]  # type: ignore[arg-type]


def module_of(network: Network) -> Fingerprints:
    assert isinstance(network.module, Fingerprints)
    return network.module


def of_the_lesson(image: np.ndarray, cell: int) -> np.ndarray:
    """Correlate with each filter, then the greatest of each cell: (8, 4, 4)."""
    correlated = [ndimage.correlate(image, f) for f in ROTS]
    return np.array([c.reshape(4, cell, 4, cell).max((1, 3)) for c in correlated])


def test_the_filters_are_those_of_the_lesson() -> None:
    assert drawn_by_hand("edges").numpy() == pytest.approx(np.array(ROTS))
    assert len(drawn_by_hand("straight")) == len(drawn_by_hand("diagonal")) == 4


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_convolution_is_correlation_with_the_filter_turned_by_180_degrees(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image, kernel = rng.normal(size=(9, 7)), rng.normal(size=(3, 3))
    ours = F.conv2d(torch.tensor(image)[None, None], torch.tensor(kernel)[None, None], padding=1)[0, 0].numpy()

    assert ours == pytest.approx(signal.correlate2d(image, kernel, mode="same"))
    assert ours == pytest.approx(signal.convolve2d(image, np.rot90(kernel, 2), mode="same"))


@pytest.mark.parametrize(("side", "cell"), [(28, 7), (8, 2), (32, 8)])
def test_a_fingerprint_is_that_of_scipy(side: int, cell: int) -> None:
    images = np.random.default_rng(0).random((3, side, side), dtype=np.float32)
    module = module_of(made((1, side, side)))

    ours = module.raw(torch.from_numpy(images)[:, None]).numpy()
    assert ours == pytest.approx(np.array([of_the_lesson(image, cell) for image in images]), abs=1e-5)


def test_cells_cover_sides_that_four_does_not_divide() -> None:
    x = torch.zeros(1, 1, 10, 9)
    x[0, 0, 9, 8] = 1.0
    module = module_of(made((1, 10, 9), filters="pixel"))

    assert module.raw(x)[0, 0].argmax() == 15
    assert module.raw(x)[0, 0].sum() == 1


@pytest.mark.parametrize("standardise", ["both", "templates", "none"])
def test_the_decision_is_that_of_the_lesson(blobs: Source, standardise: str) -> None:
    network = made((1, 8, 8), standardise=standardise)
    history = fit(network, PLAIN, blobs, seed=0)
    x = blobs.batch(np.arange(len(blobs))).numpy()[:, 0]
    prints = np.array([of_the_lesson(image, 2) for image in x])

    def norm(a: np.ndarray) -> np.ndarray:
        return (a - a.mean()) / a.std()

    means = [prints[blobs.labels == k].mean(0) for k in range(3)]
    templates = np.array(means if standardise == "none" else [norm(m) for m in means])
    shown = np.array([norm(p) for p in prints]) if standardise == "both" else prints
    sse = ((shown[:, None] - templates) ** 2).sum((2, 3, 4))

    logits = network.classifier("f", (1, 8, 8))(torch.from_numpy(x)[:, None])
    assert logits.numpy() == pytest.approx(-sse, rel=1e-4, abs=1e-3)
    assert history.epochs[0].accuracy == pytest.approx((sse.argmin(1) == blobs.labels).mean())
    assert len(history.epochs) == 1


def test_the_nearest_mean_image_is_one_of_them(blobs: Source) -> None:
    network = made((1, 8, 8), filters="pixel", places=8, standardise="none")
    fit(network, PLAIN, blobs, seed=0)
    x = blobs.batch(np.arange(len(blobs)))
    means = torch.stack([x[torch.from_numpy(blobs.labels == k)].mean(0) for k in range(3)])

    assert module_of(network).templates == pytest.approx(means, abs=1e-6)


def test_classes_without_a_template_are_never_named(blobs: Source) -> None:
    network = build(Fingerprint(classes=[2, 0]), "f", (1, 8, 8), 5, seed=0)["f"]
    fit(network, PLAIN, blobs, seed=0)
    logits = network.module(blobs.batch(np.arange(30)))

    assert (logits[:, [1, 3, 4]] == NEVER).all()
    assert set(logits.argmax(1).tolist()) == {0, 2}


def test_what_is_learnt_are_the_parameters_that_were_named(blobs: Source) -> None:
    fixed = made((1, 8, 8))
    assert not list(fixed.module.parameters())

    rng = np.random.default_rng(0)
    blobs.labels[:] = rng.permutation(blobs.labels)  # else nothing is left to learn
    network = made((1, 8, 8), filters="random", learn=["filters", "weights", "templates"])
    before = module_of(network).filters.detach().clone()
    history = fit(network, TrainConfig(epochs=5, val_fraction=0.0), blobs, seed=0)
    assert [name for name, _ in network.module.named_parameters()] == ["filters", "logs", "templates"]
    assert not torch.equal(module_of(network).filters, before)
    assert history.epochs[-1].loss < history.epochs[0].loss


def test_learning_begins_with_the_class_means(blobs: Source) -> None:
    plain, learnt = made((1, 8, 8)), made((1, 8, 8), learn=["templates"])
    fit(plain, PLAIN, blobs, seed=0)
    fit(learnt, TrainConfig(epochs=1, lr=1e-9, val_fraction=0.0), blobs, seed=0)

    assert module_of(learnt).templates.detach() == pytest.approx(module_of(plain).templates, abs=1e-5)


def test_it_is_stored_and_found_again(blobs: Source, tmp_path) -> None:
    networks = [made((1, 8, 8)) for _ in range(2)]
    found = [
        load_or_fit(
            n, Fingerprint(), PLAIN, blobs, root=tmp_path, name="f", data="blobs", input_shape=(1, 8, 8), seed=0
        )
        for n in networks
    ]

    assert [f.loaded for f in found] == [False, True]
    assert torch.equal(*(module_of(n).templates for n in networks))


def test_its_gradient_is_that_of_central_differences(blobs: Source) -> None:
    network = made((1, 8, 8))
    fit(network, PLAIN, blobs, seed=0)
    x = blobs.batch(np.arange(2)).double()
    module = network.module.double()

    assert torch.autograd.gradcheck(module, x.requires_grad_(), eps=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.1, 30), shift=st.floats(-5, 5))
def test_to_standardise_what_is_compared_with_standardised_templates_changes_no_decision(seed, scale, shift) -> None:
    g = torch.Generator().manual_seed(seed)
    templates = standardised(torch.randn(10, 8, 4, 4, generator=g, dtype=torch.float64))
    p = torch.rand(5, 8, 4, 4, generator=g, dtype=torch.float64) * scale + shift

    def nearest(q: torch.Tensor) -> list[int]:
        return (q[:, None] - templates).square().sum((2, 3, 4)).argmin(1).tolist()

    assert nearest(p) == nearest(standardised(p))


def test_standardised_fingerprints_forget_brightness_and_contrast() -> None:
    p = torch.rand(2, 3, 4, 4)
    assert standardised(3 * p + 1) == pytest.approx(standardised(p), abs=1e-4)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"filters": "round"}, "filters: must be one of"),
        ({"standardise": "no"}, "standardise: must be one of"),
        ({"learn": ["eyes"]}, "learn: must be some of"),
        ({"places": 0}, "places: must be >= 1"),
        ({"places": 9}, "places: must be at most 8"),
        ({"classes": [1]}, "classes: must be two or more"),
        ({"classes": [1, 7]}, "classes: must be in 0..2"),
    ],
)
def test_what_is_not_allowed_is_named(fields: dict, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        Fingerprint(**fields).build("f", (1, 8, 8), 3)


def test_a_class_without_samples_and_training_on_perturbed_images_are_refused(blobs: Source) -> None:
    with pytest.raises(ModelError, match=r"got none of \[3\]"):
        fit(made((1, 8, 8), classes=4), PLAIN, blobs, seed=0)
    with pytest.raises(ModelError, match="must have something to learn"):
        fit(
            made((1, 8, 8)), TrainConfig(method="adversarial", val_fraction=0.0), blobs, seed=0,
            perturb=lambda network, x, y, step: x,
        )  # fmt: skip
