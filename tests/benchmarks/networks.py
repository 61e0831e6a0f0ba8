"""The networks of the benchmarks and the images they are attacked on.

An MLP of sigmoids, trained here in seconds, and known networks from `nets.py` in the data folder
(`TOASTPROOF_DATA`). The images are test images that the network classifies correctly, in their order from a first
number on. The defaults lie outside the images on which settings of attacks were chosen: MNIST from 7000, CIFAR-10
from 600.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from attacks.goal import Goal
from eval.errors import InputError
from eval.speed import keep_memory, lay_out
from models.foreign import import_factory
from models.weights import fingerprint

NETWORKS = (
    "mlp",
    "mnist_lenet5_clean",
    "mnist_lenet5_adv",
    "mnist_trades_smallcnn",
    "cifar10_resnet20",
    "cifar10_resnet4b",
)
GOALS = ("untargeted", "targeted")
HELD_OUT = {"mnist": 7000, "cifar10": 600}
"""Number of the first test image that played no part in choosing settings."""


@dataclass(frozen=True)
class Subject:
    """A network and the images it is attacked on.

    Attributes:
        name: of the network.
        network: in eval mode, without parameter gradients.
        x: images (n, C, H, W) that it classifies correctly.
        labels: (n,) int64.
        first: number of the test image from which they were sought.
        weights: fingerprint of the parameters and buffers.
    """

    name: str
    network: nn.Module
    x: Tensor
    labels: Tensor
    first: int
    weights: str

    def goal(self, kind: str, seed: int) -> Goal:
        """Away from the labels, or (`targeted`) to another class drawn with the seed."""
        if kind == "untargeted":
            return Goal(self.labels)
        generator = torch.Generator().manual_seed(seed)
        shift = torch.randint(1, 10, (len(self.labels),), generator=generator).to(self.labels)
        return Goal(self.labels, (self.labels + shift) % 10)


def data_folder() -> Path:
    """The folder of `TOASTPROOF_DATA`."""
    folder = Path(os.environ.get("TOASTPROOF_DATA", "data"))
    if not (folder / "nets.py").is_file():
        raise InputError(f"{folder / 'nets.py'}: no such file; set TOASTPROOF_DATA to the folder with data and weights")
    return folder


def sigmoid_mlp(x: Tensor, y: Tensor, epochs: int = 8) -> nn.Module:
    """A 784-100-100-10 network of sigmoids, trained with Adam; always the same one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Flatten(), nn.Linear(784, 100), nn.Sigmoid(), nn.Linear(100, 100), nn.Sigmoid(), nn.Linear(100, 10)
        )
        optimizer = torch.optim.Adam(net.parameters(), 2e-3)
        for _ in range(epochs):
            for batch in torch.randperm(len(x)).split(200):
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
                optimizer.step()
    return net


def _read(name: str, folder: Path) -> tuple[nn.Module, Tensor, Tensor]:
    """A network, and all test images at hand with their labels."""
    from torchvision.datasets import MNIST

    if name.startswith("cifar10"):
        data = np.load(folder / "cifar10" / "test1000.npz")
        images = torch.from_numpy(data["x"]).permute(0, 3, 1, 2).float() / 255
        return _known(name, folder), images.contiguous(), torch.from_numpy(data["y"]).long()
    train, test = (MNIST(folder, train=t, download=False) for t in (True, False))
    images = test.data[:, None].float() / 255
    if name == "mlp":
        return sigmoid_mlp(train.data[:, None].float() / 255, train.targets), images, test.targets
    return _known(name, folder), images, test.targets


def _known(name: str, folder: Path) -> nn.Module:
    network: nn.Module = import_factory(f"{folder / 'nets.py'}:{name}", name)[0]()
    return network


def load(name: str, images: int, first: int | None = None, device: str = "cpu") -> Subject:
    """A network with its first `images` correctly classified test images from number `first` on.

    There may be fewer where the test images at hand run out.

    Raises:
        InputError: unknown name, no data, or no such images.
    """
    if name not in NETWORKS:
        raise InputError(f"--networks: {name!r} is none of {', '.join(NETWORKS)}")
    network, x, y = _read(name, data_folder())
    begin = HELD_OUT["cifar10" if name.startswith("cifar10") else "mnist"] if first is None else first
    if not 0 <= begin < len(x):
        raise InputError(f"--first: must be in 0..{len(x) - 1} for {name}, got {begin}")
    weights = fingerprint(network)
    network = network.to(device).eval().requires_grad_(False)
    keep_memory(torch.device(device))
    lay_out(network, x[:2].to(device))
    found_x, found_y, number = [], [], 0
    for start in range(begin, len(x), 500):
        part, labels = (t[start : start + 500].to(device) for t in (x, y))
        right = (network(part).argmax(1) == labels).nonzero()[: images - number, 0]
        found_x.append(part[right])
        found_y.append(labels[right])
        number += len(right)
        if number >= images:
            break
    if number == 0:
        raise InputError(f"{name}: classifies no test image from number {begin} on correctly; choose another --first")
    return Subject(name, network, torch.cat(found_x), torch.cat(found_y), begin, weights)
