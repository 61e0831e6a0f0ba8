"""The headline of each model of a run, and what it is not yet made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from eval.metrics import WORST
from eval.records import UNFINISHED, Run
from reports.matrices import rows_of, share_of
from reports.texts import Share


@dataclass(frozen=True)
class Card:
    """The headline of a model: `robust` in the worst case over `attacks` attacks.

    `strongest` is the attack that left the least by itself; empty where they have results for different samples, which
    say nothing of that. `incomplete` names the attacks of a run that is not done that lack samples, and how many.
    `right` is its accuracy under the attack that left it the least, `against`; known for a targeted goal only, where
    `robust` is no accuracy.
    """

    model: str
    description: str
    clean: Share
    robust: Share
    rounded: Share
    attacks: int
    strongest: str
    incomplete: tuple[str, ...]
    errors: int
    right: Share
    against: str

    @property
    def worse_rounded(self) -> bool:
        """Whether rounding to 8 bits leaves a lower bound."""
        return self.rounded.known and self.robust.known and self.rounded.value < self.robust.value


def cards(
    run: Run, clean: pd.DataFrame, robust: pd.DataFrame, headline: str, right: Mapping[tuple[str, str, str], Share]
) -> tuple[Card, ...]:
    """A card for each model.

    Args:
        run: the header.
        clean: from `eval.metrics.clean_accuracy`.
        robust: from `eval.metrics.robust_accuracy`.
        headline: the eps that cards are about, as text.
        right: accuracy by (model, attack, text of eps), for a targeted goal.
    """
    said = {row["model"]: share_of(row, "clean_accuracy") for row in rows_of(clean)}
    at = rows_of(robust[robust["eps_text"] == headline])
    found = []
    for model in run.models:
        mine = [row for row in at if row["model"] == model["name"]]
        worst = next((row for row in mine if row["attack"] == WORST), None)
        single = [row for row in mine if row["attack"] != WORST and row["n"] > 0]
        accuracies = {a: share for (m, a, text), share in right.items() if (m, text) == (model["name"], headline)}
        against = min(accuracies, key=lambda a: accuracies[a].value, default="")
        found.append(
            Card(
                model=model["name"],
                description=str(model.get("description") or ""),
                clean=said.get(model["name"], Share.unknown()),
                robust=Share.unknown() if worst is None else share_of(worst, "robust_accuracy"),
                rounded=Share.unknown() if worst is None else share_of(worst, "robust_accuracy_8bit", suffix="_8bit"),
                attacks=len(single),
                strongest=_strongest(single, worst),
                incomplete=_incomplete(run, mine),
                errors=0 if worst is None else int(worst["errors"]),
                right=accuracies.get(against, Share.unknown()),
                against=against,
            )
        )
    return tuple(found)


def _strongest(single: Sequence[Mapping[str, Any]], worst: Mapping[str, Any] | None) -> str:
    """The attack that left the least; nothing where not all have a result for every sample of the worst case."""
    if worst is None or not single or any(row["n"] < worst["n"] for row in single):
        return ""
    return str(min(single, key=lambda row: float(row["robust_accuracy"]))["attack"])


def _incomplete(run: Run, rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Which attacks of a run that is not done lack samples; one that crashed on a sample has been there."""
    if run.status not in UNFINISHED:
        return ()
    made, total = {row["attack"]: int(row["n"] + row["errors"]) for row in rows}, int(run.data["n"])
    lacking = [(str(a["name"]), made.get(a["name"], 0)) for a in run.attacks if made.get(a["name"], 0) < total]
    return tuple(f"{name}: {f'{n:,} of {total:,} samples so far' if n else 'no result yet'}" for name, n in lacking)
