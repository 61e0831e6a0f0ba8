"""Who reads the records of which study. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from eval.errors import InputError
from eval.records import Run

if TYPE_CHECKING:
    import pandas as pd

    from eval.studies.reading import Reader, Reading

READERS: Mapping[str, str] = {
    "eval.studies.benchmark.Benchmark": "benchmark_tables",
    "eval.studies.blackbox.Blackbox": "papernot",
    "eval.studies.defences.Defences": "defended",
    "eval.studies.dimension.Dimension": "dimension_tables",
    "eval.studies.distances.Distances": "nearness",
    "eval.studies.edges.Edges": "edge_tables",
    "eval.studies.gradients.Gradients": "gradient_tables",
    "eval.studies.groups.Thinned": "thinned",
    "eval.studies.inside.Inside": "inside_tables",
    "eval.studies.linear.Linear": "goodfellow",
    "eval.studies.physical.Physical": "kurakin",
    "eval.studies.pools.Pools": "pool_tables",
    "eval.studies.spectra.Spectra": "spectral_tables",
    "eval.studies.tables.Tables": "szegedy",
    "eval.studies.toaster.Toaster": "toasts",
    "eval.studies.universal.Universal": "moosavi",
    "eval.studies.units.UnitStudy": "unit_tables",
}
"""By the class of the study, the module beside this one whose `read` it is: all of them together take a second."""


def reader(study: str) -> Reader:
    """The reader of a class of studies, imported when it is needed."""
    return cast("Reader", import_module(f"{__package__}.{READERS[study]}").read)


def studied(run: Run) -> bool:
    """Whether a run was one of a study."""
    return _class(run) in READERS


def reading(run: Run, records: pd.DataFrame, folder: Path) -> Reading:
    """What a run of a study says.

    Raises:
        InputError: it has not finished, and what is there is not enough.
    """
    read = reader(_class(run))
    try:
        return read(run, records, folder)
    except (LookupError, ValueError) as error:
        if run.status == "complete":
            raise
        raise InputError(
            f"{folder}: the run has not finished, and what is there is too little for its page; the command of its "
            f"run.json with run.dir={folder} goes on"
        ) from error


def _class(run: Run) -> str:
    return str((run.config.get("study") or {}).get("_target_"))
