from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models.errors import ModelError
from models.network import Factory
from models.paper import Softmax
from models.spec import Network, build, comes_ready
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


def test_one_of_several_may_bring_its_own_weights(code: str, tmp_path: Path) -> None:
    torch.save(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).state_dict(), tmp_path / "w.pt")
    networks = built(path=[f"{code}:bare", f"{code}:Net"], weights=[None, str(tmp_path / "w.pt")])
    assert fingerprint(networks["bare"].module) != fingerprint(networks["Net"].module)
    assert len(networks["Net"].origin) > len(networks["bare"].origin)


def test_normalisation_and_training_are_as_configured(code: str) -> None:
    (network,) = built(path=f"{code}:bare", train=True, mean=[0.5], std=[0.25]).values()
    assert (network.ready, network.mean, network.std) == (False, (0.5,), (0.25,))


@pytest.mark.parametrize("train", [False, True])
def test_the_spec_says_before_it_is_built_whether_its_networks_are_ready(code: str, train: bool) -> None:
    (network,) = built(path=f"{code}:bare", train=train).values()
    assert comes_ready(Factory(path=f"{code}:bare", train=train)) is network.ready is not train


def test_a_spec_that_does_not_say_so_is_not_ready() -> None:
    assert not comes_ready(Softmax())


def test_the_origin_changes_with_the_code(code: str) -> None:
    first = built(path=f"{code}:bare")["bare"].origin
    Path(code).write_text(CODE + "\n")
    assert built(path=f"{code}:bare")["bare"].origin != first


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("demanding", "no arguments but input_shape and num_classes, got depth"),
        ("failing", "got FileNotFoundError: no weights here (at net.py:13)"),
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


def test_a_graph_is_for_the_other_way_in() -> None:
    with pytest.raises(ModelError, match="write model=exported"):
        built(path="net.pt2")


def test_bounds_are_those_of_the_networks_own_pixels(code: str) -> None:
    (network,) = built(path=f"{code}:bare", mean=[127.5], std=[51.0], bounds=[0.0, 255.0]).values()
    x = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(network.classifier("m", (1, 8, 8))(x), network.module((255 * x - 127.5) / 51))


def test_as_many_weights_as_paths(code: str) -> None:
    with pytest.raises(ModelError, match="one file for each of 2 paths, got 1"):
        built(path=[f"{code}:bare", f"{code}:Net"], weights="w.pt")


def test_the_same_name_twice_is_refused(code: str) -> None:
    with pytest.raises(ModelError, match="bare twice"):
        built(path=[f"{code}:bare", f"{code}:bare"])


def accuracy(root: Path, factory: str, x: torch.Tensor, labels: torch.Tensor) -> float:
    shape = (x.shape[1], x.shape[2], x.shape[3])
    network = build(Factory(path=f"{root}/nets.py:{factory}"), "factory", shape, 10, seed=0)[factory]
    classifier = network.classifier(factory, shape)
    with torch.no_grad():
        predicted = torch.cat([classifier(part.float() / 255).argmax(1) for part in x.split(500)])
    return (predicted == labels).float().mean().item()


@pytest.mark.parametrize(("factory", "published"), [("cifar10_resnet20", 0.915), ("cifar10_resnet4b", 0.771)])
def test_cifar_networks_of_a_users_file_have_their_accuracy(real_data: Path, factory: str, published: float) -> None:
    with np.load(real_data / "cifar10" / "test1000.npz") as arrays:
        x, y = torch.from_numpy(arrays["x"]).permute(0, 3, 1, 2), torch.from_numpy(arrays["y"])
    assert accuracy(real_data, factory, x, y) == pytest.approx(published, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("factory", "published"), [("mnist_lenet5_clean", 0.989), ("mnist_lenet5_adv", 0.986)])
def test_mnist_networks_of_a_users_file_have_their_accuracy(real_data: Path, factory: str, published: float) -> None:
    from torchvision.datasets import MNIST

    data = MNIST(str(real_data), train=False, download=False)
    assert accuracy(real_data, factory, data.data[:, None], data.targets) == pytest.approx(published, abs=1e-3)
