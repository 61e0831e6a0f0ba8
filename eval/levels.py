"""The budgets that records are judged against, as the header of a run has them. Free of torch and pandas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.errors import InputError
from eval.intervals import Bools, Floats
from eval.records import Run

WORST = "worst case"
"""The attack that takes, for each sample, the best of all attacks."""


@dataclass(frozen=True)
class Threat:
    """The budgets that records are judged against.

    Attributes:
        norm: whose column is the distance: `l0`, `l1`, `l2` or `linf`.
        levels: (text, value in box units) of each eps, ascending.
        headline: text of the eps that is quoted first.
        width: of the box, for the rounding that a distance may exceed its budget by.
    """

    norm: str
    levels: tuple[tuple[str, float], ...]
    headline: str = ""
    width: float = 1.0

    @classmethod
    def of(cls, run: Run) -> Threat:
        """The threat of a run's header.

        Raises:
            InputError: the header has no such thing.
        """
        try:
            low, high = run.data.get("box", (0.0, 1.0))
            levels = sorted(((str(e["text"]), float(e["value"])) for e in run.threat["eps"]), key=lambda e: e[1])
            headline = str(run.threat.get("headline") or (levels[-1][0] if levels else ""))
            return cls(str(run.threat["norm"]), tuple(levels), headline, float(high) - float(low))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"run.json: threat must have a norm and eps with text and value, got {error!r}") from None

    def within(self, size: Floats, eps: float) -> Bools:
        """Whether distances keep the budget, up to the rounding of float32 pixels."""
        slack = {"l0": 0.0, "linf": 1e-6}.get(self.norm, 1e-5) * self.width
        return np.asarray(size <= eps * (1.0 + 1e-5) + slack, dtype=bool)
