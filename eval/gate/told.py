"""A cell as the name of a test, and what became of it as the text of its failure."""

from __future__ import annotations

from eval.gate.compare import Finding
from eval.gate.outcomes import CLEAN, Cell
from eval.levels import WORST

_LISTED = 20  # samples


def name(cell: Cell) -> str:
    """Such as `resnet[clean]`, `resnet[pgd-4/255]` or `resnet[worst-4/255]`.

    >>> name(Cell("resnet", WORST, "4/255"))
    'resnet[worst-4/255]'
    """
    attack = "worst" if cell.attack == WORST else cell.attack
    return f"{cell.model}[{'clean' if cell.attack == CLEAN else f'{attack}-{cell.eps}'}]"


def failure(finding: Finding) -> str:
    """What was lost: counts, p-values, samples."""
    lines = [
        f"{finding.status}: {name(finding.cell)}: from {finding.before} to {finding.after} of {finding.n} samples hold",
        finding.sentence,
    ]
    if finding.lost:
        rest = len(finding.lost) - _LISTED
        lines.append("lost: " + ", ".join(finding.lost[:_LISTED]) + (f" and {rest} more" if rest > 0 else ""))
    return "\n".join(lines)
