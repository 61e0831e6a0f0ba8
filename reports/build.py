"""Write the report of a run beside its records."""

from __future__ import annotations

from pathlib import Path

from reports import content, tables
from reports.figures import standalone
from reports.html import render


def write(run_folder: Path, *, output: Path | None = None, records_csv: bool = False) -> Path:
    """Write report.html, summary.csv, transfer.csv, classes.csv and figures/*.svg; returns the path of the page.

    Args:
        run_folder: what `eval.records` wrote.
        output: another folder to write to.
        records_csv: write all records to records.csv too.

    Raises:
        InputError: the folder holds no run, or one that cannot be read; nothing was written.
        OSError: the folder cannot be written to.
    """
    page = content.read(run_folder)
    html = render("run.html.j2", page)
    folder = run_folder if output is None else output
    for name, table in page.csv.items():
        if name != "records" or records_csv:
            tables.write_csv(folder / f"{name}.csv", table)
    for chart in page.charts:
        tables.replace(folder / "figures" / f"{chart.name}.svg", standalone(chart.svg))
    return tables.replace(folder / "report.html", html)
