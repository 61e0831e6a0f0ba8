from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.classifier import Classifier
from models.errors import ModelError
from models.export import export
from models.exported import Exported
from models.spec import build

SHAPE = (1, 6, 6)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3))


def read(path: Path) -> nn.Module:
    return build(Exported(str(path)), "exported", SHAPE, 3, seed=0)["net"].module


def test_the_file_takes_pixels_in_0_to_1(tmp_path: Path) -> None:
    module = net()
    said = export(module, SHAPE, tmp_path / "net.pt2", mean=[0.5], std=[0.2])
    x = torch.rand(9, *SHAPE)
    assert torch.equal(read(tmp_path / "net.pt2")(x), module.eval()((x - 0.5) / 0.2))
    assert said == "tried on 1, 2 and 5 images: the same gradients, and the same logits to 0"


def test_the_network_is_left_as_it_was(tmp_path: Path) -> None:
    module = net()
    module[1].weight.requires_grad_(False)
    export(module, SHAPE, str(tmp_path / "net.pt2"))
    assert module.training
    assert module[3].training
    assert [p.requires_grad for p in module.parameters()] == [False, True, True, True]


def test_a_classifier_brings_its_own_normalisation(tmp_path: Path) -> None:
    classifier = Classifier(net(), name="c", input_shape=SHAPE, num_classes=3, mean=[0.3], std=[0.1])
    export(classifier, SHAPE, tmp_path / "net.pt2")
    x = torch.rand(4, *SHAPE)
    assert torch.equal(read(tmp_path / "net.pt2")(x), classifier(x))


class Odd(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.layer, self.kind = nn.Linear(36, 3), kind

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.layer(x.flatten(1))
        if self.kind == "values":
            return z if float(x.sum()) > 1 else -z
        if self.kind == "batch":
            return self.layer(x.reshape(2, 36))
        if self.kind == "noise":
            return z + torch.rand_like(z)
        return z.detach()


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("values", "must be able to trace the network"),
        ("batch", "with a batch of any size"),
        ("noise", "logits to 1e-05, got a difference of"),
        ("detach", "a gradient must reach the pixels"),
    ],
)
def test_what_cannot_be_exported_is_one_line_and_writes_nothing(tmp_path: Path, kind: str, says: str) -> None:
    with pytest.raises(ModelError) as caught:
        export(Odd(kind), SHAPE, tmp_path / "net.pt2")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
