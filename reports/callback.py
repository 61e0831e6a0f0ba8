"""The Hydra callback that writes reports: after each job, and after a sweep.

A run knows nothing of its report; the configuration names this class. Hydra turns an `Exception` of a callback into a
warning and exit code 0, so trouble leaves here as SystemExit. Everything heavy is imported when it is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from hydra.experimental.callback import Callback

from eval import excuse

T = TypeVar("T")


def _told(do: Callable[[], T]) -> T:
    """What comes of it, or in one line why nothing does."""
    from eval.errors import InputError
    from reports.__main__ import line

    try:
        return do()
    except (InputError, OSError) as error:
        print(f"toastproof: report: {line(error)}", file=sys.stderr)
        raise SystemExit(2) from None
    except Exception as error:  # a bug of ours: the records are safe, and the exit code must say that this is not
        print(
            f"toastproof: report: {type(error).__name__}: {line(error)}; the records are on disk, "
            "toastproof-report shows where it comes from",
            file=sys.stderr,
        )
        raise SystemExit(1) from None


def _worst(folder: Path) -> int:
    """The exit status of a sweep whose jobs left this: that of the worst job.

    Raises:
        InputError: a header is torn.
    """
    from eval.records import Run

    codes = [0]
    for path in sorted(folder.glob("*/run.json")):
        codes.append(excuse.CODES.get(Run.read(path.parent).status, 0))
    for path in sorted(folder.glob(f"*/{excuse.FILE}")):
        found = excuse.Excuse.read(path.parent)
        codes.append(0 if found is None else excuse.CODES.get(found.status, 1))
    return max(codes)


class Report(Callback):
    """Writes report.html and the tables of a run into its folder when it ends, and one page on a whole sweep."""

    def on_job_end(self, config: Any, job_return: Any, **kwargs: Any) -> None:
        """Write the report of a job that completed and left records."""
        folder = Path(str(config.hydra.runtime.output_dir))
        if job_return.status.name != "COMPLETED" or job_return.return_value in ("refused", "helped"):
            return
        if not (folder / "run.json").exists():
            return

        def write() -> Path:
            from reports import build

            return build.write(folder)

        print(f"Report: {_told(write)}")

    def on_multirun_end(self, config: Any, interrupted: bool = False, **kwargs: Any) -> None:
        """Write one report on all jobs of the sweep, if any left records; fail where a job did, in any process.

        Where they were `interrupted`, all that are still to come are in it, even if none left anything yet.
        """
        folder = Path(str(config.hydra.sweep.dir))
        left = any(folder.glob("*/run.json")) or any(folder.glob(f"*/{excuse.FILE}"))
        if left or (interrupted and (folder / excuse.PLAN).exists()):

            def write() -> Path:
                from reports import build

                return build.write_sweep([folder], folder)

            print(f"Report: {_told(write)}")
            if code := _told(lambda: _worst(folder)):  # a launcher's workers cannot set the exit status themselves
                raise SystemExit(code)
