"""The best point per sample, where several searches of one sample share a batch and samples leave it.

A sample leaves once a point of it reaches the goal, also after rounding to 8 bits; all its searches end with it. Where
answers come roughly with gradients (`attacks.base.Rough`), the exact network confirms both, and no margin is believed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from attacks import asking
from attacks.base import Logits, is_rough, rows
from attacks.goal import Goal
from attacks.side_by_side import Searches
from attacks.threat import ThreatModel, quantize

_HELD = 1 << 25  # bytes of points, and of what was told of them, that are kept until the best of them are copied


@dataclass
class _Unsettled:
    """Points of the same rows that nobody has looked through yet.

    Attributes:
        owner: samples (R,) of the rows.
        goal: of the rows, where logits were told.
        points: (R, C, H, W) each.
        told: of each its scores (R,), or its logits (R, K), which have scores.
    """

    owner: Tensor
    goal: Goal | None
    points: list[Tensor] = field(default_factory=list)
    told: list[Tensor] = field(default_factory=list)

    def scores(self, rows: Tensor) -> Tensor:
        """The scores (s, r) of the points of these rows (r,)."""
        told = torch.stack([one[rows] for one in self.told])
        if self.goal is None:
            return told
        return scores(self.goal[rows.repeat(len(told))], told.flatten(0, 1)).view(len(told), -1)


class Best:
    """The best point per sample, and which sample each row of the batch belongs to.

    Attributes:
        score: of `point`, (B,), -infinity before, infinity once the sample has left.
        owner: sample (R,) of each row.
        alone: whether no sample has several rows.
    """

    def __init__(self, x: Tensor, threat: ThreatModel, *, leave: bool) -> None:
        self._point = x.clone()
        self._score = torch.full((len(x),), -torch.inf, device=x.device)
        self._unsettled: list[_Unsettled] = []
        self._held = 0  # bytes of what is unsettled
        self.owner = torch.arange(len(x), device=x.device)
        self.alone = True
        self._box = threat.box
        self._leave = leave

    @property
    def point(self) -> Tensor:
        """The best points (B, C, H, W); the images themselves before there are better ones."""
        self._settle()
        return self._point

    @property
    def score(self) -> Tensor:
        """The scores (B,) of the best points."""
        self._settle()
        return self._score

    def begin(self, some: Searches) -> None:
        """Rows are those of these searches from here on."""
        self.owner, self.alone = some.owner, some.alone

    def images(self, x: Tensor) -> Tensor:
        """The images (R, C, H, W) of the rows, out of all (B, C, H, W): these themselves, if each has its own row."""
        return x if self.alone and len(self.owner) == len(x) else x[self.owner]

    def unbroken(self) -> Tensor:
        """The samples that have not left, (b,)."""
        return torch.nonzero(self._score < torch.inf)[:, 0]  # infinity does not wait to be looked through

    def update(
        self, z: Tensor, x_adv: Tensor, goal: Goal, network: Logits, rough: bool | None = None, asks: bool = True
    ) -> Tensor | None:
        """Keep the point with the largest margin; of a network that answers roughly, those alone that are confirmed.

        Args:
            z: logits (R, K) at the points.
            x_adv: points (R, C, H, W).
            goal: of the rows.
            network: for the rows; called on those that hit.
            rough: whether it answers roughly; None: it is asked.
            asks: whether the device may be asked which rows have hit; no sample leaves unless it is.

        Returns:
            The rows (R,), bool, that go on, or None when all do.
        """
        rough = is_rough(network) if rough is None else rough
        margin, found = None, self.owner[:0]
        if self._leave and asks:
            margin = goal.margin(z)
            found = torch.nonzero(margin >= 0)[:, 0]
            found = found[goal[found].reached(z[found])] if len(found) > 0 else found
        if rough and len(found) == 0:  # nothing is to be confirmed, and nothing else is believed
            return None
        if rough:
            told = torch.full_like(z[:, 0], -torch.inf)
        elif self._late(x_adv):  # nobody asks by how much yet
            told = z.clone()  # a network may answer in memory that it answers in again
        else:
            told = scores(goal, z, margin)
        return self._take(told, found, x_adv, goal, network, rough=rough)

    def hold(self, score: Tensor, x_adv: Tensor) -> None:
        """Keep what is better: points (R, C, H, W) with their margins (R,) of the exact network, -infinity for none.

        Infinity, by which a sample leaves, is none of them, nor of what is offered.
        """
        self._keep_better(score.to(self._score.dtype), x_adv, None)

    def offer(self, score: Tensor, hit: Tensor, x_adv: Tensor, goal: Goal, network: Logits) -> Tensor | None:
        """Keep what is better.

        Args:
            score: (R,), greater for better points; -infinity for what is not to be kept. Kept in float32.
            hit: rows (R,), bool, that reach the goal, and let their sample leave if they do after rounding as well.
            x_adv: points (R, C, H, W).
            goal: of the rows.
            network: for the rows; called on those that hit.

        Returns:
            The rows (R,), bool, that go on, or None when all do.
        """
        found = torch.nonzero(hit)[:, 0] if self._leave else self.owner[:0]
        return self._take(score, found, x_adv, goal, network)

    def _take(
        self, told: Tensor, found: Tensor, x_adv: Tensor, goal: Goal, network: Logits, *, rough: bool = False
    ) -> Tensor | None:
        """Keep what is better by what is told of it, scores (R,), or where it is late enough for them logits (R, K).

        The rows `found` (f,) hit, by a `rough` answer, of which nothing else is kept, or by one that is exact.
        """
        told = told.to(self._score.dtype) if told.ndim == 1 else told  # of float64 images it may come in float64
        if len(found) == 0:
            self._keep_better(told, x_adv, goal)
            return None
        confirmed = self._confirmed(found, x_adv, goal, network, rough)
        if self._late(x_adv):
            gone = found[confirmed]
            sample = self.owner[gone]
            self._score.index_fill_(0, sample, torch.inf)
            self._point.index_copy_(0, sample, x_adv[gone])
            if not rough:
                self._later(told, x_adv, goal)
            going = torch.ones_like(self.owner, dtype=torch.bool).index_fill_(0, gone, False)
        else:
            done = torch.zeros_like(told, dtype=torch.bool).index_copy(0, found, confirmed)
            told = torch.where(done, torch.inf, told)
            self._keep_better(told, x_adv, goal)
            going = (told if self.alone else self._score[self.owner]) < torch.inf
        self.owner = self.owner[going]
        return going

    def _confirmed(self, found: Tensor, x_adv: Tensor, goal: Goal, network: Logits, rough: bool) -> Tensor:
        """Whether the rows `found` (f,) hit after rounding to 8 bits too, (f,); by the exact network, if `rough`."""
        wanted, points = goal[found], x_adv[found]
        confirmed = wanted.reached(self._asked(network, found, quantize(points, self._box)))
        if rough:
            confirmed &= wanted.reached(self._asked(network, found, points))
        return confirmed

    def _keep_better(self, told: Tensor, x_adv: Tensor, goal: Goal | None) -> None:
        if self._late(x_adv):
            self._later(told, x_adv, goal)
        else:
            (self._keep if self.alone else self._keep_best)(told, x_adv)

    @staticmethod
    @torch.no_grad()
    def _asked(network: Logits, found: Tensor, x: Tensor) -> Tensor:
        """Logits (f, K) of the points `x` (f, C, H, W) of the rows `found` (f,)."""
        return rows(network, found)(x)

    def _late(self, x_adv: Tensor) -> bool:
        """Whether points may be kept to be looked through later: no sample has several rows, and no question waits.

        Elsewhere to count the better ones would mean to wait for the device (`attacks.asking`).
        """
        return self.alone and not asking.waits(x_adv)

    def _later(self, told: Tensor, x_adv: Tensor, goal: Goal | None) -> None:
        """Keep points with their scores (R,), or logits (R, K), until somebody asks, or there are many."""
        of = goal if told.ndim > 1 else None
        last = self._unsettled[-1] if self._unsettled else None
        if last is None or last.owner is not self.owner or last.goal is not of:
            last = _Unsettled(self.owner, of)
            self._unsettled.append(last)
        last.points.append(x_adv)
        last.told.append(told)
        self._held += x_adv.nbytes + told.nbytes
        if self._held >= _HELD:
            self._settle()

    def _keep(self, score: Tensor, x_adv: Tensor) -> None:
        """Keep the points that are better, one a sample."""
        before = self._score[self.owner]
        better = score > before
        self._score = self._score.index_copy(0, self.owner, torch.maximum(score, before))
        kept = torch.where(better[:, None, None, None], x_adv, self._point[self.owner])
        self._point = self._point.index_copy(0, self.owner, kept)

    def _settle(self) -> None:
        """Look through the last points: most searches get better with most steps, and are copied once in many.

        Of points from before samples left, the rows of those that go on alone are looked at.
        """
        unsettled, self._unsettled, self._held = self._unsettled, [], 0
        for some in unsettled:
            before = self._score[some.owner]
            rows = torch.nonzero(before < torch.inf)[:, 0]
            owner, before = some.owner[rows], before[rows]
            found = some.scores(rows)  # (s, r)
            top = found.amax(0)
            best = torch.where(top > before, (found == top).to(torch.uint8).argmax(0), -1)  # of equals the first
            for number in torch.unique(best).tolist():
                if number >= 0:
                    chosen = torch.nonzero(best == number)[:, 0]
                    self._point.index_copy_(0, owner[chosen], some.points[number][rows[chosen]])
            self._score.index_copy_(0, owner, torch.maximum(before, top))

    def _keep_best(self, score: Tensor, x_adv: Tensor) -> None:
        """Keep the points that are better, of several rows of a sample the best, and of equals the first."""
        self._settle()
        top = self._score.scatter_reduce(0, self.owner, score, "amax")
        row = torch.arange(len(score), device=score.device)
        winner = (score == top[self.owner]) & (score > self._score[self.owner])
        chosen = torch.full_like(self._score, len(row), dtype=torch.int64)
        chosen.scatter_reduce_(0, self.owner, torch.where(winner, row, len(row)), "amin")  # the first of equals
        better = (chosen < len(row))[:, None, None, None]
        self._point = torch.where(better, x_adv[chosen.clamp(max=len(row) - 1)], self._point)
        self._score = top


def scores(goal: Goal, logits: Tensor, margin: Tensor | None = None) -> Tensor:
    """What points are compared by (R,), in float32: their margins, and of ties that which reaches the goal is better.

    None is infinity, which says that a sample has left.

    Args:
        goal: of the rows.
        logits: (R, K).
        margin: theirs (R,), where it is known.
    """
    margin = goal.margin(logits) if margin is None else margin
    score = margin.float().nan_to_num(nan=-torch.inf, neginf=-torch.inf)
    return score.masked_fill((score == 0) & goal.reached(logits), torch.finfo(score.dtype).tiny)
