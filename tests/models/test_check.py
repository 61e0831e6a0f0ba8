from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.check import check, gradient
from models.classifier import Classifier
from models.errors import ModelError
from models.foreign import import_factory

X = torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))
SAME = torch.zeros(4, 3)  # memory that a network answers in again


class Body(nn.Module):
    def __init__(self, forward: Callable[[Tensor, nn.Linear], Tensor]) -> None:
        super().__init__()
        self.layer = nn.Linear(36, 3)
        self.body = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x, self.layer)


def tried(forward: Callable[[Tensor, nn.Linear], Tensor], x: Tensor = X, labels: Tensor | None = None) -> list[str]:
    classifier = Classifier(Body(forward), name="m", input_shape=(1, 6, 6), num_classes=3)
    return check(classifier, x, labels)


def logits(x: Tensor, layer: nn.Linear) -> Tensor:
    return layer(x.flatten(1))  # type: ignore[no-any-return]


def test_a_good_network_gives_no_warning() -> None:
    assert tried(logits, labels=torch.tensor([0, 2])) == []
    assert check(Classifier(Body(logits), name="m", input_shape=(1, 6, 6), num_classes=3), X, np.array([2])) == []


@torch.no_grad()
def without_gradient(x: Tensor, layer: nn.Linear) -> Tensor:
    return logits(x, layer)


@pytest.mark.parametrize(
    ("forward", "says"),
    [
        (lambda x, layer: layer(x.flatten(1))[:, :, None], r"must be \(B, K\) = \(4, 3\), got \(4, 3, 1\)"),
        (lambda x, layer: layer(x.flatten(1)).sum(0), r"got \(3,\)"),
        (lambda x, layer: layer(x.flatten(1))[:, :2], "each of 3 classes, got 2"),
        (lambda x, layer: layer(x.flatten(1)) * float("nan"), "finite, got nan for image 0, class 0"),
        (lambda x, layer: (layer(x.flatten(1)),), "must be a tensor"),
        (lambda x, layer: layer(x), "got RuntimeError"),
        (lambda x, layer: layer(x.reshape(4, 36)), "must not be fixed"),
        (lambda x, layer: {}["missing"], "got KeyError: 'missing'"),
        (lambda x, layer: logits(x.sqrt().exp_(), layer), "modified by an inplace operation"),
    ],
)
def test_what_cannot_be_attacked_is_refused(forward: Callable[[Tensor, nn.Linear], Tensor], says: str) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        tried(forward)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("forward", "says"),
    [
        (lambda x, layer: logits(x, layer).softmax(1), "look like probabilities"),
        (lambda x, layer: logits((x * 8).round() / 8, layer), "all zero"),
        (lambda x, layer: logits(x, layer) + logits(x, layer).mean(0), "rest of its batch"),
        (lambda x, layer: logits(x, layer) + torch.rand(3), "on chance"),
        (lambda x, layer: SAME[: len(x)].copy_(logits(x, layer) + torch.rand(3)), "on chance"),
        (lambda x, layer: logits(x, layer) + (x * 0).sqrt().sum(), "not finite"),
        (without_gradient, "no gradient reaches the pixels"),
        (lambda x, layer: layer(x.detach().flatten(1)), "no gradient reaches the pixels"),
        (lambda x, layer: layer(x.detach().requires_grad_().flatten(1)), "no gradient reaches the pixels"),
    ],
)
def test_what_makes_results_doubtful_is_told(forward: Callable[[Tensor, nn.Linear], Tensor], says: str) -> None:
    (warning,) = tried(forward)
    assert says in warning


def test_a_gradient_that_does_not_reach_the_pixels_is_none_and_counts_as_zero() -> None:
    classifier = Classifier(Body(without_gradient), name="m", input_shape=(1, 6, 6), num_classes=3)
    assert gradient(classifier, X) is None
    x = X.clone().requires_grad_()
    z = classifier(x)
    assert torch.equal(z.detach(), classifier(X))
    assert torch.equal(torch.autograd.grad(z, x, torch.ones_like(z))[0], torch.zeros_like(X))


def test_a_gradient_is_that_of_the_weighted_logits() -> None:
    classifier = Classifier(Body(logits), name="m", input_shape=(1, 6, 6), num_classes=3)
    found = gradient(classifier, X)
    assert found is not None
    expected = torch.tensor([1.0, 1.5, 2.0]) @ classifier.network.get_parameter("layer.weight")
    torch.testing.assert_close(found.flatten(1), expected.expand(4, -1))


def test_an_error_of_the_network_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        "from torch import nn\nclass Net(nn.Linear):\n    def forward(self, x):\n        return super().forward(x)\n"
    )
    network = import_factory(f"{tmp_path}/bad.py:Net", "model.path")[0](2, 3)
    classifier = Classifier(network, name="m", input_shape=(1, 6, 6), num_classes=3)
    with pytest.raises(ModelError, match=r"got RuntimeError: .*\(at bad\.py:4\)$") as caught:
        check(classifier, X)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("columns", "named"), [(5, True), (2, False)])
def test_classes_that_the_data_lack_have_a_remedy(columns: int, named: bool) -> None:
    with pytest.raises(ModelError, match=f"each of 3 classes, got {columns}") as caught:
        tried(lambda x, layer: layer(x.flatten(1))[:, :1].expand(-1, columns))
    assert ("data.num_classes=5 for folders (or arrays) named by class number" in str(caught.value)) is named


def test_8_bit_pixels_are_refused_with_a_remedy() -> None:
    with pytest.raises(ModelError, match=r"must be in \[0, 1\], got 0\.\.255; divide 8-bit pixels by 255"):
        tried(logits, torch.tensor([0.0, 255.0]).repeat(4, 18).view(4, 1, 6, 6))


def test_pixels_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(ModelError, match="got nan"):
        tried(logits, X * float("nan"))


def test_labels_beyond_the_classes_are_refused() -> None:
    with pytest.raises(ModelError, match=r"labels must be in 0\.\.2, got 0\.\.3"):
        tried(logits, labels=torch.tensor([0, 3]))


class Flips(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.norm, self.drop, self.head = nn.BatchNorm2d(1), nn.Dropout(), nn.Linear(36, 3)
        self.how = how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.how == "forward":
            self.norm.train()
        return self.head(self.drop(self.norm(x).flatten(1)))

    def train(self, mode: bool = True) -> Flips:
        return super().train(mode or self.how == "override")


@pytest.mark.parametrize(("how", "layers"), [("forward", "norm must"), ("override", "norm, drop must")])
def test_layers_that_go_back_to_training_mode_are_named(how: str, layers: str) -> None:
    classifier = Classifier(Flips(how), name="m", input_shape=(1, 6, 6), num_classes=3)
    (warning,) = check(classifier, X)
    assert warning.startswith(f"model m: {layers} be in evaluation mode, got training mode after eval()")
    assert check(Classifier(Flips(""), name="m", input_shape=(1, 6, 6), num_classes=3), X) == []
