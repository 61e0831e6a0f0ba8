from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.archive import read_program
from models.classifier import Classifier
from models.export import export
from models.fold import fold
from models.graph import read
from models.operators import TrainingModeError, UnknownOperatorError, function
from models.replay import module_of
from models.steps import ACTIVATION, CONV, DENSE, MAXPOOL, SCALE, SELECT


class Residual(nn.Module):
    """Layers that are lifted, and functions that are not: in place, constants, buffers, sizes, a device."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding="same", groups=2)
        self.head, self.drop = nn.Linear(32, 5), nn.Dropout(0.5)
        self.register_buffer("mean", torch.full((3, 1, 1), 0.4), persistent=False)
        self.scale = torch.arange(1.0, 6.0)
        nn.init.normal_(self.norm.running_mean, 0, 0.1)  # type: ignore[arg-type]
        nn.init.uniform_(self.norm.running_var, 0.5, 1.5)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.first((x - self.mean) / 0.2)), inplace=True)
        y = F.max_pool2d(y + self.second(y), 2)
        a, b = y.chunk(2, 1)
        y = torch.cat([b, a.sigmoid()], 1)
        y = F.adaptive_avg_pool2d(y, 2).reshape(x.shape[0], -1)
        return self.head(self.drop(y)) * self.scale + torch.arange(5, device=x.device)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.layer = nn.Linear(3, 8), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.gelu(self.layer(self.embed(x.flatten(2).mT)).mean(1)))


class Quiet(nn.Module):
    """A part of its forward is without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(108, 3)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            weight = x.mean((1, 2, 3), keepdim=True).tanh()
        return self.layer((x * weight).flatten(1))


class Halved(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(108, 3)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            y = self.layer(x.flatten(1))
        return y.float()


def replayed(net: nn.Module, folder: Path, shape: tuple[int, ...] = (3, 6, 6)) -> nn.Module:
    batch = {0: torch.export.Dim("batch")}
    program = torch.export.export(net, (torch.rand(2, *shape),), dynamic_shapes=(batch,))
    torch.export.save(program, folder / "net.pt2")
    return module_of(read_program(folder / "net.pt2", "model.path"))


def gradient(net: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    logits = net(x)
    return logits.detach(), torch.autograd.grad((logits * torch.arange(logits.shape[1])).sum(), x)[0]


@pytest.mark.parametrize("kind", [Residual, Attention, Quiet, Halved])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_logits_and_gradients_are_those_of_the_network_to_the_bit(tmp_path: Path, kind: Any, count: int) -> None:
    torch.manual_seed(0)
    net = kind().eval()
    again = replayed(net, tmp_path)
    x = torch.rand(count, 3, 6, 6)
    for mine, theirs in zip(gradient(net, x), gradient(again, x), strict=True):
        assert torch.equal(mine, theirs)


def test_it_computes_what_torch_computes_of_the_same_file(tmp_path: Path) -> None:
    again = replayed(Residual().eval(), tmp_path)
    x = torch.rand(3, 3, 6, 6)
    assert torch.equal(again(x), torch.export.load(tmp_path / "net.pt2").module()(x))


def test_layers_are_layers_again_and_norms_can_be_folded(tmp_path: Path) -> None:
    again = replayed(Residual().eval(), tmp_path).requires_grad_(False)
    kinds = [type(module) for module in again.modules()]
    assert [kinds.count(kind) for kind in (nn.Conv2d, nn.BatchNorm2d, nn.Linear)] == [1, 1, 1]
    x = torch.rand(2, 3, 6, 6)
    folded = fold(again, x)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    torch.testing.assert_close(folded(x), again(x))


def test_bounds_from_below_know_it(tmp_path: Path) -> None:
    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten()]
    net = nn.Sequential(*layers, nn.Dropout(), nn.Linear(36, 8), nn.Sigmoid(), nn.Linear(8, 3)).eval()
    export(net, (3, 6, 6), tmp_path / "net.pt2", mean=[0.4, 0.5, 0.6], std=[0.2])
    again = module_of(read_program(tmp_path / "net.pt2", "model.path"))
    steps = [
        read(Classifier(module, name="n", input_shape=(3, 6, 6), num_classes=3, **options)).steps
        for module, options in ((net, {"mean": [0.4, 0.5, 0.6], "std": [0.2]}), (again, {}))
    ]
    kinds = [[step.kind for step in one if step.kind not in (SCALE, SELECT)] for one in steps]
    assert kinds[0] == kinds[1] == [CONV, ACTIVATION, MAXPOOL, DENSE, ACTIVATION, DENSE]


def test_it_can_be_copied_frozen_and_put_into_evaluation_mode(tmp_path: Path) -> None:
    again = replayed(Residual().eval(), tmp_path)
    other = copy.deepcopy(again).eval().requires_grad_(False).to(torch.device("cpu"))
    x = torch.rand(2, 3, 6, 6)
    assert torch.equal(other(x), again(x))
    assert not any(p.requires_grad for p in other.parameters())
    assert sum(p.numel() for p in again.parameters()) == sum(p.numel() for p in Residual().parameters())


@pytest.mark.gpu
def test_it_moves_to_another_device_with_all_that_it_holds(tmp_path: Path) -> None:
    net = Residual().eval()
    again = replayed(net, tmp_path).to("cuda")
    x = torch.rand(3, 3, 6, 6)
    torch.testing.assert_close(again(x.cuda()).cpu(), net(x), rtol=1e-4, atol=1e-4)


def test_a_device_of_the_file_gives_way_to_that_of_the_images(tmp_path: Path) -> None:
    again = replayed(Residual().eval(), tmp_path).to("meta")
    assert again(torch.rand(3, 3, 6, 6, device="meta")).device.type == "meta"


def test_a_network_in_half_precision_takes_float32(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).double().eval()
    program = torch.export.export(
        net, (torch.rand(2, 3, 2, 2, dtype=torch.float64),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    torch.export.save(program, tmp_path / "net.pt2")
    again = module_of(read_program(tmp_path / "net.pt2", "model.path"))
    assert again(torch.rand(4, 3, 2, 2)).dtype == torch.float64


@pytest.mark.parametrize("layer", [nn.Dropout(), nn.BatchNorm2d(3), nn.Dropout2d()])
def test_a_graph_in_training_mode_is_refused(tmp_path: Path, layer: nn.Module) -> None:
    with pytest.raises(TrainingModeError):
        replayed(nn.Sequential(layer, nn.Flatten(), nn.Linear(108, 3)).train(), tmp_path)


def test_a_norm_that_never_tracks_may_use_its_batch(tmp_path: Path) -> None:
    net = nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), nn.Flatten(), nn.Linear(108, 3)).eval()
    x = torch.rand(3, 3, 6, 6)
    assert torch.equal(replayed(net, tmp_path)(x), net(x))


def test_several_outputs_are_refused(tmp_path: Path) -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x.flatten(1), x.mean((1, 2, 3))

    with pytest.raises(ValueError, match="takes 1 tensors and returns 2"):
        replayed(Two().eval(), tmp_path)


@pytest.mark.parametrize("target", ["torch.ops.aten.relu.default", "_operator.mul", "torch.sym_max", "math.trunc"])
def test_operators_and_arithmetic_are_found(target: str) -> None:
    assert callable(function(target))


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system", "torch.load", "torch.hub.load", "torch.ops.load_library", "builtins.exec", "os.system",
        "torch.ops.aten.from_file.default", "torch.ops.aten.save.default", "torch.ops.aten.__class__.__init__",
        "torch.ops.mine.op.default", "torch.ops.aten.relu", "torch.ops.aten.relu.nowhere", "_operator.methodcaller",
        "_operator.attrgetter", "torch.ops.higher_order.cond", "#extension", "", "torch.ops.aten.relu.default.__call__",
    ],
)  # fmt: skip
def test_nothing_else_is(target: str) -> None:
    with pytest.raises(UnknownOperatorError):
        function(target)
