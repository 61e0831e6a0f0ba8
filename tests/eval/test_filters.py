from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from eval.data import Samples
from eval.filters import Filters
from eval.studies.sheets import around_grey, filters, sheet
from models.classifier import Classifier


def measured(network: nn.Module, shape: tuple[int, int, int], most: int = 64):
    samples = Samples.of(np.zeros((2, *shape), np.float32), np.array([0, 1]), "ab", "test")
    classifier = Classifier(network, name="n", input_shape=shape, num_classes=2)
    return Filters(most)(classifier, samples, 2, torch.device("cpu"), 0)


def test_dense_weights_are_images_of_the_input() -> None:
    layer = nn.Linear(12, 5)
    found = measured(nn.Sequential(nn.Flatten(), layer, nn.Sigmoid(), nn.Linear(5, 2)), (3, 2, 2), most=4)
    assert found["weights"].shape == (4, 3, 2, 2)
    assert found["units"] == 5
    x = torch.rand(1, 3, 2, 2)
    by_hand = (torch.from_numpy(found["weights"]) * x).sum((1, 2, 3)) + layer.bias[:4]
    torch.testing.assert_close(by_hand, layer(x.flatten(1))[0, :4])


def test_kernels_of_a_convolution_and_nothing_for_other_first_layers() -> None:
    convolution = nn.Sequential(nn.Conv2d(1, 6, 3), nn.Flatten(), nn.Linear(24, 2))
    assert measured(convolution, (1, 4, 4))["weights"].shape == (6, 1, 3, 3)
    pooled = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 2))
    assert measured(pooled, (1, 4, 4)) == {}


def test_a_sheet_holds_every_picture_in_its_place() -> None:
    images = np.arange(5, dtype=np.float32).reshape(5, 1, 1, 1) * np.ones((5, 1, 2, 3), np.float32) / 10
    page = sheet(images, columns=2)
    assert page.shape == (1, 8, 7)
    for i in range(5):
        top, left = (i // 2) * 3, (i % 2) * 4
        assert (page[0, top : top + 2, left : left + 3] == images[i, 0]).all()
    assert (page[0, 2] == 1).all()


def test_zero_is_grey_and_the_largest_weight_black_or_white() -> None:
    grey = around_grey(np.array([[0.0, 2.0, -1.0], [0.0, 0.0, 0.0], [0.0, -0.01, 0.005]]))
    np.testing.assert_allclose(grey, [[0.5, 1.0, 0.25], [0.5, 0.5, 0.5], [0.5, 0.0, 0.75]])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_network_has_one_sheet_and_one_without_filters_none(channels: int) -> None:
    weights = np.ones((9, channels, 2, 2), np.float32)
    (pictures,) = filters({"b": {}, "a": {"weights": weights, "units": np.array(30)}}, {"a": "A"})
    ((label, image),) = pictures.images
    assert label == "A, 9 of 30 units"
    assert image.shape == (channels if channels == 3 else 1, 8, 8)
    assert filters({"b": {}}, {}) == ()
