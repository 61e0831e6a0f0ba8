"""The page of a check."""

from __future__ import annotations

from dataclasses import dataclass

from eval.gate.baseline import Baseline
from eval.gate.compare import Comparison
from reports.gate.content import Changes, read
from reports.html import render
from reports.texts import moment, norm_label


@dataclass(frozen=True)
class Page:
    """What the page shows: the cells, the samples lost, and what was compared."""

    changes: Changes
    facts: tuple[tuple[str, str], ...]


def page(comparison: Comparison, baseline: Baseline) -> str:
    """The page as HTML."""
    before, after = comparison.before, comparison.after
    question = after.question
    data, threat = question["data"], question["threat"]
    levels = ", ".join(text for text, _ in after.levels)
    facts = (
        ("Baseline", f"{before.where}, accepted {moment(baseline.accepted)}"),
        ("Run", f"{after.where}, started {moment(str(after.made['started']))}"),
        ("Data", f"{data['name']}, {len(after.samples)} samples"),
        ("Threat", f"{norm_label(str(threat['norm']))}, \u03b5 = {levels}"),
        ("Goal", str(question["goal"])),
        ("Attacks", ", ".join(after.attacks)),
        ("Seed", str(question["seed"])),
        ("Command", str(after.made["command"])),
    )
    return render("gate.html.j2", Page(read(comparison, "baseline", "now"), facts))
