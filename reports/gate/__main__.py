"""The command `toastproof-gate`: keep a run as a baseline, or compare one with it. Free of torch and pandas."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from eval import __version__
from reports.__main__ import line
from reports.arguments import Parser, share

if TYPE_CHECKING:
    from eval.gate.snapshot import Snapshot

_SUMMARY = "GITHUB_STEP_SUMMARY"


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="toastproof-gate",
        description="Is a network easier to fool than it was? Compares a run with a baseline, sample by sample.",
        epilog="exit status: 0 no regression, 1 regression or below the floor, 2 refused, with one line that says why",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    accept = commands.add_parser("accept", help="keep this run as the baseline")
    check = commands.add_parser("check", help="compare this run with the baseline")
    for command in (accept, check):
        command.add_argument("run", type=Path, metavar="RUN", help="folder of a run")
        command.add_argument("--baseline", type=Path, required=True, metavar="FILE", help="such as robustness.json")
        of = "" if command is accept else "; default: the baseline's"
        command.add_argument("--alpha", type=share, help=f"chance of any false alarm in one check (0.01{of})")
        command.add_argument("--min-effect", type=share, metavar="SHARE", help=f"least loss that counts (0.005{of})")
        command.add_argument("--floor", type=share, metavar="SHARE", help=f"least robust accuracy (none{of})")
    check.add_argument("--junit", type=Path, metavar="FILE", help="write JUnit XML")
    check.add_argument("--summary", type=Path, metavar="FILE", help=f"write Markdown; it is added to ${_SUMMARY} too")
    check.add_argument("--html", type=Path, metavar="FILE", help="where to write the page (default: RUN/gate.html)")
    return parser


def _rules(chosen: argparse.Namespace) -> dict[str, float]:
    named = {name: getattr(chosen, name) for name in ("alpha", "min_effect", "floor")}
    return {name: value for name, value in named.items() if value is not None}


def _accept(chosen: argparse.Namespace) -> int:
    from eval.gate.baseline import accept

    baseline = accept(chosen.run, chosen.baseline, **_rules(chosen))
    snapshot, replaced = baseline.snapshot, baseline.replaced
    for warning in snapshot.made.get("warnings") or ():
        print(f"note: warning of the run: {warning}")
    if replaced is not None:
        print(f"note: replaces the baseline of {replaced.accepted}, {_differs(replaced.snapshot, snapshot)}")
    print(f"{chosen.baseline}: {len(snapshot.samples)} samples, {len(snapshot.cells)} cells")
    return 0


def _differs(before: Snapshot, after: Snapshot) -> str:
    """Whether a new baseline watches what the old one did."""
    from eval.errors import InputError
    from eval.gate.compare import comparable

    try:
        comparable(before, after)
    except InputError as error:
        return f"which is of something else ({line(error)})"
    return "of the same question"


def _refused(chosen: argparse.Namespace, said: str) -> None:
    """Leave no green reports of an earlier check behind: those that were asked for say why there is none."""
    from eval.records import replace
    from reports.gate.junit import refused as error
    from reports.gate.markdown import refused as note

    for path, text in ((chosen.junit, error(said)), (chosen.summary, note(said))):
        if path is not None and path.resolve() != chosen.baseline.resolve():
            with suppress(OSError):  # which may be why it was refused
                replace(path, lambda beside, text=text: beside.write_text(text, encoding="utf-8", newline=""))  # type: ignore[misc]
    page = chosen.html or chosen.run / "gate.html"
    if page.resolve() != chosen.baseline.resolve():
        with suppress(OSError):
            page.unlink(missing_ok=True)
    if github := os.environ.get(_SUMMARY):
        with suppress(OSError), Path(github).open("a", encoding="utf-8") as file:
            file.write(note(said) + "\n")


def _check(chosen: argparse.Namespace) -> int:
    from eval.gate.baseline import Baseline
    from eval.gate.compare import against
    from eval.gate.snapshot import read_run
    from reports.gate.junit import xml
    from reports.gate.markdown import summary
    from reports.gate.page import page

    baseline = Baseline.read(chosen.baseline)
    found = against(baseline, read_run(chosen.run), **_rules(chosen))
    outputs: list[tuple[Path, Callable[[], str]]] = [
        (chosen.html or chosen.run / "gate.html", lambda: page(found, baseline))
    ]
    if chosen.junit is not None:
        outputs.append((chosen.junit, lambda: xml(found)))
    if chosen.summary is not None:
        outputs.append((chosen.summary, lambda: summary(found)))
    _write(outputs, chosen.baseline)
    if github := os.environ.get(_SUMMARY):
        with Path(github).open("a", encoding="utf-8") as file:
            file.write(summary(found) + "\n")
    for finding in found.findings:
        if finding.failed or finding.improved:
            print(f"{finding.status}: {finding.cell}: {finding.sentence}")
    for note in found.notes:
        print(f"note: {note}")
    print(f"{found.verdict}; {outputs[0][0]}")
    return 0 if found.passed else 1


def _write(outputs: Sequence[tuple[Path, Callable[[], str]]], baseline: Path) -> None:
    """Write texts, each in one step; nothing if one would replace the baseline, or cannot be made."""
    from eval.errors import InputError
    from eval.records import replace

    for path, _ in outputs:
        if path.resolve() == baseline.resolve():
            raise InputError(f"{path}: must be another file than the baseline; name another")
    for path, text in [(path, make()) for path, make in outputs]:
        try:
            replace(path, lambda beside, text=text: beside.write_text(text, encoding="utf-8", newline=""))  # type: ignore[misc]
        except OSError as error:
            told = "; name another by --html" if path.name == "gate.html" else "; name another"
            raise InputError(f"{path}: must be a file that can be written, but: {error.strerror}{told}") from None


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits with 1 on a regression, and with 2 on what it refuses."""
    chosen = _parser().parse_args(arguments)
    from eval.errors import InputError

    try:
        status = (_accept if chosen.command == "accept" else _check)(chosen)
    except (InputError, OSError) as error:
        print(f"toastproof-gate: {line(error)}", file=sys.stderr)
        if chosen.command == "check":
            _refused(chosen, line(error))
        raise SystemExit(2) from None
    raise SystemExit(status)


if __name__ == "__main__":
    main()
