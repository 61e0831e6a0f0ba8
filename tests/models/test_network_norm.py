"""Norms of networks: no ratio of a pair exceeds the product, whatever the network is made of."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from models.bounded import Bounded
from models.classifier import Classifier
from models.errors import ModelError
from models.graph import read
from models.network_norm import network_norm
from models.paper import MLP
from models.spectral import gains

SHAPE = (2, 9, 9)


class Mixed(nn.Module):
    """Branches that are added and concatenated, functions, constants, means."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.one = nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect")
        self.two = nn.Conv2d(2, 4, 5, padding=2, padding_mode="circular")
        self.three = nn.Conv2d(8, 8, 3, stride=2, groups=2)
        self.norm = nn.BatchNorm2d(8)
        nn.init.uniform_(self.norm.running_var, 0.1, 2.0)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([F.relu(self.one(x)), torch.tanh(self.two(2 * x - 0.5))], 1)
        pooled = F.max_pool2d(both, 3, 1, 1)
        left, right = pooled.chunk(2, 1)
        added = torch.cat([left + right, F.gelu(right) / 0.7], 1)
        out = F.leaky_relu(self.norm(self.three(F.pad(added, (1, 1, 1, 1)))), 0.2)
        return self.head(F.dropout(out.mean([2, 3]), 0.5, self.training))


def classifier(network: nn.Module, classes: int = 5, **options: object) -> Classifier:
    return Classifier(network, name="n", input_shape=SHAPE, num_classes=classes, **options)  # type: ignore[arg-type]


def images(number: int, seed: int = 0) -> Tensor:
    return torch.rand(number, *SHAPE, generator=torch.Generator().manual_seed(seed))


def steepest(network: Classifier, x: Tensor) -> float:
    """The largest norm of the Jacobian at some images."""
    jacobian = torch.autograd.functional.jacobian(lambda v: network(v).sum(0), x)  # (K, B, C, H, W)
    return float(torch.linalg.matrix_norm(jacobian.transpose(0, 1).flatten(2), 2).max())


@given(st.integers(0, 10_000), st.floats(-4, 0))
@settings(deadline=None, max_examples=25)
def test_the_product_is_never_below_a_measured_ratio(seed: int, power: float) -> None:
    net = classifier(Mixed(seed), mean=(0.3,), std=(0.4,))
    found = network_norm(net, images(2))
    assert found.reason == ""
    x = images(100, seed)
    y = x + 10**power * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed + 1))
    net.double()
    x, y = x.double(), y.double()
    ratio = (net(x) - net(y)).norm(dim=1) / (x - y).flatten(1).norm(dim=1)
    assert float(ratio.max()) <= found.total
    assert steepest(net, x[:4]) <= found.total


def test_of_a_supported_network_the_product_is_that_of_the_certificates() -> None:
    torch.manual_seed(0)
    net = classifier(
        nn.Sequential(
            nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Flatten(), nn.Linear(27, 6), nn.Tanh(),
            nn.Linear(6, 5)
        ),
        std=(0.5,),
    )  # fmt: skip
    found = network_norm(net, images(2))
    assert found.total == pytest.approx(gains(read(net))[-1].total, rel=1e-6)
    assert [layer.kind for layer in found.layers] == ["Normalisation", "Conv2d", "MaxPool2d", "Linear", "Linear"]
    assert found.layers[-1].total == found.total


def test_a_linear_network_attains_its_product() -> None:
    torch.manual_seed(0)
    net = classifier(nn.Sequential(nn.Flatten(), nn.Linear(162, 5))).double()
    found = network_norm(net, images(2))
    assert steepest(net, images(1).double()) == pytest.approx(found.total, rel=1e-6)


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(2, 2, 1), nn.Linear(162, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x * torch.sigmoid(self.conv(x))).flatten(1))


class Branching(Gated):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if float(x.sum()) > 0 else self.head(x.flatten(1))


@pytest.mark.parametrize(
    ("network", "reason"), [(Gated(), "mul has no known bound"), (Branching(), "cannot be traced")]
)
def test_where_no_product_is_known_the_layers_have_their_norms(network: nn.Module, reason: str) -> None:
    found = network_norm(classifier(network), images(2))
    assert math.isinf(found.total)
    assert reason in found.reason
    assert {layer.name for layer in found.layers if layer.norm is not None} >= {"conv", "head"}


class Turned(nn.Module):
    """A path through a transposed map, whose weights are large."""

    def __init__(self, way: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mix, self.head, self.way = nn.Linear(9, 9, bias=False), nn.Linear(162, 5), way
        with torch.no_grad():
            self.mix.weight.copy_(10 * torch.eye(9))

    def forward(self, x: Tensor) -> Tensor:
        if self.way == "transposed":
            return self.head((x + self.mix(x.mT).mT).flatten(1))
        return self.head(x.flatten(1)) + (100 * x.mean().item() if self.way == "number" else x.shape[2] * 0.1)


@pytest.mark.parametrize("way", ["transposed", "number", "shape"])
def test_no_path_from_the_image_is_taken_for_a_constant(way: str) -> None:
    net = classifier(Turned(way))
    found = network_norm(net, images(2))
    x = images(2, seed=1)
    y = x + 0.05
    ratio = float(((net(x) - net(y)).norm(dim=1) / (x - y).flatten(1).norm(dim=1)).max())
    assert max(steepest(net, x), ratio) <= found.total * (1 + 1e-6)
    assert math.isinf(found.total) == (way == "number")
    assert ("no known bound" in found.reason) == (way == "number")


class Scaling(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1)) * (2.0 if x.dtype == torch.float32 else 1.0)


def test_a_network_that_computes_something_else_in_float64_has_no_product() -> None:
    found = network_norm(classifier(Scaling(162, 5)), images(2))
    assert math.isinf(found.total)


def test_a_layer_without_a_known_bound_is_told() -> None:
    net = classifier(nn.Sequential(nn.Flatten(), nn.Linear(162, 5), nn.LogSoftmax(1)))
    found = network_norm(net, images(2))
    assert found.reason == "_2: LogSoftmax has no known bound"
    assert found.layers[-1].norm is None


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_0", "mobilenet_v2", "alexnet"])
@pytest.mark.slow
def test_torchvision_networks_have_a_product(name: str) -> None:
    from torchvision.models import get_model

    torch.manual_seed(0)
    net = Classifier(get_model(name, weights=None), name=name, input_shape=(3, 64, 64), num_classes=1000)
    x = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found = network_norm(net, x[:2])
    assert found.reason == ""
    y = x + 0.01 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    ratio = (net(x) - net(y)).norm(dim=1) / (x - y).flatten(1).norm(dim=1)
    assert float(ratio.max()) <= found.total


def test_the_penalty_is_the_sum_of_the_norms_beside_the_own_one() -> None:
    plain = MLP([6], decay=[1e-3]).build("a", SHAPE, 5)["a"]
    network = Bounded(MLP([6], decay=[1e-3]), 0.5).build("a", SHAPE, 5)["a"]
    network.module.load_state_dict(plain.module.state_dict())
    assert plain.penalty is not None
    assert network.penalty is not None
    weights = [m.weight for m in network.module.modules() if isinstance(m, nn.Linear)]
    norms = sum(float(torch.linalg.matrix_norm(w.detach(), 2)) for w in weights)
    assert network.penalty().item() == pytest.approx(0.5 * norms + plain.penalty().item(), rel=1e-5)
    assert "penalised" in network.description


def test_a_penalty_of_nothing_is_refused() -> None:
    with pytest.raises(ModelError, match="strength: must be > 0"):
        Bounded(MLP(), 0.0)
