"""The Hydra callback that writes reports: after each job, and after a sweep.

A run knows nothing of its report; the configuration names this class. Hydra turns an `Exception` of a callback into a
warning and exit code 0, so trouble leaves here as SystemExit. Everything heavy is imported when it is needed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback

from eval import excuse


def _told(write: Callable[[], Path]) -> None:
    """Print where the report is, or in one line why there is none."""
    from eval.errors import InputError
    from reports.__main__ import line

    try:
        path = write()
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
    print(f"Report: {path}")


def _status(path: Path) -> str:
    """The status in the header of a run, which the combined report has read whole."""
    return str(json.loads(path.read_text(encoding="utf-8")).get("status"))


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

        _told(write)

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        """Write one report on all jobs of the sweep, if any left records; fail where a job did, in any process."""
        folder = Path(str(config.hydra.sweep.dir))
        if any(folder.glob("*/run.json")) or any(folder.glob(f"*/{excuse.FILE}")):

            def write() -> Path:
                from reports import build

                return build.write_sweep([folder], folder)

            _told(write)
        if any(folder.glob(f"*/{excuse.FILE}")):  # a launcher's workers cannot set the exit status themselves
            raise SystemExit(2)
        if any(_status(path) == "failed" for path in folder.glob("*/run.json")):
            raise SystemExit(1)
