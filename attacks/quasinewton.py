"""Limited-memory BFGS with bounds, for a batch of independent problems side by side.

Row by row this minimises

    F(x) = f(x) + c ||x||^2,    low <= x <= high,

where f comes with its gradient and the quadratic part, which may be absent (c = 0), is treated exactly: the initial
inverse Hessian is that of the quadratic, 1 / (2c), and the history keeps differences of the gradient of f alone, so
that a pair (s, dg) serves any c as (s, y = 2c s + dg). A row may thus change its c and keep all it has learnt.

Each step evaluates f once for every row that runs. All decisions are made per row and by selection (`torch.where`), so
that no row, not even one whose values are NaN, touches another: parts of a batch give the same bits as the whole, if f
does and D numbers fill a multiple of 64 bytes, and else the same to rounding, as matrix products depend on memory.

Source: Nocedal and Wright, Numerical Optimization, 2nd ed. 2006, sections 7.2 (in `attacks.inverse_hessian`) and 3.5
(backtracking with interpolation); Bertsekas, "Projected Newton methods for optimization problems with simple
constraints", SIAM J. Control Optim. 20 (1982), for the bounds: coordinates at a bound that the gradient pushes outward
are held, the quasi-Newton step is that of the others, and the search follows the projected path.
Departures: L-BFGS-B (Byrd, Lu, Nocedal and Zhu 1995) finds a Cauchy point first and enforces the strong Wolfe
condition; here Armijo's alone holds, up to rounding, and a pair whose curvature is not positive is passed over.
Bertsekas also holds coordinates within some distance of a bound; his condition scales the slope by H, ours does not.
Cost: one evaluation of f with its gradient a step and row; memory (2 memory + 11) D numbers a row, where B >= memory
and D >> memory^2: 2 memory for the pairs, 6 for bounds and search, 5 that come and go, f's gradient among them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import IntEnum

import torch
from torch import Tensor

from attacks import asking
from attacks.inverse_hessian import free_coordinates, inverse_hessian_times, refuse_halves

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
        if min(self.memory, self.trials) < 1:
            raise ValueError(f"quasinewton: memory and trials must be >= 1, got {self.memory}, {self.trials}")
        if min(self.decrease, self.gradient) < 0:
            raise ValueError(f"quasinewton: tolerances must be >= 0, got {self.decrease:g}, {self.gradient:g}")


@dataclass
class Rows:
    """The state of b searches: `trial` is what each asks about, and `tell` gives it the answer."""

    low: Tensor  # (b, D) bounds
    high: Tensor  # (b, D)
    c: Tensor  # (b,) weight of the quadratic part
    point: Tensor  # (b, D) iterate
    value: Tensor  # (b,) f at `point`; infinity before the first answer
    grad: Tensor  # (b, D) its gradient; 0 before the first answer
    reason: Tensor  # (b,) int64, see `Reason`
    evaluations: Tensor  # (b,) answers taken
    direction: Tensor  # (b, D) of the line search
    step: Tensor  # (b,)
    tries: Tensor  # (b,)
    history: Tensor  # (b, 2m, D) pairs, in a ring per row: slots of s, then those of dg
    pairs: Tensor  # (b,) ever stored since the history was last dropped; the next goes to slot `pairs % m`
    turning: Tensor  # (b,) rows that need a new direction; found when `trial` is next read
    ahead: Tensor  # (b, D) `trial`
    placed: bool  # whether that is up to date

    @classmethod
    def start(cls, point: Tensor, low: Tensor, high: Tensor, c: Tensor, settings: Settings) -> Rows:
        """Searches that begin at `point` (b, D), moved inside the bounds."""
        point = torch.clamp(point, low, high)
        count = torch.zeros_like(c, dtype=torch.int64)
        history = point.new_zeros(len(point), 2 * settings.memory, point.shape[1])
        return cls(
            low, high, c, point, torch.full_like(c, torch.inf), torch.zeros_like(point), count, count,
            torch.zeros_like(point), torch.ones_like(c), count, history, count, count > 0, point.clone(), True,
        )  # fmt: skip

    @property
    def running(self) -> Tensor:
        """Rows (b,) that still search."""
        return self.reason == Reason.RUNNING

    @property
    def total(self) -> Tensor:
        """F (b,) at `point`."""
        return self.value + self.c * self.point.square().sum(1)

    @property
    def trial(self) -> Tensor:
        """The point (b, D) to be evaluated next; equals `point` in rows that have stopped."""
        if not self.placed:
            self._place()
        return self.ahead

    def keep(self, rows: Tensor) -> None:
        """Go on with the rows (n,) alone, ascending. The history closes up in place, as two would be most of memory."""
        for i in range(0, len(rows), part := len(rows) // 8 + 1):
            some = rows[i : i + part]  # never before the places they move to
            self.history[i : i + len(some)] = self.history[some]
        self.history = self.history[: len(rows)]
        for name in (f.name for f in fields(self)[:-1] if f.name != "history"):
            setattr(self, name, getattr(self, name)[rows])

    def reweigh(self, rows: Tensor, c: Tensor, settings: Settings) -> None:
        """Go on with another `c` (b,) in `rows` (b,) bool, from where they are and with what they know."""
        self.c = torch.where(rows, c, self.c)
        self._turn(rows & torch.isfinite(self.value), settings)

    def tell(self, value: Tensor, grad: Tensor, asked: Tensor, settings: Settings) -> Tensor:
        """Take f (b,) and its gradient (b, D) at `trial` in the rows `asked` (b,); returns which (b,) moved there."""
        trial = self.trial
        asked = asked & self.running
        self.evaluations = self.evaluations + asked
        first = torch.isinf(self.value)
        finite = torch.isfinite(value) & torch.isfinite(grad.amax(1)) & torch.isfinite(grad.amin(1))
        before = self.total
        after = value + self.c * trial.square().sum(1)
        s = trial - self.point  # (b, D)
        slope = (s * self._gradient()).sum(1)  # first-order change of F
        noise = 4 * torch.finfo(value.dtype).eps * before.abs()
        enough = first | (after <= before + _ARMIJO * slope.clamp(max=0) + noise)
        accepted = asked & finite & enough
        self._remember(accepted & ~first, s, grad - self.grad)

        decrease = before - after
        small = ~first & (decrease <= settings.decrease * before.abs())
        self.point = torch.where(accepted[:, None], trial, self.point)
        self.grad = torch.where(accepted[:, None], grad, self.grad)
        self.value = torch.where(accepted, value, self.value)

        rejected = asked & ~accepted
        # The minimum of the parabola through F and its slope at the point and F at the trial.
        fraction = torch.where(finite, -slope / (2 * (-decrease - slope)), _SHORTEST)
        fraction = torch.nan_to_num(fraction, nan=_LONGEST).clamp(_SHORTEST, _LONGEST)
        self.step = torch.where(rejected, self.step * fraction, self.step)
        self.tries = torch.where(accepted, 0, self.tries + rejected)

        failed = rejected & (self.tries >= settings.trials)
        again = failed & (self.pairs > 0)  # the history may be to blame
        self.pairs = torch.where(again, 0, self.pairs)
        self._stop(rejected & first, Reason.INVALID)
        self._stop(failed & ~again & ~first, Reason.STALLED)
        self._stop(accepted & small, Reason.CONVERGED)
        self._turn((accepted | again) & self.running, settings)
        return accepted

    def hear(self, rows: Tensor, value: Tensor, grad: Tensor, settings: Settings) -> Tensor:
        """`tell`, of the rows (n,) int64 alone: f (n,) and its gradient (n, D)."""
        asked = torch.zeros_like(self.turning).index_fill(0, rows, True)
        values = torch.full_like(self.value, torch.nan).index_copy(0, rows, value)
        return self.tell(values, torch.zeros_like(self.grad).index_copy(0, rows, grad), asked, settings)

    def _stop(self, rows: Tensor, reason: Reason) -> None:
        self.reason = torch.where(rows & self.running, int(reason), self.reason)

    def _gradient(self) -> Tensor:
        """Of F at `point` (b, D)."""
        return torch.addcmul(self.grad, self.point, 2 * self.c[:, None])

    def _own(self) -> Tensor:
        """Inverse Hessian of the quadratic part (b,); 1 where there is none."""
        return torch.where(self.c > 0, 0.5 / self.c, 1.0)

    def _remember(self, rows: Tensor, s: Tensor, dg: Tensor) -> None:
        """Store the pairs (b, D) whose curvature is positive, each in its row's oldest slot."""
        length = s.square().sum(1)
        curvature = (s * dg).sum(1) + 2 * self.c * length
        kept = rows & (curvature > 0) & (length > 0)
        row, memory = torch.arange(len(s), device=s.device), self.history.shape[1] // 2
        for vector, slot in ((s, self.pairs % memory), (dg, self.pairs % memory + memory)):
            self.history[row, slot] = torch.where(kept[:, None], vector, self.history[row, slot])
        self.pairs = self.pairs + kept

    def _turn(self, rows: Tensor, settings: Settings) -> None:
        """Let the rows (b,) run on from where they are in a new direction, unless they have converged."""
        ahead = torch.clamp(self._gradient().mul_(-self._own()[:, None]).add_(self.point), self.low, self.high)
        still = ahead.sub_(self.point).abs_().amax(1) <= settings.gradient
        self.reason = torch.where(rows, torch.where(still, int(Reason.CONVERGED), int(Reason.RUNNING)), self.reason)
        self.turning = self.turning | rows
        self.tries = torch.where(rows, 0, self.tries)
        self.placed = False

    def _place(self) -> None:
        """Find new directions where they are needed, and the next trial of every row."""
        gradient, own = self._gradient(), self._own()
        free = free_coordinates(self.point, gradient, self.low, self.high)
        gradient.mul_(free)
        descent = inverse_hessian_times(gradient, free, own, self.history, self.c, self.pairs)
        uphill = ~((descent * gradient).sum(1) > 0)
        descent = torch.where(uphill[:, None], own[:, None] * gradient, descent).neg_()
        blind = (self.pairs == 0) & (self.c == 0)  # nothing tells how far to go
        steepest = gradient.abs().amax(1).clamp(min=1e-30)  # first, as squares may overflow
        longest = (steepest * (gradient / steepest[:, None]).norm(dim=1)).reciprocal().clamp(max=1.0)
        self.direction = torch.where(self.turning[:, None], descent, self.direction)
        self.step = torch.where(self.turning, torch.where(blind, longest, 1.0), self.step)
        self.turning = torch.zeros_like(self.turning)
        moving = self.running & torch.isfinite(self.value)
        ahead = torch.addcmul(self.point, self.direction, self.step[:, None]).clamp_(self.low, self.high)
        self.ahead = torch.where(moving[:, None], ahead, self.point)
        self.placed = True


@dataclass(frozen=True)
class Result:
    """What `minimise` found."""

    point: Tensor  # (B, D)
    value: Tensor  # F (B,)
    reason: Tensor  # why each row stopped (B,) int64, see `Reason`
    evaluations: Tensor  # of f, per row (B,) int64


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
        f: the objective; called with the points and numbers of the rows that run, on CUDA also of some just stopped.
        start: first points (B, D).
        low: least values (B, D); may be -infinity.
        high: greatest values (B, D); may be infinity.
        c: weight (B,) of the quadratic part; none without it.
        evaluations: most evaluations of f a row.
        settings: constants of the search.

    Raises:
        ValueError: a bound above the other, a negative weight, no evaluations, or numbers of less than 32 bits.
    """
    refuse_halves(start, "minimise: points")
    if evaluations < 1:
        raise ValueError(f"minimise: evaluations must be >= 1, got {evaluations}")
    if bool((low > high).any()):
        raise ValueError("minimise: every low must be at most its high, got a box that is empty")
    if c is not None and bool((c < 0).any()):
        raise ValueError(f"minimise: c must be >= 0, got {float(c.min()):g}")
    settings = settings or Settings()
    rows = Rows.start(start, low, high, start.new_zeros(len(start)) if c is None else c, settings)
    index = torch.arange(len(start), device=start.device)
    done: list[tuple[Tensor, ...]] = []
    period = asking.period(start)
    stay = index
    for step in range(evaluations):
        if step % period == 0:
            going = rows.running
            if len(stay := going.nonzero()[:, 0]) == 0:
                break
            if 4 * (len(index) - len(stay)) >= len(index):
                gone = (~going).nonzero()[:, 0]
                done.append(tuple(x[gone] for x in (index, rows.point, rows.total, rows.reason, rows.evaluations)))
                index = index[stay]
                rows.keep(stay)
                stay = torch.arange(len(stay), device=start.device)
        rows.hear(stay, *f(rows.trial[stay], index[stay]), settings)
    rows.reason = torch.where(rows.running, int(Reason.EXHAUSTED), rows.reason)
    done.append((index, rows.point, rows.total, rows.reason, rows.evaluations))
    columns = [torch.cat(column) for column in zip(*done, strict=True)]
    back = columns[0].argsort()
    return Result(*(column[back] for column in columns[1:]))
