"""How numbers and names read in a report."""

from __future__ import annotations

import math
from dataclasses import dataclass

_NORMS = {"l0": "L0", "l1": "L1", "l2": "L2", "linf": "L\u221e"}
_CLAIMS = {
    "linf": "every pixel may change by up to {eps} of the full range",
    "l2": "the whole image may move by {eps} in L2",
    "l1": "all pixels together may change by {eps} in sum (L1)",
    "l0": "{eps} values may change at will (L0)",
}


@dataclass(frozen=True)
class Share:
    """A share of n samples, with its 95% interval; `value` is NaN where n is 0."""

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def unknown(cls) -> Share:
        """Of no sample at all."""
        return cls(math.nan, 0.0, 1.0, 0)

    @property
    def known(self) -> bool:
        """Whether there is a number."""
        return self.n > 0 and not math.isnan(self.value)

    @property
    def text(self) -> str:
        """As in 59.5%."""
        return percent(self.value)

    @property
    def interval(self) -> str:
        """As in 52.6 to 66.1%."""
        return f"{100 * self.low:.1f}\u2013{100 * self.high:.1f}%" if self.known else "no samples"

    @property
    def full(self) -> str:
        """All that is known, in one line."""
        return f"{self.text} (95% interval {self.interval}, n = {self.n})" if self.known else "not measured"


def percent(value: float) -> str:
    """A share in percent with one decimal; a dash where there is none.

    >>> percent(0.595)
    '59.5%'
    """
    return "\u2013" if math.isnan(value) else f"{100 * value:.1f}%"


def amount(value: float) -> str:
    """A size or a time in four significant digits at most, without an exponent where one can do without."""
    if math.isnan(value):
        return "\u2013"
    if value == 0 or 1e-4 <= abs(value) < 1e7:
        decimals = max(0, 3 - (math.floor(math.log10(abs(value))) if value else 0))
        text = f"{value:,.{min(decimals, 6)}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.2e}"


def duration(seconds: float) -> str:
    """A time in three significant digits, in the unit that suits it.

    >>> duration(3.303e-6), duration(0.0421), duration(12.5), duration(754)
    ('3.3 \u00b5s', '42.1 ms', '12.5 s', '12.6 min')
    """
    if math.isnan(seconds):
        return "\u2013"
    if seconds == 0:
        return "0 s"
    units = (("min", 60.0), ("s", 1.0), ("ms", 1e-3), ("\u00b5s", 1e-6))
    unit, size = next((u for u in units if seconds >= u[1] * (1 if u[0] != "min" else 5)), units[-1])
    value = seconds / size
    digits = max(0, 2 - math.floor(math.log10(value)))
    text = f"{value:,.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} {unit}"


def minimises(norm: str) -> str:
    """What an attack that searches for the smallest perturbation looks for."""
    return f"smallest {norm_label(norm)}" if norm else "smallest change"


def norm_label(norm: str) -> str:
    """The norm as people write it."""
    return _NORMS.get(norm, norm)


def eps_label(text: str) -> str:
    """A budget as people write it."""
    return "minimal" if text == "min" else f"\u03b5 = {text}"


def claim(norm: str, eps: str) -> str:
    """What an attacker may do, in plain words."""
    return _CLAIMS.get(norm, "the image may move by {eps}").format(eps=eps or "nothing")


def moment(text: str) -> str:
    """An ISO 8601 time in UTC as people read it.

    >>> moment("2026-11-20T12:00:00+00:00")
    '2026-11-20 12:00:00 UTC'
    """
    return text.removesuffix("+00:00").replace("T", " ", 1) + " UTC"
