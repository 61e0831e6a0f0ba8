"""How the values of a study's tables read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from reports.texts import percent

if TYPE_CHECKING:
    from eval.studies.cells import Value

_FORMS = {"size": ".4f", "rate": ".2%", "difference": "+.2%", "number": ".3g", "count": ",.0f"}
"""By the kind of a value; the others are shares with one decimal."""


def number(value: Value) -> str:
    """Our number as people read it."""
    return _said(value.kind, value.ours)


def paper(value: Value) -> str:
    """The paper's number as people read it."""
    return _said(value.kind, float("nan") if value.paper is None else value.paper)


def interval(value: Value) -> str:
    """The 95% interval; nothing where there is none, as for the mean of one number."""
    if not value.n:
        return "no samples"
    if math.isnan(value.low) and math.isnan(value.high):
        return ""
    return f"{_said(value.kind, value.low).rstrip('%')} to {_said(value.kind, value.high)}"


def _said(kind: str, value: float) -> str:
    form = _FORMS.get(kind)
    if form is not None:
        return format(value, form) if not math.isnan(value) else "\u2013"
    sign = "+" if kind == "excess" and value > 0 else ""
    return sign + percent(value)
