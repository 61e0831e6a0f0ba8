"""The jobs of a sweep as far as their folders tell: which there are, what became of each, and what is still to come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Any

from eval.alive import alive
from eval.errors import InputError
from eval.excuse import FILE, PLAN, Excuse
from eval.records import UNFINISHED, Run
from reports.varied import shared

STATUSES: Mapping[str, str] = {
    "complete": "all its results are there",
    "running": "a process is at work on it",
    "interrupted": "it was begun, and no process is at work on it",
    "failed": "an attack crashed",
    "crashed": "an error of the program ended it",
    "refused": "its input was refused",
    "unreadable": "a file in its folder is torn",
    "missing": "its folder is there, without a word",
    "waiting": "it has not begun",
}
"""What may have become of a job; the table and the counts are in this order."""
NEVER = "no run.json: it never started"
EARLY = "loads data or trains: it has no run.json yet"
_NUMBERED = ("${hydra:job.num}", "${hydra.job.num}")


@dataclass(frozen=True)
class Job:
    """A run of a sweep: its header, or, in `problem`, why there is none.

    `status` is one of `STATUSES`; `problem` is empty if it completed; `overrides` are all that the command line said.
    """

    name: str
    folder: Path
    run: Run | None = None
    problem: str = ""
    status: str = "missing"
    overrides: tuple[str, ...] = ()


def folders(paths: Sequence[Path]) -> list[Path]:
    """The folders of runs: those given, and for one that is a sweep those of its jobs, in their order.

    Raises:
        InputError: a folder is neither.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            raise InputError(f"{path}: must be the folder of a run or of a sweep, but is no folder")
        found += [path] if (path / "run.json").exists() else _jobs(path)
    return list(dict.fromkeys(found))


def _jobs(sweep: Path) -> list[Path]:
    told = {p: any((p / name).exists() for name in ("run.json", FILE)) for p in sweep.iterdir() if p.is_dir()}
    if not any(told.values()) and not (sweep / PLAN).exists():
        raise InputError(f"{sweep}: must be the folder of a run or of a sweep, but holds no run.json")
    jobs = [p for p, word in told.items() if word or p.name.isdigit()]
    return sorted(jobs, key=lambda p: (not p.name.isdigit(), int(p.name) if p.name.isdigit() else 0, p.name))


def planned(sweep: Path) -> list[tuple[str, ...]]:
    """The overrides of each job that a sweep was begun with, by its number; none where that cannot be known.

    It can of Hydra's own sweeper, which takes all combinations in order, where folders are called by their numbers.

    Raises:
        InputError: `multirun.yaml` cannot be read.
    """
    path = sweep / PLAN
    if not path.exists():
        return []
    import yaml  # type: ignore[import-untyped]
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        what = " ".join(str(error).split())
        raise InputError(f"{path}: must be what Hydra wrote, but cannot be read: {what}; delete it") from None
    hydra = content.get("hydra") if isinstance(content, dict) else None
    if not isinstance(hydra, dict):
        return []
    sweeper, task = hydra.get("sweeper") or {}, (hydra.get("overrides") or {}).get("task") or []
    numbered = (hydra.get("sweep") or {}).get("subdir") in _NUMBERED
    if not numbered or not str(sweeper.get("_target_", "")).endswith(".BasicSweeper"):
        return []
    asked = [*(f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()), *map(str, task)]
    choices: dict[str, list[str]] = {}
    try:
        for override in OverridesParser.create().parse_overrides(asked):
            key = override.get_key_element()
            if override.is_sweep_override():
                choices[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
            else:
                choices[key] = [f"{key}={override.get_value_element_as_str()}"]
    except HydraException:  # such as glob(*), which only the program that sweeps can look up
        return []
    return [*product(*choices.values())]


def with_plan(jobs: Sequence[Job], paths: Sequence[Path], names: Sequence[str]) -> list[Job]:
    """The jobs that have a folder, with their overrides where the plan alone knows them; and those not begun.

    Args:
        jobs: as they were read.
        paths: where they were found: folders of runs and of sweeps.
        names: what the folders are called before the number of a job.
    """
    plans = [(p, name, planned(p)) for p, name in zip(paths, names, strict=True) if not (p / "run.json").exists()]
    said = {path / str(number): overrides for path, _, plan in plans for number, overrides in enumerate(plan)}
    result = [job if job.overrides else replace(job, overrides=said.get(job.folder, ())) for job in jobs]
    for path, name, plan in plans:
        for number, overrides in enumerate(plan):
            if not (path / str(number)).exists():
                called = f"{name}/{number}" if name else str(number)
                why = STATUSES["waiting"]
                result.append(Job(called, path / str(number), problem=why, status="waiting", overrides=overrides))
    return result


def read_job(folder: Path, name: str, like: Run | None = None) -> Job:
    """What became of one job; trouble with it is told, and stops nothing.

    Args:
        folder: of the job.
        name: what it is called.
        like: another job's header, with which this one's shares what is equal.
    """
    excuse, begun = Excuse.read(folder), (folder / "run.json").exists()
    at_work = (excuse is not None or not begun) and alive(folder)
    if excuse is not None and not at_work and (excuse.status == "refused" or not begun):
        return Job(name, folder, problem=excuse.error, status=excuse.status, overrides=tuple(excuse.overrides))
    if not begun:
        problem, status = (EARLY, "running") if at_work else (NEVER, "missing")
        return Job(name, folder, problem=problem, status=status)
    try:
        run = Run.read(folder)
    except InputError as error:
        return Job(name, folder, problem=str(error), status="unreadable")
    run = run if like is None else _like(run, like)
    if excuse is not None and not at_work:  # else it is of an earlier attempt
        status, problem = excuse.status, excuse.error
    elif run.status in UNFINISHED:
        status = "running" if alive(folder) else "interrupted"
        problem = status
    elif run.status == "complete":
        status, problem = "complete", ""
    else:
        status, problem = "failed", run.warnings[-1] if run.warnings else "it does not say why"
    return Job(name, folder, run, problem, status, tuple(run.overrides))


def _like(run: Run, other: Run) -> Run:
    return Run(**{f.name: shared(getattr(run, f.name), getattr(other, f.name)) for f in fields(Run)})


def expected(run: Run) -> int | None:
    """How many results a run has when it is complete: network x attack x budget x sample; None of a study."""
    if run.config.get("study") or not run.attacks:
        return None
    budgets: list[Any] = run.threat["eps"]
    searches = sum(1 if a.get("minimal") else len(budgets) for a in run.attacks)
    return int(run.data["n"]) * len(run.models) * searches


def progress(run: Run, results: int) -> str:
    """How much of a run is there, of which `results` are on disk.

    A result is what one attack at one budget made of one sample, judged by the network that it was made for.
    """
    if not results:
        return "no result yet"
    total = expected(run)
    if total is None or results > total:
        return f"{results:,} results so far"
    return f"{results:,} of {total:,} results ({100 * results // total}%)"


class Own:
    """The overrides of a job that not all the others have too; all where it is alone.

    Args:
        jobs: all of them.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        told = [set(job.overrides) for job in jobs if job.overrides]
        self._alone = len(told) == 1
        self._common = {o for o, n in Counter(o for mine in told for o in mine).items() if n == len(told)}

    def __call__(self, job: Job) -> list[str]:
        """In the order of the command line."""
        return [o for o in job.overrides if self._alone or o not in self._common]
