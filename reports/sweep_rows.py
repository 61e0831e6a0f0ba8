"""A job and network of a sweep as its table and charts show it, and several of them taken together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import median

from reports.texts import Share, percent


@dataclass(frozen=True)
class Row:
    """One job and model at the job's headline eps; `trusted` when the job completed.

    `distance` is the median of its minimal attacks in `distance_norm`; NaN and empty where there is none. `seconds` is
    the time on the clock that the job took, `errors` the samples on which an attack ended with an error. Rows of the
    same `question` can be compared; `asked` says it in words.
    """

    job: str
    href: str
    values: tuple[str, ...]
    model: str
    headline: str
    clean: Share
    robust: Share
    trusted: bool
    distance: float = math.nan
    distance_norm: str = ""
    status: str = "complete"
    seconds: float = math.nan
    errors: int = 0
    question: str = ""
    asked: str = ""


@dataclass(frozen=True)
class Pool:
    """Rows that are shown as one: the share of one, with its interval; of several their median, lowest and highest."""

    shares: tuple[Share, ...]

    @classmethod
    def of(cls, rows: Sequence[Row], what: str = "robust") -> Pool:
        """Those rows, of their shares `robust` or `clean`."""
        return cls(tuple(sorted((getattr(r, what) for r in rows), key=lambda share: share.value)))

    @property
    def value(self) -> float:
        """In the middle."""
        return float(median(s.value for s in self.shares))

    @property
    def low(self) -> float:
        """Of the interval, or the lowest."""
        return self.shares[0].low if len(self.shares) == 1 else self.shares[0].value

    @property
    def high(self) -> float:
        """Of the interval, or the highest."""
        return self.shares[-1].high if len(self.shares) == 1 else self.shares[-1].value

    @property
    def n(self) -> str:
        """Samples of each, as text."""
        few, most = min(s.n for s in self.shares), max(s.n for s in self.shares)
        return str(few) if few == most else f"{few}\u2013{most}"

    @property
    def span(self) -> str:
        """From where to where, as text."""
        if len(self.shares) == 1:
            return self.shares[0].interval
        return f"{100 * self.low:.1f}\u2013{100 * self.high:.1f}%"

    @property
    def full(self) -> str:
        """All that is known, in one line."""
        if len(self.shares) == 1:
            return self.shares[0].full
        return f"median {percent(self.value)} of {len(self.shares)} jobs, {self.span}, n = {self.n} each"


def numeric(text: str) -> float:
    """A value as a number; NaN where it is none.

    >>> numeric("8/255") == 8 / 255, numeric("adam")
    (True, nan)
    """
    try:
        return float(Fraction(text)) if "/" in text else float(text)
    except (ValueError, ZeroDivisionError):
        return math.nan


def is_seed(key: str) -> bool:
    """Whether a parameter only draws anew what is random.

    >>> is_seed("seed"), is_seed("train.seed"), is_seed("seeds")
    (True, True, False)
    """
    return key.rpartition(".")[2] == "seed"
