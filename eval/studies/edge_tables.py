"""What a run of `eval.studies.edges` says. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from eval.intervals import Bools
from eval.records import Run, read_measured
from eval.rows import erred, wrong
from eval.studies.cells import Table, Value, excess, share, told
from eval.studies.edge_pictures import pictures
from eval.studies.edges_names import (
    BOTH,
    EACH,
    EDGES,
    EIGHT,
    EIGHT_AND_ONE,
    ONE,
    PAIR,
    RANDOM,
    TEMPLATES,
    VARIANTS,
)
from eval.studies.estimates import beyond_draws, of_draws, standing, verdict
from eval.studies.reading import Reading, Section
from eval.studies.sheets import Array


def read(run: Run, records: pd.DataFrame, folder: Path) -> Reading:
    """What a run of `eval.studies.edges.Edges` says."""
    rows = records[~erred(records)]
    measured = read_measured(folder, TEMPLATES)
    sections = (_lesson(run, rows), *_transfer(run, rows), _ablation(run, rows, measured))
    return Reading((), (), sections=sections)


def _network(run: Run) -> str:
    return str(run.config["study"]["network"])


def _models(run: Run) -> list[str]:
    """The networks that perturbations go between."""
    own = _network(run)
    endings = (*VARIANTS, *PAIR)
    return [
        str(m["name"])
        for m in run.models
        if not (str(m["name"]).startswith(own) and (str(m["name"])[len(own) :].startswith((*endings, RANDOM))))
    ]


def _attacks(run: Run) -> list[str]:
    return [str(a["name"]) for a in run.attacks]


def _clean(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    chosen = rows[(rows["role"] == "clean") & (rows["target_model"] == name)]
    if chosen.empty:
        raise LookupError(f"no record of {name}")
    return chosen.drop_duplicates("sample").sort_values("sample")


def _fed(rows: pd.DataFrame, role: str, attack: str, source: str, target: str) -> Bools:
    """Whether each sample is misclassified by `target` after what was made for `source`."""
    here = (rows["source"] == source) & (rows["target_model"] == target) & (rows["attack"] == attack)
    chosen = rows[here & (rows["role"] == role)].sort_values("sample")
    if chosen.empty:
        raise LookupError(f"no record of {attack} for {source} on {target}")
    return wrong(chosen, "adv_pred")


def _lesson(run: Run, rows: pd.DataFrame) -> Section:
    own, classes = _network(run), [str(c) for c in run.data["classes"]]
    first, second = (p if isinstance(p, int) else classes.index(str(p)) for p in run.config["study"]["pair"])
    names = classes[first], classes[second]
    known = str(run.data["name"]).lower() == "mnist" and names == EIGHT_AND_ONE
    table_rows, hits = [], {}
    for ending, label in PAIR.items():
        clean = _clean(rows, own + ending)
        right, labels = ~wrong(clean, "clean_pred"), clean["label"].to_numpy()
        hits[ending] = right
        paper = (BOTH, EIGHT, ONE) if known and ending == "_pair" else (None, None, None)
        cells = (
            share(right, paper[0], 2 * EACH),
            share(right[labels == first], paper[1], EACH),
            share(right[labels == second], paper[2], EACH),
        )
        table_rows.append((label, cells))
    table = Table(
        "lesson",
        f"{names[0]} against {names[1]}: nearest of two templates",
        "Accuracy and recalls. The number beside the first row, where there is one, is that of one run of the lesson.",
        ("accuracy", f"recall of {names[0]}", f"recall of {names[1]}"),
        tuple(table_rows),
    )
    as_there, mended, plain, straight, pixels = (cells[0] for _, cells in table_rows)
    decided = [_clean(rows, own + ending)["clean_pred"].to_numpy() for ending in ("_pair", "_pair_both")]
    gain = excess(hits["_pair"], hits["_pair_pixels"])
    n, changed = len(decided[0]), int((decided[0] != decided[1]).sum())
    return Section(
        "lesson-section",
        "The lesson: two classes, two templates",
        "Eight edge filters, their greatest responses in a grid of 4x4 cells, and the nearer of two class means tell "
        "eights from ones with an accuracy of 96.6% (fast.ai, Practical deep learning for coders, 2016, lesson 0; one "
        "run on 1,000 images of each).",
        f"{n} of the training images of both classes, the last of each, which are not part of the templates; seed "
        f"{run.seed}. Cells of {_cells(run)}.",
        "The same with half of the filters, and with the mean image itself, without any filter. In the lesson the "
        "templates are standardised and the fingerprints that are compared with them are not; with both standardised "
        "stands beside.",
        f"As in the lesson {told(as_there)} are right; to standardise the fingerprints as well changes {changed} of "
        f"{n} decisions ({told(mended)}), and can change none: standardised templates have one length, and the sum 0. "
        f"With nothing standardised {told(plain)} are right, with four straight filters {told(straight)}, with the "
        f"mean image, without any filter, {told(pixels)} (n={n}): filters as in the lesson add {_points(gain)} to "
        f"that: {_needed(gain)}.",
        (table,),
    )


def _cells(run: Run) -> str:
    _, height, width = run.data["shape"]
    places = int(run.config["model"][_network(run)]["places"])
    return f"{height / places:g}x{width / places:g} pixels"


def _transfer(run: Run, rows: pd.DataFrame) -> list[Section]:
    return [_crossed(run, rows, attack) for attack in _attacks(run)]


def _crossed(run: Run, rows: pd.DataFrame, attack: str) -> Section:
    names, own = _models(run), _network(run)
    error: list[tuple[str, tuple[Value | None, ...]]] = []
    more: list[tuple[str, tuple[Value | None, ...]]] = []
    gains: dict[tuple[str, str], Value] = {}
    for source in names:
        hits = [_fed(rows, "attack", attack, source, target) for target in names]
        noise = [_fed(rows, "control", attack, source, target) for target in names]
        error.append((source, tuple(share(h) for h in hits)))
        paired = [excess(h, c) for h, c in zip(hits, noise, strict=True)]
        more.append((source, tuple(paired)))
        gains |= {(source, target): value for target, value in zip(names, paired, strict=True)}
    some = _clean(rows[rows["sample"].isin(rows.loc[rows["role"] == "attack", "sample"])], own)
    error.append(("no perturbation", tuple(share(wrong(_clean(_same(rows, some), n), "clean_pred")) for n in names)))
    tables = (
        Table(
            f"crossed-{attack}",
            f"Errors on what was made for another ({attack})",
            "Row: the network that perturbations were made for; column: the one that they were shown to. Images that "
            "the first gets wrong unperturbed are left as they are.",
            tuple(names),
            tuple(error),
        ),
        Table(
            f"beyond-{attack}",
            f"Errors beyond those under noise ({attack})",
            "The same, less the errors under Gaussian noise of the same RMS, image by image.",
            tuple(names),
            tuple(more),
        ),
    )
    others = [n for n in names if n != own]
    to, back = ([gains[pair] for pair in pairs] for pairs in ([(n, own) for n in others], [(own, n) for n in others]))
    learnt = [gains[a, b] for a in others for b in others if a != b]
    return Section(
        f"transfer-{attack}",
        "Do examples made for a network fool a template?" + (f" ({attack})" if len(_attacks(run)) > 1 else ""),
        "Adversarial examples of one network are often misclassified by others, with other hyper-parameters or trained "
        "on other images (Szegedy et al. 2014, arXiv 1312.6199, section 4.2). All of these learnt by gradients; a "
        "template is a mean.",
        f"{attack}, Linf {run.threat['headline']}, {len(some)} test images of {run.data['name']}, seed {run.seed}; "
        "every perturbation is shown to all networks.",
        "Gaussian noise of the RMS of each perturbation, on the same images.",
        f"{_said(to, back, learnt)}. Its own bring the template to "
        f"{told(share(_fed(rows, 'attack', attack, own, own)))} errors.",
        tables,
    )


def _same(rows: pd.DataFrame, some: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["sample"].isin(set(some["sample"]))]


def _said(to: Sequence[Value], back: Sequence[Value], learnt: Sequence[Value]) -> str:
    """What examples do beyond noise to the template, from it to others, and among these."""
    if not to:
        return "There is no other network to show examples to, so that whether the claim stands here cannot be told"
    text = (
        f"Made for networks that learn, examples add {_span(to)} to the template's errors beyond noise, {_stands(to)}; "
        f"made for the template, {_span(back)} to theirs, {_stands(back)}"
    )
    return text + (f"; among those that learn {_span(learnt)}, {_stands(learnt)}" if learnt else "")


def _stands(values: Sequence[Value]) -> str:
    """Of how many pairs the claim holds beyond noise, and what becomes of it."""
    clear, against = _clear(values), sum(v.high < 0 for v in values)
    return f"clearly in {clear} of {len(values)} cases: {standing(clear, len(values), against)}"


def _clear(values: Sequence[Value]) -> int:
    return sum(v.low > 0 for v in values)


def _span(values: Sequence[Value]) -> str:
    low, high = min(v.ours for v in values), max(v.ours for v in values)
    points = f"{100 * low:.1f}" + ("" if low == high else f" to {100 * high:.1f}")
    return f"{points} points"


def _ablation(run: Run, rows: pd.DataFrame, measured: dict[str, dict[str, Array]]) -> Section:
    own, attack = _network(run), _attacks(run)[0]
    made = {EDGES: own} | {label: own + ending for ending, label in VARIANTS.items()}
    draws = [f"{own}{RANDOM}{i}" for i in range(int(run.config["study"]["draws"]))]
    attacked = set(rows.loc[rows["role"] == "attack", "sample"])
    few = rows[rows["sample"].isin(attacked)]

    def right(name: str) -> tuple[Bools, Bools, Bools]:
        return (
            ~wrong(_clean(few, name), "clean_pred"),
            ~_fed(rows, "control", attack, name, name),
            ~_fed(rows, "attack", attack, name, name),
        )

    each = {label: right(name) for label, name in made.items()}
    drawn = [np.stack(part) for part in zip(*(right(name) for name in draws), strict=True)]  # (draws, n) each
    table_rows = [(label, tuple(map(share, parts))) for label, parts in each.items()]
    table_rows.append((f"8 random filters, nothing learnt, mean of {len(draws)} draws", _drawn(drawn)))
    table = Table(
        "ablation",
        "Filters: written down, learnt, random, none",
        f"Accuracy of all {len(run.data['classes'])} classes: unperturbed, under noise of the perturbation's RMS, and "
        f"under {attack}. Learnt: by the run's recipe, templates too where all is, one network each. Intervals are "
        "over images; those of random filters are over draws of the filters as well.",
        ("accuracy", "under noise", f"under {attack}"),
        tuple(table_rows),
    )
    by_draw = drawn[0].mean(1)
    gain = beyond_draws(each[EDGES][0], drawn[0])
    learnt = excess(each[VARIANTS["_random_learnt"]][0], each[EDGES][0])
    none = each[VARIANTS["_pixels"]]
    bare, hard = (excess(each[EDGES][part], none[part]) for part in (0, 2))
    return Section(
        "ablation-section",
        "Filters: written down or learnt",
        "Eight filters that were written down can be replaced by random ones that are optimised, and filters can be "
        "weighted (the same lesson).",
        f"{len(attacked)} test images, seed {run.seed}, {attack} at Linf {run.threat['headline']}.",
        f"{len(draws)} draws of random filters that are not optimised, and the mean image without any.",
        f"Written-down filters are right in {told(share(each[EDGES][0]))}, {len(draws)} draws of random ones in "
        f"{by_draw.mean():.1%} in the mean, from {by_draw.min():.1%} to {by_draw.max():.1%}: a difference of "
        f"{_points(gain)}, {_filters(gain)}. One network whose random filters and all else were learnt is right in "
        f"{told(share(each[VARIANTS['_random_learnt']][0]))}, {_points(learnt)} beyond the written-down ones on the "
        f"same images: {_learnt(learnt)}. The mean image, without any filter, is right in {told(share(none[0]))}: "
        f"the written-down ones add {_points(bare)} to that: {_needed(bare)}. Under {attack} the mean image is right "
        f"in {told(share(none[2]))}, written-down filters in {told(share(each[EDGES][2]))}, which is "
        f"{_points(hard)} more: {_needed(hard)}.",
        (table,),
        pictures=pictures(own, measured),
    )


def _drawn(parts: Sequence[Array]) -> tuple[Value, ...]:
    """The accuracies of random filters, each (draws, n): of one draw alone over images."""
    return tuple(share(part[0]) if len(part) == 1 else of_draws(part, "share") for part in parts)


def _filters(gain: Value) -> str:
    """What a difference between written-down filters and random ones says."""
    return verdict(gain, "written-down ones are better", "random ones are better")


def _needed(gain: Value) -> str:
    """What a difference between written-down filters and none says."""
    return verdict(gain, "the filters help", "the filters do worse than none", "that the filters help cannot be told")


def _learnt(gain: Value) -> str:
    """What a difference between a network that learnt its filters and written-down ones says."""
    return verdict(gain, "that network is better", "that network is worse")


def _points(value: Value) -> str:
    apart = "one draw, no interval" if np.isnan(value.low) else f"{100 * value.low:.1f} to {100 * value.high:.1f}"
    return f"{100 * value.ours:.1f} points ({apart})"
