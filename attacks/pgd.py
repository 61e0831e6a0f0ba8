"""Projected gradient ascent in the ball: the field's plain, strong first attack.

    x_{t+1} = project(x_t + step(grad_x loss(x_t)))

from a random point of the ball, several times if asked. `momentum` m accumulates normalised gradients,
g <- m * g + grad / mean|grad|, per sample, as MI-FGSM does.

Sources: Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018 (arXiv 1706.06083);
Dong et al., "Boosting adversarial attacks with momentum", CVPR 2018 (arXiv 1710.06081); the sparse step in L1 from
Tramer and Boneh, NeurIPS 2019 (arXiv 1904.13000).
Departures: the best point met is returned, not the last one; the last one is judged too. Restarts share a batch, as
`attacks.side_by_side` says. With `early_stop` a sample leaves the batch once an iterate reaches the goal, also after
rounding to 8 bits. Of a network that answers roughly (`attacks.base.Rough`) nothing is believed but what it confirms,
and the last tenth of the steps, in which the margins are compared, is left to the exact one. After the first steps
it is looked every so often who has hit, since to look costs a small network as much as a step, and from the beginning
where a question waits for the device (`attacks.asking`). What an exact network says in between counts all the same;
what a rough one says does not, so that it is looked at in each step where no question waits. Where one does, steps in
Linf without momentum are recorded and replayed, if the network offers it.
Cost: at most restarts * (steps + 1) forwards, plus one for each iterate found adversarial, and
restarts * steps backwards per sample; fewer for a sample that leaves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from attacks import asking
from attacks.base import Logits, State, exact, is_rough, record, rows
from attacks.best import Best, scores
from attacks.goal import Goal
from attacks.losses import logits_and_gradient, loss_named
from attacks.region import Region
from attacks.rng import Rng
from attacks.side_by_side import searches
from attacks.threat import ThreatModel, parse_eps

_LAST_STEP = 1 / 16  # where the default step length ends, as a share of eps
_EAGER, _EVERY = 8, 4  # steps at the beginning in which most samples leave; after them it is looked every so often
_EXACT = 1 / 10  # share of the steps, the last ones, that rounded gradients are not good enough for


@dataclass(frozen=True)
class PGD:
    """Projected gradient descent on the negative loss.

    Attributes:
        steps: gradient steps per restart.
        step_size: length of every step in the norm, in box units (such as 2/255), as in the papers. None lets it
            fall from eps, a fast gradient step, to eps / 16 in equal ratios: on adversarially trained networks this
            broke 1 to 3 points more of held-out images than the best constant length.
        restarts: starting points; the worst case over them counts, sample by sample.
        random_start: start at a random point of the ball; else the first restart starts at the image.
        momentum: 0 for none; MI-FGSM uses 1.
        loss: `ce`, `margin` or `logit`, the logit of the class alone.
        spread: L1 only: the share of the coordinates that a step is spread over; 0 for one at a time.
        early_stop: a sample leaves once it is fooled, which is what a measurement of robust accuracy wants. Without
            it the search goes on to the largest margin, which transfers better. None leaves the choice to the run;
            called directly it means True.
    """

    norms: ClassVar[frozenset[str]] = frozenset({"l1", "l2", "linf"})
    minimal: ClassVar[bool] = False
    bears_rounding: ClassVar[bool] = True

    steps: int = 40
    step_size: str | None = None
    restarts: int = 1
    random_start: bool = True
    momentum: float = 0.0
    loss: str = "ce"
    spread: float = 0.02
    early_stop: bool | None = None

    def __post_init__(self) -> None:
        loss_named(self.loss)
        if self.steps < 1:
            raise ValueError(f"steps: must be at least 1, got {self.steps}")
        if self.restarts < 1:
            raise ValueError(f"restarts: must be at least 1, got {self.restarts}")
        if self.restarts > 1 and not self.random_start:
            raise ValueError("restarts: must be 1 without random_start, since every restart would be the same")
        if not self.momentum >= 0.0:
            raise ValueError(f"momentum: must be >= 0, got {self.momentum:g}")
        if not 0.0 <= self.spread <= 1.0:
            raise ValueError(f"spread: must be a share of the coordinates in [0, 1], got {self.spread:g}")
        if self.step_size is not None and not parse_eps(self.step_size) > 0:
            raise ValueError(f"step_size: must be > 0 in box units, got {self.step_size}")

    def __call__(self, logits: Logits, x: Tensor, goal: Goal, threat: ThreatModel, *, rng: Rng) -> Tensor:
        """Per sample the candidate (B, C, H, W) with the largest margin over all steps and restarts."""
        x = x.detach()
        best = Best(x, threat, leave=self.early_stop is not False)
        for some in searches(logits, x, goal, rng, best.unbroken, restarts=self.restarts, targets=0):
            best.begin(some)
            origin = best.images(x)
            start = threat.random_start(origin, some.rng) if self.random_start else origin
            self._ascend(logits, origin, start, goal, threat, best)
        return best.point

    def _length(self, step: int, eps: float) -> float:
        """Length of step number `step`, in box units."""
        if self.step_size is not None:
            return parse_eps(self.step_size)
        return eps * float(_LAST_STEP ** (step / self.steps))

    def _ascend(
        self, logits: Logits, origin: Tensor, x_adv: Tensor, goal: Goal, threat: ThreatModel, best: Best
    ) -> None:
        """One search from each start `x_adv` (R, C, H, W), around `origin` (R, C, H, W) of the samples `best.owner`."""
        loss = loss_named(self.loss)
        spread = self.spread * origin[0].numel()
        region = Region.around(origin, threat)
        velocity: Tensor | None = None
        period = asking.period(x_adv)
        quick = self.steps - math.ceil(self.steps * _EXACT)
        here, network, rough = goal[best.owner], rows(logits, best.owner), is_rough(logits)
        replays, step = asking.waits(x_adv) and self.momentum == 0 and region.cube is not None, 0
        while step < self.steps:
            if step == quick:
                network, rough = exact(network), False
            unasked = range(step, self._asked(step, quick, period))
            if replays and len(unasked) > 0:
                ahead = self._replayed(
                    network, rough, x_adv, here, region, best, [self._length(k, threat.eps) for k in unasked]
                )
                replays = ahead is not None
                if ahead is not None:
                    x_adv, step = ahead, unasked.stop
                    continue
            z, gradient = logits_and_gradient(network, x_adv, loss, here)
            going = best.update(z, x_adv, here, network, rough, self._asks(step, period, rough))
            if going is not None:
                going = torch.nonzero(going)[:, 0]  # asked once, for all that follows
                x_adv, gradient = x_adv[going], gradient[going]
                velocity = None if velocity is None else velocity[going]
                if len(x_adv) == 0:
                    return
                region.keep(going)
                here, network = goal[best.owner], rows(logits if step < quick else exact(logits), best.owner)
            if self.momentum > 0:
                gradient = gradient / gradient.abs().mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-30)
                velocity = gradient if velocity is None else self.momentum * velocity + gradient
                gradient = velocity
            x_adv = region.step(x_adv, gradient, self._length(step, threat.eps), spread)
            step += 1
        with torch.no_grad():
            z = network(x_adv)  # the last point needs no gradient, but a judgement
        best.update(z, x_adv, here, network)

    @staticmethod
    def _asks(step: int, period: int, rough: bool) -> bool:
        """Whether it is looked who has hit: by number of the step alone, so that no sample depends on another."""
        if period == 1 and not rough and step >= _EAGER:
            period = _EVERY
        return (step + 1) % period == 0

    def _asked(self, step: int, quick: int, period: int) -> int:
        """The next step, from this one on, at which something is asked, or at which the network becomes another."""
        end = quick if step < quick else self.steps
        return end if self.early_stop is False else min(step + period - 1 - step % period, end)

    def _replayed(
        self,
        network: Logits,
        rough: bool,
        x_adv: Tensor,
        goal: Goal,
        region: Region,
        best: Best,
        lengths: Sequence[float],
    ) -> Tensor | None:
        """The points after steps of these lengths, each replayed as one; None where the network offers no recording."""
        assert region.cube is not None
        low, high = region.cube
        score = torch.full_like(x_adv[:, 0, 0, 0], -torch.inf)
        state = {"x_adv": x_adv, "low": low, "high": high, "length": score.new_zeros(()), "labels": goal.labels}
        if goal.targets is not None:
            state["targets"] = goal.targets
        if not rough:
            state |= {"score": score, "point": x_adv}
        recording = record(network, _Step(self.loss), state)
        if recording is None:
            return None
        for length in lengths:
            recording.state["length"].fill_(length)
            recording.replay()
        if not rough:  # margins that are rounded are not believed
            best.hold(recording.state["score"].clone(), recording.state["point"].clone())
        return recording.state["x_adv"].clone()


@dataclass(frozen=True)
class _Step:
    """A step in Linf as it is recorded, with the best point met, by its margin, where the state has one."""

    loss: str

    def __call__(self, network: Logits, state: State) -> None:
        goal = Goal.unchecked(state["labels"], state.get("targets"))
        x_adv = state["x_adv"]
        z, gradient = logits_and_gradient(network, x_adv, loss_named(self.loss), goal)
        if "score" in state:
            score = scores(goal, z)
            better = (score > state["score"])[:, None, None, None]
            state["point"].copy_(torch.where(better, x_adv, state["point"]))
            state["score"].copy_(torch.maximum(score, state["score"]))
        moved = torch.sign(gradient).mul_(state["length"]).add_(x_adv)
        x_adv.copy_(moved.clamp_(state["low"], state["high"]))
