"""What a network's logits can be at all within a ball around an image: interval and linear bound propagation.

Intervals (IBP) go through the network forwards: the centre through each linear step, the radius through the same step
with the absolute values of its weights. Linear bounds (CROWN) go backwards: a linear function of the logits is bounded
from below by one of the step before, and so on to the image,

    Lambda^T sigma(z) >= (Lambda+ a_below + Lambda- a_above)^T z + Lambda+^T b_below + Lambda-^T b_above,

where its least value over the ball is known: with the dual norm q,

    min over ||d||_p <= eps of Lambda^T (x + d) = Lambda^T x - eps ||Lambda||_q

or what the box alone leaves, whichever is larger; in Linf, ball and box together. The lines need to know how far the
inputs of each activation can go. `crown_ibp` knows that from intervals, `crown` from linear bounds of those inputs
too. What is bounded from below are the leads z_y - z_k: where all are above 0 no perturbation of that size changes the
class, and that is proved, up to the rounding of float64, for which a margin is kept.

Source: Gowal et al., "On the effectiveness of interval bound propagation" (arXiv 1810.12715); Zhang et al., NeurIPS
2018 (arXiv 1811.00866); Zhang et al., "Towards stable and efficient training" (CROWN-IBP), ICLR 2020 (arXiv
1906.06316); Xu et al., NeurIPS 2020 (arXiv 2002.12920), for networks of any graph.
Cost: `ibp` two forwards an image; `crown_ibp` two forwards for each class besides; `crown` two for each unit of the
network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_input

from models.relaxations import choice, lines
from models.steps import ACTIVATION, ADD, MAXPOOL, SCALE, Graph, Step

METHODS = ("ibp", "crown_ibp", "crown")
"""From the cheapest to the tightest."""

_DUAL = {"linf": 1.0, "l2": 2.0, "l1": math.inf}
_AT_ONCE = 2**24  # numbers of one coefficient tensor
_SLACK = 1e-5  # of the largest logit: what float32 can make of the same network

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
        length = torch.linalg.vector_norm(flat, _DUAL[self.norm], dim=2)  # (B or 1, M)
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

    def tighten(self, every: bool) -> None:
        """Bound the inputs of activations and max-pools again, by linear functions of the image.

        Args:
            every: all of them; else only those that are linear in the image, at which a ball is not a box.
        """
        curved = [False]
        for step in self.graph.steps:
            curved.append(step.kind in (ACTIVATION, MAXPOOL) or any(curved[i] for i in step.inputs))
        wanted = {step.inputs[0] for step in self.graph.steps if step.kind in (ACTIVATION, MAXPOOL)} - {0}
        for number in sorted(wanted):
            if curved[number] and every:
                self._tighten(number, len(self.ball.x))
            elif not curved[number] and self.ball.norm != "linf":
                self._tighten(number, 1)

    def _tighten(self, number: int, images: int) -> None:
        """Of step `number`, with coefficients for each of the images, or one set that is the same for all."""
        shape = self.graph.shape_of(number)
        units = math.prod(shape)
        at_once = max(1, _AT_ONCE // (2 * images * self.graph.widest()))
        low, high = [], []
        for first in range(0, units, at_once):
            some = torch.arange(first, min(first + at_once, units))
            one = F.one_hot(some, units).double()
            both = torch.cat([one, -one]).view(1, -1, *shape).expand(images, *[-1] * (1 + len(shape)))
            below, above = self.below(both, number).chunk(2, 1)
            low.append(below)
            high.append(-above)
        before = self.intervals[number]
        self.intervals[number] = (
            torch.maximum(before[0], torch.cat(low, 1).view_as(before[0])),
            torch.minimum(before[1], torch.cat(high, 1).view_as(before[1])),
        )
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
            return _transposed(step, slopes, self.graph.shape_of(step.inputs[0]))
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


def _transposed(step: Step, slopes: Tensor, shape: tuple[int, ...]) -> tuple[list[Tensor], Tensor]:
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


@torch.no_grad()
def leads(graph: Graph, ball: Ball, labels: Tensor, method: str) -> Tensor:
    """Bounds from below of how far the logit of `labels` (B,) stays ahead of each other one: (B, K), inf at the label.

    Args:
        graph: of the network.
        ball: around the images.
        labels: classes, int64.
        method: one of `METHODS`.
    """
    found = Propagation(graph, ball)
    found.tighten(every=method == "crown")
    last = len(graph.steps)
    eye = torch.eye(graph.shape_of(last)[0], dtype=torch.float64)
    apart = eye[labels][:, None] - eye  # (B, K, K)
    bound = found.below(apart, last, relaxed=method != "ibp")
    return bound.scatter(1, labels[:, None], torch.inf)


@torch.no_grad()
def proved(graph: Graph, ball: Ball, labels: Tensor, method: str) -> Tensor:
    """Which images (B,) keep the class `labels` (B,) under every perturbation of the ball."""
    held = []
    at_once = max(1, _AT_ONCE // (graph.widest() * graph.shape_of(len(graph.steps))[0]))
    for first in range(0, len(labels), at_once):
        part = slice(first, first + at_once)
        near = Ball(ball.x[part], ball.eps[part], ball.norm, ball.box)
        size = graph.forward(near.x)[-1].abs().amax(1)
        held.append(leads(graph, near, labels[part], method).amin(1) > _SLACK * size)
    return torch.cat(held) if held else torch.zeros(0, dtype=torch.bool)


def largest_proved(graph: Graph, ball: Ball, labels: Tensor, method: str, known: Tensor, tries: int) -> Tensor:
    """How far each image is proved to keep its class, by bisection from the radii of the ball.

    Args:
        graph: of the network.
        ball: the first radii that are tried.
        labels: classes (B,) of the images, int64.
        method: one of `METHODS`.
        known: radii (B,) that are proved already, or 0.
        tries: radii that are tried of each image; the first is that of the ball.

    Returns:
        Radii (B,), no smaller than `known`.
    """
    low, high, at = known.clone(), torch.full_like(known, torch.inf), ball.eps.clone()
    for _ in range(tries):
        held = at <= low
        open_ = torch.nonzero(~held)[:, 0]
        held[open_] = proved(graph, Ball(ball.x[open_], at[open_], ball.norm, ball.box), labels[open_], method)
        low, high = torch.where(held, at.maximum(low), low), torch.where(held, high, at.minimum(high))
        between = torch.where(low > 0, (low * high).sqrt(), high / 4)
        at = torch.where(high.isinf(), 2 * low, between)
    return low


def cost(graph: Graph, method: str) -> int:
    """Multiplications of the weights that a try takes of an image, at most."""
    units = sum(2 * math.prod(graph.shape_of(s.inputs[0])) for s in graph.steps if s.kind in (ACTIVATION, MAXPOOL))
    classes = graph.shape_of(len(graph.steps))[0]
    rows = {"ibp": 0, "crown_ibp": classes, "crown": classes + units}
    return (3 + rows[method]) * graph.multiplications()
