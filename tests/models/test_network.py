from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from models.errors import ModelError
from models.network import Factory
from models.spec import Network, build
from models.weights import fingerprint

CODE = """
import torch
from torch import nn

def bare(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
def sized(*, input_shape, num_classes=10):
    channels, height, width = input_shape
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, num_classes))
def classes(num_classes): return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))
class Net(nn.Sequential):
    def __init__(self): super().__init__(nn.Flatten(), nn.Linear(64, 3))
def demanding(depth, num_classes): return bare()
def failing(): raise FileNotFoundError("no weights here")
def nothing(): return None
"""


@pytest.fixture
def code(tmp_path: Path) -> str:
    (tmp_path / "net.py").write_text(CODE)
    return str(tmp_path / "net.py")


def built(name: str = "factory", **fields: object) -> dict[str, Network]:
    return build(Factory(**fields), name, (1, 8, 8), 3, seed=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("function", ["bare", "sized", "classes", "Net"])
def test_any_signature_gives_a_network(code: str, function: str) -> None:
    network = built(path=f"{code}:{function}")[function]
    assert network.module(torch.rand(2, 1, 8, 8)).shape == (2, 3)
    assert network.ready
    assert network.description == f"{function} of net.py"


def test_several_networks_are_called_as_their_functions(code: str) -> None:
    assert list(built("mine", path=[f"{code}:bare", f"{code}:Net"])) == ["bare", "Net"]


def test_one_network_can_have_a_name_of_its_own(code: str) -> None:
    assert list(built("mine", path=f"{code}:bare")) == ["mine"]


def test_weights_are_loaded(code: str, tmp_path: Path) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    torch.save({"state_dict": {f"module.{k}": v for k, v in module.state_dict().items()}}, tmp_path / "w.pt")
    (network,) = built(path=f"{code}:bare", weights=str(tmp_path / "w.pt")).values()
    assert fingerprint(network.module) == fingerprint(module)


def test_normalisation_and_training_are_as_configured(code: str) -> None:
    (network,) = built(path=f"{code}:bare", train=True, mean=[0.5], std=[0.25]).values()
    assert (network.ready, network.mean, network.std) == (False, (0.5,), (0.25,))


def test_the_origin_changes_with_the_code(code: str) -> None:
    first = built(path=f"{code}:bare")["bare"].origin
    Path(code).write_text(CODE + "\n")
    assert built(path=f"{code}:bare")["bare"].origin != first


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("demanding", "no arguments but input_shape and num_classes, got depth"),
        ("failing", "got FileNotFoundError: no weights here"),
        ("nothing", "must return a torch.nn.Module, got NoneType"),
    ],
)
def test_what_is_no_factory_is_one_clear_line(code: str, function: str, says: str) -> None:
    with pytest.raises(ModelError) as caught:
        built(path=f"{code}:{function}")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_path_is_named() -> None:
    with pytest.raises(ModelError, match=r"write model\.path="):
        built(path=None)


def test_as_many_weights_as_paths(code: str) -> None:
    with pytest.raises(ModelError, match="one file for each of 2 paths, got 1"):
        built(path=[f"{code}:bare", f"{code}:Net"], weights="w.pt")


def test_the_same_name_twice_is_refused(code: str) -> None:
    with pytest.raises(ModelError, match="bare twice"):
        built(path=[f"{code}:bare", f"{code}:bare"])


def test_networks_of_a_users_file_have_their_published_accuracy(real_data: Path) -> None:
    pytest.importorskip("torchvision")
    from torchvision.datasets import MNIST

    data = MNIST(str(real_data), train=False, download=False)
    nets = build(Factory(path=f"{real_data}/nets.py:mnist_lenet5_clean"), "factory", (1, 28, 28), 10, seed=0)
    classifier = nets["mnist_lenet5_clean"].classifier("clean", (1, 28, 28))
    x = data.data[:1000, None].float() / 255
    with torch.no_grad():
        accuracy = (classifier(x).argmax(1) == data.targets[:1000]).float().mean().item()
    assert accuracy == pytest.approx(0.989, abs=0.008)
