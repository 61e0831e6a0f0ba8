from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from models.errors import ModelError
from models.finetune import freeze, head_name, prepare
from models.recipe import TrainConfig
from models.spec import Network
from models.train import Source, fit


def net(classes: int = 3) -> Network:
    body = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU())
    return Network(nn.Sequential(body, nn.Flatten(), nn.Linear(72, classes)), classes, "net")


def recipe(base: Path, **fields: object) -> TrainConfig:
    return TrainConfig(method="finetune", base=str(base), epochs=2, batch_size=16, **fields)  # type: ignore[arg-type]


def stored(network: Network, folder: Path) -> Path:
    torch.save({"state_dict": network.module.state_dict()}, folder / "base.pt")
    return folder / "base.pt"


def test_the_head_is_the_last_layer() -> None:
    assert head_name(net().module) == "2"


def test_a_new_head_and_the_old_body(tmp_path: Path) -> None:
    base = net()
    network = net(classes=5)
    prepare(network, recipe(stored(base, tmp_path)), seed=0)
    assert torch.equal(network.module.get_parameter("0.0.weight"), base.module.get_parameter("0.0.weight"))
    assert network.module.get_parameter("2.weight").shape == (5, 72)


def test_the_new_head_depends_on_the_seed_alone(tmp_path: Path) -> None:
    config = recipe(stored(net(), tmp_path))
    heads = []
    for seed in (0, 0, 1):
        network = net()
        prepare(network, config, seed)
        heads.append(network.module.get_parameter("2.weight"))
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_the_old_head_can_be_kept(tmp_path: Path) -> None:
    base, network = net(), net()
    prepare(network, recipe(stored(base, tmp_path), reset_head=False), seed=0)
    assert torch.equal(network.module.get_parameter("2.weight"), base.module.get_parameter("2.weight"))


def test_an_old_head_for_other_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"2\.weight \(3, 72\) where the network has \(5, 72\)"):
        prepare(net(classes=5), recipe(stored(net(), tmp_path), reset_head=False), seed=0)


def test_frozen_layers_keep_weights_and_running_statistics(blobs: Source, tmp_path: Path) -> None:
    base, network = net(), net()
    fit(network, recipe(stored(base, tmp_path), freeze=["0.*"]), blobs, seed=0)
    for key, value in base.module.state_dict().items():
        assert torch.equal(network.module.state_dict()[key], value) == key.startswith("0.")


def test_a_network_with_weights_of_its_own_needs_no_base(blobs: Source) -> None:
    network = net()
    network.origin = "weights.pt"
    before = {key: value.clone() for key, value in network.module.state_dict().items()}
    config = TrainConfig(method="finetune", epochs=1, batch_size=16, freeze=["*"])
    fit(network, config, blobs, seed=0)
    changed = {key for key, value in network.module.state_dict().items() if not torch.equal(before[key], value)}
    assert changed == {"2.weight", "2.bias"}


def test_a_network_without_weights_needs_a_base() -> None:
    with pytest.raises(ModelError, match=r"train\.base: must be the path"):
        prepare(net(), TrainConfig(method="finetune"), seed=0)


def test_patterns_that_match_nothing_are_refused() -> None:
    with pytest.raises(ModelError, match=r"'layer1\.\*' must match .* the layers are 0\.0, 0\.1, 2"):
        freeze(net().module, ["layer1.*"], keep=None)


def test_something_must_be_left_to_train() -> None:
    with pytest.raises(ModelError, match="leave something"):
        freeze(net().module, ["*"], keep=None)


def test_a_network_without_layers_is_refused() -> None:
    with pytest.raises(ModelError, match="last layer"):
        head_name(nn.Flatten())
