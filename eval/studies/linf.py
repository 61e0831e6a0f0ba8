"""The Linf budget of a study, from its text."""

from __future__ import annotations

from attacks.threat import ThreatModel, parse_eps
from eval.errors import InputError


def linf(eps: str) -> ThreatModel:
    """The budget.

    Raises:
        InputError: the text is no number or fraction, or no budget; the configuration puts `study.` before the line.
    """
    try:
        return ThreatModel("linf", parse_eps(eps))
    except ValueError as error:
        raise InputError(str(error).removeprefix("threat.")) from None
