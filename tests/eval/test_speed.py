"""What makes a network faster leaves what it computes as it is."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eval import speed
from tests.bytecode import BYTECODE

CPU = torch.device("cpu")


class Viewing(nn.Module):
    """Relies on the layout (B, C, H, W) in memory, as networks with `view` do."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 8, 3)
        self.head = nn.Linear(8 * 36, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.features(x)).view(len(x), -1))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 9, 5)
    ).eval()


def gradient(net: nn.Module, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(F.cross_entropy(net(x), torch.arange(len(x)) % 5), x)[0]


def test_another_layout_changes_neither_values_nor_gradients():
    net, x = network(), torch.rand(4, 3, 8, 8)
    logits, slopes = net(x), gradient(net, x)
    before = {name: value.clone() for name, value in net.state_dict().items()}

    assert speed.lay_out(net, x)

    assert net[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert net(x).allclose(logits, atol=1e-6)
    assert gradient(net, x).allclose(slopes, atol=1e-6)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_network_that_relies_on_its_layout_keeps_it():
    net, x = Viewing(), torch.rand(4, 3, 8, 8)
    logits = net(x)

    assert not speed.lay_out(net, x)

    assert net.features.weight.is_contiguous()
    assert torch.equal(net(x), logits)


def test_without_convolutions_there_is_nothing_to_lay_out():
    assert not speed.lay_out(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), torch.rand(2, 3, 2, 2))


FAULTS = """
import resource, sys, torch
from eval.speed import keep_memory
torch.set_num_threads(1)
kept = keep_memory(torch.device("cpu"))
def work():  # 120 MB, as the activations of a forward
    return [torch.ones(3_000_000) for _ in range(10)]
for _ in range(2):
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    work()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(**environment: str) -> tuple[str, int]:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS],
        env={"PATH": "", **BYTECODE, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    kept, number = done.stdout.split()
    return kept, int(number)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_what_was_freed_is_kept_for_the_next_forward():
    kept, number = faults()
    told, more = faults(MALLOC_TRIM_THRESHOLD_="1000000")

    assert (kept, told) == ("True", "False")
    assert number < more / 10


def test_on_another_device_the_allocator_is_left_alone():
    assert not speed.keep_memory(torch.device("cuda"))
