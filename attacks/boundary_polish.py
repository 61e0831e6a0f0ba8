"""The last percents of a minimal L2 perturbation: walks along the decision boundary, one after another.

A walk is a sequence of quadratic programs. At a perturbation r with margin M(r) (positive when adversarial) and
w = grad M(r), the smallest perturbation that the linearised network calls adversarial is

    q = argmin ||q||^2   such that   M(r) + <w, q - r> >= a,   low <= q <= high,

with a >= 0 a little inside. The walk goes from p, where the linear model puts the boundary next to r, a part t of the
way to q: r+ = p + t (q - p). While the adversarial points get smaller t grows, otherwise it shrinks; a is at least a
part of what a step fell short, and fades. The walk is over when t has become small, or when the next step would be.

Networks of rectified linear units have a boundary of flat pieces, with a local minimum on many of them, and
adversarially trained ones a rugged one. So the next walk begins from the best perturbation found plus Gaussian noise,
and what counts is the best of all walks: basin hopping. There t falls until a walk is over, whereas on a smooth
boundary the steps themselves shorten until it settles, and after such a walk the noise is small. Flat pieces are also
why the place of w is taken by an average of its directions along the walk.

A targeted margin is the least of K - 1 differences of logits, and at the solution several often tie. The newest
normals of a few other competitors are then kept for further inequalities, or the walk would leap between them; their
margins at r are exact, as the logits tell them at no cost. An untargeted margin is a greatest difference, and any
competitor will do: each step takes the one that leads.

Source: the program without box or memory is the step of DeepFool, Moosavi-Dezfooli, Fawzi and Frossard, CVPR 2016
(arXiv 1511.04599); mixing it with a projection from where one is, FAB, Croce and Hein, ICML 2020 (arXiv 1907.02044);
basin hopping, Wales and Doye, J. Phys. Chem. A 101 (1997).
Departures: box and other competitors inside the program; t and a found per sample as the walk goes; of the walks only
those that improve count, without Wales and Doye's temperature.
Cost: one forward and one backward a step and sample; memory (10 + 2 J) D numbers a sample for J competitors, and 18 D
while new walks begin.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from attacks import asking
from attacks.closest import Closest
from attacks.halfspaces import nearest
from attacks.losses import lead
from attacks.rng import Rng

# Chosen on MNIST test images 5000 to 5500 and CIFAR-10 test images 0 to 600, with six networks.
# Leaps longer than the perturbation itself end 2 to 5% lower than leaps a fifth as long on an adversarially trained
# LeNet, with 7 to 10% more evaluations, and 0.1 to 0.2% lower on a LeNet and a ResNet-20, with at most 3% more. On a
# network of sigmoids they only take a long way back to where one was, 9% more evaluations: hence _CALM.
_LEAPS = (2.0, 1.4, 0.8)  # noise before a walk, as a part of the size, in turn
_CALM = 0.1  # and so much of it after a walk that settled
_START, _END = 1.0, 0.05  # t at the begin and at the end of a walk
_GROW, _SHRINK = 1.2, 0.85  # of t
_SHORTFALL = 0.3  # part of a shortfall by which a walk aims further inside
_FORGET = 0.9  # what is left of that a step later,
_NEAR, _HASTE = 0.2, 0.3  # and less of it where the next step would be shorter than this part of the size
_FAR = 1e9  # an inequality so far behind is none
_NEWTON = 4  # iterations of the program; from the last multipliers most need one or two
_AVERAGE = 0.4  # weight of the former normal
_COMPETITORS, _OLD = 4, 8  # inequalities at once, and steps after which one that was not renewed is dropped
_SETTLED = 2e-3  # part of the size: a walk whose next step would be shorter has arrived
_LESS = 2e-3  # part of the size by which a smaller point is smaller: less does not keep a walk going
_GAIN = 12e-3  # part of the size that a walk takes off if it was not in vain
_CLOSE = 1.05  # a further start is tried if its estimate is below this many times what has been found
_LOST = 8  # a first walk that has found nothing in so many steps turns back halfway


@dataclass
class Start:
    """Where a first walk may begin.

    Attributes:
        r: adversarial perturbations (B, D).
        estimate: (B,), of the size that a walk from there ends with; infinity where there is none.
    """

    r: Tensor
    estimate: Tensor


def add(starts: list[Start], start: Start) -> None:
    """Add to starts that are in ascending order of their estimates, image by image."""
    for other in starts:
        less = start.estimate < other.estimate
        other.r, start.r = torch.where(less[:, None], start.r, other.r), torch.where(less[:, None], other.r, start.r)
        both = torch.minimum(start.estimate, other.estimate), torch.maximum(start.estimate, other.estimate)
        other.estimate, start.estimate = both
    starts.append(start)


@dataclass
class _Walks:
    """Rows of b samples: where they are, how they step, and the newest inequality of each of J competitors."""

    index: Tensor  # (b,)
    low: Tensor  # (b, D)
    high: Tensor  # (b, D)
    r: Tensor  # (b, D)
    size: Tensor  # (b,) smallest of this walk
    begun: Tensor  # (b,) smallest of all when the walk began
    part: Tensor  # (b,) t
    inside: Tensor  # (b,) a, beyond what rounding asks for
    missed: Tensor  # (b,) the last so many points were not adversarial
    over: Tensor  # (b,) bool
    number: Tensor  # (b,) walks ended
    vain: Tensor  # (b,) the last so many of them were in vain
    patience: Tensor  # (b,) so many of them end the search
    rivals: Tensor  # (b, J) competitors of the inequalities, -1 for none
    age: Tensor  # (b, J) steps since they were new
    normals: Tensor  # (b, J, D)
    slopes: Tensor  # (b, J) of the margins along the normals
    multipliers: Tensor  # (b, J) of the last program, from which the next is solved sooner

    def take(self, rows: Tensor) -> _Walks:
        return _Walks(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


def polish(closest: Closest, starts: list[Start], index: Tensor, evaluations: int, patience: Tensor, rng: Rng) -> None:
    """Shrink what `closest` has found.

    Args:
        closest: the search so far.
        starts: where the first walks begin, best first, as long as their estimates are not much above what is found.
        index: samples (b,) with something found.
        evaluations: a sample is done after so many, those before the polish included; on a GPU up to 3 more.
        patience: or after so many walks (b,) in a row that gained next to nothing.
        rng: streams of the samples of `closest`.
    """
    size, r = closest.size[index], closest.r[index]
    if starts:
        r = torch.where((starts[0].estimate[index] < size)[:, None], starts[0].r[index], r)
    begun, size = size, r.norm(dim=1)
    kept = 1 if closest.goal.targets is None else _COMPETITORS
    zero, few = torch.zeros_like(size), r.new_zeros(len(r), kept)
    walks = _Walks(
        index=index, low=closest.room[0][index], high=closest.room[1][index], r=r, size=size, begun=begun,
        part=zero + _START, inside=zero, missed=zero.long(), over=zero > 0, number=zero.long(), vain=zero.long(),
        patience=patience, rivals=few.long() - 1, age=few.clone(), normals=r.new_zeros(*few.shape, r.shape[1]),
        slopes=few + 1, multipliers=few.clone(),
    )  # fmt: skip
    leaps = r.new_tensor(_LEAPS)
    period = asking.period(r)
    for step in range(evaluations):
        if step % period == 0:
            over = walks.over.nonzero()[:, 0]
            if len(over) > 0:
                _begin(closest, starts, walks, over, leaps, rng.fold(step))
            going = (walks.vain < walks.patience) & (closest.evaluations[walks.index] < evaluations)
            stay = going.nonzero()[:, 0]
            if len(stay) == 0:
                break
            if len(stay) < len(going):
                walks = walks.take(stay)
        _step(closest, walks)


def _step(closest: Closest, walks: _Walks) -> None:
    """One evaluation, and one step of each walk."""
    goal, clear = closest.goal[walks.index], closest.clear[walks.index]
    slot = met = goal.classes
    margins = walks.slopes

    def loss(z: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal slot, met, margins
        own = goal.classes[:, None]
        rival = _leader(walks, z.scatter(1, own, -torch.inf), clear)
        slot, met = _enter(walks, rival)
        margins = goal.direction * (z.gather(1, own) - z.gather(1, walks.rivals.clamp(min=0)))  # (b, J)
        margins = margins - 2 * clear[:, None]  # where 0, there is room for rounding
        value, seed = lead(z, goal.classes, rival)
        return goal.direction * value, goal.direction * seed

    _, w, margin = closest.evaluate(walks.r, walks.index, loss)
    slope = w.norm(dim=1).clamp(min=1e-30)  # (b,)
    broken = ~torch.isfinite(slope + margin)
    margin = torch.where(broken, 0.0, margin)
    normal = torch.where(broken[:, None], 0.0, w / slope[:, None])
    _turn(walks, slot, met, normal, slope)

    walks.inside = torch.maximum(_FORGET * walks.inside, _SHORTFALL * (-margin).clamp(min=0))
    lacking = (walks.inside[:, None] - margins) / walks.slopes  # (b, J) as lengths
    lacking = torch.where(broken[:, None], 0.0, lacking)
    lacking = torch.where(walks.rivals < 0, -_FAR, lacking)
    used = walks.rivals.shape[1] if asking.waits(walks.r) else 1 + int((walks.rivals >= 0).any(0).nonzero().max())
    normals = walks.normals[:, :used]
    reached = (normals @ walks.r[:, :, None])[:, :, 0]  # (b, J)
    offsets, first = reached + lacking[:, :used], walks.multipliers[:, :used] * (walks.rivals[:, :used] >= 0)
    q, walks.multipliers[:, :used] = nearest(normals, offsets, walks.low, walks.high, start=first, steps=_NEWTON)
    back = lacking.gather(1, slot[:, None]).clamp(min=0)  # (b, 1)
    p = torch.clamp(walks.r + normal * back, walks.low, walks.high)

    size, found = walks.r.norm(dim=1), margin > 0
    shrunk = found & (size < walks.size * (1 - _LESS))
    way = (q - walks.r).norm(dim=1)
    settled = found & (way < _SETTLED * size)
    walks.inside = torch.where(found & (way < _NEAR * size), _HASTE * walks.inside, walks.inside)
    walks.size = torch.where(shrunk, size, walks.size)
    walks.part = torch.where(shrunk, (walks.part * _GROW).clamp(max=1.0), walks.part * _SHRINK)
    walks.missed = torch.where(found, 0, walks.missed + 1)
    walks.over = walks.over | broken | settled | (walks.part < _END)

    ahead = torch.clamp(p + walks.part[:, None] * (q - p), walks.low, walks.high)
    lost = (walks.missed >= _LOST) & (walks.number == 0) & (walks.size >= walks.begun)
    walks.r = torch.where(lost[:, None], (walks.r + closest.r[walks.index]) / 2, ahead)


def _leader(walks: _Walks, z: Tensor, tie: Tensor) -> Tensor:
    """The competitor (b,) with the greatest of the logits (b, K).

    Where several tie, up to `tie` (b,), it is the one among them whose inequality is oldest: rounding does not decide.
    """
    top = z.amax(1, keepdim=True)
    known = walks.age.masked_fill(walks.rivals < 0, 0.0)
    age = torch.zeros_like(z).scatter_reduce(1, walks.rivals.clamp(min=0), known, "amax")
    return torch.where(z >= top - tie[:, None], age + 1, 0.0).argmax(1)


def _enter(walks: _Walks, rival: Tensor) -> tuple[Tensor, Tensor]:
    """The slot (b,) of each competitor (b,): the one it has, or a free one, or else the oldest; and which it had."""
    same = walks.rivals == rival[:, None]
    met = same.any(1)
    slot = torch.where(met, same.long().argmax(1), walks.age.argmax(1))
    age = torch.where(walks.rivals < 0, torch.inf, walks.age + 1)
    walks.age = age.scatter(1, slot[:, None], 0.0)
    walks.rivals = walks.rivals.scatter(1, slot[:, None], rival[:, None]).masked_fill(walks.age > _OLD, -1)
    return slot, met


def _turn(walks: _Walks, slot: Tensor, met: Tensor, normal: Tensor, slope: Tensor) -> None:
    """Average the unit normals (b, D) of the slots (b,) with the former ones if `met`, and keep the slopes (b,)."""
    row = torch.arange(len(slot), device=slot.device)
    mean = normal.addcmul(walks.normals[row, slot], (met * (_AVERAGE / (1 - _AVERAGE)))[:, None])
    walks.normals[row, slot] = mean / mean.norm(dim=1, keepdim=True).clamp(min=1e-30)
    walks.slopes[row, slot] = slope


def _begin(closest: Closest, starts: list[Start], walks: _Walks, rows: Tensor, leaps: Tensor, rng: Rng) -> None:
    """Begin the next walk of the rows (n,)."""
    index = walks.index[rows]
    best, now = closest.r[index], closest.size[index]
    useful = now < walks.begun[rows] * (1 - _GAIN)
    calm = torch.where(walks.part[rows] >= _END, _CALM, 1.0)
    length = calm * leaps[walks.number[rows] % len(leaps)] * now  # (n,)
    noise = rng[index].normal(best.shape[1]) * (length / best.shape[1] ** 0.5)[:, None]
    ahead = torch.clamp(best + noise, walks.low[rows], walks.high[rows])
    for k, start in enumerate(starts[1:]):
        here = (walks.number[rows] == k) & (start.estimate[index] < _CLOSE * now)
        ahead, useful = torch.where(here[:, None], start.r[index], ahead), useful | here
    walks.r[rows] = ahead
    walks.vain[rows] = torch.where(useful, 0, walks.vain[rows] + 1)
    walks.number[rows] += 1
    walks.begun[rows] = now
    walks.size.index_fill_(0, rows, torch.inf)
    walks.part.index_fill_(0, rows, _START)
    walks.rivals.index_fill_(0, rows, -1)
    for zeroed in (walks.over, walks.inside, walks.missed, walks.age, walks.multipliers):
        zeroed.index_fill_(0, rows, 0)
