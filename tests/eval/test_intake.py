from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from eval.config import read
from eval.data import Data, Samples
from eval.data.classes import imagenet_classes
from eval.errors import InputError
from eval.intake import known, load
from models.convnets import CNN
from models.pretrained import Torchvision
from models.toaster import Fitting

NUMBERS = tuple(map(str, range(1000)))
IMAGENET = Torchvision("resnet18")


def data(classes=NUMBERS):
    samples = Samples.of(np.zeros((2, 3, 4, 4), np.uint8), [1, 2], classes, "test")
    return Data("mine", "two images", samples, samples)


@pytest.mark.parametrize("network", [IMAGENET, Fitting(), Torchvision("resnet18", False, "weights.pth")])
def test_a_thousand_classes_without_names_have_those_of_imagenet(network):
    named = known(data(), [CNN(), network])
    assert named.test.classes[859] == "toaster"
    assert named.train.classes == named.test.classes == imagenet_classes()
    assert named.test.fingerprint == data().test.fingerprint


@pytest.mark.parametrize(
    ("classes", "models"),
    [
        (NUMBERS, [CNN()]),
        (NUMBERS, [Torchvision("resnet18", pretrained=False)]),
        (NUMBERS[:10], [IMAGENET]),
        (tuple(f"n{number}" for number in NUMBERS), [IMAGENET]),
    ],
)
def test_other_classes_keep_their_names(classes, models):
    assert known(data(classes), models).test.classes == classes


@pytest.fixture
def folder(tmp_path):
    for number in (281, 859):
        (tmp_path / str(number)).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / str(number) / "a.png")
    return tmp_path


def test_a_goal_is_understood_by_its_name(composed, folder):
    overrides = ("data=images", f"data.root={folder}", "data.num_classes=1000", "model=torchvision/squeezenet1_0")
    loaded = load(read(composed(*overrides, "goal=toaster")))
    assert loaded.test.labels.tolist() == [281]  # the toaster itself is left out
    with pytest.raises(InputError, match="got 'toster'; near it: toaster"):
        load(read(composed(*overrides, "goal=toster")))
