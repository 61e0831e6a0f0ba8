"""A run as a gate sees it: which question it answers, on which samples, and what became of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval.errors import InputError
from eval.excuse import Excuse
from eval.gate.outcomes import Cell, Outcomes, Rows, grid, read_rows
from eval.levels import WORST, Threat
from eval.records import UNFINISHED, Run

_STUDY = "eval.studies.robustness.Robustness"  # all attacks on all networks, as without a study
_MADE = ("title", "command", "overrides", "seed", "versions", "commit", "device", "started", "warnings")


@dataclass(frozen=True)
class Snapshot:
    """What a run found, sample by sample.

    Attributes:
        where: the run's folder or the baseline's file, for messages.
        question: what must be equal for two snapshots to be comparable; see `question`.
        made: how it was made: title, command, overrides, config, seed, versions, commit, device, started, warnings.
        models: the fingerprint of each network's weights, by its name.
        samples: ids, sorted.
        cells: the outcome of each sample (S,), by cell.
        rows: the run's records; None of a baseline.
        run: the run's header; None of a baseline.
    """

    where: str
    question: dict[str, Any]
    made: dict[str, Any]
    models: Mapping[str, str]
    samples: tuple[str, ...]
    cells: Mapping[Cell, Outcomes] = field(repr=False)
    rows: Rows | None = field(default=None, repr=False)
    run: Run | None = field(default=None, repr=False)

    @property
    def attacks(self) -> tuple[str, ...]:
        """The names of the attacks."""
        return tuple(self.question["attack"])

    @property
    def levels(self) -> tuple[tuple[str, float], ...]:
        """Text and value in box units of each eps, ascending."""
        return tuple((str(e["text"]), float(e["value"])) for e in self.question["threat"]["eps"])

    @property
    def headline(self) -> str:
        """The text of the eps that is quoted first."""
        return str(self.question["threat"]["headline"])

    def foremost(self, model: str) -> Cell:
        """The cell that a network is known by: the worst case of all attacks at the headline eps."""
        attack = WORST if len(self.attacks) > 1 else self.attacks[0]
        return Cell(model, attack, self.headline)


def question(run: Run) -> dict[str, Any]:
    """What a run asked: on which samples, within which budget, by which attacks. The networks are no part of it."""
    configured: Mapping[str, Any] = run.config.get("attack") or {}
    return {
        "data": {"name": str(run.data["name"]), "n": int(run.data["n"]), "fingerprint": str(run.data["fingerprint"])},
        "threat": {k: run.threat[k] for k in ("norm", "headline", "eps")},
        "goal": run.goal,
        "seed": run.seed,
        "access": str(run.config.get("access", "weights")),
        "queries": run.config.get("queries"),
        "attack": {
            str(a["name"]): {
                "_target_": (configured.get(a["name"]) or {}).get("_target_", ""),
                "norm": a["norm"],
                **a["fields"],
            }
            for a in run.attacks
        },
    }


def read_run(folder: Path) -> Snapshot:
    """The snapshot of a run that completed.

    Raises:
        InputError: the folder holds no run, or one that cannot be read, did not complete, lacks samples, or is a
            study that a gate cannot watch.
    """
    run = _whole(folder)
    threat = Threat.of(run)
    try:
        asked = question(run)
        models = {str(m["name"]): str(m.get("fingerprint", "")) for m in run.models}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder}/run.json: must have data, threat and attacks of a run, got {error!r}") from None
    if not asked["attack"]:
        raise InputError(f"{folder}: must have attacked its networks, but ran no attack; add attack=quick or another")
    rows = read_rows(folder, threat.norm)
    found = grid(rows, threat, list(models), list(asked["attack"]))
    _covered(folder, asked["data"]["n"], found.samples, found.untried)
    config = {k: v for k, v in run.config.items() if k not in ("paths", "run")}  # of this machine
    made = {name: getattr(run, name) for name in _MADE} | {"config": config}
    return Snapshot(str(folder), asked, made, models, found.samples, found.cells, rows, run)


def _whole(folder: Path) -> Run:
    """The header of a run that completed."""
    if not folder.is_dir():
        raise InputError(f"{folder}: must be the folder of a run, but is no folder; name the one with its run.json")
    excuse = Excuse.read(folder)
    if excuse is not None:
        raise InputError(f"{folder}: must be a run that completed, but it was {excuse.status}: {excuse.error}")
    if not (folder / "run.json").exists():
        jobs = sorted(p.parent.name for p in folder.glob("*/run.json"))
        if jobs:
            raise InputError(
                f"{folder}: must be the folder of one run, but is one of {len(jobs)}; name one, such as "
                f"{folder / jobs[0]}"
            )
    run = Run.read(folder)
    if run.status in UNFINISHED:
        raise InputError(
            f"{folder}: must be a run that completed, but it still runs or was interrupted; wait, or go on with the "
            f"same command and run.dir={folder}"
        )
    if run.status != "complete":
        why = run.warnings[-1] if run.warnings else "an attack crashed"
        raise InputError(f"{folder}: must be a run that completed, but it failed: {why}; mend that and run it again")
    study = str((run.config.get("study") or {}).get("_target_", ""))
    if study not in ("", _STUDY):
        raise InputError(
            f"{folder}: must be a run of plain attacks, or experiment=robustness, but is the study {study}; run those"
        )
    return run


def _covered(folder: Path, n: int, samples: tuple[str, ...], untried: Mapping[Cell, tuple[str, ...]]) -> None:
    """Refuse a run whose records do not have every sample in every cell."""
    if untried:
        cell, lacking = max(untried.items(), key=lambda item: len(item[1]))
        raise InputError(
            f"{folder}: must have records of all {n} samples, but lacks {len(lacking)} ({lacking[0]} is one) of "
            f"{cell}; run the same command with run.dir={folder} to complete it"
        )
    if len(samples) != n:
        raise InputError(f"{folder}: must have records of all {n} samples, but has {len(samples)}; run it again")
