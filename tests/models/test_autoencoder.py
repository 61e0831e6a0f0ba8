"""The sparse autoencoder: its objective beside numpy's, and filters that learn without labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from torch.nn import functional as F

from models.autoencoder import AE, SparseAutoencoder, divergence
from models.errors import ModelError
from models.source import Source
from models.spec import Network, build
from models.train import TrainConfig, fit

SHAPE = (1, 4, 3)


def network(**fields: float) -> Network:
    return build(AE(units=7, **fields), "ae", SHAPE, 5, seed=0)["ae"]


def test_the_divergence_is_that_of_scipy_and_least_where_both_agree() -> None:
    q = torch.linspace(0.02, 0.98, 49, dtype=torch.float64)
    expected = [entropy([0.1, 0.9], [v, 1 - v]) for v in q.tolist()]

    assert divergence(0.1, q).numpy() == pytest.approx(np.array(expected))
    assert divergence(0.1, torch.tensor(0.1, dtype=torch.float64)).item() == pytest.approx(0, abs=1e-12)


def test_the_objective_is_that_of_the_lecture_notes() -> None:
    made = network(filter_decay=0.02, sparsity=0.2, sparsity_weight=0.7)
    assert made.objective is not None
    x = torch.rand(6, *SHAPE)
    w = {name: value.detach().double().numpy() for name, value in made.module.state_dict().items()}

    def sigmoid(z: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-z))

    flat = x.flatten(1).double().numpy()
    h = sigmoid(flat @ w["encoder.weight"].T + w["encoder.bias"])
    out = sigmoid(h @ w["decoder.weight"].T + w["decoder.bias"])
    error = np.mean([0.5 * np.sum((a - b) ** 2) for a, b in zip(out, flat, strict=True)])
    decay = 0.01 * (np.sum(w["encoder.weight"] ** 2) + np.sum(w["decoder.weight"] ** 2))
    sparse = 0.7 * sum(entropy([0.2, 0.8], [a, 1 - a]) for a in h.mean(0))

    assert made.objective(x).item() == pytest.approx(error + decay + sparse, rel=1e-5)


def test_labels_teach_the_head_alone_but_the_image_has_a_gradient() -> None:
    module = network().module
    assert isinstance(module, SparseAutoencoder)
    x, y = torch.rand(6, *SHAPE, requires_grad=True), torch.arange(6) % 5

    module.train()
    F.cross_entropy(module(x), y).backward()
    assert module.encoder.weight.grad is None
    assert module.head.weight.grad is not None
    assert x.grad is None

    module.eval()
    F.cross_entropy(module(x), y).backward()
    assert x.grad is not None
    assert x.grad.norm() > 0


def test_training_brings_the_objective_down_and_the_activations_to_their_mean(blobs: Source) -> None:
    made = build(AE(units=12, sparsity=0.2), "ae", (1, 8, 8), 3, seed=0)["ae"]
    assert made.objective is not None
    x = blobs.batch(np.arange(len(blobs)))
    before = made.objective(x).item()

    fit(made, TrainConfig(epochs=30, lr=3e-2, val_fraction=0.0), blobs, seed=0)

    assert isinstance(made.module, SparseAutoencoder)
    assert made.objective(x).item() < 0.7 * before
    assert made.module.features(x).mean().item() == pytest.approx(0.2, abs=0.05)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"units": 0}, "AE.units: must be >= 1, got 0"),
        ({"sparsity": 1.0}, r"AE.sparsity: must be in \(0, 1\), a mean activation, got 1"),
        ({"filter_decay": -1.0}, "AE.filter_decay: must be >= 0, got -1"),
        ({"decay": -1.0}, "AE.decay: must be >= 0"),
    ],
)
def test_bad_settings_are_refused(fields: dict[str, float], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        AE(**fields)  # type: ignore[arg-type]
