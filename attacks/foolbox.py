"""Any attack of Foolbox behind our protocol.

Source: Rauber, Zimmermann, Bethge and Brendel, "Foolbox Native: fast adversarial attacks to benchmark the
robustness of machine learning models", JOSS 2020. Foolbox's documentation names the paper of each attack.
Departures from what Foolbox does by itself:

- Its random numbers come from our streams, one per sample.
- Some attacks couple the samples of a batch: one criterion for stopping, one direction, one norm for all. They
  run row by row, so that no result depends on the batch. `one_by_one=False` runs them as one batch, which is
  faster, and then results do depend on it.
- Boundary and HopSkipJump need a start that reaches the goal, and Foolbox gives the whole batch up where one
  sample has none. Here each sample searches for its own, in noise of several grain sizes, and then goes straight
  towards the image as far as the goal allows.
- A sample for which a minimal attack finds nothing comes back as it was, not black, as noise or as NaN.
- Fixed budgets are kept by our projection, also where Foolbox overruns them (its Linf noise does).
- Whatever the box, Foolbox sees 0..1 (HopSkipJump clips to that): options in pixels are shares of its width.
- An attack that asks for decisions alone ends when the network answers no more (NaN for all rows), with the nearest
  point met that reaches the goal. With `within_budget` it ends with the first one inside the ball.

Cost: that of the attack; 1 forward more for a minimal one; at most 10 + `starts` forwards more for a start.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from attacks.base import Logits, rows
from attacks.foolbox_bridge import UnitModel, from_unit, stream_tensor, to_unit
from attacks.foolbox_catalogue import (
    BLACK_ON_FAILURE,
    DECISIONS,
    STARTED,
    UNTARGETED,
    by_norm,
    couples,
    library,
)
from attacks.goal import Goal
from attacks.rng import Rng
from attacks.threat import ThreatModel

_BISECTION_STEPS = 8
_GRAINS = 4  # noise for starts: each pixel by itself, blocks of 2, of 4 and of 8


def _per_image(mask: Tensor) -> Tensor:
    return mask[:, None, None, None]


@dataclass(frozen=True)
class _Task:
    """The arguments of an attack, so that rows of all of them are taken together."""

    logits: Logits
    x: Tensor
    goal: Goal
    threat: ThreatModel
    rng: Rng

    def rows(self, index: Tensor) -> _Task:
        if len(index) == len(self.x):
            return self
        network = rows(self.logits, index)
        return _Task(network, self.x[index], self.goal[index], self.threat, self.rng[index])

    @torch.no_grad()
    def reached(self, unit: Tensor) -> Tensor:
        """Whether the points `unit` (B, C, H, W) in 0..1 reach the goal, (B,)."""
        return self.goal.reached(self.logits(from_unit(unit, self.threat.box)))


class _Enough(Exception):  # noqa: N818 - nothing is wrong
    """Nothing more is to be found: Foolbox is left by this."""


class _Remembered:
    """The network as an attack asks it that sees decisions alone.

    Attributes:
        best: the nearest point (B, C, H, W) met that reaches the goal, in the norm of the threat; else the image.
        size: its distance (B,); infinity where none was met.
    """

    def __init__(self, task: _Task, enough: float) -> None:
        self.best = task.x
        self.size = torch.full((len(task.x),), torch.inf, device=task.x.device)
        self._task, self._enough = task, enough

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W); where there is no answer, the label's.

        Raises:
            _Enough: no row got an answer, or every row has a point as near as is wanted.
        """
        task = self._task
        z = task.logits(x)
        silent = z.isnan().any(1)
        if bool(silent.all()):
            raise _Enough
        near = task.goal.reached(z) & task.threat.inside_box(x) & (task.threat.size(x, task.x) < self.size)
        self.best = torch.where(_per_image(near), x, self.best)
        self.size = torch.where(near, task.threat.size(x, task.x), self.size)
        if bool((self.size <= self._enough).all()):
            raise _Enough
        nothing = torch.zeros_like(z).scatter_(1, task.goal.labels[:, None], 1.0)
        return torch.where(silent[:, None], nothing, z)


@dataclass(frozen=True)
class Foolbox:
    """An attack of Foolbox.

    Attributes:
        attack: our name (`pgd`, `deepfool`, ...) or a class of `foolbox.attacks` (`L2DeepFoolAttack`).
        options: arguments of that class, such as `{"steps": 100}`; the others have Foolbox's defaults.
        one_by_one: run attacks that couple the samples of a batch row by row.
        starts: how many points to try as a start, for attacks that need one.
        within_budget: end with the first point inside the run's ball, in place of searching for the nearest: for
            attacks that search for a minimum and ask for decisions alone.

    Raises:
        ValueError: the attack is unknown or broken in Foolbox; an option is unknown, or refused by the attack.
    """

    attack: str
    options: dict[str, Any] = field(default_factory=dict)
    one_by_one: bool = True
    starts: int = 200
    within_budget: bool = False

    def __post_init__(self) -> None:
        if self.starts < 1:
            raise ValueError(f"Foolbox {self.attack}: starts must be at least 1, got {self.starts}")
        _ = self._searches  # complain at once
        if self.within_budget and not (self._minimises and self.needs == "labels"):
            raise ValueError(
                f"Foolbox {self.attack}: within_budget must be false, as the attack does not search for a minimum by "
                "decisions alone, as boundary and hopskipjump do"
            )

    @cached_property
    def _searches(self) -> dict[str, Any]:
        return by_norm(self.attack, dict(self.options))

    @property
    def norms(self) -> frozenset[str]:
        """Norms that the attack supports; all four where it follows a path that no norm decides."""
        return frozenset(self._searches)

    @property
    def _minimises(self) -> bool:
        kind = library().attacks.base.MinimizationAttack
        return all(isinstance(search, kind) for search in self._searches.values())

    @property
    def minimal(self) -> bool:
        """Whether it searches for the smallest perturbation, without a budget."""
        return self._minimises and not self.within_budget

    @property
    def needs(self) -> str:
        """What it must see of the network: `labels`, or `weights`."""
        return "labels" if all(type(s).__name__ in DECISIONS for s in self._searches.values()) else "weights"

    def __call__(self, logits: Logits, x: Tensor, goal: Goal, threat: ThreatModel, *, rng: Rng) -> Tensor:
        """Candidates (B, C, H, W) in box units.

        Raises:
            ValueError: the attack does not support the norm, or no targeted goal.
        """
        if threat.norm not in self._searches:
            supported = ", ".join(sorted(self.norms))
            raise ValueError(f"Foolbox {self.attack}: threat.norm must be one of {supported}, got {threat.norm}")
        search = self._searches[threat.norm]
        if goal.targets is not None and type(search).__name__ in UNTARGETED:
            raise ValueError(f"Foolbox {self.attack}: must have an untargeted goal, got a targeted one")
        task = _Task(logits, x.detach(), goal, threat, rng)
        run = self._from_start if type(search).__name__ in STARTED else self._run
        size = 1 if self.one_by_one and couples(search) else max(len(x), 1)
        result = task.x.clone()
        every = torch.arange(len(x), device=x.device)
        with warnings.catch_warnings(), torch.enable_grad():
            # Foolbox warns of samples for which it finds nothing; the judge tells.
            warnings.filterwarnings("ignore", module=r"(foolbox|eagerpy|numpy)\.")
            for first in range(0, len(x), size):
                part = every[first : first + size]
                result[part] = run(search, task.rows(part))
        return result

    def _run(self, search: Any, task: _Task, **arguments: Any) -> Tensor:
        """Candidates (B, C, H, W) of one run of Foolbox; `arguments` are those of that attack alone."""
        tensor = stream_tensor(task.rng.fold(1))
        criteria = library().criteria
        if task.goal.targets is None:
            criterion = criteria.Misclassification(tensor(task.goal.labels))
        else:
            criterion = criteria.TargetedMisclassification(tensor(task.goal.targets))
        low, high = task.threat.box
        if not self._minimises:
            arguments["epsilon"] = task.threat.eps / (high - low)
        seen = _Remembered(task, task.threat.eps if self.within_budget else -1.0) if self.needs == "labels" else None
        model = UnitModel(seen or task.logits, task.threat.box, tensor)
        try:
            unit = search.run(model, tensor(to_unit(task.x, task.threat.box)), criterion, **arguments).raw.detach()
        except _Enough:
            return self._ended(task, seen)
        usable = unit.isfinite().flatten(1).all(1)
        x_adv = torch.where(_per_image(usable), from_unit(unit, task.threat.box), task.x).clamp(low, high)
        if self.within_budget:
            return self._ended(task, seen)
        if not self.minimal:
            return task.threat.project(x_adv, task.x)
        with torch.no_grad():
            usable &= task.goal.reached(task.logits(x_adv))
        if type(search).__name__ in BLACK_ON_FAILURE:
            usable &= unit.flatten(1).any(1)
        return torch.where(_per_image(usable), x_adv, task.x if seen is None else seen.best)

    def _ended(self, task: _Task, seen: _Remembered | None) -> Tensor:
        """The nearest points met, inside the ball if there is one."""
        assert seen is not None
        return seen.best if self.minimal else task.threat.project(seen.best, task.x)

    def _from_start(self, search: Any, task: _Task) -> Tensor:
        """`_run` for samples that have a start and are not at the goal already; the others stay as they are."""
        start, found = self._start(task)
        result = task.x.clone()
        index = torch.nonzero(found)[:, 0]
        if len(index) > 0:
            part = task.rows(index)
            points = stream_tensor(part.rng.fold(2))(start[index])
            result[index] = self._run(search, part, starting_points=points)
        return result

    def _start(self, task: _Task) -> tuple[Tensor, Tensor]:
        """Points (B, C, H, W) in 0..1 that reach the goal, and for which samples (B,)."""
        unit = to_unit(task.x, task.threat.box)
        done = task.reached(unit)
        start, found = unit, torch.zeros_like(done)
        channels, height, width = unit.shape[1:]
        for attempt in range(self.starts):
            if bool((found | done).all()):
                break
            grain = 2 ** (attempt % _GRAINS)
            coarse = task.rng.fold(0, attempt).uniform(channels, -(-height // grain), -(-width // grain))
            noise = F.interpolate(coarse.to(unit), size=(height, width))
            hit = task.reached(noise) & ~found & ~done
            start, found = torch.where(_per_image(hit), noise, start), found | hit
        far = start
        near = unit
        for _ in range(_BISECTION_STEPS):
            middle = (near + far) / 2
            hit = _per_image(task.reached(middle))
            near, far = torch.where(hit, near, middle), torch.where(hit, middle, far)
        return far, found & task.reached(far)
