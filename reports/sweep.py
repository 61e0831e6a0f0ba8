"""Several runs side by side: what varied between them, and what came of it."""

from __future__ import annotations

import json
import math
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from eval import effort, metrics
from eval.errors import InputError
from eval.excuse import Excuse
from eval.metrics import WORST, Threat
from eval.records import Run, read_records
from reports import tables
from reports.changes import Compared
from reports.charts import Chart
from reports.comparable import AT_A_GLANCE, differ, strange
from reports.matrices import rows_of, share_of
from reports.measure import Measure
from reports.sweep_charts import Row, charts
from reports.texts import Share, eps_label, norm_label

_SUMMARY = ("model", "norm", "eps_text", "eps", "clean_n", "clean_accuracy", "clean_low", "clean_high", "n",
            "robust_accuracy", "low", "high", "robust_accuracy_8bit", "errors", *effort.DISTANCES)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """A run of a sweep: its header and its worst cases, or, in `problem`, why there is none.

    `status` is that of the header, else `refused`, `crashed`, or `missing` where there is no word of the job;
    `overrides` are all that the command line said of it.
    """

    name: str
    folder: Path
    run: Run | None = None
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    problem: str = ""
    status: str = "missing"
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sweep:
    """The combined report; `measure` is what its numbers count, of a targeted goal where there is one.

    `apart` says in what runs differ that cannot be compared; see `reports.comparable`.
    """

    title: str
    jobs: tuple[Job, ...]
    varied: tuple[str, ...]
    rows: tuple[Row, ...]
    charts: tuple[Chart, ...]
    measure: Measure
    mixed: bool
    apart: tuple[str, ...]
    warnings: tuple[tuple[str, str], ...]
    csv: pd.DataFrame = field(repr=False)
    changes: Compared = field(default_factory=Compared)

    @property
    def columns(self) -> tuple[int, ...]:
        """Places in `varied` of what tables show; of runs that are no sweep what tells them apart at a glance."""
        few = strange(self.apart, self.varied)
        return tuple(i for i, key in enumerate(self.varied) if not few or key in AT_A_GLANCE)

    @property
    def ended(self) -> int:
        """How many jobs completed."""
        return sum(j.run is not None and j.run.status == "complete" for j in self.jobs)

    @property
    def problems(self) -> list[tuple[str, str, str, str]]:
        """The jobs that did not complete: name, the overrides that not all jobs have, status, and why."""
        return [(j.name, own_overrides(j, self.jobs), j.status, j.problem) for j in self.jobs if j.problem]

    @property
    def ranked(self) -> list[Row]:
        """The rows of runs that completed, the most robust first; see `rank`."""
        return sorted((r for r in self.rows if r.robust.known and r.trusted), key=self.rank, reverse=True)

    @property
    def distances(self) -> bool:
        """Whether a row has the distance of a minimal attack."""
        return any(r.distance_norm for r in self.rows)

    @property
    def near(self) -> bool:
        """Whether rows have distances of minimal attacks, all in one norm, so that they can be compared."""
        norms = {r.distance_norm for r in self.rows if r.robust.known and r.trusted}
        return len(norms) == 1 and norms != {""}

    def rank(self, row: Row) -> tuple[float, float]:
        """What rows are compared by: the share left standing, then the median distance in the digits that are shown."""
        known = self.near and not math.isnan(row.distance)
        return row.robust.value, float(f"{row.distance:.4g}") if known else 0.0

    @property
    def extremes(self) -> list[tuple[str, list[Row]]]:
        """The best rows and the worst, several where they tie; none where all do, or are apart."""
        ranked = self.ranked
        if not ranked or self.apart:
            return []
        best, worst = ([r for r in ranked if self.rank(r) == self.rank(end)] for end in (ranked[0], ranked[-1]))
        if len(ranked) == 1:
            return [("only", best)]
        return [] if len(best) == len(ranked) else [("best", best), ("worst", worst)]


def folders(paths: Sequence[Path]) -> list[Path]:
    """The folders of runs: those given, and for one that is a sweep those of its jobs, in their order.

    Raises:
        InputError: a folder is neither.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            raise InputError(f"{path}: must be the folder of a run or of a sweep, but is no folder")
        if (path / "run.json").exists():
            found.append(path)
            continue
        jobs = [p for p in path.iterdir() if p.is_dir() and (p.name.isdigit() or (p / "run.json").exists())]
        if not any((p / "run.json").exists() for p in jobs):
            raise InputError(f"{path}: must be the folder of a run or of a sweep, but holds no run.json")
        found += sorted(jobs, key=lambda p: (not p.name.isdigit(), int(p.name) if p.name.isdigit() else 0, p.name))
    return list(dict.fromkeys(found))


def read_job(folder: Path, name: str) -> Job:
    """One run, as far as a sweep tells of it; trouble with it is told, and stops nothing."""
    excuse = Excuse.read(folder)
    if excuse is not None and (excuse.status == "refused" or not (folder / "run.json").exists()):
        return Job(name, folder, problem=excuse.error, status=excuse.status, overrides=tuple(excuse.overrides))
    if not (folder / "run.json").exists():
        return Job(name, folder, problem="no run.json: it never started")
    try:
        run, records = Run.read(folder), read_records(folder)
        threat = Threat.of(run)
    except InputError as error:
        return Job(name, folder, problem=str(error))
    robust = metrics.robust_accuracy(metrics.outcomes(records, threat), threat)
    minimal = {str(a["name"]) for a in run.attacks if a.get("minimal")}
    worst, near = robust[robust["attack"] == WORST], effort.minimal_distances(records)
    table = tables.summary(worst, metrics.clean_accuracy(records), minimal, near)
    problem = {"complete": "", "running": "has not finished"}.get(run.status, "failed")
    if problem == "failed" and run.warnings:
        problem = f"failed: {run.warnings[-1]}"
    if excuse is not None:
        problem = excuse.error
    return Job(name, folder, run, table, problem, run.status, tuple(run.overrides))


def own_overrides(job: Job, jobs: Sequence[Job]) -> str:
    """The overrides of a job that not all the others have too; all where it is alone."""
    others = [j for j in jobs if j.overrides and j is not job]
    own = [o for o in job.overrides if not others or any(o not in j.overrides for j in others)]
    return shlex.join(own)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _kind(node: Mapping[str, Any]) -> str:
    """A node in a few words: what its nodes are called, else what it is, else its keys.

    >>> _kind({"path": None, "softmax": {"decay": 0.1}}), _kind({"_target_": "eval.data.Arrays", "test": "a.npz"})
    ('softmax', 'Arrays')
    """
    nodes = [k for k, v in node.items() if isinstance(v, Mapping)]
    if not nodes and "_target_" in node:
        return str(node.get("name") or node["_target_"]).rpartition(".")[2]
    return ", ".join(nodes or node)


def differences(configs: Sequence[Mapping[str, Any]], path: str = "") -> dict[str, list[str]]:
    """The keys whose values differ, with the values as text; nodes of other keys by `_kind`.

    >>> differences([{"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 2}])
    {'a.b': ['1', '3']}
    >>> differences([{"attack": {"fgsm": {}}}, {"attack": {"pgd": {"steps": 4}}}])
    {'attack': ['fgsm', 'pgd']}
    """
    result: dict[str, list[str]] = {}
    shared = [k for k in configs[0] if all(k in c for c in configs)]
    if any(len(c) > len(shared) for c in configs):
        result[path or "(top)"] = [_kind(c) for c in configs]
    for key in shared:
        values = [c[key] for c in configs]
        where = f"{path}.{key}" if path else key
        if all(isinstance(v, Mapping) for v in values):
            result |= differences(values, where)
        elif any(v != values[0] for v in values):
            result[where] = [_text(v) for v in values]
    return result


def _varied(jobs: Sequence[Job]) -> dict[str, list[str]]:
    """What varied between the jobs that have a header; where a job wrote to is no parameter."""
    runs = [(j.run, j.folder) for j in jobs if j.run is not None]
    if len(runs) < 2:
        return {}
    found = differences([run.config for run, _ in runs])
    return {
        key: values
        for key, values in found.items()
        if not all(str(folder) in v for v, (_, folder) in zip(values, runs, strict=True))
    }


def _link(folder: Path, base: Path) -> str:
    """The address of a job's own page as seen from the folder `base`, or nothing where there is none."""
    page = folder.resolve() / "report.html"
    if not page.exists() or page.anchor != base.anchor:  # from one drive to another no relative path leads
        return ""
    return quote(Path(os.path.relpath(page, base)).as_posix())


def read(paths: Sequence[Path], output: Path) -> Sweep:
    """The combined report of runs and sweeps, to be written in the folder `output`.

    Raises:
        InputError: a path is no folder of a run or of a sweep.
    """
    found = folders(paths)
    base = output.resolve()
    jobs = []
    for folder in found:
        whole = folder.resolve()
        jobs.append(read_job(folder, str(whole.relative_to(base)) if whole.is_relative_to(base) else str(folder)))
    varied = _varied(jobs)
    rows, parts, place = [], [], 0
    for job in jobs:
        told = {"overrides": [own_overrides(job, jobs)], "error": [job.problem]}
        beside = pd.DataFrame({"job": [job.name], "status": [job.status], **told})
        if job.run is None:
            parts.append(beside)
            continue
        values = tuple(column[place] for column in varied.values())
        place += 1
        for key, value in zip(varied, values, strict=True):
            beside[f"config.{key}"] = value
        parts.append(beside.merge(job.table[list(_SUMMARY)], how="cross") if len(job.table) else beside)
        threat = Threat.of(job.run)
        for row in rows_of(job.table[job.table["eps_text"] == threat.headline]):
            clean = Share(
                row["clean_accuracy"], row["clean_low"], row["clean_high"], int(np.nan_to_num(row["clean_n"]))
            )
            label = f"{norm_label(threat.norm)}, {eps_label(threat.headline)}"
            rows.append(
                Row(
                    job.name,
                    _link(job.folder, base),
                    values,
                    row["model"],
                    label,
                    clean,
                    share_of(row, "robust_accuracy"),
                    not job.problem,
                    float(row["distance_median"]),
                    row["distance_norm"] if isinstance(row["distance_norm"], str) else "",
                )
            )
    runs = [j for j in jobs if j.run is not None]
    goals = sorted({j.run.goal for j in runs if j.run}, key=lambda goal: goal != "untargeted")
    measure = Measure.of(goals[-1] if goals else "untargeted")
    apart = differ([j.run for j in runs if j.run])
    return Sweep(
        title=runs[0].run.title if runs and runs[0].run else "Sweep",
        jobs=tuple(jobs),
        varied=tuple(varied),
        rows=tuple(rows),
        charts=() if strange(apart, varied) else charts(list(varied), rows, measure),
        measure=measure,
        mixed=len(goals) > 1,
        apart=apart,
        warnings=tuple((j.name, line) for j in runs if j.run for line in j.run.warnings),
        csv=_csv(parts, varied),
    )


def _csv(parts: Sequence[pd.DataFrame], varied: Mapping[str, Any]) -> pd.DataFrame:
    columns = ["job", "status", *(f"config.{key}" for key in varied), *_SUMMARY, "overrides", "error"]
    records = [row for part in parts for row in rows_of(part)]
    table = pd.DataFrame(records, columns=columns)
    return table.astype(dict.fromkeys(("clean_n", "n", "errors", "searched", "found"), "Int64"))
