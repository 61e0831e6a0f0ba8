from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.check import check
from models.errors import ModelError
from models.pretrained import Torchvision
from models.spec import Network, build, comes_ready
from models.weights import fingerprint


def net(spec: Torchvision, classes: int = 5, side: int = 64, channels: int = 3) -> Network:
    return build(spec, "tv", (channels, side, side), classes, seed=0)["tv"]


def test_a_fresh_network_is_to_be_trained() -> None:
    network = net(Torchvision("squeezenet1_1", pretrained=False))
    assert not network.ready
    assert (network.crop, network.mean[0]) == (224, 0.485)
    assert check(network.classifier("tv", (3, 64, 64)), torch.rand(2, 3, 64, 64)) == []


def test_the_spec_says_whether_it_comes_with_weights() -> None:
    assert comes_ready(Torchvision("squeezenet1_1"))
    assert comes_ready(Torchvision("squeezenet1_1", pretrained=False, weights="w.pth"))
    assert not comes_ready(Torchvision("squeezenet1_1", pretrained=False))


def test_a_local_state_dict_is_taken_with_its_own_classes(tmp_path: Path) -> None:
    from torchvision.models import squeezenet1_1

    source = squeezenet1_1(weights=None, num_classes=5)
    torch.save(source.state_dict(), tmp_path / "w.pth")
    network = net(Torchvision("squeezenet1_1", weights=str(tmp_path / "w.pth")))
    assert network.ready
    assert fingerprint(network.module) == fingerprint(source)


def test_weights_of_other_classes_get_a_new_head(tmp_path: Path) -> None:
    from torchvision.models import squeezenet1_1

    source = squeezenet1_1(weights=None, num_classes=7)
    torch.save(source.state_dict(), tmp_path / "w.pth")
    network = net(Torchvision("squeezenet1_1", weights=str(tmp_path / "w.pth")))
    assert not network.ready
    assert "new last layer for 5 classes" in network.description
    assert torch.equal(network.module.get_parameter("features.0.weight"), source.features[0].weight)
    assert network.module.eval()(torch.rand(1, 3, 64, 64)).shape == (1, 5)


def test_torchvisions_own_weights_come_from_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import SqueezeNet1_1_Weights, squeezenet1_1

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    source = squeezenet1_1(weights=None)
    (tmp_path / "checkpoints").mkdir()
    torch.save(source.state_dict(), tmp_path / "checkpoints" / Path(SqueezeNet1_1_Weights.DEFAULT.url).name)
    network = net(Torchvision("squeezenet1_1"), classes=1000)
    assert network.ready
    assert fingerprint(network.module) == fingerprint(source)


def test_a_failed_download_says_where_to_put_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(ModelError, match="no route to host") as caught:
        net(Torchvision("squeezenet1_1"))
    message = str(caught.value)
    assert f"{tmp_path}/checkpoints/squeezenet1_1-" in message
    assert "model.tv.weights=FILE" in message
    assert "model.tv.pretrained=false" in message
    assert "\n" not in message


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(2, 2)}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"lacks features\.0\.weight"):
        net(Torchvision("squeezenet1_1", weights=str(tmp_path / "w.pth")))


def test_a_mistyped_name_gets_suggestions() -> None:
    with pytest.raises(ModelError, match=r"such as resnet18.*got 'resnte18'"):
        net(Torchvision("resnte18"))


def test_detectors_are_not_classifiers() -> None:
    with pytest.raises(ModelError, match="must be a classifier"):
        net(Torchvision("fasterrcnn_resnet50_fpn"))


def test_grey_images_are_refused() -> None:
    with pytest.raises(ModelError, match="takes 3 channels, got images with 1"):
        net(Torchvision("squeezenet1_1", pretrained=False), channels=1)


def test_published_weights_recognise_the_photos(real_data: Path) -> None:
    from PIL import Image
    from torchvision.transforms.functional import center_crop, pil_to_tensor

    paths = sorted((real_data / "photos" / "imagenet-mini").glob("*.png"))
    images = [center_crop(pil_to_tensor(Image.open(p).convert("RGB")), [224, 224]).float() / 255 for p in paths]
    labels = torch.tensor([int(p.stem.rpartition("_")[2]) for p in paths])
    spec = Torchvision("mobilenet_v2", weights=str(real_data / "weights" / "imagenet_mobilenet_v2.pth"))
    classifier = net(spec, classes=1000, side=224).classifier("tv", (3, 224, 224))
    with torch.no_grad():
        right = (classifier(torch.stack(images)).argmax(1) == labels).float().mean().item()
    assert right > 0.6
