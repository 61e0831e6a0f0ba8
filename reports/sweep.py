"""Several runs side by side: what varied between them, what came of it, and what is still to come."""

from __future__ import annotations

import math
import os
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from eval.metrics import Threat
from eval.records import Run
from reports.changes import Compared
from reports.charts import Chart
from reports.comparable import AT_A_GLANCE, differ, question, strange
from reports.measure import Measure
from reports.sweep_best import Contest, contests
from reports.sweep_charts import charts
from reports.sweep_jobs import STATUSES, Job, Own, folders, progress, read_job, with_plan
from reports.sweep_numbers import COUNTED, SUMMARY, count
from reports.sweep_rows import Row, is_seed
from reports.sweep_settings import of_jobs
from reports.sweep_store import Numbers, Store
from reports.sweep_table import Table, ordered, table
from reports.texts import Share, eps_label, norm_label
from reports.varied import differences

__all__ = ["Job", "Sweep", "differences", "folders", "read"]

_MOST_VALUES = 8  # that are named where it says what varied
_OPEN = ("running", "interrupted", "missing", "waiting")


@dataclass(frozen=True)
class Sweep:
    """The combined report; `measure` is what its numbers count, of a targeted goal where there is one.

    Attributes:
        title: of the first run.
        jobs: those that have a folder, and those that are not begun.
        varied: the parameters that took several values.
        values: the different values of each.
        rows: one for each job and network.
        charts: against what varied.
        measure: see above.
        mixed: there are several goals.
        apart: in what runs differ that cannot be compared; see `reports.comparable`.
        warnings: of the runs, each with the jobs that gave it.
        csv: all of it.
        changes: what changed sample by sample, of few runs.
    """

    title: str
    jobs: tuple[Job, ...]
    varied: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    rows: tuple[Row, ...]
    charts: tuple[Chart, ...]
    measure: Measure
    mixed: bool
    apart: tuple[str, ...]
    warnings: tuple[tuple[str, tuple[str, ...]], ...]
    csv: pd.DataFrame = field(repr=False)
    changes: Compared = field(default_factory=Compared)

    @property
    def columns(self) -> tuple[int, ...]:
        """Places in `varied` of what tables show; of runs that are no sweep what tells them apart at a glance."""
        few = strange(self.apart, self.varied)
        return tuple(i for i, key in enumerate(self.varied) if not few or key in AT_A_GLANCE)

    @property
    def settings(self) -> list[tuple[str, int, str]]:
        """What varied: the name, the number of values, and the values, of many the first and the last."""
        result = []
        for key, values in ((self.varied[i], self.values[i]) for i in self.columns):
            few = len(values) <= _MOST_VALUES
            text = ", ".join(values) if few else f"{', '.join(values[:3])} \u2026 {values[-1]}"
            result.append((key, len(values), text))
        return result

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many jobs came to what, in the order of `STATUSES`."""
        found = Counter(job.status for job in self.jobs)
        return {status: found[status] for status in STATUSES if found[status]}

    @property
    def ended(self) -> int:
        """How many jobs completed."""
        return self.counts.get("complete", 0)

    @property
    def open(self) -> dict[str, int]:
        """How many jobs are not done, and why not."""
        return {status: n for status, n in self.counts.items() if status in _OPEN}

    @property
    def fallen(self) -> dict[str, int]:
        """How many jobs came to an end without all that they were for."""
        return {status: n for status, n in self.counts.items() if status not in ("complete", *_OPEN)}

    @cached_property
    def problems(self) -> list[tuple[str, str, str, str]]:
        """The jobs that did not complete: name, the overrides that not all jobs have, status, and why."""
        own = Own(self.jobs)
        return [(j.name, shlex.join(own(j)), j.status, j.problem) for j in self.jobs if j.problem]

    @property
    def alike(self) -> list[tuple[str, str, list[tuple[str, list[tuple[str, str]]]]]]:
        """`problems` by status, in the order of `STATUSES`: its meaning, and by what they say name and overrides."""
        groups: dict[str, dict[str, list[tuple[str, str]]]] = {}
        for name, own, status, why in self.problems:
            groups.setdefault(status, {}).setdefault(why, []).append((name, own))
        return [(s, meaning, [*groups[s].items()]) for s, meaning in STATUSES.items() if s in groups]

    @cached_property
    def table(self) -> Table:
        """All jobs."""
        return table(self.varied, self.columns, self.rows, self.measure)

    @cached_property
    def contests(self) -> tuple[Contest, ...]:
        """Which are best and worst of those that answer one question; none of runs that are no sweep."""
        if strange(self.apart, self.varied):
            return ()
        found = contests(self.varied, self.rows)
        return tuple(contest for contest in found if len(contest.ranked) > 1 or not self.apart)

    @property
    def ranked(self) -> list[Row]:
        """The rows of runs that completed, the most robust first, question by question."""
        return [row for contest in contests(self.varied, self.rows) for row in contest.ranked]

    @property
    def extremes(self) -> list[tuple[str, list[Row]]]:
        """The best rows and the worst, where all runs answer one question."""
        return self.contests[0].extremes if self.contests and not self.apart else []


def read(paths: Sequence[Path], output: Path) -> Sweep:
    """The combined report of runs and sweeps, to be written in the folder `output`.

    Raises:
        InputError: a path is no folder of a run or of a sweep.
    """
    base = output.resolve()
    root = paths[0].resolve() if len(paths) == 1 else base
    jobs: list[Job] = []
    like: Run | None = None
    for folder in folders(paths):
        job = read_job(folder, _name(folder, root), like)
        jobs.append(job)
        like = like or job.run
    begun = [(place, job, job.run) for place, job in enumerate(jobs) if job.run is not None]
    told: dict[int, Numbers] = {}
    store = Store(base)
    counted = count([(job.folder, run) for _, job, run in begun], store)
    store.write()
    for (place, job, run), numbers in zip(begun, counted, strict=True):
        told[place] = numbers
        if numbers.problem:
            jobs[place] = replace(job, run=None, problem=numbers.problem, status="unreadable")
        elif job.status in ("running", "interrupted"):
            jobs[place] = replace(job, problem=progress(run, numbers.results))
    jobs = with_plan(jobs, paths, [_name(path, root, "") for path in paths])
    settings = of_jobs(jobs)
    keys = sorted(settings, key=is_seed)  # else in their order
    runs = [job.run for job in jobs if job.run is not None]
    goals = sorted({run.goal for run in runs}, key=lambda goal: goal != "untargeted")
    measure, apart = Measure.of(goals[-1] if goals else "untargeted"), differ(runs)
    rows = []
    for place, job in enumerate(j for j in jobs if j.status != "waiting"):
        values = tuple(settings[key][place] for key in keys)
        rows += _rows(job, told.get(place, Numbers()), values, apart, _link(job.folder, base))
    return Sweep(
        title=runs[0].title if runs else "Sweep",
        jobs=tuple(jobs),
        varied=tuple(keys),
        values=tuple(tuple(ordered([v for v in settings[key] if v])) for key in keys),
        rows=tuple(rows),
        charts=() if strange(apart, keys) else charts(keys, rows, measure),
        measure=measure,
        mixed=len(goals) > 1,
        apart=apart,
        warnings=_warnings(jobs),
        csv=_csv(jobs, told, settings),
    )


def _name(folder: Path, base: Path, here: str = ".") -> str:
    """What a folder is called as seen from the folder `base`, which is called `here`."""
    whole = folder.resolve()
    text = str(whole.relative_to(base)) if whole.is_relative_to(base) else str(folder)
    return here if text == "." else text


def _link(folder: Path, base: Path) -> str:
    """The address of a job's own page, else of its header, as seen from the folder `base`; else nothing."""
    home = folder.resolve()
    there = next((home / name for name in ("report.html", "run.json") if (home / name).exists()), None)
    if there is None or there.anchor != base.anchor:  # from one drive to another no relative path leads
        return ""
    return quote(Path(os.path.relpath(there, base)).as_posix())


def _rows(job: Job, numbers: Numbers, values: tuple[str, ...], apart: Sequence[str], href: str) -> list[Row]:
    """A job's rows: one for each network at the headline eps, or one that has no numbers."""
    nothing = Row(job.name, href, values, "", "", Share.unknown(), Share.unknown(), False, status=job.status)
    if job.run is None:
        return [nothing]
    run, threat = job.run, Threat.of(job.run)
    label = f"{norm_label(threat.norm)}, {eps_label(threat.headline)}"
    nothing = replace(nothing, headline=label, question=question(run, apart), asked=_asked(run, apart, label))
    if job.status in ("complete", "failed") and run.wall_seconds:
        nothing = replace(nothing, seconds=sum(run.wall_seconds.values()))
    result = [
        replace(
            nothing,
            model=row["model"],
            clean=_known(row["clean_accuracy"], row["clean_low"], row["clean_high"], row["clean_n"]),
            robust=_known(row["robust_accuracy"], row["low"], row["high"], row["n"]),
            trusted=not job.problem,
            distance=float(row["distance_median"]),
            distance_norm=row["distance_norm"] if isinstance(row["distance_norm"], str) else "",
            errors=int(row["errors"]),
        )
        for row in numbers.rows
        if row["eps_text"] in (threat.headline, "")
    ]
    return result or [nothing]


def _known(value: float, low: float, high: float, n: float) -> Share:
    return Share.unknown() if math.isnan(value) or math.isnan(n) else Share(value, low, high, int(n))


def _asked(run: Run, apart: Sequence[str], label: str) -> str:
    """What a run asked, in the words that tell it from the others."""
    words = [str(run.data["name"])] if "data" in apart else []
    words += [label] if {"norm", "budget"} & set(apart) else []
    words += [f"goal {run.goal}"] if "goal" in apart else []
    study = (run.config.get("study") or {}).get("_target_", "") if "study" in apart else ""
    return ", ".join([*words, *([str(study).rpartition(".")[2]] if study else [])])


def _warnings(jobs: Iterable[Job]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Each warning once, with the names of the jobs that gave it; not those that say why a job failed."""
    found: dict[str, list[str]] = {}
    for job in jobs:
        for line in job.run.warnings if job.run else ():
            if line != job.problem:
                found.setdefault(line, []).append(job.name)
    return tuple((line, tuple(names)) for line, names in found.items())


def _csv(jobs: Sequence[Job], told: Mapping[int, Numbers], settings: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """One row for each job, network and eps; of a job without numbers one row too."""
    columns = ["job", "status", *(f"config.{key}" for key in settings), *SUMMARY, "seconds", "overrides", "error"]
    own, rows = Own(jobs), []
    for place, job in enumerate(jobs):
        seconds = sum(job.run.wall_seconds.values()) if job.run and job.run.wall_seconds else None
        beside: dict[str, Any] = {
            "job": job.name, "status": job.status, **{f"config.{key}": settings[key][place] for key in settings},
            "seconds": seconds, "overrides": shlex.join(own(job)), "error": job.problem,
        }  # fmt: skip
        rows += [{**beside, **row} for row in told.get(place, Numbers()).rows] or [beside]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(COUNTED, "Int64"))
