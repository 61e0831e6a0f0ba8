"""task=visualise: layers, units beside the images that excite them, and what hides a class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval.inside.page import write_page

QUICK = ("task=visualise", "debug=quick", "model=cnn")


def test_layers_are_listed_without_training_and_nothing_is_left(command, tmp_path):
    out = command([*QUICK])
    assert out.code == 0
    assert "conv2" in out.out
    assert "32 x 4 x 4" in out.out
    assert "Choose one with layer=..., such as layer=conv2" in out.out
    assert "trained" not in out.out
    assert not list(tmp_path.rglob("*.png"))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("model", ["softmax", "mlp"])
def test_the_layer_that_is_named_as_an_example_is_one_with_units_to_look_at(command, model):
    out = command([*QUICK[:2], f"model={model}"])
    assert out.code == 0
    assert "such as layer=fc1" in out.out


@pytest.mark.parametrize("more", [[], ["image=mine.png"], ["unit=0"]])
def test_a_network_without_layers_is_refused_in_one_line(command, tmp_path, more):
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "mine.png")
    Path("bare.py").write_text("""
import torch
from torch import nn
class Bare(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(10, 64))
    def forward(self, x):
        return x.flatten(1) @ self.w.T
""")
    out = command([*QUICK[:2], "data=digits", "model=factory", "model.path=bare.py:Bare", *more])
    assert out.code == 2
    assert out.err == "toastproof: layer: Bare must have a layer that can be looked at, it has none\n"


def test_units_stand_beside_the_images_that_excite_them(command, tmp_path):
    out = command([*QUICK, "layer=conv2", "hydra.run.dir=there"])
    assert out.code == 0
    rows = [line.split("│")[1:-1] for line in out.out.splitlines() if line.startswith("│")]
    assert [int(row[0]) for row in rows] == list(range(16))
    assert all(float(row[2]) >= float(row[3]) for row in rows)  # the best image and the median one
    with Image.open(tmp_path / "there" / "visualise.png") as page:
        assert page.width > 9 * 96
    assert "there/visualise.png" in out.out.replace("\n", "")


def test_one_unit_of_several_networks_has_a_file_for_each(command, tmp_path):
    out = command([*QUICK[:2], "model=[softmax,mlp]", "layer=fc1", "unit=3", "hydra.run.dir=there"])
    assert out.code == 0
    names = sorted(path.name for path in (tmp_path / "there").glob("*.png"))
    assert len(names) == 2
    assert all(name.startswith("visualise-") for name in names)


def test_a_photo_is_occluded_for_a_class(command, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "mine.png")
    out = command([*QUICK, "data=digits", "image=mine.png", "target=3", "layer=conv2", "unit=1", "hydra.run.dir=there"])
    assert out.code == 0
    row = next(line for line in out.out.splitlines() if line.startswith("│ mine"))
    assert row.split("│")[2].strip() == "3"
    assert sorted(path.name for path in (tmp_path / "there").glob("*.png")) == ["occlusion.png", "visualise.png"]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["layer=conv7"], "layer: must name a layer of cnn, got 'conv7'; did you mean conv"),
        (["layer=conv2", "unit=32"], "unit: must be in 0..31, the units of conv2, got 32"),
        (["layer=conv2", "unit=-1"], "unit: must be in 0..31"),
        (["layer=conv2", "image=none.png"], "image: must be an image file, got none.png, which does not exist"),
    ],
)
def test_bad_input_is_refused_in_one_line_before_any_training(command, tmp_path, overrides, says):
    out = command([*QUICK, *overrides])
    assert out.code == 2
    assert says in out.err
    assert len(out.err.strip().splitlines()) == 1
    assert "trained" not in out.out
    assert not list(tmp_path.rglob("*.png"))


def test_a_page_holds_each_picture_in_its_row(tmp_path: Path):
    dark, light = np.zeros((1, 8, 8)), np.ones((3, 8, 8))
    write_page(tmp_path / "page.png", [("one", [dark, light]), ("two", [light, dark])], ("first",))
    with Image.open(tmp_path / "page.png") as image:
        page = np.asarray(image)
    left = page.shape[1] - 2 * 100
    for top, pair in ((16, (0, 255)), (116, (255, 0))):
        for j, value in enumerate(pair):
            tile = page[top : top + 96, left + 100 * j : left + 100 * j + 96]
            assert (tile == value).all()
