"""Everything that the diagnosis asks, and what it comes to. Free of torch."""

from __future__ import annotations

from eval.diagnosis.checks import Check, Seen
from eval.diagnosis.comparisons import COMPARISONS
from eval.diagnosis.symptoms import SYMPTOMS

QUESTIONS = (*COMPARISONS, *SYMPTOMS)


def diagnose(seen: Seen) -> tuple[Check, ...]:
    """All questions, answered for one network."""
    return tuple(Check(question, *question.ask(seen)) for question in QUESTIONS)


def verdict(checks: tuple[Check, ...]) -> tuple[Check, ...]:
    """The checks for which the evaluation is not to be trusted; none if there is no sign of that."""
    return tuple(check for check in checks if check.fired and check.question.fault)
