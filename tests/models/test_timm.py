from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest
import torch

from models.check import check
from models.errors import ModelError
from models.spec import Network, build, comes_ready, side_of
from models.timm import Timm
from models.weights import fingerprint

timm = pytest.importorskip("timm", reason="the extra `timm` is not installed")
NAME = "mobilenetv3_small_050"


def net(spec: Timm, classes: int = 5, side: int = 64, channels: int = 3) -> Network:
    return build(spec, "t", (channels, side, side), classes, seed=0)["t"]


def saved(path: Path, classes: int) -> Any:
    module = timm.create_model(NAME, num_classes=classes)
    torch.save(module.state_dict(), path)
    return module


def test_a_fresh_network_is_to_be_trained() -> None:
    network = net(Timm(NAME, pretrained=False))
    assert not network.ready
    assert (network.crop, network.mean[0], network.std[0]) == (224, 0.485, 0.229)
    assert side_of(Timm(NAME, pretrained=False)) is None
    assert check(network.classifier("t", (3, 64, 64)), torch.rand(2, 3, 64, 64)) == []


def test_size_and_normalisation_are_those_of_its_configuration() -> None:
    assert side_of(Timm("vit_small_patch16_384")) == 384
    assert net(Timm("vit_tiny_patch16_224", pretrained=False), side=224).mean == (0.5, 0.5, 0.5)


def test_the_spec_says_whether_it_comes_with_weights() -> None:
    assert comes_ready(Timm(NAME))
    assert comes_ready(Timm(NAME, pretrained=False, weights="w.pth"))
    assert not comes_ready(Timm(NAME, pretrained=False))


@pytest.mark.parametrize("classes", [5, 7])
def test_a_local_state_dict_is_taken_and_gets_a_new_last_layer_where_its_classes_differ(
    tmp_path: Path, classes: int
) -> None:
    module = saved(tmp_path / "w.pth", classes)
    network = net(Timm(NAME, weights=str(tmp_path / "w.pth")))
    assert network.ready is (classes == 5)
    assert (fingerprint(network.module) == fingerprint(module)) is network.ready
    assert network.module.eval()(torch.rand(1, 3, 64, 64)).shape == (1, 5)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(2, 2)}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"lacks conv_stem\.weight"):
        net(Timm(NAME, weights=str(tmp_path / "w.pth")))


def test_a_failed_download_is_one_line_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host\nand more")

    monkeypatch.setattr(timm.models._builder, "load_pretrained", refuse)
    with pytest.raises(ModelError) as caught:
        net(Timm(NAME))
    message = str(caught.value)
    assert "no route to host" in message
    assert "model.weights=FILE" in message
    assert "model.t.pretrained=false" in message
    assert "\n" not in message


def test_a_checkpoint_of_the_hub_is_not_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"w": Evil()}, tmp_path / "pytorch_model.bin")

    def load(*args: object, **kwargs: object) -> None:
        torch.load(tmp_path / "pytorch_model.bin", weights_only=False)

    monkeypatch.setattr(timm.models._builder, "load_pretrained", load)
    with pytest.raises(ModelError):
        net(Timm(NAME))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "says"),
    [("mobilenetv3_smal_050", f"such as {NAME}"), ("convnext_tiny.fb_in2k", "one of the tags convnext_tiny.")],
)
def test_a_mistyped_name_gets_suggestions(name: str, says: str) -> None:
    with pytest.raises(ModelError) as caught:
        net(Timm(name))
    assert says in str(caught.value)


def test_grey_images_are_refused() -> None:
    with pytest.raises(ModelError, match="takes 3 channels, got images with 1"):
        net(Timm(NAME, pretrained=False), channels=1)


def test_without_timm_there_is_one_line_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "timm":
            raise ModuleNotFoundError("No module named 'timm'", name="timm")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModelError, match=r"pip install 'toastproof\[timm\]'"):
        net(Timm(NAME))
