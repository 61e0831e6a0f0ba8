"""The page of a study: its tables with the paper's numbers beside ours, what they say, and pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from eval.metrics import Threat
from eval.records import Run, read_records
from eval.studies import szegedy
from eval.studies.cells import Table, joined
from eval.studies.findings import findings
from reports.content import overview
from reports.gallery import Example, foremost, gallery

_TABLES: Mapping[str, Callable[[Run, pd.DataFrame], list[Table]]] = {"eval.studies.tables.Tables": szegedy.tables}


@dataclass(frozen=True)
class Page:
    """All that the page says."""

    run: Run
    overview: tuple[tuple[str, str], ...]
    findings: tuple[str, ...]
    tables: tuple[Table, ...]
    examples: tuple[Example, ...]
    more_examples: tuple[Example, ...]
    config: str
    csv: dict[str, pd.DataFrame] = field(repr=False)


def studied(run: Run) -> bool:
    """Whether a run was one of a study, so that its page is one of these."""
    return str((run.config.get("study") or {}).get("_target_")) in _TABLES


def read(folder: Path) -> Page:
    """The page of a run's folder.

    Raises:
        InputError: the folder holds no run, or one that cannot be read.
    """
    run, records = Run.read(folder), read_records(folder)
    tables = _TABLES[run.config["study"]["_target_"]](run, records)
    shown, others = foremost(gallery(folder, run, records, Threat.of(run)), {})
    return Page(
        run=run,
        overview=overview(run, Threat.of(run)),
        findings=tuple(findings(tables)),
        tables=tuple(tables),
        examples=shown,
        more_examples=others,
        config=json.dumps(run.config, indent=2, ensure_ascii=False),
        csv={"tables": joined(tables), "records": records},
    )
