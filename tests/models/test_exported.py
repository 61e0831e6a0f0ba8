from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from models.check import check
from models.errors import ModelError
from models.export import export
from models.exported import Exported
from models.spec import build, comes_ready, side_of

SHAPE = (3, 4, 4)


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)).eval()


@pytest.fixture
def file(tmp_path: Path) -> str:
    export(net(), SHAPE, tmp_path / "mine.pt2")
    return str(tmp_path / "mine.pt2")


def test_it_is_ready_and_called_as_its_file(file: str) -> None:
    networks = build(Exported(file), "exported", SHAPE, 3, seed=0)
    assert list(networks) == ["mine"]
    assert networks["mine"].ready
    assert networks["mine"].description == "exported graph mine.pt2"
    assert comes_ready(Exported(file))
    assert list(build(Exported(file), "own", SHAPE, 3, seed=0)) == ["own"]


def test_it_passes_every_check(file: str) -> None:
    classifier = build(Exported(file), "exported", SHAPE, 3, seed=0)["mine"].classifier("mine", SHAPE)
    x = torch.rand(4, *SHAPE)
    assert check(classifier, x) == []
    assert torch.equal(classifier(x), net()(x))
    assert not any(p.requires_grad for p in classifier.parameters())


def test_several_files_are_several_networks(tmp_path: Path, file: str) -> None:
    export(net(1), SHAPE, tmp_path / "other.pt2")
    networks = build(Exported([file, str(tmp_path / "other.pt2")]), "exported", SHAPE, 3, seed=0)
    assert list(networks) == ["mine", "other"]
    assert networks["mine"].origin != networks["other"].origin
    with pytest.raises(ModelError, match="mine twice"):
        build(Exported([file, file]), "exported", SHAPE, 3, seed=0)


def test_normalisation_is_in_the_networks_own_units(file: str) -> None:
    spec = Exported(file, mean=[127.5], std=[51.0], bounds=[0, 255])
    classifier = build(spec, "exported", SHAPE, 3, seed=0)["mine"].classifier("mine", SHAPE)
    x = torch.rand(2, *SHAPE)
    torch.testing.assert_close(classifier(x), net()((255 * x - 127.5) / 51.0))
    assert classifier.bounds == (0.0, 1.0)


@pytest.mark.parametrize("bounds", [[1, 0], [0], [0, float("inf")]])
def test_bounds_that_are_none_are_refused(file: str, bounds: list[float]) -> None:
    with pytest.raises(ModelError, match="least and the greatest value of a pixel"):
        build(Exported(file, bounds=bounds), "exported", SHAPE, 3, seed=0)


def test_it_knows_the_size_of_its_images(tmp_path: Path, file: str) -> None:
    assert side_of(Exported(file)) == 4
    export(net(1), SHAPE, tmp_path / "other.pt2")
    assert side_of(Exported([file, str(tmp_path / "other.pt2")])) == 4
    export(nn.Sequential(nn.Flatten(), nn.Linear(75, 3)), (3, 5, 5), tmp_path / "larger.pt2")
    assert side_of(Exported([file, str(tmp_path / "larger.pt2")])) is None


def test_any_size_may_be_left_open(tmp_path: Path) -> None:
    pooled = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    dims = {n: torch.export.Dim(name, min=4 if n else 1) for n, name in ((0, "batch"), (2, "height"), (3, "width"))}
    torch.export.save(
        torch.export.export(pooled, (torch.rand(2, 3, 8, 9),), dynamic_shapes=(dims,)), tmp_path / "p.pt2"
    )
    spec = Exported(str(tmp_path / "p.pt2"))
    assert side_of(spec) is None
    assert build(spec, "exported", (3, 6, 7), 4, seed=0)["p"].module(torch.rand(1, 3, 6, 7)).shape == (1, 4)


def saved(path: Path, module: nn.Module, x: torch.Tensor, **options: Any) -> str:
    torch.export.save(torch.export.export(module, (x,), **options), path)
    return str(path)


def test_a_batch_of_one_size_is_refused_with_a_remedy(tmp_path: Path) -> None:
    file = saved(tmp_path / "fixed.pt2", net(), torch.rand(8, *SHAPE))
    with pytest.raises(ModelError) as caught:
        build(Exported(file), "exported", SHAPE, 3, seed=0)
    assert "was exported for batches of 8" in str(caught.value)
    assert "torch.export.Dim('batch')" in str(caught.value)


def test_training_mode_is_refused_with_a_remedy(tmp_path: Path) -> None:
    batch = ({0: torch.export.Dim("batch")},)
    file = saved(tmp_path / "trains.pt2", net().train(), torch.rand(2, *SHAPE), dynamic_shapes=batch)
    with pytest.raises(ModelError, match=r"in evaluation mode, got .*; call net\.eval\(\)"):
        build(Exported(file), "exported", SHAPE, 3, seed=0)


def test_images_of_another_size_are_refused_with_a_remedy(file: str) -> None:
    with pytest.raises(ModelError, match=r"takes images 3x4x4, got 3x8x8 from the data; write data\.size=4"):
        build(Exported(file), "exported", (3, 8, 8), 3, seed=0)
    with pytest.raises(ModelError, match=r"takes images 3x4x4, got 1x4x4 from the data$"):
        build(Exported(file), "exported", (1, 4, 4), 3, seed=0)


def test_what_takes_no_images_is_refused(tmp_path: Path) -> None:
    batch = ({0: torch.export.Dim("batch")},)
    file = saved(tmp_path / "rows.pt2", nn.Linear(4, 3), torch.rand(2, 4), dynamic_shapes=batch)
    with pytest.raises(ModelError, match=r"must take images \(B, C, H, W\), got 2 dimensions"):
        build(Exported(file), "exported", SHAPE, 3, seed=0)


def test_a_missing_path_is_named() -> None:
    with pytest.raises(ModelError, match=r"write model\.path=net\.pt2"):
        build(Exported(None), "exported", SHAPE, 3, seed=0)
