"""Who is hurt most: what a report says of classes and of groups of samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from eval.group_metrics import HALF, Between, Disparity, by_part, disparities
from eval.records import Run
from reports import tables
from reports.charts import Chart
from reports.dumbbells import Dumbbell, dumbbells
from reports.matrices import rows_of, share_of
from reports.measure import Measure
from reports.texts import Share, percent

_MOST_ROWS, _MOST_DRAWN, _MOST_NAMED = 60, 30, 6


@dataclass(frozen=True)
class _Kind:
    """What samples are divided by: `column` of the tables, whose values `named` makes names of."""

    name: str
    plural: str
    title: str
    column: str
    named: Callable[[str], str]


@dataclass(frozen=True)
class PartRow:
    """One class or group: clean, left and lost to the attack on each network, None where there is no sample."""

    name: str
    cells: tuple[tuple[Share, Share, Share] | None, ...]


@dataclass(frozen=True)
class Hurt:
    """The classes, or the groups, of a run.

    Attributes:
        kind: `class` or `group`.
        plural: several of it.
        title: of its part of the section.
        rows: of the table; the least robust where there are very many.
        left_out: how many have no row.
        size: samples that half of them have at most.
        without: samples that are of no group.
        networks: for each the chart, and what is out of proportion.
        made: how the intervals of differences were made.
    """

    kind: str
    plural: str
    title: str
    rows: tuple[PartRow, ...]
    left_out: int
    size: int
    without: int
    networks: tuple[tuple[Chart, tuple[str, ...]], ...]
    made: str

    @property
    def charts(self) -> tuple[Chart, ...]:
        """As they are saved beside the page."""
        return tuple(chart for chart, _ in self.networks)


def hurt(
    run: Run, samples: pd.DataFrame, ranked: Callable[[pd.DataFrame], pd.DataFrame], measure: Measure
) -> tuple[tuple[Hurt, ...], dict[str, pd.DataFrame]]:
    """What there is to say of classes and, where there are any, of groups; and the tables.

    Args:
        run: the header.
        samples: from `eval.group_metrics.per_sample`.
        ranked: puts a table in the order of the networks.
        measure: words for what is left standing.
    """
    classes = [str(name) for name in run.data.get("classes", ())]
    kinds = [_Kind("class", "classes", "Class by class", "label", lambda part: _class(classes, part))]
    if (samples["group"] != "").any():
        grouping = str((run.data.get("groups") or {}).get("name", "group"))
        kinds.append(_Kind("group", "groups", f"By {grouping}", "group", str))
    found, csv, unequal = [], {}, []
    for kind in kinds:
        table = ranked(by_part(samples, kind.column))
        table[kind.name] = [kind.named(str(part)) for part in table[kind.column]]
        apart = disparities(samples, kind.column, run.seed)
        without = int(samples[samples[kind.column] == ""]["sample"].nunique())
        found.append(_part(run, kind, table, apart, measure, without))
        unequal += [_numbers(kind, one) for one in apart]
        csv[kind.plural] = table
    csv["disparity"] = pd.DataFrame(unequal, columns=list(tables.PARTS["disparity"]))
    return tuple(found), csv


def _class(classes: Sequence[str], label: str) -> str:
    return classes[int(label)] if 0 <= int(label) < len(classes) else label


def _part(
    run: Run, kind: _Kind, table: pd.DataFrame, unequal: Sequence[Disparity], measure: Measure, without: int
) -> Hurt:
    models = [str(m["name"]) for m in run.models]
    names = list(dict.fromkeys(table.sort_values(kind.column, kind="stable")[kind.column]))
    if len(names) > _MOST_ROWS:
        weakest = table.groupby(kind.column)["robust_accuracy"].mean().fillna(1.0).sort_values(kind="stable")
        names = list(weakest.index[:_MOST_ROWS])
    cells = {(row[kind.column], row["model"]): _shares(row) for row in rows_of(table)}
    rows = tuple(PartRow(kind.named(str(n)), tuple(cells.get((n, m)) for m in models)) for n in names)
    by_model = {one.model: one for one in unequal}
    return Hurt(
        kind=kind.name,
        plural=kind.plural,
        title=kind.title,
        rows=rows,
        left_out=table[kind.column].nunique() - len(rows),
        size=int(table["n"].median()) if len(table) else 0,
        without=without,
        networks=tuple(
            (_chart(hue, by_model[model], kind, table[table["model"] == model], measure), _flags(by_model[model], kind))
            for hue, model in enumerate(models)
            if model in by_model
        ),
        made=f"n = {max((one.n for one in unequal), default=0)}, "
        f"{max((one.replicates for one in unequal), default=0):,} resamplings, seed {run.seed}",
    )


def _shares(row: dict[str, Any]) -> tuple[Share, Share, Share]:
    """Clean, left and lost."""
    return (
        share_of(row, "clean_accuracy"),
        share_of(row, "robust_accuracy", "robust_n", "_robust"),
        share_of(row, "boundary_error", "robust_n", "_boundary"),
    )


def _chart(hue: int, one: Disparity, kind: _Kind, table: pd.DataFrame, measure: Measure) -> Chart:
    """The least robust first."""
    rows = rows_of(table[table["robust_n"] > 0].sort_values("robust_accuracy", kind="stable"))
    bells, cells = [], []
    for row in rows[:_MOST_DRAWN]:
        (clean, left, lost), name = _shares(row), str(row[kind.name])
        note = f"{name}: clean {clean.full}, {measure.column} {left.full}"
        open_ = str(row[kind.column]) in one.worst
        bells.append(Dumbbell(name, clean.value, left.value, left.low, left.high, open_, note))
        cells.append((name, str(left.n), clean.text, left.text, left.interval, lost.text))
    more = f" Shown are the {_MOST_DRAWN} lowest of {len(rows)}." if len(rows) > _MOST_DRAWN else ""
    return Chart(
        f"hurt-{kind.name}-{hue}",
        one.model,
        f"{_apart(one, kind, measure)} {_worst(one, kind)}{more}",
        dumbbells(
            f"{one.model}, {kind.name} by {kind.name}",
            bells,
            ("clean", f"{measure.column}, 95% interval"),
            (one.mean, f"mean of the {kind.plural}: {percent(one.mean)}"),
            hue,
        ),
        (kind.name, "n", "clean", measure.column, "interval", "lost"),
        tuple(cells),
    )


def _apart(one: Disparity, kind: _Kind, measure: Measure) -> str:
    return (
        f"Between the {kind.plural} lie {_points(one.robust)} of what is {measure.column}, and {_points(one.clean)} "
        "without attack."
    )


def _worst(one: Disparity, kind: _Kind) -> str:
    """Which part is the worst, as far as can be said."""
    names = [kind.named(part) for part in one.worst]
    low = f" {names[0]}, at {percent(one.least)}, lies below half of the mean, but so it may by chance."
    doubt = low if one.least < HALF * one.mean and not one.halved else ""
    if one.named:
        return f"The worst is {names[0]}, beyond what chance explains.{doubt}"
    if len(names) == one.parts:
        return f"Chance explains all differences between the {kind.plural}: none can be called the worst.{doubt}"
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"Any of these may be the worst, and chance explain the rest: {', '.join(names[:_MOST_NAMED])}{more}.{doubt}"


def _flags(one: Disparity, kind: _Kind) -> tuple[str, ...]:
    """What is out of proportion, beyond chance."""
    found = []
    if one.grown:
        found.append(f"The attack makes the {kind.plural} more unequal, by {_points(one.growth)}.")
    if one.halved:
        least = f"{kind.named(one.worst[0])} is left with {percent(one.least)}"
        found.append(f"{least}, less than half of the mean of all {kind.plural}, {percent(one.mean)}.")
    return tuple(found)


def _points(of: Between) -> str:
    return f"{100 * of.value:.1f} points (95% interval {100 * of.low:.1f} to {100 * of.high:.1f})"


def _numbers(kind: _Kind, one: Disparity) -> dict[str, Any]:
    """A row of disparity.csv."""
    between = {"clean": one.clean, "robust": one.robust, "growth": one.growth}
    values = {name: b.value for name, b in between.items()} | {f"low_{name}": b.low for name, b in between.items()}
    numbers = values | {f"high_{name}": b.high for name, b in between.items()}
    return {
        "model": one.model, "by": kind.name, "n": one.n, "parts": one.parts, **numbers, "mean_robust": one.mean,
        "least_robust": one.least, "worst": "; ".join(map(kind.named, one.worst)), "grown": one.grown,
        "halved": one.halved, "replicates": one.replicates,
    }  # fmt: skip
