"""The page of a study: its tables with the paper's numbers beside ours, what they say, charts and pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from eval.errors import InputError
from eval.metrics import Threat
from eval.records import Run, parts_made, read_records
from eval.studies.cells import joined
from eval.studies.folded import fold
from eval.studies.readers import reading, studied
from eval.studies.reading import Reading, Section, together
from reports.charts import Chart, drawn
from reports.content import overview
from reports.gallery import Example, foremost, gallery


@dataclass(frozen=True)
class Drawn:
    """A section with its charts."""

    section: Section
    charts: tuple[Chart, ...]


@dataclass(frozen=True)
class Page:
    """All that the page says, on one run or on several that differ in their seed; `run` is the first of them."""

    run: Run
    made: int
    seeds: tuple[int, ...]
    warnings: tuple[str, ...]
    overview: tuple[tuple[str, str], ...]
    reading: Reading
    charts: tuple[Chart, ...]
    examples: tuple[Example, ...]
    more_examples: tuple[Example, ...]
    config: str
    csv: dict[str, pd.DataFrame] = field(repr=False)

    @cached_property
    def sections(self) -> tuple[Drawn, ...]:
        """Those of the reading, drawn."""
        return tuple(Drawn(s, tuple(drawn(c) for c in s.curves if c.lines)) for s in self.reading.sections)

    @property
    def beside(self) -> bool:
        """Whether any number has one of the literature beside it."""
        cells = (v for table in self.reading.all_tables for _, values in table.rows for v in values)
        return any(v is not None and v.paper is not None for v in cells)

    @property
    def all_charts(self) -> tuple[Chart, ...]:
        """Those of the sections too."""
        return (*self.charts, *(chart for section in self.sections for chart in section.charts))


def read(folder: Path) -> Page:
    """The page of a run's folder.

    Raises:
        InputError: the folder holds no run, or one that cannot be read.
    """
    run, records = Run.read(folder), read_records(folder)
    said = reading(run, records, folder)
    shown, others = foremost(gallery(folder, run, records, Threat.of(run)), {})
    return Page(
        run=run,
        made=parts_made(folder),
        seeds=(run.seed,),
        warnings=tuple(run.warnings),
        overview=overview(run, Threat.of(run)),
        reading=said,
        charts=tuple(drawn(curves) for curves in said.curves if curves.lines),
        examples=shown,
        more_examples=others,
        config=json.dumps(run.config, indent=2, ensure_ascii=False),
        csv={"records": records, **said.csv, **({"tables": joined(said.all_tables)} if said.all_tables else {})},
    )


def _seedless(run: Run) -> dict[str, object]:
    apart = ("seed", "run")  # where a run is kept says nothing
    return {key: value for key, value in run.config.items() if key not in apart}


def read_several(found: Sequence[Path]) -> Page | None:
    """The page of several runs of one study that differ in nothing but their seed; None if they are not such runs.

    Raises:
        InputError: a run cannot be read.
    """
    folders: list[Path] = []
    runs: list[Run] = []
    missing = []
    for folder in found:
        try:
            run = Run.read(folder)
        except InputError as error:
            missing.append(str(error) if (folder / "run.json").exists() else f"{folder}: holds no finished run")
            continue
        if run.status != "complete":
            missing.append(f"{folder}: holds no finished run")
            continue
        if not studied(run) or (runs and _seedless(run) != _seedless(runs[0])):
            return None
        folders.append(folder)
        runs.append(run)
    if len(runs) < 2:
        return None
    pages = [read(folder) for folder in folders]
    seeds = tuple(run.seed for run in runs)
    common, left = fold([run.warnings for run in runs])
    own = [f"Seed {run.seed}: {line}" for run, lines in zip(runs, left, strict=True) for line in lines]
    return replace(
        pages[0],
        seeds=seeds,
        warnings=(*missing, *common, *own),
        reading=together([page.reading for page in pages], list(seeds)),
        csv={
            name: pd.concat([p.csv[name].assign(seed=s) for p, s in zip(pages, seeds, strict=True)])
            for name in pages[0].csv
            if name != "records" and all(name in page.csv for page in pages)
        },
    )
