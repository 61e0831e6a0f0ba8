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
class, and that is proved. They are above what rounding can make of the logits in float32 (`models.rounding`).

Source: Gowal et al., "On the effectiveness of interval bound propagation" (arXiv 1810.12715); Zhang et al., NeurIPS
2018 (arXiv 1811.00866); Zhang et al., "Towards stable and efficient training" (CROWN-IBP), ICLR 2020 (arXiv
1906.06316); Xu et al., NeurIPS 2020 (arXiv 2002.12920), for networks of any graph.
Cost: `ibp` four forwards an image, two of them for the rounding; `crown_ibp` two for each class besides; `crown` two
for each unit besides, through what comes before it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.propagation import AT_ONCE, DUAL, Ball, Propagation, transposed
from models.rounding import rounding
from models.steps import ACTIVATION, ADD, MAXPOOL, SCALE, Graph, Step

_ROWS = 4096  # units of a linear step whose coefficients are written out

METHODS = ("ibp", "crown_ibp", "crown")
"""From the cheapest to the tightest."""


@torch.no_grad()
def lengths(graph: Graph, norm: str) -> dict[int, Tensor]:
    """Dual norms (units,), or more, of the coefficients of steps that are linear in the image, by their number.

    Only those whose intervals are asked for, and none in Linf, where they say no more than the intervals do.
    """
    found: dict[int, Tensor] = {}
    if norm == "linf":
        return found
    curved = graph.curved()
    for number in {s.inputs[0] for s in graph.steps if s.kind in (ACTIVATION, MAXPOOL)} - {0} - curved:
        shape, step = graph.shape_of(number), graph.steps[number - 1]
        scaled = _scales(graph, step)
        if isinstance(step.module, nn.Conv2d) and scaled is not None:
            found[number] = _conv_lengths(step.module, scaled, graph.shape, norm)
        elif math.prod(shape) <= _ROWS:
            rows = _slopes(graph, number)
            found[number] = torch.linalg.vector_norm(rows, DUAL[norm], dim=1)
    return found


def _scales(graph: Graph, step: Step) -> list[Step] | None:
    """The steps between the image and a step with one input, if all of them do no more than scale it."""
    found = []
    at = step.inputs[0]
    while at:
        before = graph.steps[at - 1]
        if before.kind != SCALE:
            return None
        found.append(before)
        at = before.inputs[0]
    return found


def _conv_lengths(conv: nn.Conv2d, scaled: list[Step], shape: tuple[int, ...], norm: str) -> Tensor:
    """Of a convolution of the image, which these steps scale before."""
    factor = torch.ones(1, *shape, dtype=torch.float64)
    for step in scaled:
        factor = factor * torch.as_tensor(step.module.factor)
    ones, weight = factor.abs(), conv.weight.abs()
    squares = F.conv2d(
        ones.square(), weight.square(), None, conv.stride, conv.padding, conv.dilation, conv.groups
    )  # (1, outputs, ...)
    if norm == "l2":
        return squares.sqrt().flatten()
    return (weight.flatten(1).amax(1).view(-1, 1, 1) * ones.max()).expand_as(squares[0]).flatten()


def _slopes(graph: Graph, number: int) -> Tensor:
    """The coefficients (units, D) of a step that is linear in the image."""
    shape = graph.shape_of(number)
    waiting = {number: torch.eye(math.prod(shape), dtype=torch.float64).view(1, -1, *shape)}
    for at in range(number, 0, -1):
        slopes = waiting.pop(at, None)
        if slopes is None:
            continue
        step = graph.steps[at - 1]
        one = [slopes, slopes] if step.kind == ADD else transposed(step, slopes, graph.shape_of(step.inputs[0]))[0]
        for before, part in zip(step.inputs, one, strict=True):
            waiting[before] = waiting[before] + part if before in waiting else part
    return waiting[0][0].flatten(1)


@dataclass(frozen=True)
class Prover:
    """Proves that images keep their class.

    Attributes:
        graph: of the network.
        norm: `l1`, `l2` or `linf`.
        box: least and greatest value of a pixel.
        method: one of `METHODS`.
    """

    graph: Graph
    norm: str
    box: tuple[float, float]
    method: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "_lengths", lengths(self.graph, self.norm))

    @torch.no_grad()
    def leads(self, x: Tensor, eps: Tensor, labels: Tensor) -> Tensor:
        """Bounds from below of how far the logit of the label stays ahead of each other one.

        Args:
            x: images (B, C, H, W), float64.
            eps: radius (B,) around each, float64.
            labels: classes (B,), int64.

        Returns:
            (B, K), infinity at the label.
        """
        return self._leads(x, eps, labels)[0]

    def _leads(self, x: Tensor, eps: Tensor, labels: Tensor) -> tuple[Tensor, Propagation]:
        """Those bounds, and what they rest on."""
        found = Propagation(self.graph, Ball(x, eps, self.norm, self.box))
        found.tighten(self._lengths)  # type: ignore[attr-defined]
        if self.method == "crown":
            found.tighten_all()
        last = len(self.graph.steps)
        eye = torch.eye(self.graph.shape_of(last)[0], dtype=torch.float64)
        bound = found.below(eye[labels][:, None] - eye, last, relaxed=self.method != "ibp")
        return bound.scatter(1, labels[:, None], torch.inf), found

    @torch.no_grad()
    def proved(self, x: Tensor, eps: Tensor, labels: Tensor) -> Tensor:
        """Which images (B,) keep their labels within these radii, in float32 too; arguments as those of `leads`."""
        held = [torch.zeros(0, dtype=torch.bool)]
        at_once = max(1, AT_ONCE // (self.graph.widest() * self.graph.shape_of(len(self.graph.steps))[0]))
        for first in range(0, len(labels), at_once):
            part = slice(first, first + at_once)
            bound, found = self._leads(x[part], eps[part], labels[part])
            off = rounding(self.graph, found.intervals)
            held.append((bound > off + off.gather(1, labels[part, None])).all(1))
        return torch.cat(held)

    def largest(self, x: Tensor, eps: Tensor, labels: Tensor, known: Tensor, tries: int) -> Tensor:
        """How far each image is proved to keep its label, by bisection.

        Args:
            x: images (B, C, H, W), float64.
            eps: radii (B,) that are tried first, float64.
            labels: classes (B,), int64.
            known: radii (B,) that are proved already, or 0.
            tries: radii that are tried of each image.

        Returns:
            Radii (B,), no smaller than `known`.
        """
        low, high, at = known.clone(), torch.full_like(known, torch.inf), eps.clone()
        for _ in range(tries):
            held = at <= low
            left = torch.nonzero(~held)[:, 0]
            held[left] = self.proved(x[left], at[left], labels[left])
            low, high = torch.where(held, at.maximum(low), low), torch.where(held, high, at.minimum(high))
            between = torch.where(low > 0, (low * high).sqrt(), high / 4)
            at = torch.where(high.isinf(), 2 * low, between)
        return low


def cost(graph: Graph, method: str) -> int:
    """Multiplications of the weights that a try takes of an image, at most."""
    inputs = {s.inputs[0] for s in graph.steps if s.kind in (ACTIVATION, MAXPOOL)} & graph.curved()
    units = sum(2 * math.prod(graph.shape_of(number)) * graph.multiplications(number) for number in inputs)
    classes = graph.shape_of(len(graph.steps))[0] * graph.multiplications()
    backwards = {"ibp": 0, "crown_ibp": classes, "crown": classes + units}
    return 5 * graph.multiplications() + backwards[method]
