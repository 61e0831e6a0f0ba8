"""The best point per sample, where several searches of one sample share a batch and samples leave it.

A sample leaves once a point of it reaches the goal, also after rounding to 8 bits; all its searches end with it. Where
answers come roughly with gradients (`attacks.base.Rough`), the exact network confirms both, and no margin is believed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from attacks.base import Logits, is_rough, rows
from attacks.goal import Goal
from attacks.side_by_side import Searches
from attacks.threat import ThreatModel, quantize

_HELD = 1 << 23  # bytes of points that are kept until the best of them are copied


class Best:
    """The best point per sample, and which sample each row of the batch belongs to.

    Attributes:
        score: of `point`, (B,), -infinity before; infinity once the sample has left.
        owner: sample (R,) of each row.
        alone: whether no sample has several rows.
    """

    def __init__(self, x: Tensor, threat: ThreatModel, *, leave: bool) -> None:
        self._point = x.clone()
        self._recent: list[Tensor] = []  # the last points (B, C, H, W), not looked through yet
        self._from = torch.zeros(len(x), dtype=torch.int64, device=x.device)  # of which is the best: 1, 2, ...; or 0
        self.score = torch.full((len(x),), -torch.inf, device=x.device)
        self.owner = torch.arange(len(x), device=x.device)
        self.alone = True
        self._box = threat.box
        self._leave = leave

    @property
    def point(self) -> Tensor:
        """The best points (B, C, H, W); the images themselves before there are better ones."""
        self._settle()
        return self._point

    @point.setter
    def point(self, point: Tensor) -> None:
        self._point = point

    def begin(self, some: Searches) -> None:
        """Rows are those of these searches from here on."""
        self.owner, self.alone = some.owner, some.alone

    def unbroken(self) -> Tensor:
        """The samples that have not left, (b,)."""
        return torch.nonzero(self.score < torch.inf)[:, 0]

    def update(self, z: Tensor, x_adv: Tensor, goal: Goal, network: Logits, rough: bool | None = None) -> Tensor | None:
        """Keep the point with the largest margin; of a network that answers roughly, those alone that are confirmed.

        Args:
            z: logits (R, K) at the points.
            x_adv: points (R, C, H, W).
            goal: of the rows.
            network: for the rows; called on those that hit.
            rough: whether it answers roughly; None: it is asked.

        Returns:
            The rows (R,), bool, that go on, or None when all do.
        """
        margin = goal.margin(z)
        found = self.owner[:0]
        if self._leave:
            found = torch.nonzero(margin >= 0)[:, 0]
            found = found[goal[found].reached(z[found])] if len(found) > 0 else found
        if is_rough(network) if rough is None else rough:
            return self._take(torch.full_like(margin, -torch.inf), found, x_adv, goal, network, rough=True)
        return self._take(margin.nan_to_num(nan=-torch.inf, neginf=-torch.inf), found, x_adv, goal, network)

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
        score = score.to(self.score.dtype)  # of float64 images it may come in float64
        if len(found) > 0:
            wanted = goal[found]
            confirmed = wanted.reached(self._asked(network, found, quantize(x_adv[found], self._box)))
            if rough:
                confirmed &= wanted.reached(self._asked(network, found, x_adv[found]))
            score = score.index_put((found[confirmed],), score.new_tensor(torch.inf))
        if self.alone:
            self._keep(score, x_adv)
        else:
            self._keep_best(score, x_adv)
        if len(found) == 0:
            return None
        going = self.score[self.owner] < torch.inf
        self.owner = self.owner[going]
        return going

    @staticmethod
    @torch.no_grad()
    def _asked(network: Logits, found: Tensor, x: Tensor) -> Tensor:
        """Logits (f, K) of the points `x` (f, C, H, W) of the rows `found` (f,)."""
        return rows(network, found)(x)

    def _keep(self, score: Tensor, x_adv: Tensor) -> None:
        """Keep the points that are better, one a sample."""
        whole = len(score) == len(self.score)  # each sample has its row, in order
        before = self.score if whole else self.score[self.owner]
        better, best = score > before, torch.maximum(score, before)
        self.score = best if whole else self.score.index_copy(0, self.owner, best)
        if x_adv.device.type != "cpu":  # where to count them would mean to wait for the device
            kept = torch.where(better[:, None, None, None], x_adv, self.point if whole else self.point[self.owner])
            self.point = kept if whole else self.point.index_copy(0, self.owner, kept)
        elif whole:
            self._recent.append(x_adv)
            self._from = torch.where(better, len(self._recent), self._from)
            if len(self._recent) * x_adv.nbytes >= _HELD:
                self._settle()
        else:
            self._settle()
            some = torch.nonzero(better)[:, 0]
            self._point.index_copy_(0, self.owner[some], x_adv[some])

    def _settle(self) -> None:
        """Copy the best of the last points: most searches get better with most steps, and are copied once in many."""
        if not self._recent:
            return
        for number, points in enumerate(self._recent, 1):
            some = torch.nonzero(self._from == number)[:, 0]
            if len(some) > 0:
                self._point.index_copy_(0, some, points[some])
        self._recent.clear()
        self._from = torch.zeros_like(self._from)

    def _keep_best(self, score: Tensor, x_adv: Tensor) -> None:
        """Keep the points that are better, of several rows of a sample the best, and of equals the first."""
        top = self.score.scatter_reduce(0, self.owner, score, "amax")
        row = torch.arange(len(score), device=score.device)
        winner = (score == top[self.owner]) & (score > self.score[self.owner])
        chosen = torch.full_like(self.score, len(row), dtype=torch.int64)
        chosen.scatter_reduce_(0, self.owner, torch.where(winner, row, len(row)), "amin")  # the first of equals
        better = (chosen < len(row))[:, None, None, None]
        self.point = torch.where(better, x_adv[chosen.clamp(max=len(row) - 1)], self.point)
        self.score = top
