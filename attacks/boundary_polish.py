"""The last percent of a minimal L2 perturbation: sequential quadratic programming along the decision boundary.

At a perturbation r with margin M(r) (positive when adversarial) and w = grad M(r), the smallest perturbation that the
linearised network calls adversarial is

    q = argmin ||q||^2   such that   M(r) + <w, q - r> >= a,   low <= q <= high,

with a >= 0 a little inside. The walk goes from p, where the linear model puts the boundary next to r, a part t of the
way to q: r+ = p + t (q - p). Where the boundary bends, t shrinks, and a grows by what the last step fell short.

A targeted margin is the least of K - 1 differences of logits, and at the solution several often tie. The newest
linearisations with a few other competitors are then kept as further inequalities, or the walk would leap between
them. An untargeted margin is a greatest difference, and any competitor will do: the walk keeps to one.

When t has become small, the walk begins a new round from the smallest perturbation found, with a long step and no
memory; untargeted, along the boundary with whatever class wins there. After a round that gained next to nothing the
next one opens with a shorter step, and after a few such rounds the sample is done.

Source: the program without box or memory is the step of DeepFool, Moosavi-Dezfooli, Fawzi and Frossard, CVPR 2016
(arXiv 1511.04599); mixing it with a projection from where one is, FAB, Croce and Hein, ICML 2020 (arXiv 1907.02044).
Departures: box and other competitors inside the program; t and a found per sample as the walk goes.
Cost: one forward and one backward a step and sample.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from attacks.closest import Closest, Loss
from attacks.halfspaces import nearest

_GROW, _SHRINK = 1.2, 0.7
_START = 0.5
_COMPETITORS = 4
_SHORTFALL = 0.3  # part of a shortfall by which the next step aims further inside
_FORGET = 0.5
_END = 0.1  # a round ends when t is this part of what it was
_GAIN = 1e-3  # part of the size that a round takes off if it was not in vain
_TIMID = 0.3  # factor of t at the begin after a round in vain
_LEAST = 0.02  # no round begins with a shorter step than this


def margin_loss(own: Tensor, other: Tensor, direction: float) -> Loss:
    """The logit of the classes `own` (b,) less that of `other` (b,), times `direction`, and its derivative."""

    def loss(z: Tensor) -> tuple[Tensor, Tensor]:
        seed = torch.zeros_like(z).scatter(1, other[:, None], -direction).scatter(1, own[:, None], direction)
        return (z * seed).sum(1), seed

    return loss


@dataclass
class _Walk:
    """Rows of b samples: where they are, how they step, and the newest inequality of each of J competitors."""

    index: Tensor  # (b,)
    towards: Tensor  # (b,) untargeted: the competitor
    low: Tensor  # (b, D)
    high: Tensor  # (b, D)
    r: Tensor  # (b, D)
    size: Tensor  # (b,) smallest so far
    part: Tensor  # (b,) t
    inside: Tensor  # (b,) a, beyond the clearance
    opening: Tensor  # (b,) t at the begin of the round
    begun: Tensor  # (b,) size when the round began
    fresh: Tensor  # (b,) bool: first step of a later round
    done: Tensor  # (b,) bool
    rivals: Tensor  # (b, J) competitors of the inequalities, -1 for none
    age: Tensor  # (b, J) steps since they were new
    normals: Tensor  # (b, J, D)
    offsets: Tensor  # (b, J)

    def take(self, rows: Tensor) -> _Walk:
        return _Walk(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


def polish(closest: Closest, index: Tensor, towards: Tensor, steps: int) -> None:
    """Shrink what `closest` has found.

    Args:
        closest: the search so far.
        index: samples (b,) with something found.
        towards: untargeted: class (b,) along whose boundary with the label each goes.
        steps: most evaluations a sample.
    """
    size, r = closest.size[index], closest.r[index]
    kept = 1 if closest.goal.targets is None else _COMPETITORS
    zero, few = torch.zeros_like(size), r.new_zeros(len(r), kept)
    walk = _Walk(
        index=index, towards=towards, low=closest.room[0][index], high=closest.room[1][index], r=r, size=size,
        part=zero + _START, inside=zero, opening=zero + _START, begun=size, fresh=size < 0, done=size < 0,
        rivals=few.long() - 1, age=few, normals=r.new_zeros(*few.shape, r.shape[1]), offsets=few,
    )  # fmt: skip
    period = 4 if r.is_cuda else 1  # asking who is done waits for the device
    for step in range(steps):
        if step % period == 0:
            going = ~walk.done
            count = int(going.sum())
            if count == 0:
                break
            if count < len(going):
                walk = walk.take(going)
        _step(closest, walk)


def _step(closest: Closest, walk: _Walk) -> None:
    goal = closest.goal[walk.index]

    def loss(z: Tensor) -> tuple[Tensor, Tensor]:
        best = z.scatter(1, goal.classes[:, None], -torch.inf).argmax(1)
        walk.towards = torch.where(walk.fresh, best, walk.towards) if goal.targets is None else best
        return margin_loss(goal.classes, walk.towards, goal.direction)(z)

    margin, w, _ = closest.evaluate(walk.r, walk.index, loss)
    clear = closest.clear[walk.index]
    margin = margin - clear
    broken = ~(torch.isfinite(w).all(1) & torch.isfinite(margin))
    w, margin = torch.where(broken[:, None], 0.0, w), torch.where(broken, 0.0, margin)

    walk.inside = torch.maximum(_FORGET * walk.inside, _SHORTFALL * (-margin).clamp(min=0))
    lacking = clear + walk.inside - margin  # (b,)
    _remember(walk, walk.towards, w, (w * walk.r).sum(1) + lacking)
    q, _ = nearest(walk.normals, walk.offsets, walk.low, walk.high)
    back = w * (lacking.clamp(min=0) / w.square().sum(1).clamp(min=1e-30))[:, None]
    p = torch.minimum(torch.maximum(walk.r + back, walk.low), walk.high)

    now = closest.size[walk.index]
    shrunk = (margin > 0) & (now < walk.size)
    walk.part = torch.where(shrunk, (walk.part * _GROW).clamp(max=1.0), walk.part * _SHRINK)
    walk.size = now
    walk.fresh = walk.part < _END * walk.opening
    vain = walk.fresh & (now > walk.begun * (1 - _GAIN))
    walk.opening = torch.where(vain, walk.opening * _TIMID, walk.opening)
    walk.done = walk.done | broken | (walk.opening < _LEAST)
    walk.r = torch.where(walk.fresh[:, None], closest.r[walk.index], p + walk.part[:, None] * (q - p))
    walk.begun = torch.where(walk.fresh, now, walk.begun)
    walk.part = torch.where(walk.fresh, walk.opening, walk.part)
    walk.inside = torch.where(walk.fresh, 0.0, walk.inside)
    walk.rivals = torch.where(walk.fresh[:, None], -1, walk.rivals)
    walk.normals = torch.where(walk.fresh[:, None, None], 0.0, walk.normals)
    walk.offsets = torch.where(walk.fresh[:, None], 0.0, walk.offsets)


def _remember(walk: _Walk, rival: Tensor, w: Tensor, offset: Tensor) -> None:
    """Put the inequality in the place of its competitor's last one, or else of the oldest."""
    same = walk.rivals == rival[:, None]
    slot = torch.where(same.any(1), same.long().argmax(1), walk.age.argmax(1))[:, None]  # (b, 1)
    walk.rivals = walk.rivals.scatter(1, slot, rival[:, None])
    walk.age = torch.where(walk.rivals < 0, torch.inf, walk.age + 1).scatter(1, slot, 0.0)
    walk.offsets = walk.offsets.scatter(1, slot, offset[:, None])
    walk.normals = walk.normals.scatter(1, slot[:, :, None].expand(-1, 1, w.shape[1]), w[:, None])
