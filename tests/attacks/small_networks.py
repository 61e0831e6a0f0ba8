"""Small networks, and the forms of `LBFGS`, for its tests."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attacks.base import Logits
from attacks.goal import Goal
from attacks.lbfgs import LBFGS
from attacks.rng import Rng
from attacks.threat import unlimited

PAPER = LBFGS(
    evaluations=1000, climb=0, steps=1000, loss="ce", weights=20, growth=10.0, guess=False, accuracy=0.0, memory=10,
    decrease=1e-6, candidates=1, classes=1, patience=0,
)  # fmt: skip
QUICK = LBFGS(evaluations=60, stride=0.05, steps=12, classes=1)
STRONG = LBFGS(evaluations=990, steps=40, classes=3, patience=25)
MARGIN = LBFGS(loss="margin", guess=False, steps=60)
SHAPE = (1, 6, 6)


def run(attack: LBFGS, net: Logits, x: Tensor, goal: Goal, box: tuple[float, float] = (0.0, 1.0)) -> Tensor:
    return attack(net, x, goal, unlimited("l2", box), rng=Rng.of(0, [], map(str, range(len(x)))))


def linear(scale: float = 1.0, classes: int = 10) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, classes))
    net[1].weight.data.mul_(scale * 6)
    return net.eval().requires_grad_(False)


def smooth(classes: int = 10) -> nn.Module:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 30), nn.Sigmoid(), nn.Linear(30, classes))
    net[1].weight.data.mul_(6)
    net[3].weight.data.mul_(20)
    return net.eval().requires_grad_(False)


def rugged() -> nn.Module:
    torch.manual_seed(3)
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 200), nn.ReLU(), nn.Linear(200, 60), nn.ReLU(), nn.Linear(60, 10))
    for layer in (net[1], net[3], net[5]):
        layer.weight.data.mul_(4)
    return net.eval().requires_grad_(False)


def images(net: nn.Module, number: int = 24, seed: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Images, the classes they get, and the third likeliest ones."""
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(number, *SHAPE, generator=g)
    labels = net(x).argmax(1)
    return x, labels, net(x).argsort(1, descending=True)[:, 2]


def length(x_adv: Tensor, x: Tensor) -> Tensor:
    return (x_adv - x).double().flatten(1).norm(dim=1)


class Counter:
    """A meter: forwards and backwards per sample."""

    def __init__(self, net: Logits, number: int) -> None:
        self.net, self.forwards, self.backwards = net, torch.zeros(number), torch.zeros(number)

    def __call__(self, x: Tensor) -> Tensor:
        return self.rows(torch.arange(len(x)))(x)

    def count(self, index: Tensor) -> None:
        self.backwards.index_add_(0, index, torch.ones(len(index)))

    def rows(self, index: Tensor) -> Logits:
        def call(x: Tensor) -> Tensor:
            assert len(x) == len(index)
            self.forwards.index_add_(0, index, torch.ones(len(index)))
            z = self.net(x)
            if z.requires_grad:
                z.register_hook(lambda g: self.count(index))
            return z

        return call
