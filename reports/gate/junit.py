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
    root, suite = _frame(len(comparison.findings), failures=len(comparison.failed))
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
    return _document(root)


def refused(line: str) -> str:
    """The document of a check that could not be made: one error, with the line that says why."""
    root, suite = _frame(1, errors=1)
    case = _test(suite, "toastproof", "check")
    ElementTree.SubElement(case, "error", {"type": "refused", "message": _plain(line)}).text = _plain(line)
    return _document(root)


def _frame(tests: int, failures: int = 0, errors: int = 0) -> tuple[ElementTree.Element, ElementTree.Element]:
    """The root of a document, and its only suite."""
    counts = {"tests": str(tests), "failures": str(failures), "errors": str(errors), "skipped": "0"}
    root = ElementTree.Element("testsuites", {"name": "toastproof-gate", **counts})
    return root, ElementTree.SubElement(root, "testsuite", {"name": "toastproof-gate", **counts, "time": "0"})


def _document(root: ElementTree.Element) -> str:
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _test(suite: ElementTree.Element, classname: str, name: str) -> ElementTree.Element:
    names = {"classname": _plain(classname), "name": _plain(name), "time": "0"}
    return ElementTree.SubElement(suite, "testcase", names)


def _case(suite: ElementTree.Element, finding: Finding) -> None:
    case = _test(suite, f"toastproof.{finding.cell.model}", finding.cell.test)
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
