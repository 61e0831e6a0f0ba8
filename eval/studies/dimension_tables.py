"""What a run of `eval.studies.dimension` says: exponents and what they mean, claim by claim. Free of torch."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd

from eval.exponents import Floats, medians
from eval.records import Run
from eval.rows import flag, numbers
from eval.studies import dimension_causes
from eval.studies.cells import Table, Value
from eval.studies.clauses import listed
from eval.studies.dimension_measured import (
    Measured,
    chart,
    described,
    grown,
    label,
    logs,
    mean_of,
    over_images,
    over_seeds,
    told,
)
from eval.studies.dimension_names import HE, UNTRAINED, suffix
from eval.studies.dimension_verdicts import Named, fault, left, moves, stands, takes_in
from eval.studies.reading import Reading, Section


def read(run: Run, records: pd.DataFrame, folder: Path) -> Reading:
    """What a run of `eval.studies.dimension.Dimension` says."""
    found = Measured.of(run, folder)
    sections = (
        _alone(found, records),
        _random(found),
        _gradients(found),
        *([dimension_causes.causes(found, float(run.config["study"]["decay"]))] if found.handled else []),
        dimension_causes.volume(found),
        dimension_causes.noise(found),
    )
    return Reading((), (), sections=sections)


def _alone(found: Measured, records: pd.DataFrame) -> Section:
    rows, lines = [], []
    mixed: list[Named] = []  # alpha - delta over all sizes
    alphas: list[Named] = []
    gaps: list[Named] = []  # from the images' own size on
    for model in found.models:
        distance = found.distance(model)
        alpha, gap = found.exponent(distance), found.exponent(distance, found.other)
        upwards = found.exponent(distance, found.other, enlarged=True)
        delta = found.exponent(np.broadcast_to(found.other, distance.shape))
        cells = (
            over_seeds(alpha),
            over_images(alpha),
            over_images(delta),
            over_seeds(gap),
            over_images(gap),
            over_seeds(upwards),
        )
        rows.append((label(model), cells))
        lines.append((label(model), logs(found.pixels, medians(distance).mean(0))))
        fitted = over_seeds if found.seeds > 1 else over_images
        mixed.append((label(model), fitted(gap)))
        gaps.append((label(model), fitted(upwards)))
        alphas.append((label(model), fitted(found.exponent(distance, enlarged=True))))
    lines.append(("nearest other class", logs(found.pixels, medians(found.other))))
    exponents = Table(
        "exponents",
        "Exponents of the distance to the boundary",
        "Of the median over images that are right at all sizes, in powers of the number of pixels d: alpha of r_adv, "
        "delta of the distance to the nearest training image of another class; 'enlarged' from the images' own size "
        f"on, where {grown(found)}. Intervals are Student's over seeds, or over resampled images.",
        ("alpha, over seeds", "alpha, over images", "delta", "alpha - delta, over seeds",
         "alpha - delta, over images", "alpha - delta, enlarged"),
        tuple(rows),
    )  # fmt: skip
    return Section(
        "dimension",
        "Dimension alone",
        "The more pixels, the smaller the perturbation that suffices, in the end for want of anything but dimension: "
        "vulnerability grows with the root of d (Simon-Gabriel et al. 2019), or does not where images are merely "
        "enlarged (Shafahi et al. 2019). alpha = delta makes dimension innocent; alpha = 0 makes it guilty.",
        described(found) + " The distance is that of the smallest L2 perturbation found, in all of R^d.",
        "delta, the exponent of the distance to the nearest image of another class: of images that are only enlarged "
        f"{grown(found)}. Network and training are the same but for d.",
        _said(found, alphas, gaps, mixed),
        (exponents, _sizes(found), _inside(found, records)),
        (chart("alpha", "Distance to the boundary", found.pixels, "L2 distance", lines),),
    )


def _said(found: Measured, alphas: list[Named], gaps: list[Named], mixed: list[Named]) -> str:
    """Who is guilty where d alone changes, and what exponents over all sizes say besides."""
    over = f"alpha - delta, with 95% intervals over {'seeds' if found.seeds > 1 else 'images'}"
    every = listed([f"{told(value)} ({name})" for name, value in mixed])
    if found.at_native == len(found.sides) - 1:  # none is enlarged
        return f"Whether dimension is guilty cannot be told where no image is enlarged; over all sizes {over}: {every}."
    asked = "; how much of that is the start's, 'What is left of the start' says"
    verdict = fault(alphas, gaps) + (asked if found.handled and any(gap.high < 0 for _, gap in gaps) else "")
    also = f" Over all sizes, of which averaging makes some and takes information away, it is {every}."
    return (
        f"Relative to how far the classes are apart, and from {found.native} x {found.native} on, where d alone "
        f"changes, the boundary {moves(gaps)} ({over}): {verdict}." + (also if found.at_native else "")
    )


def _sizes(found: Measured) -> Table:
    rows = []
    for model in found.models:
        distance = found.distance(model)
        for i, side in enumerate(found.sides):
            middle = medians(distance[:, i])
            ratio = medians(distance[:, i] / found.other[i])
            right = (~np.isnan(distance[:, i])).mean(-1)
            missed = np.isinf(distance[:, i]).mean(-1)
            cells = (
                mean_of(right, "share"),
                mean_of(middle),
                mean_of(middle / found.pixels[i] ** 0.5, "size"),
                mean_of(ratio),
                mean_of(missed, "share"),
            )
            rows.append((f"{label(model)}, {side} x {side}", cells))
    return Table(
        "sizes",
        "Size by size",
        "Of all seeds: accuracy, medians of r_adv over the images that are right, as L2 and as root mean square, and "
        "of its ratio to the distance of the nearest image of another class; and for how many nothing was found.",
        ("accuracy", "L2", "RMS", "of the distance to another class", "not found"),
        tuple(rows),
    )


def _inside(found: Measured, records: pd.DataFrame) -> Table:
    """What it costs to stay inside the box, at the images' own size."""
    rows = []
    attacks = records[(records["role"] == "attack") & flag(records["success"])]
    for model in found.models:
        name = model + suffix(HE, found.native, 0)
        own = attacks[attacks["target_model"] == name]
        boxed = dict(zip(own["sample"].astype(str), numbers(own["l2"]), strict=True))
        clean = records[(records["role"] == "clean") & (records["target_model"] == name)]
        free = dict(
            zip(clean["sample"].drop_duplicates().astype(str), found.distance(model)[0, found.at_native], strict=True)
        )
        both = np.array([(boxed[s], free[s]) for s in boxed if 0 < free[s] < math.inf]).reshape(-1, 2)
        ratio = both[:, 0] / both[:, 1]
        rows.append((label(model), tuple(_middle(v) for v in (both[:, 1], both[:, 0], ratio))))
    return Table(
        "inside",
        "Inside the box of valid pixels",
        f"Medians over images at {found.native} x {found.native} of the first seed's networks: the smallest L2 "
        "perturbation found in all of R^d, that among valid images, as the records have it, and their ratio.",
        ("anywhere", "inside", "ratio"),
        tuple(rows),
    )


def _middle(values: Floats) -> Value:
    """The median, with the interval of its rank."""
    if len(values) < 1:
        return Value("number", math.nan, math.nan, math.nan, 0)
    ordered, n = np.sort(values), len(values)
    reach = 0.98 * n**0.5
    low, high = max(0, math.floor(n / 2 - reach)), min(n - 1, math.ceil(n / 2 + reach))
    return Value("number", float(np.median(values)), float(ordered[low]), float(ordered[high]), n)


def _random(found: Measured) -> Section:
    rows, lines, halves, below = [], [], [], []
    grows: list[Named] = []
    sweep: list[tuple[str, Value, dict[int, Value]]] = []  # of each network the slope, and what it is in m dimensions
    for model in found.models:
        distance, random = found.distance(model), found.random(model)
        ratio = medians(random / distance)  # (S, D)
        beta, over = found.exponent(random), found.exponent(random, distance)
        relative = [mean_of(ratio[:, i] / d**0.5) for i, d in enumerate(found.pixels)]
        fits = (over_seeds(beta), over_seeds(over), over_images(over))
        rows.append((label(model), (*fits, mean_of(ratio[:, found.at_native]), *relative)))
        lines.append((label(model), logs(found.pixels, ratio.mean(0))))
        grows.append((label(model), fits[1] if found.seeds > 1 else fits[2]))
        halves.append(f"{told(grows[-1][1])} ({label(model)})")
        sizes, middle = _swept(found, model)
        if len(sizes) > 1:
            slopes = np.array([np.polyfit(np.log(sizes), np.log(one), 1)[0] for one in middle])
            fit = mean_of(slopes)
            apart = not fit.low <= -0.5 <= fit.high and math.isfinite(fit.low)
            root = (sizes / sizes[-1]) ** 0.5
            inner = {int(m): mean_of(middle[:, i] / middle[:, -1] * root[i]) for i, m in enumerate(sizes[:-1])}
            sweep.append((label(model), Value("number", fit.ours, fit.low, fit.high, fit.n, -0.5, apart), inner))
            below.append((label(model), logs(sizes, middle.mean(0))))
    lines.append(("root of d", logs(found.pixels, found.pixels**0.5)))
    tables = [
        Table(
            "random-directions",
            "Random directions",
            "Exponent beta of r_rand, the median over random lines of the distance at which the class changes; that of "
            "rho = r_rand / r_adv; the median of rho at the images' own size, and of rho / sqrt(d) at each. Intervals "
            "over seeds, once over images.",
            ("beta", "of rho, over seeds", "of rho, over images", f"rho at {found.native} x {found.native}",
             *(f"rho / sqrt(d), {side} x {side}" for side in found.sides)),
            tuple(rows),
        )
    ]  # fmt: skip
    curves = [chart("rho", "Random against adversarial", found.pixels, "rho", lines)]
    if sweep:
        swept = sorted({m for _, _, inner in sweep for m in inner})  # in some no distance may be known
        tables.append(
            Table(
                "subspaces",
                "Random subspaces",
                f"At {found.native} x {found.native}: the slope of log r_m against log m, where r_m is the smallest "
                "perturbation within m random dimensions, which Fawzi et al. put at -1/2; and r_m / r_adv beside "
                "sqrt(d / m), which would be 1.",
                ("slope", *(f"m = {m}" for m in swept)),
                tuple((name, (slope, *(inner.get(m) for m in swept))) for name, slope, inner in sweep),
            )
        )
        whole = np.array([*swept, found.pixels[found.at_native]], dtype=np.float64)
        below.append(("slope -1/2", logs(whole, (whole[-1] / whole) ** 0.5)))
        curves.append(chart("subspaces", "In m random dimensions", whole, "r_m", below, "m, dimensions"))
    swept_as = listed([f"{told(slope)} ({name})" for name, slope, _ in sweep]) if sweep else ""
    slopes_as = stands([(name, slope) for name, slope, _ in sweep], takes_in(-0.5), "the claimed -1/2")
    said = f" In m random dimensions the distance goes as m to the power of {swept_as}: {slopes_as}." if sweep else ""
    return Section(
        "random",
        "Random against adversarial",
        "A random direction meets the boundary sqrt(d) times as far away as the worst one, a random subspace of m "
        "dimensions sqrt(d / m) times as far (Fawzi et al. 2016). Digits of Szegedy et al.: noise of RMS 1 is what "
        "misleads on half the images, perturbations of RMS .06 on all: rho about 16, rho / sqrt(784) about .57.",
        described(found) + " Lines are followed to both sides.",
        "rho of exponent 1/2, and a slope of -1/2: what a flat boundary has.",
        f"rho grows as d to the power of {listed(halves)}: {stands(grows, takes_in(0.5), 'the claimed 1/2')}.{said}",
        tuple(tables),
        tuple(curves),
    )


def _swept(found: Measured, model: str) -> tuple[Floats, Floats]:
    """Sizes (M,) of subspaces, d the last, and medians (S, M) of the distance; those alone that are finite."""
    own = found.get("subspaces", "distance", model, sides=[found.native])[:, 0]  # (S, n, draws, M)
    sizes = next(iter(found.probes["subspaces"].values()))["sizes"].astype(np.float64)
    inner = medians(np.where(own == 0, math.nan, own).reshape(len(own), -1, own.shape[-1]).swapaxes(1, 2))
    whole = medians(found.distance(model)[:, found.at_native])
    middle = np.concatenate([inner, whole[:, None]], axis=1)
    kept = np.isfinite(middle).all(axis=0)
    return np.append(sizes, found.pixels[found.at_native])[kept], middle[:, kept]


def _gradients(found: Measured) -> Section:
    rows = []
    starts: list[Named] = []
    before: list[Named] = []
    after: list[Named] = []
    change: list[Named] = []
    for model in found.models:
        norms, leads = {}, {}
        for handle in (UNTRAINED, HE):
            loss, ahead = (found.get("gradients", key, model, handle) for key in ("loss", "lead"))
            derived = (0.5, 0.0) if handle == UNTRAINED else (None, None)
            norms[handle] = [over_seeds(found.exponent(loss[..., p]), derived[p]) for p in (0, 1)]
            leads[handle] = [found.exponent(ahead[..., p]) for p in (0, 1)]
            norms[handle] += [over_seeds(lead) for lead in leads[handle]]
            rows.append((f"{label(model)}, {'untrained' if handle == UNTRAINED else 'trained'}", tuple(norms[handle])))
        starts.append((label(model), norms[UNTRAINED][0]))
        before.append((label(model), norms[UNTRAINED][2]))
        after.append((label(model), norms[HE][2]))
        change.append((label(model), mean_of(leads[HE][0].by_seed - leads[UNTRAINED][0].by_seed)))
    table = Table(
        "gradients",
        "Exponents of gradients",
        "Of the median over images: the L1 and the L2 norm of the gradient of the cross-entropy, and of the lead of "
        "the likeliest other class over the label. In the paper's place stands what Simon-Gabriel et al. derive for "
        "He's start. The gradient of the cross-entropy also falls as a network grows sure; the lead's does not.",
        ("loss, L1", "loss, L2", "lead, L1", "lead, L2"),
        tuple(rows),
    )
    return Section(
        "gradients",
        "Gradients before and after training",
        "At He's start the L1 norm of the gradient grows as d^1/2 and the L2 norm not at all, whatever the network, "
        "and training leaves it so (Simon-Gabriel et al. 2019).",
        described(found) + " Gradients are those at all test images.",
        "Networks that are not trained"
        + (
            "; and exponents 0 and -1/2, which a network has that sees of d copies of a pixel only their mean"
            if found.replicated
            else ""
        )
        + ".",
        left(before, after, change, starts),
        (table,),
    )
