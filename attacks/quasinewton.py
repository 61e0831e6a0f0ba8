"""Limited-memory BFGS with bounds, for a batch of independent problems side by side.

Row by row it minimises

    F(x) = f(x) + c ||x||^2,    low <= x <= high,

where f comes with its gradient and the quadratic part, which may be absent (c = 0), is treated exactly: the initial
inverse Hessian is that of the quadratic, 1 / (2c), and the history keeps differences of the gradient of f alone, so
that a pair (s, dg) serves any c as (s, y = 2c s + dg). A row may thus change its c and keep all it has learnt.

Each step evaluates f once for every row that still runs, whatever it is doing: a first trial along a new direction,
or a shorter one. All decisions are made per row and by selection (`torch.where`), so that no row, not even one whose
values are NaN, touches another.

Source: Nocedal and Wright, Numerical Optimization, 2nd ed. 2006, algorithm 7.4 (with `attacks.twoloop`)
and section 3.5 (backtracking with interpolation); Bertsekas, "Projected Newton methods for optimization problems with
simple constraints", SIAM J. Control Optim. 20 (1982), for the bounds: coordinates at a bound that the gradient pushes
outward are held, the recursion runs on the others, and the search follows the projected path.
Departures: L-BFGS-B (Byrd, Lu, Nocedal and Zhu 1995) finds a Cauchy point first and enforces the strong Wolfe
condition; here Armijo's alone holds, and a pair whose curvature is not positive is passed over.
Cost: one evaluation of f with its gradient a step and row; memory (2 memory + 6) D numbers a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import IntEnum

import torch
from torch import Tensor

from attacks.twoloop import inverse_hessian_times

Objective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(points (b, D), rows (b,) int64 that they belong to) -> values (b,) of f and gradients (b, D)."""

_ARMIJO = 1e-4
_SHORTEST, _LONGEST = 0.1, 0.5  # an interpolated step is kept within these fractions of the rejected one


class Reason(IntEnum):
    """Why a row stopped."""

    RUNNING = 0
    CONVERGED = 1  # the projected gradient or the last decrease is below its tolerance
    STALLED = 2  # no step along the steepest descent lowers F
    EXHAUSTED = 3  # no evaluations left
    INVALID = 4  # f or its gradient is not finite at the start


@dataclass(frozen=True)
class Settings:
    """Constants of the search.

    Attributes:
        memory: pairs (s, dg) kept per row, m.
        decrease: a row has converged when a step lowers F by at most this part of |F|.
        gradient: or when no coordinate would move by more than this in a projected gradient step of length
            1 / (2c), or of length 1 where c = 0; in units of x.
        trials: step lengths tried along one direction before the history is dropped, and then the row.
    """

    memory: int = 8
    decrease: float = 1e-9
    gradient: float = 1e-6
    trials: int = 12

    def __post_init__(self) -> None:
        if self.memory < 1 or self.trials < 1:
            raise ValueError(f"quasinewton: memory and trials must be >= 1, got {self.memory}, {self.trials}")
        if self.decrease < 0 or self.gradient < 0:
            raise ValueError(f"quasinewton: tolerances must be >= 0, got {self.decrease:g}, {self.gradient:g}")


@dataclass
class Rows:
    """The state of b searches: `trial` is what each asks about, and `tell` gives it the answer.

    Attributes:
        low, high: bounds (b, D).
        c: weight (b,) of the quadratic part.
        point: iterate (b, D).
        value, grad: f (b,) and its gradient (b, D) at `point`; infinity and 0 before the first answer.
        trial: the point (b, D) to be evaluated next; equals `point` in rows that have stopped.
        reason: (b,) int64, see `Reason`.
        evaluations: answers taken (b,).
        direction, step, tries: of the line search, (b, D), (b,), (b,).
        s, dg: pairs, in a ring per row (b, m, D).
        pairs: pairs ever stored since the history was last dropped (b,); the next goes to slot `pairs % m`.
    """

    low: Tensor
    high: Tensor
    c: Tensor
    point: Tensor
    value: Tensor
    grad: Tensor
    trial: Tensor
    reason: Tensor
    evaluations: Tensor
    direction: Tensor
    step: Tensor
    tries: Tensor
    s: Tensor
    dg: Tensor
    pairs: Tensor

    @classmethod
    def start(cls, point: Tensor, low: Tensor, high: Tensor, c: Tensor, settings: Settings) -> Rows:
        """Searches that begin at `point` (b, D), moved inside the bounds."""
        point = torch.minimum(torch.maximum(point, low), high)
        number, dim = point.shape
        history = point.new_zeros(number, settings.memory, dim)
        count = torch.zeros(number, dtype=torch.int64, device=point.device)
        return cls(
            low, high, c, point, torch.full_like(c, torch.inf), torch.zeros_like(point), point, count, count,
            torch.zeros_like(point), torch.ones_like(c), count, history, history.clone(), count,
        )  # fmt: skip

    @property
    def running(self) -> Tensor:
        """Rows (b,) that still search."""
        return self.reason == Reason.RUNNING

    @property
    def total(self) -> Tensor:
        """F (b,) at `point`."""
        return self.value + self.c * self.point.square().sum(1)

    def take(self, index: Tensor) -> Rows:
        """The searches of the rows `index`, int64 or bool."""
        return Rows(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def reweigh(self, rows: Tensor, c: Tensor, settings: Settings) -> None:
        """Go on with another `c` (b,) in `rows` (b,) bool, from where they are and with what they know."""
        self.c = torch.where(rows, c, self.c)
        revived = rows & torch.isfinite(self.value)
        self.reason = torch.where(revived, int(Reason.RUNNING), self.reason)
        self._turn(revived, settings)

    def move(self, rows: Tensor, point: Tensor) -> None:
        """Begin again at `point` (b, D), with no history, in `rows` (b,) bool."""
        inside = torch.minimum(torch.maximum(point, self.low), self.high)
        self.point = torch.where(rows[:, None], inside, self.point)
        self.trial = torch.where(rows[:, None], inside, self.trial)
        self.grad = torch.where(rows[:, None], 0.0, self.grad)
        self.value = torch.where(rows, torch.inf, self.value)
        self.pairs = torch.where(rows, 0, self.pairs)
        self.tries = torch.where(rows, 0, self.tries)
        self.reason = torch.where(rows, int(Reason.RUNNING), self.reason)

    def tell(self, value: Tensor, grad: Tensor, asked: Tensor, settings: Settings) -> Tensor:
        """Take f (b,) and its gradient (b, D) at `trial`, in the rows `asked` (b,) bool.

        Returns:
            Rows (b,) whose trial became their point.
        """
        asked = asked & self.running
        self.evaluations = self.evaluations + asked
        first = torch.isinf(self.value)
        finite = torch.isfinite(value) & torch.isfinite(grad).all(1)
        before = self.total
        after = value + self.c * self.trial.square().sum(1)
        s = self.trial - self.point  # (b, D)
        slope = (s * (self.grad + 2 * self.c[:, None] * self.point)).sum(1)  # first-order change of F
        noise = 4 * torch.finfo(value.dtype).eps * before.abs()
        enough = first | (after <= before + _ARMIJO * slope.clamp(max=0) + noise)
        accepted = asked & finite & enough
        self._remember(accepted & ~first, s, grad - self.grad)

        decrease = before - after
        small = ~first & (decrease <= settings.decrease * before.abs())
        taken = accepted[:, None]
        self.point = torch.where(taken, self.trial, self.point)
        self.grad = torch.where(taken, grad, self.grad)
        self.value = torch.where(accepted, value, self.value)

        rejected = asked & ~accepted
        # The minimum of the parabola through F and its slope at the point and F at the trial.
        fraction = torch.where(finite, -slope / (2 * (-decrease - slope)), _SHORTEST)
        fraction = torch.nan_to_num(fraction, nan=_LONGEST).clamp(_SHORTEST, _LONGEST)
        self.step = torch.where(rejected, self.step * fraction, self.step)
        self.tries = torch.where(accepted, 0, self.tries + rejected)

        failed = rejected & (self.tries >= settings.trials)
        stalled = failed & (self.pairs == 0)
        again = failed & (self.pairs > 0)  # the history may be to blame
        self.pairs = torch.where(again, 0, self.pairs)
        self.tries = torch.where(again, 0, self.tries)
        self._stop(rejected & first, Reason.INVALID)
        self._stop(stalled & ~first, Reason.STALLED)
        self._stop(accepted & small, Reason.CONVERGED)
        self._turn(accepted | again, settings)
        return accepted

    def _stop(self, rows: Tensor, reason: Reason) -> None:
        self.reason = torch.where(rows & self.running, int(reason), self.reason)

    def _remember(self, rows: Tensor, s: Tensor, dg: Tensor) -> None:
        """Store the pairs (b, D) whose curvature is positive, each in its row's oldest slot."""
        length = s.square().sum(1)
        curvature = (s * dg).sum(1) + 2 * self.c * length
        kept = rows & (curvature > 0) & (length > 0)
        row = torch.arange(len(s), device=s.device)
        slot = self.pairs % self.s.shape[1]
        self.s[row, slot] = torch.where(kept[:, None], s, self.s[row, slot])
        self.dg[row, slot] = torch.where(kept[:, None], dg, self.dg[row, slot])
        self.pairs = self.pairs + kept

    def _turn(self, rows: Tensor, settings: Settings) -> None:
        """Give the rows (b,) a new direction, test them for convergence, and place the next trial of every row."""
        gradient = self.grad + 2 * self.c[:, None] * self.point
        held = ((self.point <= self.low) & (gradient > 0)) | ((self.point >= self.high) & (gradient < 0))
        free = torch.where(held, 0.0, gradient)
        own = torch.where(self.c > 0, 0.5 / self.c, 1.0)  # inverse Hessian of the quadratic part
        projected = torch.minimum(torch.maximum(self.point - own[:, None] * free, self.low), self.high)
        still = (projected - self.point).abs().amax(1) <= settings.gradient
        self._stop(rows & still, Reason.CONVERGED)

        descent = -inverse_hessian_times(free, ~held, own, self.s, self.dg, self.c, self.pairs)
        downhill = (descent * free).sum(1) < 0
        descent = torch.where(downhill[:, None], descent, -own[:, None] * free)
        blind = (self.pairs == 0) & (self.c == 0)  # nothing tells how far to go
        longest = free.norm(dim=1).clamp(min=1e-30).reciprocal().clamp(max=1.0)
        self.direction = torch.where(rows[:, None], descent, self.direction)
        self.step = torch.where(rows, torch.where(blind, longest, 1.0), self.step)
        self.tries = torch.where(rows, 0, self.tries)
        ahead = self.point + self.step[:, None] * self.direction
        ahead = torch.minimum(torch.maximum(ahead, self.low), self.high)
        moving = self.running & torch.isfinite(self.value)
        self.trial = torch.where(moving[:, None], ahead, self.point)


@dataclass(frozen=True)
class Result:
    """What `minimise` found.

    Attributes:
        point: (B, D).
        value: F (B,).
        reason: why each row stopped (B,) int64, see `Reason`.
        evaluations: of f, per row (B,) int64.
    """

    point: Tensor
    value: Tensor
    reason: Tensor
    evaluations: Tensor


def minimise(
    f: Objective,
    start: Tensor,
    low: Tensor,
    high: Tensor,
    *,
    c: Tensor | None = None,
    evaluations: int = 200,
    settings: Settings | None = None,
) -> Result:
    """Minimise f(x) + c ||x||^2 inside the bounds, row by row.

    Args:
        f: the objective; is called with the points and numbers of the rows that still run.
        start: first points (B, D).
        low: least values (B, D); may be -infinity.
        high: greatest values (B, D); may be infinity.
        c: weight (B,) of the quadratic part; none without it.
        evaluations: most evaluations of f a row.
        settings: constants of the search.
    """
    settings = settings or Settings()
    c = start.new_zeros(len(start)) if c is None else c
    rows = Rows.start(start, low, high, c, settings)
    index = torch.arange(len(start), device=start.device)
    done: list[tuple[Tensor, Rows]] = []
    for _ in range(evaluations):
        going = rows.running
        count = int(going.sum())
        if count == 0:
            break
        if 4 * (len(index) - count) >= len(index):
            done.append((index[~going], rows.take(~going)))
            rows, index = rows.take(going), index[going]
            going = rows.running
        where = going.nonzero()[:, 0]
        value, grad = f(rows.trial[where], index[where])
        values = torch.full_like(rows.value, torch.nan).index_copy(0, where, value)
        grads = torch.zeros_like(rows.grad).index_copy(0, where, grad)
        rows.tell(values, grads, going, settings)
    rows.reason = torch.where(rows.running, int(Reason.EXHAUSTED), rows.reason)
    done.append((index, rows))
    back = torch.cat([i for i, _ in done]).argsort()
    point, value, reason, used = (
        torch.cat(parts)[back]
        for parts in zip(*((r.point, r.total, r.reason, r.evaluations) for _, r in done), strict=True)
    )
    return Result(point, value, reason, used)
