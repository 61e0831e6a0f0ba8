"""The inverse Hessian of limited-memory BFGS times a vector, on the free coordinates, for a batch of histories.

With the steps S = [s_1 .. s_m] and changes of the gradient Y = [y_1 .. y_m], oldest first, and H_0 = gamma I,

    H = gamma I + [S  gamma Y] [ R^-T (D + gamma Y'Y) R^-1    -R^-T ] [ S'       ]
                               [ -R^-1                          0   ] [ gamma Y' ],

where R is the upper triangle of S'Y and D its diagonal. All products of long vectors are one product of matrices, the
rest is arithmetic on m by m numbers; the two-loop recursion (Nocedal and Wright, algorithm 7.4) gives the same vector
by 4 m products that wait for each other.

Source: Byrd, Nocedal and Schnabel, "Representations of quasi-Newton matrices and their use in limited memory methods",
Math. Prog. 63 (1994), equation 3.1; Nocedal and Wright, Numerical Optimization, 2nd ed. 2006, section 7.2.
Departures: S and Y are restricted to the free coordinates. The Hessian 2c I of a quadratic part is exact: it is added
to each pair, y = dg + 2c s, and begins H. A pair without positive curvature on the free coordinates is left out.
Cost: the history is read four times, and 4 m^2 D products a row; memory 3 D numbers a row, and at least the history
of one row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from attacks import asking

_CURVATURE = 1e-6  # least cosine between s and y
_BITS = 32


def refuse_halves(x: Tensor, what: str) -> None:
    """Refuse numbers of less than 32 bits, whose differences tell no curvature; `what` they are begins the line.

    Raises:
        ValueError: they are none of float32 and float64.
    """
    if torch.finfo(x.dtype).bits < _BITS:
        raise ValueError(f"{what} must be float32 or float64, got {x.dtype}; cast them")


def free_coordinates(point: Tensor, gradient: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Coordinates, 1 or 0, that are not at a bound out of which a step against the gradient leads; (b, D) all.

    Numbers, not bools: a CPU multiplies by them many times faster than it selects.
    """
    at, pushed = torch.empty_like(point), torch.empty_like(point)
    held = torch.le(point, low, out=at).mul(torch.gt(gradient, 0, out=pushed))
    held += torch.ge(point, high, out=at).mul_(torch.lt(gradient, 0, out=pushed))
    return held.neg_().add_(1)


def inverse_hessian_times(
    q: Tensor, free: Tensor, initial: Tensor, history: Tensor, c: Tensor, pairs: Tensor
) -> Tensor:
    """The approximate inverse Hessian of the free coordinates times `q`.

    Args:
        q: vectors (b, D), 0 in coordinates that are not free.
        free: coordinates (b, D), 1 or 0 in the type of `q`.
        initial: gamma (b,); where c = 0 and there are pairs the scale of the newest replaces it.
        history: steps s, in a ring per row, then their differences of gradients dg without the quadratic part
            (b, 2m, D); finite, also where nothing has been stored.
        c: weight (b,) of the quadratic part.
        pairs: pairs (b,) ever stored; the newest is in slot (pairs - 1) % m.
    """
    if not asking.waits(q) and not bool(pairs.any()):
        return initial[:, None] * q
    m = history.shape[1] // 2
    age = torch.arange(m, device=q.device)
    slot = (pairs[:, None] + age) % m  # (b, m), oldest first; before those what has not been stored
    slot = torch.cat([slot, slot + m], 1)  # (b, 2m)
    row = torch.arange(len(q), device=q.device)[:, None]
    gram = _gram(history, free)[row[:, :, None], slot[:, :, None], slot[:, None]]  # (b, 2m, 2m)
    sq, gq = (q[:, None] @ history.mT)[:, 0][row, slot].chunk(2, 1)  # (b, m) each
    two_c = 2 * c[:, None]
    ss, sg, gg = gram[:, :m, :m], gram[:, :m, m:], gram[:, m:, m:]
    s_y = sg + two_c[:, :, None] * ss  # S'Y
    y_y = gg + two_c[:, :, None] * (sg.mT + s_y)  # Y'Y
    sy, yy = s_y.diagonal(dim1=1, dim2=2), y_y.diagonal(dim1=1, dim2=2)  # (b, m)
    stored = age >= m - pairs[:, None]
    good = stored & (sy > _CURVATURE * (ss.diagonal(dim1=1, dim2=2) * yy).sqrt())
    newest = (good * (age + 1)).argmax(1, keepdim=True)
    gamma = torch.where((c == 0) & good.any(1), (sy / yy).gather(1, newest)[:, 0], initial)[:, None]  # (b, 1)

    kept = good.to(q.dtype)  # (b, m)
    upper = good[:, :, None] & good[:, None] & (age[:, None] <= age)
    r = torch.where(upper, s_y, 0.0)  # (b, m, m)
    r.diagonal(dim1=1, dim2=2).add_(1 - kept)  # a pair that is left out: the identity's row and column
    u = torch.linalg.solve_triangular(r, (sq * kept)[:, :, None], upper=True)  # R^-1 S'q
    yu, u = (y_y @ u)[:, :, 0], u[:, :, 0]
    v = torch.where(good, sy * u + gamma * (yu - gq - two_c * sq), 0.0)  # D R^-1 S'q + gamma Y'(Y R^-1 S'q - q)
    t = torch.linalg.solve_triangular(r.mT, v[:, :, None], upper=False)[:, :, 0]
    # H q = gamma q + S t - gamma Y u, where Y = dG + 2c S.
    weights = torch.zeros_like(gram[:, 0]).scatter_(1, slot, torch.cat([t - gamma * two_c * u, -gamma * u], 1))
    combined = (weights[:, None] @ history)[:, 0]  # (b, D)
    return combined.mul_(free).addcmul_(q, gamma)


def _gram(history: Tensor, free: Tensor) -> Tensor:
    """Inner products (b, 2m, 2m) of the history (b, 2m, D) over the free coordinates (b, D).

    A few rows at a time, since their masked history has to be written down.
    """
    number, vectors, dim = history.shape
    part = max(1, -(-2 * number // vectors))
    gram = history.new_empty(number, vectors, vectors)
    room = history.new_empty(part, vectors, dim)
    for begin in range(0, number, part):
        rows = slice(begin, min(begin + part, number))
        masked = torch.mul(history[rows], free[rows, None], out=room[: rows.stop - begin])
        torch.bmm(masked, history[rows].mT, out=gram[rows])
    return gram
