"""Why networks of many pixels are fragile, by `eval.studies.dimension`: the start, volume, noise. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from eval.exponents import Floats, half_space, medians, near_surface
from eval.intervals import Bools
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
from eval.studies.dimension_names import HANDLES, HE, NOISE, STEP
from eval.studies.dimension_verdicts import Named, predicted, returned
from eval.studies.reading import Section

_OFTEN = 0.05  # share of random steps: fewer hardly count beside an adversarial one, which always leaves
_DEPTH = 0.01  # relative, of the volume argument
_ROUNDED = 1e-9  # of a thousandth, so that .1 stays .1


def causes(found: Measured, decay: float) -> Section:
    """What becomes of alpha where the start is smaller, decays, or is projected away."""
    rows, curves, before, after, kept = [], [], [], [], []
    gaps: dict[str, list[Named]] = {}  # by what was done
    for model in found.handled:
        usual, lines = found.distance(model), []
        for name, distance in _treated(found, model):
            gap = found.exponent(distance, found.other, enlarged=True)
            right = (~np.isnan(distance[:, -1])).mean(-1)
            middle = medians(distance[:, -1]) / found.pixels[-1] ** 0.5
            rows.append(
                (
                    f"{label(model)}, {name}",
                    (
                        mean_of(right, "share"),
                        over_seeds(found.exponent(distance, enlarged=True)),
                        over_seeds(gap),
                        over_images(gap),
                        mean_of(middle, "size"),
                    ),
                )
            )
            lines.append((name, logs(found.pixels, medians(distance).mean(0))))
            gaps.setdefault(name, []).append((label(model), over_seeds(gap) if found.seeds > 1 else over_images(gap)))
            if name == _PROJECTED:
                after.append(f"{told(rows[-1][1][1])} ({label(model)})")
                gone, was = np.isnan(distance[:, -1]), np.isnan(usual[:, -1])  # (S, n), wrong now and before
                kept += [] if (gone & was).all() else [float((gone == was).mean())]
            elif name == HANDLES[HE][2]:
                before.append(f"{told(rows[-1][1][1])} ({label(model)})")
        about = ("L2 distance", lines)
        curves.append(chart(f"causes-{model}", f"Distance by the start: {label(model)}", found.pixels, *about))
    largest = f"{found.sides[-1]} x {found.sides[-1]}"
    table = Table(
        "causes",
        "Starts, decay and projection",
        f"From the images' own size on, where {grown(found)}: alpha, and alpha - delta; and at {largest} accuracy and "
        "the median of r_adv as root mean square. Intervals over seeds, once over images.",
        (f"accuracy, {largest}", "alpha", "alpha - delta, over seeds", "alpha - delta, over images", f"RMS, {largest}"),
        tuple(rows),
    )
    return Section(
        "causes",
        "What is left of the start",
        "Gradients never touch directions in which no two images differ. What the first layer starts from there stays, "
        "is of no use, and makes enlarged images fragile; a start from zero, decay, or projecting the layer onto the "
        "span of the images afterwards brings alpha back to delta without changing an answer. For a logistic "
        "regression of 49 to 3,136 replicated pixels we expect .500 from zero, .412 from He's start, and .489 if that "
        "decays.",
        described(found)
        + f" The first layer starts from He's weights, a tenth of them, or zero; with decay a weight that no gradient "
        f"reaches ends at exp(-{decay:g}) of its start. The span is that of up to 1,500 training images.",
        f"alpha = delta, a boundary that moves as the images do; here {grown(found)}.",
        f"From He's start alpha is {listed(before)}; once the first layer is projected onto the span of the images, "
        f"{listed(after)}"
        + (f", and {_at_least(min(kept))} of the images are right or wrong as before ({largest})." if kept else ".")
        + f" Whether alpha is back at delta: {returned([(k, v) for k, v in gaps.items() if k in _CLAIMED])}."
        + ("" if len(kept) == len(after) else " What becomes of the answers is not known where none was right."),
        (table,),
        tuple(curves),
    )


_PROJECTED = "He's start, projected"
_CLAIMED = (_PROJECTED, HANDLES["he_decay"][2], HANDLES["zero"][2])


def _treated(found: Measured, model: str) -> Sequence[tuple[str, Floats]]:
    """Distances by what was done to a model."""
    own = [(HANDLES[handle][2], found.distance(model, handle)) for handle in found.handles]
    return [own[0], (_PROJECTED, found.distance(model, probe="projected")), *own[1:]]


def _mean(values: Floats) -> Floats:
    """The means (...) of values (..., n) that are not NaN; NaN where there are none."""
    known = ~np.isnan(values)
    count = known.sum(axis=-1)
    total = np.where(known, values, 0.0).sum(axis=-1)
    found: Floats = np.where(count > 0, total / np.maximum(count, 1), math.nan)
    return found


def volume(found: Measured) -> Section:
    """Whether a random step leaves the cell, as it would a ball."""
    rows: list[tuple[str, tuple[Value | None, ...]]] = []
    worst = [math.nan, math.nan]
    for model in found.models:
        left = found.get("boundary", "left", model)  # (S, D, n, 2)
        distance, random = found.distance(model), found.random(model)
        wrong = np.isnan(distance)
        for i, side in enumerate(found.sides):
            unknown = (~np.isfinite(distance[:, i]), wrong[:, i])  # no step is as long as what was not found
            shares = [_mean(np.where(unknown[k], math.nan, left[:, i, :, k])) for k in (0, 1)]
            worst = [float(np.fmax(most, _mean(share))) for most, share in zip(worst, shares, strict=True)]
            hit = _part(np.isfinite(distance[:, i]), ~wrong[:, i])
            volume_near = float(near_surface(_DEPTH, found.pixels[i]))
            ball = (2 / found.pixels[i]) ** 0.5
            rows.append(
                (
                    f"{label(model)}, {side} x {side}",
                    (
                        Value("share", volume_near, math.nan, math.nan, 1),
                        mean_of(hit, "share"),
                        mean_of(shares[0], "share"),
                        mean_of(shares[1], "share"),
                        mean_of(medians(random[:, i] / found.other[i])),
                        Value("number", ball, math.nan, math.nan, 1),
                    ),
                )
            )
    table = Table(
        "volume",
        "Steps that leave the class",
        f"The share of a ball that lies within {_DEPTH:.0%} of its radius of the surface; of images whose class "
        "changes by the perturbation found, by random steps of its length, and by random steps of RMS "
        f"{STEP:g}; the median of r_rand in units of the distance to the nearest image of another class, and what a "
        "point of a ball has in units of its radius, sqrt(2 / d).",
        ("ball's volume near its surface", "adversarial step", "random step as long", f"random step, RMS {STEP:g}",
         "r_rand", "r_rand in a ball"),
        tuple(rows),
    )  # fmt: skip
    least, most = (f"{float(near_surface(_DEPTH, d)):.2%}" for d in (found.pixels[0], found.pixels[-1]))
    return Section(
        "volume",
        "The volume argument",
        "In high dimension nearly all of a body's volume lies near its surface, of a ball 1 - (1 - t)^d within a part "
        "t of the radius, so that nearly every image must lie near the boundary of its class (a popular argument).",
        described(found)
        + " Random steps are of the length of the smallest perturbation found for the image, and of one "
        "RMS for all.",
        "A point drawn from a ball, which a random step of sqrt(2 / d) of the radius takes out of it: if volume were "
        "the reason, random steps would do as adversarial ones do.",
        f"Within {_DEPTH:.0%} of its surface lies {least} of a ball at the smallest size and {most} at the largest; a "
        f"random step as long as the adversarial one leaves the class in {_at_most(worst[0])}, and one of RMS {STEP:g} "
        f"in {_at_most(worst[1])}, at any size and for any network: {_verdict(worst[0])}",
        (table,),
    )


def _at_most(share: float) -> str:
    """A share of cases, or that there were none."""
    if math.isnan(share):
        return "no case that is known"
    return f"at most {math.ceil(1000 * share - _ROUNDED) / 10:.1f}% of cases" if share > 0 else "no case"


def _at_least(share: float) -> str:
    """A share of images, or all of them."""
    return f"at least {math.floor(1000 * share + _ROUNDED) / 10:.1f}%" if share < 1 else "all"


def _verdict(share: float) -> str:
    """What it says of volume how many random steps leave the class."""
    if math.isnan(share):
        return "whether volume is the reason is not known."
    return "volume is not the reason." if share < _OFTEN else "random steps do some of what adversarial ones do."


def _part(hits: Bools, of: Bools) -> Floats:
    """The shares (...) of some (..., n) that are hit; NaN where there are none."""
    count = of.sum(axis=-1)
    found: Floats = np.where(count > 0, (hits & of).sum(axis=-1) / np.maximum(count, 1), math.nan)
    return found


def noise(found: Measured) -> Section:
    """Whether errors in noise say where the nearest error is."""
    rows = []
    levels: list[list[Named]] = [[] for _ in NOISE]
    least = 1 / (2 * found.draws)  # the error where no draw errs, as one half of a draw
    for model in found.models:
        distance = found.distance(model)[:, found.at_native]  # (S, n)
        error = found.get("boundary", "error", model, sides=[found.native])[:, 0]  # (S, n, K)
        cells: list[Value | None] = []
        for k, times in enumerate(NOISE):
            known = np.isfinite(distance) & np.isfinite(error[..., k])
            rate = np.where(known, error[..., k], math.nan)
            some = (rate > 0) & (rate < 1)
            ratio = half_space(times, np.clip(rate, least, 1 - least))  # in units of r_adv
            cells += [mean_of(_mean(rate), "share"), mean_of(_part(some, known), "share")]
            middle = mean_of(medians(ratio))
            cells += [middle, mean_of(_part(ratio >= 1, known), "share")]
            levels[k].append((label(model), middle))
        rows.append((label(model), tuple(cells)))
    columns = [
        f"{what} at {times:g} r_adv"
        for times in NOISE
        for what in ("error", "moved sometimes", "predicted / found", "found no farther")
    ]
    flat = listed([f"{_tail(times):.1%} at {times:g} r_adv" for times in NOISE])
    table = Table(
        "noise",
        "Errors in noise",
        "Per image, Gaussian noise whose deviation is r_adv or a part of it: the share of draws that leave the class, "
        "for how many images it is some and not all; the median over images of -sigma Phi^-1(error) / r_adv; and for "
        "how many images the perturbation found is no larger than predicted. An image that no draw moves counts with "
        f"an error of half a draw, 1 / {2 * found.draws}, and one that all move with one less by as much: what they "
        f"predict is the least, and the most, that so many draws can tell. Beyond a hyperplane lie {flat}.",
        tuple(columns),
        tuple(rows),
    )
    return Section(
        "noise",
        "Errors in noise",
        "An error rate mu in Gaussian noise of deviation sigma goes with an error at -sigma Phi^-1(mu): exactly so "
        "where the boundary is a hyperplane, at every sigma, and nearly so for networks (Ford, Gilmer et al. 2019).",
        f"{found.images} held-out images at {found.native} x {found.native}; networks of each kind: {found.seeds}.",
        "A hyperplane at the distance found, for which the prediction is that distance. Several of them, one for each "
        "other class, let more noise through, so that the prediction falls short of the distance.",
        predicted(list(zip(NOISE, levels, strict=True))),
        (table,),
    )


def _tail(times: float) -> float:
    """The share of noise of `times` r_adv that lies beyond a hyperplane at r_adv."""
    return 0.5 * math.erfc(1 / (times * 2**0.5))
