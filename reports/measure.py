"""What a report calls the share that its attacks left standing: robust accuracy only where any wrong class is success.

Under a targeted goal a sample that ends in some other wrong class was not brought to the wanted one, so it is left
standing, but the model is wrong on it all the same: the share is no accuracy, and the true one stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_WANTED = {
    "next": "the class that follows its label",
    "random": "another class, drawn for it",
    "least_likely": "the class that the model finds least likely",
}


@dataclass(frozen=True)
class Measure:
    """Words for the share left standing.

    Attributes:
        targeted: whether the goal was a class.
        column: at the head of a column.
        label: beside a number or an axis.
        heading: of its section.
        definition: what is counted, as a sentence.
        question: of the headline, up to the claim on what the attacker may do.
    """

    targeted: bool
    column: str
    label: str
    heading: str
    definition: str
    question: str

    @classmethod
    def of(cls, goal: str, classes: Sequence[str] = ()) -> Measure:
        """The words for a run's goal.

        >>> Measure.of("untargeted").label, Measure.of("next").column
        ('robust accuracy', 'held')
        """
        if goal == "untargeted":
            return cls(
                False,
                "robust",
                "robust accuracy",
                "Robust accuracy",
                "The share of all samples that are classified correctly and that the attack could not change within "
                "the budget.",
                "How often each model is right on clean images, and how often it still is when",
            )
        fixed = classes[int(goal)] if goal.isdigit() and goal not in classes and int(goal) < len(classes) else goal
        wanted = _WANTED.get(goal, f"the class {fixed}")
        return cls(
            True,
            "held",
            "correct before, and not brought to the wanted class",
            "Not brought to the wanted class",
            "Held: the share of all samples that are classified correctly before, and that the attack could not bring "
            f"to the wanted class ({wanted}) within the budget. It is no accuracy: a sample that ends in any other "
            "wrong class is held too.",
            "How often each model is right on clean images; and how often it is right there and its answer could not "
            f"be turned into the wanted class ({wanted}) when",
        )
