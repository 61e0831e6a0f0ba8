"""What a run of `eval.studies.universal` says: fooling rates, and those across networks. Free of torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from eval.records import Run, read_measured
from eval.studies.cells import Table, Value, excess, share
from eval.studies.estimates import standing
from eval.studies.reading import Pictures, Reading, Section
from eval.studies.sheets import around_grey
from eval.studies.universal_found import SOURCE, Found, above, cell, row_of, span, unstable, where_of
from eval.studies.universal_names import ASCENT, DIRECTIONS, MAKERS, NORMS, PAPERS, probe_of
from eval.studies.universal_numbers import EPS, FOOLED, JUDGED_ON, MADE_ON, TRANSFER, network
from eval.studies.universal_why import few, labels, normals

_FULL = 0.99  # of the budget


def read(run: Run, records: pd.DataFrame, folder: Path) -> Reading:
    """What a run of `eval.studies.universal.Universal` says."""
    made = {(m, norm): read_measured(folder, probe_of(m, norm)) for m in MAKERS for norm in NORMS}
    linf = float(run.threat["eps"][0]["value"])
    imagenet = len(run.data["classes"]) == 1000 and abs(linf - EPS) < 1e-6
    found = Found(
        made,
        read_measured(folder, DIRECTIONS),
        [str(m["name"]) for m in run.models],
        imagenet,
        linf,
        int(run.config["study"]["passes"]),
    )
    where = where_of(run, found)
    sections = (
        _one(found, where),
        _across(found, where),
        labels(found, len(run.data["classes"]), where),
        few(found, where),
        normals(found, where),
    )
    return Reading((), (), sections=sections)


def _one(found: Found, where: str) -> Section:
    tables = tuple(_rates(found, norm) for norm in NORMS)
    lines, clear, against = [], 0, 0
    for norm, table in zip(NORMS, tables, strict=True):
        best = {name: cell(table, row_of(name, ASCENT), "held-out") for name in found.names}
        paper = {name: cell(table, row_of(name, PAPERS), "held-out") for name in found.names}
        null = {name: cell(table, row_of(name, ASCENT), "random") for name in found.names}
        most = sum(v.low > 0.5 for v in best.values())
        clear, against = clear + most, against + sum(v.high < 0.5 for v in best.values())
        free = [[cell(table, row_of(name, m), "without the box") for name in found.names] for m in (PAPERS, ASCENT)]
        small = [name for name in found.names if _used(found, PAPERS, norm, name) < _FULL]
        lines.append(
            f"In {NORMS[norm]} one perturbation changes {span(best.values())} of the answers on held-out images, on "
            f"{most} of {len(best)} networks clearly more than half; the paper's algorithm reaches "
            f"{span(paper.values())}, a random perturbation of the whole budget {span(null.values())}. Without the "
            f"box, which the paper's algorithm does not know, it reaches {span(free[0])}, the ascent {span(free[1])}."
            + (f" It did not come to use its budget on {', '.join(small)}: no comparison there." if small else "")
        )
    verdict = standing(clear, len(NORMS) * len(found.names), against)
    lines.append("Each rate is of one perturbation: intervals are over images, not over perturbations made anew.")
    return Section(
        "one",
        "One for all: fooling rates",
        f"A single perturbation changes the prediction for most images, also for images it was not made on ({SOURCE}, "
        "table 1).",
        where + "Fooling counts every change of the prediction, on misclassified images too; what it costs in errors "
        "stands beside.",
        "Random signs of that size in Linf, random directions of that length in L2: the mean of several, on the same "
        "images.",
        f"{verdict[0].upper()}{verdict[1:]}, of one perturbation for most images. "
        + " ".join(filter(None, (*lines, unstable(found)))),
        tables,
        pictures=(_pictures(found),),
    )


def _used(found: Found, maker: str, norm: str, name: str) -> float:
    """The part of the budget that a perturbation uses."""
    v = found.made[maker, norm][name]["v"][0].astype(np.float64).ravel()
    return float(np.abs(v).max() / found.linf if norm == "linf" else np.linalg.norm(v) / found.l2)


def _rates(found: Found, norm: str) -> Table:
    rows = []
    for name in found.names:
        for maker in (PAPERS, ASCENT):
            a = found.made[maker, norm][name]
            paper = FOOLED.get((norm, network(name))) if found.imagenet and maker == PAPERS else None
            own = found.fooled(maker, norm, name)
            values = (
                share(np.asarray(a["made"], dtype=bool), paper and paper[0], MADE_ON),
                share(own),
                share(np.asarray(a["free"] != a["clean"]), paper and paper[1], JUDGED_ON),
                share(np.asarray(a["rounded"] != a["clean"])),
                excess(np.asarray(a["own"][0] != a["label"]), np.asarray(a["clean"] != a["label"])),
                found.random(norm, name),
                Value("number", _used(found, maker, norm, name), np.nan, np.nan, 1),
                Value("number", float(a["seconds"][0]), np.nan, np.nan, 1),
            )
            rows.append((row_of(name, maker), values))
    return Table(
        f"fooled-{norm}",
        f"Fooling rates in {NORMS[norm]}",
        "The share of images whose prediction changes: those that the perturbation was made on, others, others without "
        "the box as the paper counts, others after rounding to 8 bits; by how much the error grows; what random "
        "perturbations of the whole budget do; the part of the budget that it uses; seconds to make it. Both makers "
        "are not alike: the paper's algorithm leaves the box aside, ends at a fooling rate of 80% or after "
        f"{found.passes} passes, and has its authors' settings; the ascent is made for the box, and its settings were "
        "chosen on digits. Only the paper's own networks have its numbers beside them.",
        ("made on", "held-out", "without the box", "8 bits", "error grows by", "random", "budget used", "seconds"),
        tuple(rows),
    )


def _pictures(found: Found) -> Pictures:
    images = []
    for norm in NORMS:
        for name in found.names:
            for maker in (PAPERS, ASCENT):
                picture = around_grey(found.made[maker, norm][name]["v"][:1])[0]
                if picture.shape[0] not in (1, 3):
                    picture = picture.mean(axis=0, keepdims=True)
                images.append((f"{row_of(name, maker)}, {NORMS[norm]}", picture))
    note = "Zero in grey, each as strong as its largest value allows."
    return Pictures("universal-pictures", "The perturbations", note, tuple(images))


def _across(found: Found, where: str) -> Section:
    tables = tuple(_matrix(found, norm) for norm in NORMS)
    lines, every, some = [], 0, 0
    for norm, table in zip(NORMS, tables, strict=True):
        pairs = [(s, t) for s in found.names for t in found.names if s != t]
        clear = [(s, t) for s, t in pairs if above(cell(table, s, t), found.random(norm, t))]
        every, some = every + len(pairs), some + len(clear)
        if pairs:
            lines.append(
                f"In {NORMS[norm]} {len(clear)} of {len(pairs)} pairs of different networks are fooled clearly more "
                f"than by random perturbations, {span([cell(table, s, t) for s, t in pairs])} of the images."
            )
    return Section(
        "across",
        "Across networks: made for one, shown to another",
        f"Universal perturbations are doubly universal: they generalise across networks too ({SOURCE}, table 2).",
        where + "Row: the network that the ascent's perturbation was made for; column: the one that it is shown to.",
        "The last row: random perturbations of the same size on the same images.",
        " ".join([*lines, f"Of being fooled more than at random {standing(some, every)}."] if lines else [])
        or "There is one network alone.",
        tables,
    )


def _matrix(found: Found, norm: str) -> Table:
    rows: list[tuple[str, tuple[Value | None, ...]]] = []
    for source in found.names:
        known = found.imagenet and norm == "linf"
        papers = [TRANSFER.get((network(source), network(t))) if known else None for t in found.names]
        cells = [
            share(found.shown(norm, source, t), p, JUDGED_ON) for t, p in zip(found.names, papers, strict=True)
        ]  # fmt: skip
        rows.append((source, tuple(cells)))
    rows.append(("random", tuple(found.random(norm, name) for name in found.names)))
    return Table(
        f"across-{norm}", f"Made for and shown to, {NORMS[norm]}", "Fooling rates, ascent.", tuple(found.names),
        tuple(rows),
    )  # fmt: skip
