"""What the product of the bounds is worth, and the radius that follows from it, as tables. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eval.intervals import Bools, Floats
from eval.records import Run
from eval.studies.cells import Table, Value, average, share
from eval.studies.reading import Section
from eval.studies.spectral_names import BOUNDED, UNTRAINED

Measured = Mapping[str, Mapping[str, np.ndarray[Any, Any]]]


def product(run: Run, measured: Measured, names: Sequence[str]) -> Section:
    """The product beside the ratios of pairs."""
    rows, over, pairs = [], 0, 0
    loose: dict[str, float] = {}  # by network
    for name in names:
        network, bound = measured[name], float(measured[name]["product"])
        found, attack, chance = (np.asarray(network[k], np.float64) for k in ("found", "attack", "random"))
        known, largest = math.isfinite(bound), float(found.max())
        times = bound / largest if known and largest > 0 else None  # a network of one answer has no ratio but 0
        if times is not None:
            loose[name] = times
        if known:  # nothing exceeds an infinite product
            ratios = np.concatenate([found, chance])  # the attack's pairs are among those found, where they are larger
            over, pairs = over + int((ratios > bound).sum()), pairs + len(ratios)
        rows.append(
            (
                name,
                (
                    Value("number", bound, math.nan, math.nan, 1) if known else None,
                    Value("number", largest, math.nan, math.nan, len(found)),
                    average("number", attack),
                    average("number", chance),
                    None if times is None else Value("number", times, math.nan, math.nan, 1),
                ),
            )
        )
    reasons = {name: str(measured[name]["reason"]) for name in names if str(measured[name]["reason"])}
    note = "".join(f" No product of {name}: {reason}." for name, reason in reasons.items())
    answer = (
        f"Of {pairs} ratios of pairs, from each image the largest found and a random one, {over} exceed the product of "
        f"their network: the bound {'does not stand' if over else 'stands'}"
        + (f"; it is {_apart(loose)} the largest that was found." if loose else ".")
        if pairs
        else "No product is known of these networks."
    )
    return Section(
        "product",
        "What the product is worth",
        "The product of the layers' bounds bounds the whole network: ||f(x) \u2212 f(y)|| \u2264 L ||x \u2212 y|| "
        "(Szegedy et al. 2014, section 4.3). It may be far above what any pair of images attains.",
        f"From each of {_numbers(measured)} test images a search for the pair whose distance "
        f"grows most, of {run.config['study']['steps']} steps; pairs of an image and its PGD example; in float64.",
        "Random directions from the same images, and networks with untrained weights.",
        answer,
        (
            Table(
                "ratios",
                "The product beside ratios ||f(x) \u2212 f(y)|| / ||x \u2212 y|| of pairs",
                "The largest ratio is attained, so that the network's Lipschitz constant lies between it and the "
                "product. Beside means stand their 95% intervals over images." + note,
                ("product L", "largest found", "attack pairs, mean", "random pairs, mean", "product / largest"),
                tuple(rows),
            ),
        ),
    )


def _numbers(measured: Measured) -> str:
    """How many pairs there are of the networks."""
    return _span([len(network["found"]) for network in measured.values()])


def radius(run: Run, measured: Measured, names: Sequence[str], distances: Mapping[str, Floats]) -> Section:
    """The proved radius beside the distances (n,) of adversarial examples."""
    rows, over, compared = [], 0, 0
    brackets: dict[str, float] = {}  # by network
    without = ""
    for name in names:
        network, found = measured[name], distances[name]
        right = np.asarray(network["lead"]) > 0
        by_product, tight = (np.asarray(network[k], np.float64) for k in ("radius", "tight"))
        for proved in (by_product, tight):
            # a radius of 0 proves nothing, and no radius is above the distance of what was not found
            both = np.isfinite(proved) & (proved > 0) & np.isfinite(found)
            over, compared = over + int((proved[both] > found[both]).sum()), compared + int(both.sum())
        best = np.fmax(by_product, tight)
        both = right & np.isfinite(found) & (found > 0) & (best > 0)
        bracket = found[both] / best[both]
        if len(bracket):
            brackets[name] = float(np.median(bracket))
        known = [v[right & np.isfinite(v)] for v in (by_product, tight)]
        if not (right & np.isfinite(found)).any():
            without += f" No distance of {name}: {_reason(right, found)}."
        rows.append(
            (
                name,
                (
                    share(right),
                    average("number", known[0]) if len(known[0]) else None,
                    average("number", known[1]) if len(known[1]) else None,
                    average("number", reached) if len(reached := found[right & np.isfinite(found)]) else None,
                    _median(bracket) if len(bracket) else None,
                ),
            )
        )
    answer = (
        f"Of {compared} radii above 0 of images of which an example was found, {over} radii are above the distance: "
        f"the claim {'does not stand' if over else 'stands'}"
        if compared
        else "No image has both a radius above 0 and an example that was found"
    )
    answer += (
        f"; the attack finds examples at {_apart(brackets)} the proved radius (medians of the networks)."
        if brackets
        else "."
    )
    answer += _gained({name: row[1] for name, row in rows})
    attacks = ", ".join(str(a["name"]) for a in run.attacks) or "no attack"
    return Section(
        "radius",
        "The radius that follows",
        "Small bounds exclude adversarial examples (Szegedy et al. 2014, section 4.3): an image keeps its class within "
        "r = lead / (\u221a2 L), in L2 (Tsuzuku et al. 2018).",
        f"r of {len(next(iter(measured.values()))['sample'])} test images, and the distance at which {attacks} found "
        "an adversarial example of each.",
        "Untrained networks: their radii are those of whatever class they give.",
        answer,
        (
            Table(
                "radii",
                "Proved radii beside the distances of adversarial examples, L2",
                "Means over the images that are right, with 95% intervals. The certificate is `models.spectral`'s, of "
                "the same norms; it counts the rows of the last layer instead of \u221a2, and rounding in float32; it "
                "supports fewer layers. Distance over radius: the median over images, with quartiles." + without,
                ("accuracy", "radius by L", "certificate", "adversarial distance", "distance / radius"),
                tuple(rows),
            ),
        ),
    )


def _reason(right: Bools, found: Floats) -> str:
    """Why a network has no mean distance."""
    if not right.any():
        return "none of its images is right"
    if np.isnan(found[right]).all():
        return "no attack ran on an image that is right"
    return f"no example was found of any of its {int(right.sum())} images that are right"


def _gained(radii: Mapping[str, Value | None]) -> str:
    """What training with the norms as a penalty has made of the mean radius."""
    pairs = [(name, own, radii.get(name + BOUNDED)) for name, own in radii.items()]
    told = [f"{name} from {own.ours:.3g} to {to.ours:.3g}" for name, own, to in pairs if own is not None and to]
    return f" With the norms as a penalty in training, the mean radius by L goes {', '.join(told)}." if told else ""


def _median(values: Floats) -> Value:
    low, middle, high = (float(q) for q in np.quantile(values, (0.25, 0.5, 0.75)))
    return Value("number", middle, low, high, len(values))


def _apart(values: Mapping[str, float]) -> str:
    """From the least to the largest of the trained networks, and those of the untrained apart."""
    trained = [value for name, value in values.items() if not name.endswith(UNTRAINED)]
    null = [value for name, value in values.items() if name.endswith(UNTRAINED)]
    if not trained:
        return f"{_span(null)} times (untrained networks)"
    return f"{_span(trained)} times" + (f" (untrained networks: {_span(null)})" if null else "")


def _span(values: Sequence[float]) -> str:
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return low if low == high else f"{low} to {high}"
