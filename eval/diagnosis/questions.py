"""Everything that the diagnosis asks, and what it comes to. Free of torch."""

from __future__ import annotations

from eval.diagnosis.checks import NOT_MEASURED, Check, Question, Seen, Told
from eval.diagnosis.comparisons import COMPARISONS
from eval.diagnosis.symptoms import SYMPTOMS


def _bracket(seen: Seen) -> Told:
    found = seen.bracket
    if found is None:
        return NOT_MEASURED
    if not found.possible:
        return f"nothing can be proved: {found.proofs[0].refused}", None
    k = len(found.broken)
    if k:
        return f"on {k} of {found.n} samples a perturbation was found nearer than a proof says it can be", True
    text = f"no proof reaches as far as a perturbation that was found, on {found.compared} samples with both"
    return text, False if found.compared else None


BRACKET = Question(
    "bracket", "No perturbation is nearer than what is proved", "one sample",
    "A contradiction: the proof has a fault, or the network that was attacked is not the function that was proved.",
    "report it, with the network; meanwhile believe the perturbation, and look at it", "Szegedy et al., section 4.3",
    _bracket,
)  # fmt: skip
"""What is proved and what is broken must not overlap."""

QUESTIONS = (BRACKET, *COMPARISONS, *SYMPTOMS)


def diagnose(seen: Seen) -> tuple[Check, ...]:
    """All questions, answered for one network."""
    return tuple(Check(question, *question.ask(seen)) for question in QUESTIONS)


def verdict(checks: tuple[Check, ...]) -> tuple[Check, ...]:
    """The checks for which the evaluation is not to be trusted; none if there is no sign of that."""
    return tuple(check for check in checks if check.fired and check.question.fault)
