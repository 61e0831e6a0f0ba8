"""What a method reaches and costs on a network: one run, judged and counted.

Success is judged here, not by the method: a candidate counts when the network calls it what the goal wants, in the
batch or alone, since rounding depends on the size of the batch. RMS is sqrt(sum((x' - x)^2) / D), in float64. Forwards
and backwards are counted per image. Time is that of one run, after a warm-up on two images; of a run shorter than a
second, the median of up to five.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attacks.goal import Goal
from eval.device import synchronize
from tests.benchmarks.peers import Method

WARM_UP = 2
_ENOUGH, _RUNS = 1.0, 5


class Counted(nn.Module):
    """A network that counts the images that go through it, forward and backward."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.forwards = self.backwards = 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += len(x)
        z: Tensor = self.network(x)
        if z.requires_grad:
            z.register_hook(self._back)
        return z

    def _back(self, grad: Tensor) -> None:
        self.backwards += len(grad)


@dataclass(frozen=True)
class Measurement:
    """What one method did on n images.

    Attributes:
        reached: n truth values.
        rms: n distortions, of the candidates, adversarial or not.
        forwards: per image.
        backwards: per image.
        milliseconds: per image.
    """

    reached: list[bool]
    rms: list[float]
    forwards: float
    backwards: float
    milliseconds: float


@torch.no_grad()
def judge(net: nn.Module, x_adv: Tensor, goal: Goal) -> Tensor:
    """Whether the candidates (B, C, H, W) are images in [0, 1] that reach the goal, (B,)."""
    flat = x_adv.flatten(1)
    valid = ((flat >= 0) & (flat <= 1)).all(1)  # NaN compares false
    reached = goal.reached(net(x_adv))
    for i in (~reached).nonzero()[:, 0].tolist():
        one = torch.tensor([i], device=x_adv.device)
        reached[one] = goal[one].reached(net(x_adv[one]))
    return reached & valid


def measure(method: Method, net: nn.Module, x: Tensor, goal: Goal, seed: int) -> Measurement:
    """Run the method on two images to warm up, and then on all."""
    few = torch.arange(min(WARM_UP, len(x)), device=x.device)
    _timed(method, net, x[few], goal[few], seed)
    counted = Counted(net).eval()
    x_adv, seconds = _timed(method, counted, x, goal, seed)
    times = [seconds]
    while sum(times) < _ENOUGH and len(times) < _RUNS:
        times.append(_timed(method, net, x, goal, seed)[1])
    rms = (x_adv.double() - x.double()).flatten(1).square().mean(1).sqrt()
    n = len(x)
    return Measurement(
        judge(net, x_adv, goal).tolist(), rms.tolist(), counted.forwards / n, counted.backwards / n,
        1e3 * statistics.median(times) / n,
    )  # fmt: skip


def _timed(method: Method, net: nn.Module, x: Tensor, goal: Goal, seed: int) -> tuple[Tensor, float]:
    """The candidates, and seconds."""
    torch.manual_seed(seed)
    x = x.clone()
    synchronize(x.device)
    begin = time.perf_counter()
    x_adv = method.run(net, x, goal, seed).detach()
    synchronize(x.device)
    return x_adv, time.perf_counter() - begin
