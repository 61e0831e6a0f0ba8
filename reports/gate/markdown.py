"""A comparison as Markdown, for a pull request or a job's summary."""

from __future__ import annotations

import html
import re

from eval.gate.compare import Comparison, Finding

_LISTED = 20  # samples a cell
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~<>&@$])")
_SIGNS = {"regression": "\u274c", "below floor": "\u274c", "improvement": "\u2705", "changed": "", "same": ""}


def escape(text: str) -> str:
    r"""Text that Markdown shows as it is, on one line.

    >>> print(escape("a|b_c"))
    a\|b\_c
    """
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def refused(line: str) -> str:
    """What a check says that could not be made."""
    return f"### Robustness gate refused\n\n{escape(line)}\n"


def summary(comparison: Comparison) -> str:
    """What moved, cell by cell, the samples that were lost where that is an alarm, and the notes."""
    rules = comparison.rules
    state = "passed" if comparison.passed else "failed"
    lines = [f"### Robustness gate {state}: {comparison.verdict}", ""]
    moved = [f for f in comparison.findings if f.moved or f.failed]
    if moved:
        lines += ["| network | test | before | now | lost | won | adjusted p | |"]
        lines += ["|---|---|---:|---:|---:|---:|---:|---|"]
        lines += [_row(f) for f in sorted(moved, key=lambda f: (not f.failed, not f.improved))]
    else:
        lines.append("No sample was lost or won.")
    still = len(comparison.findings) - len(moved)
    lines += ["", f"{still} cells are the same in every sample." if still and moved else ""]
    for finding in comparison.failed:
        if finding.lost:
            lines += _lost(finding)
    floor = "" if rules.floor is None else f", floor {rules.floor:.1%}"
    n = len(comparison.after.samples)
    lines += [
        "",
        f"{n} samples against `{comparison.before.where.replace('`', '')}`; alarm at an adjusted p of at most "
        f"{rules.alpha:g} and a loss of at least {rules.min_effect:.2%} of the samples{floor}.",
    ]
    lines += ["", *(f"- {escape(note)}" for note in comparison.notes)] if comparison.notes else []
    return re.sub("\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def _row(finding: Finding) -> str:
    was, now = finding.shares
    said = " ".join(filter(None, [_SIGNS[finding.status], finding.status]))
    cells = [
        escape(finding.cell.model), escape(finding.cell.test), f"{was:.1%}", f"{now:.1%}", str(len(finding.lost)),
        str(len(finding.won)), f"{finding.smaller:.2g}", said,
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _lost(finding: Finding) -> list[str]:
    rest = len(finding.lost) - _LISTED
    names = ", ".join(escape(s) for s in finding.lost[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")
    head = html.escape(" ".join(f"{len(finding.lost)} samples lost: {finding.cell}".split()))
    return ["", f"<details><summary>{head}</summary>", "", names, "", "</details>"]
