"""A comparison as JUnit XML: a test suite with one test a cell."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from eval.gate.compare import Comparison, Finding

_LISTED = 50  # samples in the text of a failure
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in any XML 1.0


def xml(comparison: Comparison) -> str:
    """The document, of which CI systems show the tests that failed.

    A regression, or a share below the floor, is a failure; its text names the samples that were lost.
    """
    failures = len(comparison.failed)
    counts = {"tests": str(len(comparison.findings)), "failures": str(failures), "errors": "0", "skipped": "0"}
    root = ElementTree.Element("testsuites", {"name": "toastproof-gate", **counts})
    suite = ElementTree.SubElement(root, "testsuite", {"name": "toastproof-gate", **counts, "time": "0"})
    told = {
        "baseline": comparison.before.where,
        "run": comparison.after.where,
        "verdict": comparison.verdict,
        "alpha": f"{comparison.rules.alpha:g}",
        "min_effect": f"{comparison.rules.min_effect:g}",
        "floor": "none" if comparison.rules.floor is None else f"{comparison.rules.floor:g}",
    }
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in told.items():
        ElementTree.SubElement(properties, "property", {"name": name, "value": _plain(value)})
    for finding in comparison.findings:
        _case(suite, finding)
    for note in comparison.notes:
        _text(suite, "system-out", note)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def refused(line: str) -> str:
    """The document of a check that could not be made: one error, with the line that says why."""
    counts = {"tests": "1", "failures": "0", "errors": "1", "skipped": "0"}
    root = ElementTree.Element("testsuites", {"name": "toastproof-gate", **counts})
    suite = ElementTree.SubElement(root, "testsuite", {"name": "toastproof-gate", **counts, "time": "0"})
    case = ElementTree.SubElement(suite, "testcase", {"classname": "toastproof", "name": "check", "time": "0"})
    ElementTree.SubElement(case, "error", {"type": "refused", "message": _plain(line)}).text = _plain(line)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _case(suite: ElementTree.Element, finding: Finding) -> None:
    names = {"classname": _plain(f"toastproof.{finding.cell.model}"), "name": _plain(finding.cell.test), "time": "0"}
    case = ElementTree.SubElement(suite, "testcase", names)
    if finding.failed:
        attributes = {"type": finding.status, "message": _plain(finding.sentence)}
        failure = ElementTree.SubElement(case, "failure", attributes)
        rest = len(finding.lost) - _LISTED
        more = [f"and {rest} more"] if rest > 0 else []
        failure.text = _plain("\n".join([finding.sentence, "lost:", *finding.lost[:_LISTED], *more]))
    else:
        _text(case, "system-out", f"{finding.status}: {finding.sentence}")


def _text(parent: ElementTree.Element, tag: str, text: str) -> None:
    ElementTree.SubElement(parent, tag).text = _plain(text)


def _plain(text: str) -> str:
    """Without the characters that no XML may have."""
    return _FORBIDDEN.sub("?", text)
