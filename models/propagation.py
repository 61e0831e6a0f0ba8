"""Intervals forwards through a network, linear bounds backwards: what `models.bounds` proves classes with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_input

from models.relaxations import choice, lines
from models.steps import ACTIVATION, ADD, MAXPOOL, SCALE, Graph, Step

DUAL = {"linf": 1.0, "l2": 2.0, "l1": math.inf}
"""The order of the dual norm."""
AT_ONCE = 2**22
"""Numbers of one tensor of coefficients."""

Interval = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Ball:
    """Perturbed images.

    Attributes:
        x: the images (B, C, H, W), float64.
        eps: radius (B,) for each.
        norm: `l1`, `l2` or `linf`.
        box: least and greatest value of a pixel.
    """

    x: Tensor
    eps: Tensor
    norm: str
    box: tuple[float, float]

    def interval(self) -> Interval:
        """How far each pixel can go, (B, C, H, W) twice."""
        eps = self.eps.view(-1, 1, 1, 1)
        low, high = self.box
        return (self.x - eps).clamp(min=low).minimum(self.x), (self.x + eps).clamp(max=high).maximum(self.x)

    def least(self, slopes: Tensor) -> Tensor:
        """The least values (B, M) of linear functions of the image with slopes (B or 1, M, C, H, W)."""
        flat = slopes.flatten(2)
        boxed = _least(flat, self.interval())
        if self.norm == "linf":
            return boxed
        length = torch.linalg.vector_norm(flat, DUAL[self.norm], dim=2)  # (B or 1, M)
        return torch.maximum(_products(flat, self.x) - self.eps[:, None] * length, boxed)


def _least(slopes: Tensor, within: Interval) -> Tensor:
    """The least values (B, M) of linear functions (B or 1, M, D) of what lies within an interval."""
    low, high = within
    return _products(slopes.clamp(min=0), low) + _products(slopes.clamp(max=0), high)


def _products(slopes: Tensor, x: Tensor) -> Tensor:
    """The values (B, M) of linear functions (B or 1, M, D) of the images (B, ...)."""
    flat = x.flatten(1)
    return flat @ slopes[0].T if len(slopes) == 1 else (slopes @ flat[:, :, None])[..., 0]


class Propagation:
    """Bounds of one network within one ball around each image."""

    def __init__(self, graph: Graph, ball: Ball) -> None:
        self.graph, self.ball = graph, ball
        self.intervals: list[Interval] = [ball.interval()]
        for step in graph.steps:
            self.intervals.append(_interval(step, [self.intervals[i] for i in step.inputs]))

    def tighten(self, lengths: Mapping[int, Tensor]) -> None:
        """Bound the results of steps that are linear in the image by the dual norms (units,) of their coefficients."""
        values = self.graph.forward(self.ball.x) if lengths else []
        for number, length in sorted(lengths.items()):
            far = (self.ball.eps[:, None] * length).view_as(values[number])
            self._narrow(number, values[number] - far, values[number] + far)

    def tighten_all(self) -> None:
        """Bound the inputs of activations and max-pools by linear functions of the image, one after the other."""
        curved = self.graph.curved()
        for number in sorted({s.inputs[0] for s in self.graph.steps if s.kind in (ACTIVATION, MAXPOOL)}):
            if number in curved:
                low, high = self._bounded(number)
                self._narrow(number, low, high)

    def _bounded(self, number: int) -> Interval:
        """How far each result of step `number` can go."""
        shape, images = self.graph.shape_of(number), len(self.ball.x)
        units = math.prod(shape)
        at_once = max(1, AT_ONCE // (2 * images * self.graph.widest()))
        low, high = [], []
        for first in range(0, units, at_once):
            one = F.one_hot(torch.arange(first, min(first + at_once, units)), units).double()
            both = torch.cat([one, -one]).view(1, -1, *shape).expand(images, *[-1] * (1 + len(shape)))
            below, above = self.below(both, number).chunk(2, 1)
            low.append(below)
            high.append(-above)
        return torch.cat(low, 1).view(images, *shape), torch.cat(high, 1).view(images, *shape)

    def _narrow(self, number: int, low: Tensor, high: Tensor) -> None:
        before = self.intervals[number]
        self.intervals[number] = torch.maximum(before[0], low), torch.minimum(before[1], high)
        self._after(number)

    def _after(self, number: int) -> None:
        """Bring the intervals of the steps after `number` up to date."""
        for later, step in enumerate(self.graph.steps[number:], number + 1):
            new = _interval(step, [self.intervals[i] for i in step.inputs])
            old = self.intervals[later]
            self.intervals[later] = torch.maximum(old[0], new[0]), torch.minimum(old[1], new[1])

    def below(self, coefficients: Tensor, number: int, relaxed: bool = True) -> Tensor:
        """The least values (B, M), or less, of linear functions (B or 1, M, *shape) of the results of step `number`.

        With `relaxed` false only linear steps are gone through; of what comes before, the intervals have to do.
        """
        waiting = {number: coefficients}
        constant = torch.zeros(coefficients.shape[:2], dtype=torch.float64)
        for at in range(number, 0, -1):
            slopes = waiting.pop(at, None)
            if slopes is None:
                continue
            step = self.graph.steps[at - 1]
            if not relaxed and step.kind in (ACTIVATION, MAXPOOL):
                constant = constant + _least(slopes.flatten(2), self.intervals[at])
                continue
            parts, more = self._through(step, slopes)
            constant = constant + more
            for before, part in zip(step.inputs, parts, strict=True):
                waiting[before] = waiting[before] + part if before in waiting else part
        image = waiting.get(0)
        return constant if image is None else constant + self.ball.least(image)

    def _through(self, step: Step, slopes: Tensor) -> tuple[list[Tensor], Tensor]:
        """The linear functions of the inputs of a step that lie below those of its results, and their constants."""
        if step.kind == ADD:
            return [slopes, slopes], torch.zeros(slopes.shape[:2], dtype=torch.float64)
        if step.kind not in (ACTIVATION, MAXPOOL):
            return transposed(step, slopes, self.graph.shape_of(step.inputs[0]))
        up, down = slopes.clamp(min=0), slopes.clamp(max=0)
        low, high = self.intervals[step.inputs[0]]
        if step.kind == MAXPOOL:
            assert isinstance(step.module, nn.MaxPool2d)
            chosen = choice(step.module, low, high)
            wins = chosen.wins[:, None]  # (B, 1, C, windows)
            kept = (up + down * wins.view(len(wins), 1, *step.shape)).flatten(3)
            part = torch.zeros(*slopes.shape[:2], low.shape[1], low[0, 0].numel(), dtype=torch.float64)
            part.scatter_add_(3, chosen.entry[:, None].expand_as(kept), kept)
            lost = torch.where(wins, 0.0, chosen.most[:, None])
            return [part.view(*slopes.shape[:2], *low.shape[1:])], (down.flatten(3) * lost).flatten(2).sum(2)
        at = lines(step.module, low, high)
        part = up * at.below_slope[:, None] + down * at.above_slope[:, None]
        return [part], (up * at.below[:, None] + down * at.above[:, None]).flatten(2).sum(2)


def _interval(step: Step, inputs: list[Interval]) -> Interval:
    """The interval of a step's results, from those of its inputs."""
    if step.kind == ADD:
        (a, b), (c, d) = inputs
        return a + c, b + d
    (low, high) = inputs[0]
    module = step.module
    if not isinstance(module, nn.Linear | nn.Conv2d) and step.kind != SCALE:
        return module(low), module(high)  # they rise with each of their inputs
    centre, radius = module((low + high) / 2), (high - low) / 2
    if isinstance(module, nn.Linear):
        radius = F.linear(radius, module.weight.abs())
    elif isinstance(module, nn.Conv2d):
        radius = F.conv2d(
            radius, module.weight.abs(), None, module.stride, module.padding, module.dilation, module.groups
        )
    else:
        radius = radius * torch.as_tensor(module.factor).abs()
    return centre - radius, centre + radius


def transposed(step: Step, slopes: Tensor, shape: tuple[int, ...]) -> tuple[list[Tensor], Tensor]:
    """The same linear functions, of the inputs of a linear step, and their constants."""
    count, module = slopes.shape[:2], step.module
    flat = slopes.reshape(-1, *step.shape)
    bias = module(torch.zeros(1, *shape, dtype=torch.float64)).flatten()
    if isinstance(module, nn.Linear):
        part = flat @ module.weight
    elif isinstance(module, nn.Conv2d) and not isinstance(module.padding, str):
        part = conv2d_input(  # type: ignore[no-untyped-call]
            (len(flat), *shape), module.weight, flat, module.stride, module.padding, module.dilation, module.groups
        )
    else:
        with torch.enable_grad():
            many = torch.zeros(len(flat), *shape, dtype=torch.float64, requires_grad=True)
            (part,) = torch.autograd.grad(module(many), many, flat)
    return [part.reshape(*count, *shape)], (flat.flatten(1) @ bias).view(count)
