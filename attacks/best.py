"""The best point per sample, where several searches of one sample share a batch and samples leave it.

A sample leaves once a point of it reaches the goal, also after rounding to 8 bits; all its searches end with it. Where
answers come roughly with gradients (`attacks.base.Rough`), the exact network confirms both, and no margin is believed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from attacks import asking
from attacks.base import Logits, is_rough, rows
from attacks.goal import Goal
from attacks.side_by_side import Searches
from attacks.threat import ThreatModel, quantize

_HELD = 1 << 25  # bytes of points, and of what was told of them, that are kept until the best of them are copied


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
        self._recent: list[Tensor] = []  # the last points (R, C, H, W), not looked through yet
        self._told: list[Tensor] = []  # of each its scores (R,), or its logits (R, K), which have scores
        self._goal: Goal | None = None  # of the rows of those points, where it is logits
        self.owner = self._whose = torch.arange(len(x), device=x.device)  # of the rows now, and of those points
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

    def unbroken(self) -> Tensor:
        """The samples that have not left, (b,)."""
        return torch.nonzero(self.score < torch.inf)[:, 0]

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
        if len(found) == 0 and self._late(x_adv):  # nobody asks by how much yet
            self._later(z.clone(), x_adv, goal)  # a network may answer in memory that it answers in again
            return None
        if rough:
            return self._take(torch.full_like(z[:, 0], -torch.inf), found, x_adv, goal, network, rough=True)
        return self._take(scores(goal, z, margin), found, x_adv, goal, network)

    def hold(self, score: Tensor, x_adv: Tensor) -> None:
        """Keep what is better: points (R, C, H, W) with their margins (R,) of the exact network, -infinity for none."""
        self._keep_better(score.to(self._score.dtype), x_adv)

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
        self, score: Tensor, found: Tensor, x_adv: Tensor, goal: Goal, network: Logits, *, rough: bool = False
    ) -> Tensor | None:
        """Keep what is better; the rows `found` (f,) hit, by a `rough` answer, or by one that needs no confirmation."""
        score = score.to(self._score.dtype)  # of float64 images it may come in float64
        if len(found) > 0:
            wanted = goal[found]
            confirmed = wanted.reached(self._asked(network, found, quantize(x_adv[found], self._box)))
            if rough:
                confirmed &= wanted.reached(self._asked(network, found, x_adv[found]))
            done = torch.zeros_like(score, dtype=torch.bool).index_copy(0, found, confirmed)
            score = torch.where(done, torch.inf, score)
        self._keep_better(score, x_adv)
        if len(found) == 0:
            return None
        going = (score if self.alone else self._score[self.owner]) < torch.inf
        self.owner = self.owner[going]
        return going

    def _keep_better(self, score: Tensor, x_adv: Tensor) -> None:
        (self._keep if self.alone else self._keep_best)(score, x_adv)

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

    def _later(self, told: Tensor, x_adv: Tensor, goal: Goal | None = None) -> None:
        """Keep points with their scores (R,), or logits (R, K) of a goal, until others have rows, or there are many."""
        if self._whose is not self.owner or self._goal is not goal:
            self._settle()
        self._whose, self._goal = self.owner, goal
        self._recent.append(x_adv)
        self._told.append(told)
        if len(self._recent) * (x_adv.nbytes + told.nbytes) >= _HELD:
            self._settle()

    def _keep(self, score: Tensor, x_adv: Tensor) -> None:
        """Keep the points that are better, one a sample."""
        if self._late(x_adv):
            self._later(score, x_adv)
            return
        self._settle()
        before = self._score[self.owner]
        better = score > before
        self._score = self._score.index_copy(0, self.owner, torch.maximum(score, before))
        kept = torch.where(better[:, None, None, None], x_adv, self._point[self.owner])
        self._point = self._point.index_copy(0, self.owner, kept)

    def _settle(self) -> None:
        """Look through the last points: most searches get better with most steps, and are copied once in many."""
        if not self._recent:
            return
        points, told, owner = self._recent, self._told, self._whose
        self._recent, self._told = [], []
        found = torch.stack(told) if told[0].ndim == 1 else self._scores(told)  # (s, R)
        before, top = self._score[owner], found.amax(0)
        best = torch.where(top > before, (found == top).to(torch.uint8).argmax(0), -1)  # of equals the first
        for number, x_adv in enumerate(points):
            some = torch.nonzero(best == number)[:, 0]
            if len(some) > 0:
                self._point.index_copy_(0, owner[some], x_adv[some])
        self._score = self._score.index_copy(0, owner, torch.maximum(before, top))

    def _scores(self, logits: list[Tensor]) -> Tensor:
        """Scores (s, R) of the logits (R, K) of several points."""
        assert self._goal is not None
        row = torch.arange(len(logits[0]), device=self._point.device).repeat(len(logits))
        return scores(self._goal[row], torch.cat(logits)).view(len(logits), -1)

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
