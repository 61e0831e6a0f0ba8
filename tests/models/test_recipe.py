"""The shipped recipe on real data: digits quickly, MNIST where it is to be had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.convnets import CNN
from models.paper import MLP, Softmax
from models.recipe import TrainConfig
from models.spec import Spec, build
from models.train import fit

IntArray = np.ndarray[Any, np.dtype[np.int64]]


class Images:
    def __init__(self, images: Tensor, labels: IntArray, white: float) -> None:
        self.images, self.labels, self.white = images, labels.astype(np.int64), white

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: IntArray) -> Tensor:
        return self.images[torch.from_numpy(index)].float() / self.white


def error_of(spec: Spec, train: Images, test: Images, config: TrainConfig) -> float:
    shape = (1, train.images.shape[2], train.images.shape[3])
    network = build(spec, "m", shape, 10, seed=0)["m"]
    fit(network, config, train, seed=0)
    classifier = network.classifier("m", shape)
    wrong = 0
    with torch.no_grad():
        for index in np.array_split(np.arange(len(test)), max(1, len(test) // 500)):
            predicted = classifier(test.batch(index)).argmax(1).numpy()
            wrong += int((predicted != test.labels[index]).sum())
    return wrong / len(test)


@pytest.mark.parametrize(("spec", "most"), [(Softmax(), 0.08), (MLP(), 0.06), (CNN(), 0.04)])
def test_digits_are_learned(spec: Spec, most: float) -> None:
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    images = torch.tensor(data.images)[:, None]
    test, train = (Images(images[i], data.target[i], 16.0) for i in (order[:447], order[447:]))
    assert error_of(spec, train, test, TrainConfig(epochs=20)) < most


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "epochs", "least", "most"),
    [(Softmax(decay=1e-4), 10, 0.07, 0.08), (MLP(), 10, 0, 0.022), (CNN(), 5, 0, 0.012)],
)
def test_mnist_errors_are_those_of_the_paper(
    spec: Spec, epochs: int, least: float, most: float, real_data: Path
) -> None:
    from torchvision.datasets import MNIST

    train, test = (
        Images(d.data[:, None], d.targets.numpy(), 255.0)
        for d in (MNIST(str(real_data), train=part, download=False) for part in (True, False))
    )
    assert least <= error_of(spec, train, test, TrainConfig(epochs=epochs)) <= most
