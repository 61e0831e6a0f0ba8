"""Destruction rates from the records of `eval.studies.physical`, those of Kurakin et al. beside. Free of torch.

    d = sum C(X) notC(X_adv) C(T(X_adv)) / sum C(X) notC(X_adv),   C: classified correctly

Source of the numbers: "Adversarial examples in the physical world", 2016 (arXiv 1607.02533), the tables of photographed
prints, average case and prefiltered, by the likeliest class and by the likeliest five.
Departures: the paper's prefiltered pictures are clear cases for all its methods at once; ours for each method and eps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from eval.intervals import Bools
from eval.records import Run
from eval.rows import erred, numbers, wrong
from eval.studies.cells import Table, Value, told
from eval.studies.idle import idle
from eval.studies.kurakin_numbers import DESTROYABLE, PRINTED, Printed
from eval.studies.looks import AWAY, CONFIDENT, LABELS, LEAST, Made, mean_share
from eval.studies.orders import allowed
from eval.studies.reading import Reading

_CLEAN = "clean_"
_IMAGENET = 1000  # classes; the paper's numbers are about these alone
_FIVE, _MANY = 5, 50  # the top five say something of more classes than these


def read(run: Run, records: pd.DataFrame, folder: Path) -> Reading:
    """What a run of `eval.studies.physical.Physical` says."""
    del folder
    found: list[Table] = []
    lines: list[str] = []
    for model in (str(m["name"]) for m in run.models):
        made = tables(run, records, model)
        several = len(run.models) > 1
        found += [replace(t, name=f"{t.name}_{model}", title=f"{t.title} ({model})") for t in made] if several else made
        lines += [f"{model}: {line}" if several else line for line in findings(run, made)]
    if without := idle(run, records):
        lines.append(f"{', '.join(map(_head, without))}: left out, since no pixel changes by half a level of 8 bits.")
    note = "The print and its photograph are simulated by random transformations; the paper's were real."
    return Reading(tuple(found), (*lines, note))


def _units(run: Run, records: pd.DataFrame, model: str) -> list[Made]:
    """By attack in the order of the study, and by budget, smallest first."""
    study = run.config["study"]
    rows = records[~erred(records) & (records["target_model"] == model) & (records["role"] != "clean")]
    names = [
        *(name + AWAY for name in study["untargeted"]),
        *(name + LEAST for name in study["least_likely"]),
        *study["targeted"],
    ]
    found = []
    for name in names:
        for (_, eps), part in rows[rows["attack"] == name].groupby(["eps", "eps_text"], sort=True):
            seen = {str(role): group.sort_values("sample") for role, group in part.groupby("role")}
            found.append(Made(name, str(eps), seen))
    return found


def tables(run: Run, records: pd.DataFrame, model: str) -> list[Table]:
    """All tables of one network."""
    study = run.config["study"]
    composition, draws = str(study["composition"]), int(study["draws"])
    without = idle(run, records)
    single = [name for name, strength in study["transformations"].items() if strength != 0 and name not in without]
    units = _units(run, records, model)
    wandering = [u for u in units if u.attack not in study["targeted"]]
    aimed = [u for u in units if not u.attack.endswith(AWAY)]
    classes = len(run.data["classes"])
    return [
        _photographs(wandering, composition, draws, classes),
        *([_filtered(wandering, composition, draws, classes)] if classes > _MANY else []),
        _destruction(wandering, [*single, composition], draws),
        _kept(aimed, [*single, composition], draws),
        _clean(units, [*single, composition], draws, str(study["targeted"][0])),
    ]


def _head(name: str) -> str:
    return name.replace("_", " ")


def _row(unit: Made) -> str:
    return f"{unit.label}, \u03b5 = {unit.eps}"


def _photographs(units: Sequence[Made], composition: str, draws: int, classes: int) -> Table:
    known, five = classes == _IMAGENET, classes > _MANY
    rows = []
    for u in units:
        paper = PRINTED.get((u.label, u.eps), Printed()) if known else Printed()
        top5 = (
            mean_share(u.correct(composition, draws, u.fooled(_FIVE), _FIVE), paper.destroyed_top5, DESTROYABLE)
            if five
            else None
        )
        values = (
            mean_share((~wrong(u.adv, "adv_pred")).astype(np.float64), paper.file),
            mean_share(u.correct(composition, draws), paper.photo),
            mean_share(u.correct(composition, draws, u.fooled()), paper.destroyed, DESTROYABLE),
            *([top5] if five else []),
        )
        rows.append((_row(u), values))
    return Table(
        "photographs",
        f"Perturbed pictures as files and after {_head(composition)}",
        "How many are classified correctly, and which part of those that perturbation fooled the network on are "
        f"classified correctly again (destroyed), on average over {draws} draws of the transformations. The paper's "
        "pictures were printed and photographed, and judged by Inception v3 (top 1, average case); ours go through a "
        "simulated print and camera, and are other photos: what compares is the order of the methods."
        + (" By the top five: the label was among them, is not as a file, and is again." if five else ""),
        ("correct, as files", "correct, photographed", "destroyed", *(["destroyed, top five"] if five else [])),
        tuple(rows),
    )


def _filtered(units: Sequence[Made], composition: str, draws: int, classes: int) -> Table:
    rows = []
    for u in units:
        paper = PRINTED.get((u.label, u.eps), Printed()) if classes == _IMAGENET else Printed()
        values = (
            mean_share(u.correct(composition, draws, u.clear), paper.filtered, DESTROYABLE),
            mean_share(u.correct(composition, draws, u.clear, _FIVE), paper.filtered_top5, DESTROYABLE),
        )
        rows.append((_row(u), values))
    return Table(
        "prefiltered",
        f"Clear cases after {_head(composition)}",
        f"Of the pictures that were recognised and named with more than {CONFIDENT:.0%}, and as perturbed files are "
        f"taken for something else with more than {CONFIDENT:.0%} and their label is not among the top five: which "
        "part is recognised again. The paper chose pictures that were clear cases for all its methods at once.",
        ("destroyed", "destroyed, top five"),
        tuple(rows),
    )


def _destruction(units: Sequence[Made], transformations: Sequence[str], draws: int) -> Table:
    rows = [(_row(u), tuple(mean_share(u.correct(t, draws, u.fooled())) for t in transformations)) for u in units]
    return Table(
        "destruction",
        "Destruction rates",
        "Which part of the pictures that perturbation fooled the network on are classified correctly again after a "
        "transformation. A transformation that is hard on the network itself destroys less by this count.",
        tuple(map(_head, transformations)),
        tuple(rows),
    )


def _kept(units: Sequence[Made], transformations: Sequence[str], draws: int) -> Table:
    rows = []
    for u in units:
        reached = mean_share(u.brought[wrong_target(u.adv)].astype(np.float64))
        kept = tuple(mean_share(u.kept(t, draws, u.brought)) for t in transformations)
        most = (u.kept(transformations[-1], draws, u.brought) > 0.5).astype(np.float64)
        rows.append((_row(u), (reached, *kept, mean_share(most))))
    return Table(
        "kept",
        "Targets kept",
        "Which part of the pictures was brought to its target, and which part of these are still taken for it after a "
        f"transformation; in the last column: in more than half of the {draws} draws of {_head(transformations[-1])}.",
        ("reached, as files", *map(_head, transformations), "in most draws"),
        tuple(rows),
    )


def wrong_target(adv: pd.DataFrame) -> Bools:
    """Which pictures were not taken for their target unperturbed, so that there was something to do."""
    return np.asarray(numbers(adv["clean_pred"]) != numbers(adv["target_class"]), dtype=bool)


def _clean(units: Sequence[Made], transformations: Sequence[str], draws: int, first: str) -> Table:
    rows = []
    for unit in (u for u in units if u.attack == first):
        cells = [mean_share((~wrong(unit.adv, "clean_pred")).astype(np.float64))]
        cells += [mean_share(unit.correct(_CLEAN + t, draws)) for t in transformations]
        rows.append(("correct", tuple(cells)))
    return Table(
        "clean",
        "Unperturbed pictures under the same transformations",
        "What the transformations cost without any attack: a destroyed perturbation is no success where the picture is "
        "not recognised either.",
        ("as files", *map(_head, transformations)),
        tuple(rows),
    )


def findings(run: Run, found: Sequence[Table]) -> list[str]:
    """What the tables of one network say, in sentences whose numbers are theirs."""
    by = {table.name: table for table in found}
    study = run.config["study"]
    composition = _head(str(study["composition"]))
    return [
        *_order(by["photographs"], str(run.threat["headline"])),
        *_survivors(by["kept"], study, composition),
        *(
            f"Unperturbed, {told(file)} of the pictures are classified correctly as files and {told(seen)} after "
            f"{composition}."
            for file, seen in _cells(by["clean"], "correct", (0, -1))
        ),
    ]


def _cells(table: Table, row: str, places: Sequence[int]) -> list[tuple[Value, ...]]:
    """The values of a row at those places; none if there is no such row, since its attack crashed."""
    found = [values for label, values in table.rows if label == row]
    return [tuple(v for place in places if (v := values[place]) is not None) for values in found]


def _order(table: Table, eps: str) -> list[str]:
    """Whether fast perturbations survive best and least-likely-class ones worst, as in the paper, beyond chance."""
    names = [LABELS[attack] for attack in ("fgsm" + AWAY, "bim" + AWAY, "bim" + LEAST)]
    rows = {label.rpartition(", ")[0]: values[2] for label, values in table.rows if label.endswith(f" = {eps}")}
    rates = {name: v for name in names if (v := rows.get(name)) is not None and v.n}
    if len(rates) < 2:
        return []
    said = ", ".join(f"{name} {told(rate)}" for name, rate in rates.items())
    return [f"At \u03b5 = {eps} the photograph destroys these parts of the perturbations: {said}; {allowed(rates)}."]


def _survivors(table: Table, study: dict[str, object], composition: str) -> list[str]:
    targeted = list(study["targeted"])  # type: ignore[call-overload]
    lines = []
    for name in targeted:
        row = f"{LABELS.get(name, str(name).replace('_', ' '))}, \u03b5 = {study['eps']}"
        for reached, kept, most in _cells(table, row, (0, -2, -1)):
            if kept.n == 0:
                continue
            lines.append(
                f"The attack {row} brings {told(reached)} of the pictures to their targets; {composition} "
                f"leaves the target in {told(kept)} of the looks at these ({reached.ours * kept.ours:.1%} of all "
                f"looks), and in most looks at {round(most.ours * most.n)} of {most.n}."
            )
    return lines
