"""The command `toastproof-report`: reports from stored records, without torch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from eval import __version__
from eval.importing import importing
from reports.arguments import Parser

COMPARISON = Path("comparison")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="toastproof-report",
        description="Write report.html and the tables of a run from its stored records. Several runs, or the folder "
        "of a sweep, give one combined report and sweep.csv.",
    )
    parser.add_argument("run", nargs="+", type=Path, metavar="RUN", help="folder of a run, or of a sweep")
    parser.add_argument("--records-csv", action="store_true", help="write all records to records.csv too (one run)")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help=f"where to write (default: the folder of the run or sweep; of several, ./{COMPARISON})",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def report(runs: Sequence[Path], output: Path | None = None, *, records_csv: bool = False) -> Path:
    """Write the report of one run, or one of several; returns the path of the page.

    Raises:
        InputError: a folder is none of a run or of a sweep, or cannot be read, or the output cannot be written.
        OSError: the disk fails while it is written.
    """
    with importing():
        from eval.errors import InputError
        from eval.writable import unwritable
        from reports.build import write, write_sweep

    single = len(runs) == 1 and ((runs[0] / "run.json").exists() or not runs[0].is_dir())
    if single and not runs[0].is_dir():
        raise InputError(f"{runs[0]}: must be the folder of a run or of a sweep, but is no folder")
    if records_csv and not single:
        raise InputError("--records-csv: must be given with the folder of one run; name the runs one by one")
    folder = output or (runs[0] if len(runs) == 1 else COMPARISON)
    if why := unwritable(folder):
        raise InputError(
            f"{folder}: must be a folder that can be written, but is not ({why}); name another by --output"
        )
    return write(runs[0], output=folder, records_csv=records_csv) if single else write_sweep(runs, folder)


def line(error: BaseException) -> str:
    """An error in one line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'report'}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits with 2 on bad input and on a machine that refuses."""
    chosen = _parser().parse_args(arguments)
    from eval.errors import InputError

    try:
        path = report(chosen.run, chosen.output, records_csv=chosen.records_csv)
    except (InputError, OSError) as error:
        print(f"toastproof-report: {line(error)}", file=sys.stderr)
        raise SystemExit(2) from None
    print(path)


if __name__ == "__main__":
    main()
