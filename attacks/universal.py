"""One perturbation v for all images: the algorithm that found it, and an ascent inside the box.

    |v|_p <= eps,   argmax z(x + v) != argmax z(x)   for most images x

`UAP` goes through the images; where x + v is not fooled yet, it adds DeepFool's step from there to v and projects v to
the ball. `Ascent` follows, on mini-batches, the gradient with momentum of

    mean_i min(margin(x_i + v), cap)

in the box; an image that is fooled clearly takes no further part.

What is made for all images together does not fit `attacks.base.Attack`, whose row i depends on row i alone; `Shared`
is the protocol here.

Source: Moosavi-Dezfooli, Fawzi, Fawzi and Frossard, "Universal adversarial perturbations", CVPR 2017 (arXiv
1610.08401), algorithm 1, for `UAP`; Shafahi, Najibi, Xu, Dickerson, Davis and Goldstein, "Universal adversarial
training", AAAI 2020 (arXiv 1811.11304), for the clamped ascent.
Departures: `UAP` keeps the best of its passes and ends after some; the authors' program, unlike their paper, leaves out
the step where DeepFool needed its last iteration, and takes no image into its box. Here steps are always taken, and
they too leave the box aside. `Ascent` clips to the box, takes a margin for the cross-entropy, and has momentum. Its
settings were chosen among some twenty on training images of digits (the first few were also seen on test images); those
of `UAP` are its authors'. On few images `UAP` may end long before v is as large as the budget lets it be.
Cost: `UAP`, a pass: one forward an image, and DeepFool for each that is not fooled. `Ascent`, a climb: `steps` forwards
and backwards of `batch` images, and `_LOOKS` forwards of all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from attacks.base import Logits
from attacks.deepfool import deepfool
from attacks.goal import Goal
from attacks.losses import logits_and_gradient, loss_named
from attacks.rng import Rng
from attacks.threat import ThreatModel

NORMS = frozenset({"l2", "linf"})
_CHUNK, _VALUES = 256, 1 << 22  # images that are judged at once, and their pixels, at most
_LOOKS = 10  # times that `Ascent` compares what it has


class Shared(Protocol):
    """Makes one perturbation for all images. Its fields are its hyper-parameters."""

    def __call__(self, logits: Logits, x: Tensor, threat: ThreatModel, *, rng: Rng) -> Tensor:
        """A perturbation v (C, H, W) in the ball for the images `x` (N, C, H, W), with a stream of `rng` each.

        x + v need not be in the box.
        """


def at_once(x: Tensor) -> int:
    """How many of the images (N, C, H, W) a network is shown together: few large ones, whose maps fill the memory."""
    return max(1, min(_CHUNK, _VALUES // x[0].numel()))


@torch.no_grad()
def predictions(logits: Logits, x: Tensor, chunk: int | None = None) -> Tensor:
    """Predicted classes (N,)."""
    return torch.cat([logits(part).argmax(1) for part in torch.split(x, chunk or at_once(x))])


def shifted(x: Tensor, v: Tensor, box: tuple[float, float] | None) -> Tensor:
    """The images x + v (N, C, H, W), clipped to the box if there is one."""
    return x + v if box is None else (x + v).clamp(*box)


def fooled(logits: Logits, x: Tensor, v: Tensor, clean: Tensor, box: tuple[float, float] | None) -> float:
    """The share of images whose prediction is not what it is without v, `clean` (N,)."""
    now = [predictions(logits, shifted(part, v, box)) for part in torch.split(x, at_once(x))]
    return float((torch.cat(now) != clean).double().mean())


def projected(v: Tensor, threat: ThreatModel) -> Tensor:
    """The nearest perturbation (C, H, W) of the ball that can move a pixel of some image from one end to the other."""
    width = torch.full_like(v.flatten()[None], threat.box[1] - threat.box[0])
    return threat.table.project(v.flatten()[None], threat.eps, -width, width).view_as(v)


def random_like(x: Tensor, threat: ThreatModel, rng: Rng) -> Tensor:
    """A random perturbation for each stream (n, C, H, W), as long as the budget lets it: signs, or a direction."""
    dim = x[0].numel()
    if threat.norm == "linf":
        drawn = torch.where(rng.uniform(dim) < 0.5, -threat.eps, threat.eps)
    else:
        drawn = scaled(rng.normal(dim), threat.eps)
    return drawn.view(len(rng), *x.shape[1:])


def scaled(vectors: Tensor, length: float) -> Tensor:
    """Vectors (n, D) of that L2 norm."""
    factor: Tensor = length / vectors.norm(dim=1, keepdim=True).clamp(min=1e-30)
    return vectors * factor


def _check(threat: ThreatModel, name: str) -> None:
    if threat.norm not in NORMS:
        raise ValueError(f"{name}: supports the norms {', '.join(sorted(NORMS))}, got {threat.norm}")


@dataclass(frozen=True)
class UAP:
    """The paper's algorithm.

    Attributes:
        delta: share of the images that need not be fooled.
        passes: over the images, at most.
        iterations: of DeepFool.
        overshoot: of DeepFool.
        classes: that DeepFool looks at.
    """

    norms: ClassVar[frozenset[str]] = NORMS

    delta: float = 0.2
    passes: int = 10
    iterations: int = 10
    overshoot: float = 0.02
    classes: int = 10

    def __post_init__(self) -> None:
        if not 0 <= self.delta < 1:
            raise ValueError(f"delta: must be in [0, 1), got {self.delta:g}")
        for key, least in (("passes", 1), ("iterations", 1), ("classes", 2)):
            if getattr(self, key) < least:
                raise ValueError(f"{key}: must be at least {least}, got {getattr(self, key)}")

    def __call__(self, logits: Logits, x: Tensor, threat: ThreatModel, *, rng: Rng) -> Tensor:
        """See `Shared`."""
        _check(threat, "UAP")
        clean = predictions(logits, x)
        v = torch.zeros_like(x[0])
        best, most = v, -1.0
        for number in range(self.passes):
            for i in rng.fold(number).uniform(1)[:, 0].argsort(stable=True).tolist():
                moved = x[i : i + 1] + v
                if predictions(logits, moved)[0] == clean[i]:
                    step, _ = deepfool(
                        logits, moved, classes=self.classes, iterations=self.iterations, overshoot=self.overshoot
                    )
                    v = projected(v + step[0], threat)
            share = fooled(logits, x, v, clean, None)
            if share >= most:
                best, most = v, share
            if share >= 1 - self.delta:
                break
        return best


@dataclass(frozen=True)
class Ascent:
    """Ascent with momentum on a clamped margin, inside the box.

    Attributes:
        steps: mini-batches.
        batch: images in each.
        step_size: length of the first step as a part of eps; it falls linearly to a tenth.
        momentum: part of the earlier direction that is kept.
        restarts: climbs, the first from 0 and the others from random perturbations.
        cap: margin, in mean margins of the unperturbed images, from which an image counts as fooled clearly.
    """

    norms: ClassVar[frozenset[str]] = NORMS

    steps: int = 200
    batch: int = 64
    step_size: float = 0.1
    momentum: float = 0.9
    restarts: int = 3
    cap: float = 1.0

    def __post_init__(self) -> None:
        for key in ("steps", "batch", "restarts"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key}: must be at least 1, got {getattr(self, key)}")
        for key in ("step_size", "cap"):
            if not getattr(self, key) > 0:
                raise ValueError(f"{key}: must be > 0, got {getattr(self, key):g}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum: must be in [0, 1), got {self.momentum:g}")

    def __call__(self, logits: Logits, x: Tensor, threat: ThreatModel, *, rng: Rng) -> Tensor:
        """See `Shared`."""
        _check(threat, "Ascent")
        with torch.no_grad():
            z = torch.cat([logits(part) for part in torch.split(x, at_once(x))])
        clean = z.argmax(1)
        cap = self.cap * float(-Goal(clean).margin(z).mean())
        best, most = torch.zeros_like(x[0]), -1.0
        for restart in range(self.restarts):
            own = rng.fold(restart)
            start = best if restart == 0 else random_like(x, threat, own[torch.arange(1, device=x.device)].fold(0))[0]
            for v in self._course(logits, x, clean, start, threat, cap, own.fold(1)):
                share = fooled(logits, x, v, clean, threat.box)
                if share >= most:
                    best, most = v, share
        return best

    def _course(
        self, logits: Logits, x: Tensor, clean: Tensor, v: Tensor, threat: ThreatModel, cap: float, rng: Rng
    ) -> Iterator[Tensor]:
        """A climb from `v` (C, H, W), looked at `_LOOKS` times."""
        batches = -(-len(x) // self.batch)
        order, mean = torch.arange(len(x), device=x.device), torch.zeros_like(v)
        for number in range(self.steps):
            turn, place = divmod(number, batches)
            if place == 0:
                order = rng.fold(turn).uniform(1)[:, 0].argsort(stable=True)
            index = order[place * self.batch : (place + 1) * self.batch]
            gradient = self._gradient(logits, x[index], clean[index], v, threat, cap)
            mean = self.momentum * mean + gradient / gradient.abs().mean().clamp(min=1e-30)
            length = self.step_size * threat.eps * (1 - 0.9 * number / self.steps)
            flat = v.flatten()[None]
            width = torch.full_like(flat, threat.box[1] - threat.box[0])
            step = threat.table.step(mean.flatten()[None], length, flat, -width, width, 1.0)
            v = projected(v + step.view_as(v), threat)
            if (number + 1) * _LOOKS // self.steps > number * _LOOKS // self.steps:
                yield v

    @staticmethod
    def _gradient(logits: Logits, x: Tensor, clean: Tensor, v: Tensor, threat: ThreatModel, cap: float) -> Tensor:
        """Mean gradient (C, H, W) of the clamped margins; a pixel beyond the box may only be drawn back into it."""
        goal, free = Goal(clean), x + v
        low, high = threat.box
        z, gradient = logits_and_gradient(logits, free.clamp(low, high), loss_named("margin"), goal)
        outward = ((free > high) & (gradient > 0)) | ((free < low) & (gradient < 0))
        counts = (goal.margin(z) < cap).view(-1, 1, 1, 1)
        return torch.where(outward | ~counts, 0.0, gradient).mean(0)
