"""All that a report says, as data: records and header in, dataclasses out. There is no HTML here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from eval import effort, metrics
from eval.frames import read_frame
from eval.group_metrics import per_sample
from eval.metrics import WORST, Threat
from eval.records import COLUMNS, Run, parts_made
from eval.transfer_metrics import transfer
from reports import tables
from reports.cards import Card, cards
from reports.charts import Chart, accuracy_charts, distortion_charts
from reports.gallery import Example, foremost, gallery
from reports.hurt import Hurt, hurt
from reports.matrices import Matrix, matrices, rows_of, share_of
from reports.measure import Measure
from reports.texts import Share, claim, eps_label, minimises, moment, norm_label

if TYPE_CHECKING:
    from eval.diagnosis.reading import Diagnosis

_UNSEEN = ("clean_rank", "adv_rank")
"""Columns that the page says nothing of."""


@dataclass(frozen=True)
class Cell:
    """Of the table of robust accuracy; `right` as on a card."""

    share: Share
    rounded: Share
    errors: int
    right: Share


@dataclass(frozen=True)
class RobustRow:
    """One model and attack; a cell per eps, or None where the attack was not run.

    `alone` counts the samples that no other attack broke, at the headline eps; `minimises` says what a search for the
    smallest perturbation looks for.
    """

    model: str
    attack: str
    minimises: str
    worst: bool
    cells: tuple[Cell | None, ...]
    alone: int


@dataclass(frozen=True)
class Page:
    """The whole report of a run."""

    run: Run
    made: int
    claim: str
    measure: Measure
    diagnoses: tuple[Diagnosis, ...]
    headline: str
    norm: str
    eps: tuple[str, ...]
    overview: tuple[tuple[str, str], ...]
    cards: tuple[Card, ...]
    curves: tuple[Chart, ...]
    robust: tuple[RobustRow, ...]
    matrices: tuple[Matrix, ...]
    models: tuple[str, ...]
    hurt: tuple[Hurt, ...]
    distortions: tuple[Chart, ...]
    distortion_table: tuple[dict[str, Any], ...]
    examples: tuple[Example, ...]
    more_examples: tuple[Example, ...]
    stages: tuple[dict[str, Any], ...]
    costs: tuple[dict[str, Any], ...]
    more_costs: tuple[dict[str, Any], ...]
    config: str
    csv: dict[str, pd.DataFrame] = field(repr=False)

    @property
    def doubted(self) -> frozenset[str]:
        """The models whose numbers are not to be trusted."""
        return frozenset(found.model for found in self.diagnoses if found.against)

    @property
    def charts(self) -> tuple[Chart, ...]:
        """All charts, as they are saved beside the page."""
        return (*self.curves, *(chart for part in self.hurt for chart in part.charts), *self.distortions)


def _right(run: Run, cross: pd.DataFrame) -> dict[tuple[str, str, str], Share]:
    """Accuracy by (model, attack, text of eps) under attacks with a targeted goal: what the white-box error leaves."""
    if run.goal == "untargeted":
        return {}
    return {
        (row["target"], row["attack"], row["eps_text"]): Share(
            1 - row["error"], 1 - row["high"], 1 - row["low"], int(row["n"])
        )
        for row in rows_of(cross[(cross["source"] == cross["target"]) & (cross["n"] > 0)])
    }


def _robust_rows(
    robust: pd.DataFrame, threat: Threat, minimal: Mapping[str, str], right: Mapping[tuple[str, str, str], Share]
) -> tuple[RobustRow, ...]:
    cells = {
        (row["model"], row["attack"], row["eps_text"]): Cell(
            share_of(row, "robust_accuracy"),
            share_of(row, "robust_accuracy_8bit", suffix="_8bit"),
            int(row["errors"]),
            right.get((row["model"], row["attack"], row["eps_text"]), Share.unknown()),
        )
        for row in rows_of(robust)
    }
    alone = {(row["model"], row["attack"], row["eps_text"]): int(row["alone"]) for row in rows_of(robust)}
    order = dict.fromkeys((model, attack) for model, attack, _ in cells)
    return tuple(
        RobustRow(
            m,
            a,
            minimal.get(a, ""),
            a == WORST,
            tuple(cells.get((m, a, text)) for text, _ in threat.levels),
            alone.get((m, a, threat.headline), 0),
        )
        for m, a in order
    )


def _diagnoses(run: Run, records: pd.DataFrame, folder: Path) -> tuple[Diagnosis, ...]:
    """What the diagnosis found, if there was one; most runs measure nothing, and do without what reads it."""
    if not any((folder / "measured").glob("*.npz")):
        return ()
    from eval.diagnosis.reading import diagnoses

    return diagnoses(run, records, folder)


def overview(run: Run, threat: Threat) -> tuple[tuple[str, str], ...]:
    """What was run, as names and texts."""
    data = run.data
    shape = " x ".join(str(s) for s in data.get("shape", ()))
    attacks = ", ".join(
        f"{a['name']} ({minimises(str(a['norm']))})" if a.get("minimal") else str(a["name"]) for a in run.attacks
    )
    ended = "Interrupted" if run.status == "interrupted" else "Finished"
    return (
        ("Data", f"{data['name']} ({data.get('split', '')}), {data['n']} images of {shape}"),
        ("Classes", str(len(data.get("classes", ())))),
        ("Threat", f"{norm_label(threat.norm)}, {', '.join(eps_label(t) for t, _ in threat.levels)}"),
        ("Goal", run.goal),
        ("Models", ", ".join(str(m["name"]) for m in run.models)),
        ("Attacks", attacks),
        ("Device", run.device),
        ("Seed", str(run.seed)),
        ("Started", moment(run.started)),
        (ended, moment(run.finished) if run.finished else "not yet"),
        ("Toastproof", " ".join(filter(None, [run.versions.get("toastproof", ""), run.commit[:12]]))),
        ("Python, torch", ", ".join(filter(None, [run.versions.get("python"), run.versions.get("torch")]))),
    )


def read(folder: Path) -> Page:
    """The report of a run's folder.

    Raises:
        InputError: the folder holds no run, or one that cannot be read.
    """
    run = Run.read(folder)
    threat = Threat.of(run)
    records = read_frame(folder, columns=[c for c in COLUMNS if c not in _UNSEEN])
    rows = metrics.outcomes(records, threat)
    cube = metrics.Cube(rows)
    order = {str(m["name"]): i for i, m in enumerate(run.models)}
    attacks = {str(a["name"]): i for i, a in enumerate(run.attacks)}

    def ranked(table: pd.DataFrame) -> pd.DataFrame:
        """In the order of the configuration, the worst case last."""
        model = table["model"].map(order).fillna(len(order))
        attack = model * 0
        if "attack" in table:
            attack = table["attack"].map(attacks | {WORST: len(attacks) + 1}).fillna(len(attacks))
        return table.iloc[np.lexsort((attack, model))].reset_index(drop=True)

    clean, robust = (
        ranked(metrics.clean_accuracy(records)),
        ranked(metrics.robust_accuracy(cube, threat)),
    )
    minimal = {str(a["name"]): minimises(str(a["norm"])) for a in run.attacks if a.get("minimal")}
    own = [str(a["norm"]) for a in run.attacks if a.get("minimal")]
    cross = transfer(records)
    right = _right(run, cross)
    measure = Measure.of(run.goal, [str(c) for c in run.data.get("classes", ())])
    parts, unequal = hurt(run, per_sample(records, cube, threat), ranked, measure)
    distances = ranked(effort.distortion(records, threat))
    spent = ranked(effort.costs(rows))
    first = spent["eps_text"].isin([threat.headline, "min"])
    stages = {str(a["name"]): [str(s["name"]) for s in a["stages"]] for a in run.attacks if a.get("stages")}
    staged = ranked(effort.by_stage(records, stages))
    strength = {
        (row["model"], row["attack"]): float(row["robust_accuracy"])
        for row in rows_of(robust[(robust["eps_text"] == threat.headline) & (robust["n"] > 0)])
    }
    shown_first, others = foremost(gallery(folder, run, records, threat), strength)
    return Page(
        run=run,
        made=parts_made(folder),
        claim=claim(threat.norm, threat.headline),
        measure=measure,
        diagnoses=_diagnoses(run, records, folder),
        headline=eps_label(threat.headline),
        norm=norm_label(threat.norm),
        eps=tuple(eps_label(text) for text, _ in threat.levels),
        overview=overview(run, threat),
        cards=cards(run, clean, robust, threat.headline, right),
        curves=accuracy_charts(ranked(metrics.curve(cube, threat, robust)), threat, measure),
        robust=_robust_rows(robust, threat, minimal, right),
        matrices=matrices(cross, list(order), list(attacks), threat.headline),
        models=tuple(order),
        hurt=parts,
        distortions=distortion_charts(distances, threat, list(order), own),
        distortion_table=tuple(rows_of(distances)),
        examples=shown_first,
        more_examples=others,
        stages=tuple(rows_of(staged)),
        costs=tuple(rows_of(spent[first])),
        more_costs=tuple(rows_of(spent[~first])),
        config=json.dumps(run.config, indent=2, ensure_ascii=False),
        csv={
            "summary": tables.summary(robust, clean, set(minimal), effort.minimal_distances(records)),
            "transfer": cross[list(tables.TRANSFER)],
            **{name: table[list(tables.PARTS[name])] for name, table in unequal.items()},
            **({"stages": staged} if stages else {}),
        },
    )
