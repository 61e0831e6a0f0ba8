"""Destruction rates from the records of `eval.studies.physical`, those of Kurakin et al. beside. Free of torch.

    d = sum C(X) notC(X_adv) C(T(X_adv)) / sum C(X) notC(X_adv),   C: classified correctly

Source of the numbers: "Adversarial examples in the physical world", 2016 (arXiv 1607.02533), the tables of photographed
prints, average case, top 1.
Departures: its destruction rates by the top 5, and those of prefiltered pictures (misclassified by the top 5 too, and
confidently), are left out, since the records hold the likeliest class alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from eval.intervals import Bools, Floats, wilson
from eval.records import Run
from eval.rows import erred, flag, numbers, wrong
from eval.studies.cells import Table, Value, told
from eval.studies.idle import idle
from eval.studies.orders import allowed
from eval.studies.reading import Reading

_AWAY, _LEAST, _CLEAN = "_untargeted", "_least_likely", "clean_"
_LABELS = {
    "fgsm" + _AWAY: "fast", "bim" + _AWAY: "basic iterative", "bim" + _LEAST: "least likely class",
    "pgd": "plain (pgd)", "expectation": "by expectation",
}  # fmt: skip
_PAPER = {  # percent of 102 images: correct on the photo, correct as a file, destroyed
    ("fast", "16/255"): (36.4, 36.3, 12.5), ("fast", "8/255"): (49.0, 30.4, 33.3),
    ("basic iterative", "16/255"): (49.0, 28.4, 40.4), ("basic iterative", "8/255"): (51.0, 26.5, 52.1),
    ("least likely class", "16/255"): (60.0, 1.0, 72.2), ("least likely class", "8/255"): (69.6, 0.0, 86.3),
}  # fmt: skip
_PHOTOS, _DESTROYABLE = 102, 50  # images of the paper; those behind its destruction rates are 40 to 75
_IMAGENET = 1000  # classes; the paper's numbers are about these alone


@dataclass(frozen=True)
class _Unit:
    """Perturbations by one attack at one budget, on one network.

    Attributes:
        seen: rows by role, each in the order of the samples.
    """

    attack: str
    eps: str
    seen: dict[str, pd.DataFrame]

    @property
    def label(self) -> str:
        return _LABELS.get(self.attack, self.attack.replace("_", " "))

    @property
    def adv(self) -> pd.DataFrame:
        """As they are."""
        return self.seen["attack"]

    def looks(self, transformation: str, draws: int) -> list[pd.DataFrame]:
        """The rows of each look under a transformation."""
        roles = [transformation] if transformation in self.seen else [f"{transformation}_{i}" for i in range(draws)]
        return [self.seen[role] for role in roles]

    def correct(self, transformation: str, draws: int, among: Bools | None = None) -> Floats:
        """In which part of its looks each image (n,) is classified correctly."""
        hits = np.array([~wrong(look, "adv_pred") for look in self.looks(transformation, draws)], dtype=np.float64)
        return _among(hits, among)

    def kept(self, transformation: str, draws: int, among: Bools | None = None) -> Floats:
        """In which part of its looks each image (n,) is taken for the target."""
        looks = self.looks(transformation, draws)
        hits = np.array([numbers(k["adv_pred"]) == numbers(k["target_class"]) for k in looks], dtype=np.float64)
        return _among(hits, among)

    @property
    def fooled(self) -> Bools:
        """Which images were classified correctly, and are not any more."""
        return ~wrong(self.adv, "clean_pred") & wrong(self.adv, "adv_pred")

    @property
    def brought(self) -> Bools:
        """Which images the attack brought to the target."""
        return flag(self.adv["success"]) & (numbers(self.adv["rms"]) > 0)


def _among(hits: Floats, among: Bools | None) -> Floats:
    mean: Floats = hits.mean(axis=0)
    return mean if among is None else mean[among]


def _mean(parts: Floats, paper: float | None = None, paper_n: int = _PHOTOS) -> Value:
    """The mean of shares (n,) of looks at n images, with Wilson's interval as if each had been looked at once.

    Looks at one image are alike; an interval that counts them all would be too narrow.
    """
    n = len(parts)
    low, high = (float(bound) for bound in wilson(float(parts.sum()), n))
    known = None if paper is None else paper / 100
    if known is None or n == 0:
        return Value("share", float(parts.mean()) if n else math.nan, low, high, n, known)
    least, most = (float(bound) for bound in wilson(known * paper_n, paper_n))
    return Value("share", float(parts.mean()), low, high, n, known, high < least - 5e-4 or low > most + 5e-4)


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


def _units(run: Run, records: pd.DataFrame, model: str) -> list[_Unit]:
    """By attack in the order of the study, and by budget, smallest first."""
    study = run.config["study"]
    rows = records[~erred(records) & (records["target_model"] == model) & (records["role"] != "clean")]
    names = [
        *(name + _AWAY for name in study["untargeted"]),
        *(name + _LEAST for name in study["least_likely"]),
        *study["targeted"],
    ]
    found = []
    for name in names:
        for (_, eps), part in rows[rows["attack"] == name].groupby(["eps", "eps_text"], sort=True):
            seen = {str(role): group.sort_values("sample") for role, group in part.groupby("role")}
            found.append(_Unit(name, str(eps), seen))
    return found


def tables(run: Run, records: pd.DataFrame, model: str) -> list[Table]:
    """All tables of one network."""
    study = run.config["study"]
    composition, draws = str(study["composition"]), int(study["draws"])
    without = idle(run, records)
    single = [name for name, strength in study["transformations"].items() if strength != 0 and name not in without]
    units = _units(run, records, model)
    wandering = [u for u in units if u.attack not in study["targeted"]]
    aimed = [u for u in units if not u.attack.endswith(_AWAY)]
    known = len(run.data["classes"]) == _IMAGENET
    return [
        _photographs(wandering, composition, draws, known),
        _destruction(wandering, [*single, composition], draws),
        _kept(aimed, [*single, composition], draws),
        _clean(units, [*single, composition], draws, str(study["targeted"][0])),
    ]


def _head(name: str) -> str:
    return name.replace("_", " ")


def _row(unit: _Unit) -> str:
    return f"{unit.label}, \u03b5 = {unit.eps}"


def _photographs(units: Sequence[_Unit], composition: str, draws: int, known: bool) -> Table:
    rows = []
    for u in units:
        photo, file, destroyed = _PAPER.get((u.label, u.eps), (None,) * 3) if known else (None,) * 3
        values = (
            _mean((~wrong(u.adv, "adv_pred")).astype(np.float64), file),
            _mean(u.correct(composition, draws), photo),
            _mean(u.correct(composition, draws, u.fooled), destroyed, _DESTROYABLE),
        )
        rows.append((_row(u), values))
    return Table(
        "photographs",
        f"Perturbed pictures as files and after {_head(composition)}",
        "How many are classified correctly, and which part of those that perturbation fooled the network on are "
        f"classified correctly again (destroyed), on average over {draws} draws of the transformations. The paper's "
        "pictures were printed and photographed, and judged by Inception v3 (top 1, average case); ours go through a "
        "simulated print and camera, and are other photos: what compares is the order of the methods. The paper's "
        "rates by the top 5, and those of prefiltered pictures, which need the top 5 too, are left out: only the "
        "likeliest class is recorded.",
        ("correct, as files", "correct, photographed", "destroyed"),
        tuple(rows),
    )


def _destruction(units: Sequence[_Unit], transformations: Sequence[str], draws: int) -> Table:
    rows = [(_row(u), tuple(_mean(u.correct(t, draws, u.fooled)) for t in transformations)) for u in units]
    return Table(
        "destruction",
        "Destruction rates",
        "Which part of the pictures that perturbation fooled the network on are classified correctly again after a "
        "transformation. A transformation that is hard on the network itself destroys less by this count.",
        tuple(map(_head, transformations)),
        tuple(rows),
    )


def _kept(units: Sequence[_Unit], transformations: Sequence[str], draws: int) -> Table:
    rows = []
    for u in units:
        reached = _mean(u.brought[wrong_target(u.adv)].astype(np.float64))
        kept = tuple(_mean(u.kept(t, draws, u.brought)) for t in transformations)
        most = (u.kept(transformations[-1], draws, u.brought) > 0.5).astype(np.float64)
        rows.append((_row(u), (reached, *kept, _mean(most))))
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


def _clean(units: Sequence[_Unit], transformations: Sequence[str], draws: int, first: str) -> Table:
    rows = []
    for unit in (u for u in units if u.attack == first):
        cells = [_mean((~wrong(unit.adv, "clean_pred")).astype(np.float64))]
        cells += [_mean(unit.correct(_CLEAN + t, draws)) for t in transformations]
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
    names = [_LABELS[attack] for attack in ("fgsm" + _AWAY, "bim" + _AWAY, "bim" + _LEAST)]
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
        row = f"{_LABELS.get(name, str(name).replace('_', ' '))}, \u03b5 = {study['eps']}"
        for reached, kept, most in _cells(table, row, (0, -2, -1)):
            if kept.n == 0:
                continue
            lines.append(
                f"The attack {row} brings {told(reached)} of the pictures to their targets; {composition} "
                f"leaves the target in {told(kept)} of the looks at these ({reached.ours * kept.ours:.1%} of all "
                f"looks), and in most looks at {round(most.ours * most.n)} of {most.n}."
            )
    return lines
