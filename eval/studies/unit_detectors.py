"""One unit as a detector of a class, and what becomes of a network without it. Free of torch."""

from __future__ import annotations

import numpy as np
import pandas as pd

from eval.studies.cells import Table, Value, share, told
from eval.studies.estimates import beyond_draws, of_draws, verdict
from eval.studies.reading import Section
from eval.studies.unit_family import LABELS, Array, Family, Looked, alone, between, number, percents, points
from eval.units import detectors
from eval.units.bases import BASES

_SHOWN = 20  # classes with a row of their own


def section(family: Family) -> Section:
    """The section of detectors; there must be classes with images enough."""
    classes, networks, bases = _classes(family), _networks(family), _bases(family)
    mean = dict(networks.rows)[family.first.label]
    ours, random, gain, majority = mean
    assert ours is not None and random is not None and gain is not None and majority is not None  # noqa: PT018
    untrained = [values for label, values in networks.rows if label.startswith("untrained")]
    beside = untrained[0][0] if untrained else None
    never = "" if beside is None else f" Without training the best unit reaches {told(beside)}."
    n = family.first.count("natural")
    return Section(
        name="detectors",
        title="One unit as a detector: the cat neuron",
        claim="A single unit can be a detector of a class: one neuron of a network that had seen no label told faces "
        "from other pictures with 81.7%, and another cats with 74.8% (Le et al. 2012, on pictures and a majority "
        "of their own).",
        measured=f"{family.held_out} Each class against all others: for every direction the side and the threshold of "
        f"the highest accuracy on one half; the direction with the highest accuracy there; its accuracy on the other "
        f"half. {len(family.classes)} of {len(family.run.data['classes'])} classes have images enough.",
        null=f"Who always says no, and the best of as many random directions ({n} of each), chosen alike, in the mean "
        f"of {len(family.first.seen['again_right'])} draws; the other networks of the run.",
        answer=f"The best unit of each class tells it from the others with {told(ours)} accuracy in the mean of the "
        f"classes, against {majority.ours:.1%} of who always says the same, and {told(random)} of the best of as many "
        f"random directions: a difference of {percents(gain)}, {_verdict(gain)}.{never}",
        tables=(classes, networks, bases),
    )


def _verdict(gain: Value) -> str:
    return verdict(
        gain,
        "more than the choice of images and of random directions explains",
        "less than random directions",
        "no more than the choice of images and of random directions explains",
    )


def best(one: Looked) -> tuple[Array, Array]:
    """The number (C,) of the unit that is the best detector of each class, and whether it is right (n, C)."""
    found = detectors.Detectors(*(one.seen[f"{what}_natural"] for what in ("threshold", "side", "fitted")))
    chosen = found.fitted.argmax(0)
    kinds = np.arange(found.fitted.shape[1])
    said = detectors.detected(one.responses("natural", one.told), found, chosen, kinds)
    return chosen, said == member(one, one.told)


def member(one: Looked, where: Array) -> Array:
    """Whether the samples `where` are of each class that is told, (n, C)."""
    inside: Array = one.seen["label"][where][:, None] == one.seen["classes"]
    return inside


def _area(one: Looked, unit: int, c: int) -> float:
    """Under the curve of a detector on the images that are told, by the side that the other ones chose."""
    area, side = float(one.seen["area_natural"][unit, c]), float(one.seen["side_natural"][unit, c])
    return area if side > 0 else 1 - area


def _classes(family: Family) -> Table:
    first = family.first
    (units, right), theirs = best(first), first.seen["again_right"]  # (n, C), (draws, n, C)
    majority = detectors.majority(member(first, first.told))
    rows = []
    for c, number_ in enumerate(first.seen["classes"][:_SHOWN]):
        areas = (_area(first, units[c], c), float(first.seen["again_area"][:, c].mean()))
        n = len(right)
        rows.append(
            (
                str(family.run.data["classes"][number_]),
                (
                    share(right[:, c]),
                    of_draws(theirs[:, :, c], "share"),
                    beyond_draws(right[:, c], theirs[:, :, c]),
                    Value("share", float(majority[c]), float("nan"), float("nan"), n),
                    *(alone(area, n) for area in areas),
                ),
            )
        )
    left = len(first.seen["classes"]) - len(rows)
    return Table(
        "detectors_classes",
        f"The best unit of each class: {first.name}",
        f"The best random direction: the mean of {len(theirs)} draws of as many as there are units, intervals over "
        "draws and images. The area is that under the ROC curve, which knows no threshold."
        + (f" The first {_SHOWN} classes; {left} more count in the means." if left > 0 else ""),
        ("best unit", "best random direction", "difference", "majority", "area, unit", "area, random direction"),
        tuple(rows),
    )


def _networks(family: Family) -> Table:
    rows = []
    for one in family.networks:
        ours, random = best(one)[1].mean(1), one.seen["again_right"].mean(2)  # (n,), (draws, n)
        majority = float(detectors.majority(member(one, one.told)).mean())
        rows.append(
            (
                one.label,
                (
                    number(ours, "share"),
                    of_draws(random, "share"),
                    beyond_draws(ours, random),
                    Value("share", majority, float("nan"), float("nan"), len(ours)),
                ),
            )
        )
    return Table(
        "detectors_networks",
        "The best of each class, mean of the classes, network by network",
        "Intervals are over images; of what has to do with random directions, over draws of them as well.",
        ("best unit", "best random direction", "difference", "majority"),
        tuple(rows),
    )


def _bases(family: Family) -> Table:
    frame = directions(family)
    rows = []
    for basis in BASES:
        part = frame[frame["basis"] == basis]
        gain = (part["accuracy"] - part["majority"]).to_numpy(np.float64)
        rows.append(
            (
                LABELS[basis],
                (
                    points(gain),
                    share((gain > 0).astype(bool)),
                    number(part["area"].to_numpy(np.float64)),
                ),
            )
        )
    return Table(
        "detectors_bases",
        "Every direction with the class that suits it best",
        "The class, side and threshold are those of the highest accuracy above the majority on one half; what is "
        "shown is measured on the other. The area is that of the side chosen. Intervals are over directions; "
        "directions.csv has each one.",
        ("accuracy above the majority", "directions above it", "area"),
        tuple(rows),
    )


def directions(family: Family) -> pd.DataFrame:
    """One row a direction of the first network: the class that it detects best, and how well; how pure it is."""
    one = family.first
    base = [detectors.majority(member(one, half)) for half in (~one.told, one.told)]
    names = np.array([str(name) for name in family.run.data["classes"]])[one.seen["classes"]]
    parts = []
    for basis in BASES:
        fitted, accuracy, area = (one.seen[f"{what}_{basis}"] for what in ("fitted", "accuracy", "area"))
        c = (fitted - base[0]).argmax(1)
        i = np.arange(len(fitted))
        side = one.seen[f"side_{basis}"][i, c].astype(int)
        parts.append(
            pd.DataFrame(
                {
                    "network": one.name,
                    "basis": basis,
                    "direction": i,
                    "unit": one.seen[f"v_{basis}"].argmax(1) if basis == "natural" else -1,
                    "class": names[c],
                    "side": side,
                    "threshold": one.seen[f"threshold_{basis}"][i, c],
                    "fitted": fitted[i, c],
                    "accuracy": accuracy[i, c],
                    "majority": base[1][c],
                    "area": np.where(side > 0, area[i, c], 1 - area[i, c]),
                    "purity": one.seen[f"purity_{basis}"],
                    "entropy": one.seen[f"entropy_{basis}"],
                    "likeness": one.seen[f"likeness_{basis}"],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


_LOST = (
    "accuracy lost",
    "without a random one",
    "more",
    "loss gained",
    "without a random one, loss",
    "more loss",
)


def ablation(family: Family) -> Section:
    """The section of what becomes of a network without a direction."""
    first = family.first
    n, d = first.seen["gone_right_natural"].shape[::-1]
    bases = Table(
        "ablation_bases",
        f"Without one direction: {first.name}",
        "What a direction says beyond its mean is taken from the activations, at every place of a feature map: the "
        f"mean over {d} directions, on {n} images. Beside each, a random direction along which activations vary as "
        "much. Loss is the cross-entropy of the label. Intervals are over directions." + _at_maxima(family),
        _LOST,
        tuple((LABELS[basis], _lost(first, basis)) for basis in BASES),
    )
    networks = Table(
        "ablation_networks",
        "Without one unit, network by network",
        "The same for the units alone.",
        _LOST,
        tuple((one.label, _lost(one, "natural")) for one in family.networks),
    )
    lost, equal, more, _, _, loss = _lost(first, "natural")
    away = verdict(loss, "units matter more", "units matter less")
    return Section(
        name="ablation",
        title="Ablation: is a unit needed?",
        claim="If units carry the meaning, taking one out should cost more than taking out any other direction.",
        measured=f"{family.held_out} {d} directions of each basis, projected out of the activations one at a time; "
        f"accuracy and cross-entropy on {n} held-out images.",
        null="Beside each direction a random one along which the activations vary as much, so that the sizes of what "
        "is taken out are equal; the other networks.",
        answer=f"The accuracy that is lost without one unit is {percents(lost)}, without a random direction of the "
        f"same variance {percents(equal)}: a difference of {percents(more)}, and of {between(loss, 4)} nats of loss: "
        f"{away}.",
        tables=(bases, networks),
    )


def _at_maxima(family: Family) -> str:
    """What is taken out where responses are maxima over places."""
    if family.run.config["study"]["at"] != "max" or len(family.first.seen["shape"]) < 2:
        return ""
    return (
        " Responses are maxima over places; what is taken out is the direction of the activations at each place, as "
        "their mean over the places would show it, and not one of the maxima."
    )


def _lost(one: Looked, basis: str) -> tuple[Value, ...]:
    right, loss = one.seen["intact_right"].mean(), one.seen["intact_loss"].mean(dtype=np.float64)
    ours, theirs = (right - one.seen[f"{kind}_right_{basis}"].mean(1) for kind in ("gone", "equal"))
    more, most = (one.seen[f"{kind}_loss_{basis}"].mean(1, dtype=np.float64) - loss for kind in ("gone", "equal"))
    return (points(ours), points(theirs), points(ours - theirs), number(more), number(most), number(more - most))
