"""The page of a study: its tables with the paper's numbers beside ours, what they say, charts and pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from eval.metrics import Threat
from eval.records import Run, read_records
from eval.studies import defended, goodfellow, kurakin, papernot, pool_tables, szegedy, toasts
from eval.studies.cells import joined
from eval.studies.reading import Reader, Reading, together
from reports.charts import Chart, drawn
from reports.content import overview
from reports.gallery import Example, foremost, gallery

_READERS: Mapping[str, Reader] = {
    "eval.studies.blackbox.Blackbox": papernot.read,
    "eval.studies.tables.Tables": szegedy.read,
    "eval.studies.linear.Linear": goodfellow.read,
    "eval.studies.physical.Physical": kurakin.read,
    "eval.studies.pools.Pools": pool_tables.read,
    "eval.studies.toaster.Toaster": toasts.read,
    "eval.studies.defences.Defences": defended.read,
}
"""By the class of the study."""


@dataclass(frozen=True)
class Page:
    """All that the page says, on one run or on several that differ in their seed; `run` is the first of them."""

    run: Run
    seeds: tuple[int, ...]
    warnings: tuple[str, ...]
    overview: tuple[tuple[str, str], ...]
    reading: Reading
    charts: tuple[Chart, ...]
    examples: tuple[Example, ...]
    more_examples: tuple[Example, ...]
    config: str
    csv: dict[str, pd.DataFrame] = field(repr=False)


def studied(run: Run) -> bool:
    """Whether a run was one of a study, so that its page is one of these."""
    return str((run.config.get("study") or {}).get("_target_")) in _READERS


def read(folder: Path) -> Page:
    """The page of a run's folder.

    Raises:
        InputError: the folder holds no run, or one that cannot be read.
    """
    run, records = Run.read(folder), read_records(folder)
    reading = _READERS[run.config["study"]["_target_"]](run, records, folder)
    shown, others = foremost(gallery(folder, run, records, Threat.of(run)), {})
    return Page(
        run=run,
        seeds=(run.seed,),
        warnings=tuple(run.warnings),
        overview=overview(run, Threat.of(run)),
        reading=reading,
        charts=tuple(map(drawn, reading.curves)),
        examples=shown,
        more_examples=others,
        config=json.dumps(run.config, indent=2, ensure_ascii=False),
        csv={"records": records, **reading.csv, **({"tables": joined(reading.tables)} if reading.tables else {})},
    )


def read_several(found: Sequence[Path]) -> Page | None:
    """The page of several runs of one study that differ in nothing but their seed; None if they are not such runs.

    Raises:
        InputError: a run cannot be read.
    """
    folders = [folder for folder in found if (folder / "run.json").exists()]
    runs = [Run.read(folder) for folder in folders]
    configs = [{key: value for key, value in run.config.items() if key != "seed"} for run in runs]
    if len(runs) < 2 or not all(map(studied, runs)) or any(config != configs[0] for config in configs):
        return None
    pages = [read(folder) for folder in folders]
    seeds = tuple(run.seed for run in runs)
    missing = [f"{folder}: holds no finished run" for folder in found if folder not in folders]
    warnings = [f"Seed {run.seed}: {line}" for run in runs for line in run.warnings]
    return replace(
        pages[0],
        seeds=seeds,
        warnings=(*missing, *warnings),
        reading=together([page.reading for page in pages], list(seeds)),
        csv={"tables": pd.concat([p.csv["tables"].assign(seed=s) for p, s in zip(pages, seeds, strict=True)])},
    )
