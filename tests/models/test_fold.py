"""A folded network is the network, in fewer layers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrizations

from models.fold import fold
from models.foreign import import_factory

X = torch.rand(4, 4, 9, 9, generator=torch.Generator().manual_seed(0))


def settled(net: nn.Module, seed: int = 0) -> nn.Module:
    """In evaluation mode, with statistics and slopes as after some training."""
    draw = torch.Generator().manual_seed(seed)
    for m in net.modules():
        if isinstance(m, _BatchNorm) and m.running_mean is not None:
            m.running_mean.normal_(0, 0.5, generator=draw)
            m.running_var.uniform_(0.1, 3, generator=draw)
            if m.affine:
                m.weight.data.uniform_(-2, 2, generator=draw)
                m.bias.data.normal_(0, 0.5, generator=draw)
    return net.eval().requires_grad_(False)


def norms(net: nn.Module) -> int:
    return sum(isinstance(m, _BatchNorm) for m in net.modules())


def slopes(net: nn.Module, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    z = net(x)
    return torch.autograd.grad((z * torch.linspace(1, 2, z.shape[1], dtype=z.dtype)).sum(), x)[0]


def small(*middle: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(4, 8, 3), *middle, nn.Flatten(), nn.Linear(8 * 49, 3))


@settings(deadline=None, max_examples=30)
@given(st.sampled_from([1, 2]), st.sampled_from([1, 2, 4]), st.booleans(), st.booleans(), st.integers(0, 10**6))
def test_logits_and_gradients_stay_up_to_rounding(
    stride: int, groups: int, bias: bool, affine: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(4, 8, 3, stride, 1, groups=groups, bias=bias), nn.BatchNorm2d(8, affine=affine), nn.Softplus(),
        nn.Conv2d(8, 8, 3, groups=groups), nn.BatchNorm2d(8), nn.Softplus(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(32, 10, bias=bias), nn.BatchNorm1d(10, affine=affine), nn.Softplus(), nn.Linear(10, 3),
    )  # fmt: skip
    net, x = settled(net.double(), seed), X.double()
    folded = fold(net, x)
    assert (norms(net), norms(folded)) == (3, 0)
    torch.testing.assert_close(folded(x), net(x), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(slopes(folded, x), slopes(net, x), rtol=1e-11, atol=1e-11)


def test_weights_are_those_of_the_formula() -> None:
    net = settled(nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4, eps=0.25)))
    layer, norm = net[0], net[1]  # type: ignore[index]
    folded = fold(net, torch.rand(3, 5))[0]  # type: ignore[index]
    s = norm.weight / (norm.running_var + 0.25).sqrt()
    torch.testing.assert_close(folded.weight, s[:, None] * layer.weight)
    torch.testing.assert_close(folded.bias, s * (layer.bias - norm.running_mean) + norm.bias)


def test_nothing_of_the_network_is_changed() -> None:
    net = settled(small(nn.BatchNorm2d(8)))
    before, text = {k: v.clone() for k, v in net.state_dict().items()}, str(net)
    folded = fold(net, X)
    assert folded is not net
    assert not any(p.requires_grad for p in folded.parameters())
    assert not any(m.training for m in folded.modules())
    assert str(net) == text
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_without_a_norm_it_is_the_very_same_object() -> None:
    net = settled(small(nn.ReLU()))
    assert fold(net, X) is net


class Doubting(nn.Module):
    """Looks at its values before it goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.body = small(nn.BatchNorm2d(8))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) if x.mean() > 0 else self.body(-x)


class Sharing(nn.Module):
    """One norm behind two layers, or two norms behind one layer."""

    def __init__(self, *, layers: int, norms: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(layers))
        self.norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in range(norms))

    def forward(self, x: Tensor) -> Tensor:
        for i in range(2):
            x = F.relu(self.norms[i % len(self.norms)](self.layers[i % len(self.layers)](x)))
        return x.mean((2, 3))


class Reading(nn.Module):
    """Reads what is between layer and norm once more, or the statistics of the norm."""

    def __init__(self, *, between: bool) -> None:
        super().__init__()
        self.layer, self.norm, self.between = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), between

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        z = self.norm(y) + (y if self.between else self.norm.running_mean[:, None, None])
        return z.mean((2, 3))


def hooked() -> nn.Module:
    net = nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net[0].register_forward_hook(lambda m, inputs, output: output.relu())
    return net


@pytest.mark.parametrize(
    "net",
    [
        Doubting(),
        Sharing(layers=2, norms=1),
        Sharing(layers=1, norms=2),
        Reading(between=True),
        Reading(between=False),
        hooked(),
        small(nn.ReLU(), nn.BatchNorm2d(8)),
        small(nn.BatchNorm2d(8, track_running_stats=False)),
        nn.Sequential(parametrizations.weight_norm(nn.Conv2d(4, 3, 9)), nn.BatchNorm2d(3), nn.Flatten()),
        nn.Sequential(nn.Conv2d(4, 3, 9), nn.BatchNorm2d(3), nn.Flatten()).bfloat16(),
    ],
    ids=[
        "branches on its values", "two layers share a norm", "two norms share a layer", "layer is read twice",
        "norm is read", "hook", "norm elsewhere", "statistics of the batch", "weights computed anew", "16 bits",
    ],
)  # fmt: skip
def test_what_cannot_be_folded_stays_the_very_same_object(net: nn.Module) -> None:
    x = X.to(next(net.parameters()).dtype)
    assert fold(settled(net), x) is net


def test_a_network_that_chance_decides_stays() -> None:
    class Noisy(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(super().forward(x), 0.5, training=True)

    net = settled(Noisy(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    assert fold(net, X) is net


def test_what_can_be_folded_is_where_something_else_cannot() -> None:
    net = settled(small(nn.BatchNorm2d(8), nn.ReLU(), nn.BatchNorm2d(8)))
    folded = fold(net, X)
    assert (norms(net), norms(folded)) == (2, 1)


@pytest.mark.parametrize(("name", "left"), [("resnet50", 0), ("mobilenet_v2", 0), ("densenet121", 62)])
def test_torchvisions_networks_are_folded(name: str, left: int) -> None:
    import torchvision

    torch.manual_seed(0)
    net = settled(getattr(torchvision.models, name)())
    assert norms(fold(net, torch.rand(2, 3, 64, 64))) == left


@pytest.mark.parametrize(
    ("name", "side", "folds"), [("cifar10_resnet20", 32, 19), ("imagenet_mobilenet_v2", 96, 52),
                                ("imagenet_squeezenet1_0", 96, 0)],
)  # fmt: skip
def test_known_networks(real_data: object, name: str, side: int, folds: int) -> None:
    net = import_factory(f"{real_data}/nets.py:{name}", name)[0]().eval().requires_grad_(False)
    x = torch.rand(4, 3, side, side, generator=torch.Generator().manual_seed(0))
    folded = fold(net, x)
    assert norms(net) - norms(folded) == folds
    z = net(x)
    assert float((folded(x) - z).abs().max()) <= 1e-5 * float(z.max() - z.min())
