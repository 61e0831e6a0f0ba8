"""Write the report of a run beside its records, or of several runs in one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from eval.records import Run
from eval.studies.readers import studied
from reports import content, tables
from reports.figures import standalone
from reports.html import render

if TYPE_CHECKING:  # other pages than that of a run are imported when one is written
    from reports import study


def write(run_folder: Path, *, output: Path | None = None, records_csv: bool = False) -> Path:
    """Write report.html, tables such as summary.csv and figures/*.svg; returns the path of the page.

    A run of a study has report.html and tables.csv instead, and figures/*.svg of its own.

    Args:
        run_folder: what `eval.records` wrote.
        output: another folder to write to.
        records_csv: write all records to records.csv too.

    Raises:
        InputError: the folder holds no run, or one that cannot be read; nothing was written.
        OSError: the folder cannot be written to.
    """
    folder = run_folder if output is None else output
    if studied(Run.read(run_folder)):
        from reports import study

        path = _write_study(study.read(run_folder), folder)
    else:
        path = _write("run.html.j2", content.read(run_folder), folder)
    if records_csv:
        tables.write_records(folder / "records.csv", run_folder)
    return path


def _write_study(page: study.Page, folder: Path) -> Path:
    return _write("study.html.j2" if page.reading.shows is None else "toaster.html.j2", page, folder)


def _write(template: str, page: content.Page | study.Page, folder: Path) -> Path:
    """The page, its tables and its charts; nothing if the page cannot be rendered."""
    html = render(template, page)
    for name, table in page.csv.items():
        if name != "records":  # which are many, and on disk
            tables.write_csv(folder / f"{name}.csv", table)
    for chart in page.charts if isinstance(page, content.Page) else page.all_charts:
        tables.write_text(folder / "figures" / f"{chart.name}.svg", standalone(chart.svg))
    return tables.write_text(folder / "report.html", html)


def write_sweep(paths: Sequence[Path], output: Path) -> Path:
    """Write one report.html and sweep.csv on several runs, or on the jobs of a sweep; returns the path of the page.

    Runs that answer the same question have changes.csv too, the samples that the others lost and won beside the first.
    Runs of a study that differ in their seed alone have tables.csv instead, with the spread over the seeds on the page.

    Args:
        paths: folders of runs or of sweeps.
        output: where to write.

    Raises:
        InputError: a path is neither; nothing was written.
        OSError: the folder cannot be written to.
    """
    from reports import changes, study, sweep

    several = study.read_several(sweep.folders(paths))
    if several is not None:
        return _write_study(several, output)
    page = sweep.read(paths, output)
    if not page.apart:
        page = replace(page, changes=changes.of_jobs(page.jobs))
    html = render("sweep.html.j2", page)
    tables.write_csv(output / "sweep.csv", page.csv)
    if page.changes.pairs:
        tables.write_csv(output / "changes.csv", page.changes.csv)
    else:
        (output / "changes.csv").unlink(missing_ok=True)  # of other runs that were compared here
    for chart in page.charts:
        tables.write_text(output / "figures" / f"{chart.name}.svg", standalone(chart.svg))
    for stale in {*(output / "figures").glob("*.svg")} - {output / "figures" / f"{c.name}.svg" for c in page.charts}:
        stale.unlink()
    return tables.write_text(output / "report.html", html)
