"""Who reads the records of which study. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from eval.errors import InputError
from eval.records import Run
from eval.studies import (
    benchmark_tables,
    defended,
    dimension_tables,
    edge_tables,
    goodfellow,
    gradient_tables,
    inside_tables,
    kurakin,
    moosavi,
    nearness,
    papernot,
    pool_tables,
    spectral_tables,
    szegedy,
    thinned,
    toasts,
    unit_tables,
)
from eval.studies.reading import Reader, Reading

READERS: Mapping[str, Reader] = {
    "eval.studies.benchmark.Benchmark": benchmark_tables.read,
    "eval.studies.blackbox.Blackbox": papernot.read,
    "eval.studies.defences.Defences": defended.read,
    "eval.studies.dimension.Dimension": dimension_tables.read,
    "eval.studies.distances.Distances": nearness.read,
    "eval.studies.edges.Edges": edge_tables.read,
    "eval.studies.gradients.Gradients": gradient_tables.read,
    "eval.studies.groups.Thinned": thinned.read,
    "eval.studies.inside.Inside": inside_tables.read,
    "eval.studies.linear.Linear": goodfellow.read,
    "eval.studies.physical.Physical": kurakin.read,
    "eval.studies.pools.Pools": pool_tables.read,
    "eval.studies.spectra.Spectra": spectral_tables.read,
    "eval.studies.tables.Tables": szegedy.read,
    "eval.studies.toaster.Toaster": toasts.read,
    "eval.studies.universal.Universal": moosavi.read,
    "eval.studies.units.UnitStudy": unit_tables.read,
}
"""By the class of the study."""


def studied(run: Run) -> bool:
    """Whether a run was one of a study."""
    return _class(run) in READERS


def reading(run: Run, records: pd.DataFrame, folder: Path) -> Reading:
    """What a run of a study says.

    Raises:
        InputError: it has not finished, and what is there is not enough.
    """
    try:
        return READERS[_class(run)](run, records, folder)
    except (LookupError, ValueError) as error:
        if run.status == "complete":
            raise
        raise InputError(
            f"{folder}: the run has not finished, and what is there is too little for its page; the command of its "
            f"run.json with hydra.run.dir={folder} goes on"
        ) from error


def _class(run: Run) -> str:
    return str((run.config.get("study") or {}).get("_target_"))
