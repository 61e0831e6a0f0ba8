"""What networks say of photos, and how photos become their images."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from eval.classify import classify
from eval.data import Digits, Photo
from eval.data.samples import Data, Samples
from eval.errors import InputError
from models.errors import ModelError


def test_classify_prints_the_likeliest_classes_and_writes_nothing(composed, photo, factory, tmp_path, capsys) -> None:
    overrides = ("task=classify", "model=factory", factory, f"image={photo}")
    before = sorted(tmp_path.rglob("*"))
    classify(composed(*overrides), Console(width=200), overrides)
    out = capsys.readouterr().out
    assert "mine.png" in out
    assert "toaster" in out
    assert out.count("%") >= 6
    assert sorted(tmp_path.rglob("*")) == before


def test_a_photo_is_shown_to_a_network_for_the_data_that_are_chosen(composed, photo, capsys) -> None:
    overrides = ("task=classify", "data=things", "data.size=32", "debug=quick", f"image={photo}")
    classify(composed(*overrides), Console(width=200), overrides)
    out = capsys.readouterr().out
    assert "compact" in out
    assert "softmax" not in out
    assert sum(out.count(f"{name} ") for name in ("bird", "cat", "chair", "cup", "dog", "toaster", "lamp")) >= 1


def test_a_photo_without_data_is_for_networks_that_know_imagenet(composed, photo, tmp_path) -> None:
    weights = tmp_path / "inception.pth"
    overrides = ("task=classify", f"image={photo}")
    cfg = composed(*overrides)
    cfg.model.weights = str(weights)
    with pytest.raises((InputError, ModelError), match="inception"):
        classify(cfg, Console(width=200), overrides)


def test_photos_take_the_shape_and_the_classes_of_the_data(composed, photo) -> None:
    data = Digits(name="digits", root="").load(0)
    shown = Photo(name="photo", root="", path=str(photo)).among(data)
    assert shown.test.shape == data.test.shape
    assert shown.test.classes == data.test.classes
    assert shown.train is data.train
    assert shown.unlabelled


def test_a_picture_of_the_size_of_the_network_is_shown_as_it_is(tmp_path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 24, 24), np.uint8)
    Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(tmp_path / "a.png")
    photo = Photo(name="p", root="", path=str(tmp_path / "a.png"), size=24)
    assert np.array_equal(photo.read(0).test.store.read(np.array([0]))[0], pixels)

    for size in ((3, 24, 24), (3, 24, 16)):
        Image.fromarray(np.ascontiguousarray(pixels[:, :, : size[2]].transpose(1, 2, 0))).save(tmp_path / "a.png")
        test = Samples.of(np.zeros((1, *size), np.uint8), [0], ["x"], "t")
        shown = photo.among(Data("d", "", None, test)).test
        assert np.array_equal(shown.store.read(np.array([0]))[0], pixels[:, :, : size[2]])
    other = Data("d", "", None, Samples.of(np.zeros((1, 3, 24, 20), np.uint8), [0], ["x"], "t"))
    with pytest.raises(InputError, match="image: must be shown to networks for square images"):
        photo.among(other)


def test_a_class_that_was_wanted_and_is_unknown_is_refused_with_the_nearest(composed, tmp_path, capsys) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "ok.png")
    own = ("task=classify", f"image={tmp_path / 'ok.png'}", "data=digits", "debug=quick")
    with pytest.raises(InputError, match="target: must be one of 10 classes by name or number, got 'toster'"):
        classify(composed(*own, "target=toster"), Console(quiet=True), (*own, "target=toster"))
    classify(composed(*own), Console(width=200), own)  # toaster, which nobody asked for, is no digit
    assert "ok.png" in capsys.readouterr().out
