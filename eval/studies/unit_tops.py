"""Top images of units and of random directions: what they have in common, counted. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from eval.studies.cells import Table, Value
from eval.studies.clauses import listed, sentence
from eval.studies.estimates import beyond
from eval.studies.reading import Pictures, Section
from eval.studies.sheets import sheet
from eval.studies.unit_family import (
    LABELS,
    NO_TRAINING,
    SHUFFLED_LABELS,
    Array,
    Family,
    Looked,
    alone,
    between,
    number,
    superiority,
)
from eval.studies.unit_names import ROBUST, SHUFFLED, UNTRAINED
from eval.units import tops
from eval.units.bases import BASES
from eval.units.tops import CHANCE, MEASURES

_ABOVE = "a unit above"
_LITTLE = (0.4, 0.6)  # of the pairs: whose interval is within is told to be near one half
_NOT_REJECTED = "here the claim is not rejected"


def section(family: Family) -> Section:
    """The section of the page."""
    bases, networks = _bases(family), _networks(family)
    k = _best(family)
    return Section(
        name="tops",
        title="Top images: units against random directions",
        claim="Random directions of a layer are as meaningful as its units: the images that either responds to most "
        "have as much in common (Szegedy et al. 2013, section 3, figures 1 to 4, which show images and count nothing).",
        measured=f"{family.held_out} Of each direction the {k} images with the greatest response: the share of their "
        f"commonest class (purity), the entropy of the classes, the mean correlation of their pixels (likeness), on "
        f"{', '.join(f'{family.first.count(b)} {LABELS[b]}' for b in BASES)}. {family.counts}",
        null=f"{k} images at random; {_nulls(family)}. Sparse directions that are not negative are "
        "one-sided as units of a ReLU layer are; rotations of whitened features have none of the units' scales and "
        "correlations. Intervals are over directions, images and network held fixed.",
        answer=_answer(family, bases, networks),
        tables=(bases, networks),
        pictures=tuple(_pictures(family)),
    )


def _best(family: Family) -> int:
    return int(family.first.seen["top_natural"].shape[1])


def _nulls(family: Family) -> str:
    """The networks that learnt nothing, and those of them that there are not, and why."""
    untrained, shuffled = (family.first.name + ending for ending in (UNTRAINED, SHUFFLED))
    trained = next((m["trained"] for m in family.run.models if m["name"] == shuffled), None)
    there = ["untrained"] if family.named(untrained) else []
    if trained is not None and family.named(shuffled):
        fits = float(trained["train_accuracy"])
        there.append(f"trained on shuffled labels, of which it is right about {fits:.0%} at the end of training")
    left = [family.gone[name] for name in (untrained, shuffled) if name in family.gone]
    said = f"the same network {', and '.join(there)}" if there else "no network that learnt nothing"
    if trained is None:
        said += (
            " (these data have no training part, or the network came with its weights, or was not trained in the plain "
            "way: none was trained on shuffled labels)"
        )
    return said + (f"; left out: {', '.join(left)}" if left else "")


def _bases(family: Family) -> Table:
    first, seed, what = family.first, family.run.seed, family.measure
    rows: list[tuple[str, tuple[Value | None, ...]]] = []
    units = first.seen[f"{what}_natural"]
    for basis in (*BASES, CHANCE):
        alike = [_alike(first, each, basis) for each in MEASURES]
        other = first.seen[f"{what}_{basis}"]
        apart: tuple[Value | None, ...] = (None, None, None)
        if basis not in ("natural", CHANCE):
            distance, chance = tops.kolmogorov(units, other), tops.kolmogorov_chance(units, other)
            apart = (superiority(units, other, seed), alone(distance, len(units)), alone(chance, len(units)))
        told = alike if family.by_class else (None, None, alike[-1])
        rows.append((LABELS.get(basis, "images at random"), (*told, *apart)))
    return Table(
        "tops_bases",
        f"What the images of a direction have in common: {first.name}",
        f"A unit above: how often a unit's {what} is greater than that of a direction of the row, ties counting half "
        "(the area under the ROC curve): 0.5 where there is no difference. The distance is the greatest between both "
        "distributions (Kolmogorov and Smirnov); p, how likely one as great is without a difference.",
        ("purity", "entropy, bits", "likeness", _ABOVE, "distance", "p"),
        tuple(rows),
    )


def _alike(one: Looked, what: str, basis: str) -> Value:
    """The mean of a measure, its interval within what the measure can be."""
    value = number(one.seen[f"{what}_{basis}"])
    least = -1.0 if what == "likeness" else 0.0
    most = math.inf if what == "entropy" else 1.0
    return replace(value, low=max(least, value.low), high=min(most, value.high))


def _networks(family: Family) -> Table:
    seed, what = family.run.seed, family.measure
    rows = []
    for one in family.networks:
        units = one.seen[f"{what}_natural"]
        values = [_alike(one, what, "natural"), _alike(one, what, "random")]
        values += [superiority(units, one.seen[f"{what}_{basis}"], seed) for basis in BASES[1:]]
        rows.append((one.label, tuple(values)))
    return Table(
        "tops_networks",
        "Units above other directions, network by network",
        f"The columns after the second: how often a unit's {what} is greater than that of the other kind of direction, "
        "ties counting half.",
        (f"{what}, units", f"{what}, random directions", *(f"above {LABELS[b]}" for b in BASES[1:])),
        tuple(rows),
    )


def _answer(family: Family, bases: Table, networks: Table) -> str:
    what = family.measure
    by = dict(bases.rows)
    place = bases.columns.index(what)
    units, others = by[LABELS["natural"]][place], by[LABELS["random"]][place]
    above = by[LABELS["random"]][bases.columns.index(_ABOVE)]
    assert units is not None and others is not None and above is not None  # noqa: PT018
    sparse = by[LABELS["sparse"]][bases.columns.index(_ABOVE)]
    nulls = {
        label: values[2]
        for label, values in networks.rows
        if values[2] is not None and label in (NO_TRAINING, SHUFFLED_LABELS)
    }
    beside = [
        f"{between(value)} over {LABELS[basis]}"
        for basis in BASES[2:]
        if (value := by[LABELS[basis]][bases.columns.index(_ABOVE)]) is not None
    ]
    null = "; ".join(f"{label}: {between(value)}" for label, value in nulls.items())
    return (
        f"The {what} is {between(units)} for units and {between(others)} for random directions; a unit is above a "
        f"random direction in {between(above)} of the pairs, in {', '.join(beside)}. "
        + (
            f"As a null, units above random directions where nothing was learnt: {null}. "
            if nulls
            else "There is no null: no network that learnt nothing has units that respond. "
        )
        + sentence([_verdict(above, sparse, nulls)])
    )


def _verdict(above: Value, sparse: Value | None, nulls: Mapping[str, Value]) -> str:
    """What a difference between units and random directions means: nothing if nothing learnt has it as well.

    Args:
        above: how often a unit is above a random direction.
        sparse: the same of random directions that are as one-sided as units are.
        nulls: the same of networks that learnt nothing, by what they are called.
    """
    if math.isnan(above.low):
        return "too few units to tell whether the claim stands here"
    if above.low <= 0.5 <= above.high:
        if _LITTLE[0] <= above.low and above.high <= _LITTLE[1]:
            return f"if there is a difference it is small, within {_LITTLE[0]} to {_LITTLE[1]}: here the claim stands"
        return f"no difference can be told: {_NOT_REJECTED}"
    greater = above.low > 0.5
    but = []
    if greater and (sparse is None or not sparse.low > 0.5):
        but.append("are not shown to have more than random directions that are one-sided, as units are")
    alike = [
        label for label, null in nulls.items() if not (beyond(above, null) if greater else beyond(null, above)).low > 0
    ]
    if alike:
        but.append(f"are not shown to be more so than where nothing was learnt ({listed(alike)})")
    if not nulls:
        but.append("have no network that learnt nothing to be compared with")
    if not greater:
        more = f"random directions have more in common{', but ' if but else ''}{listed(but)}"
        return f"{more}, so that nothing speaks for units: {_NOT_REJECTED}"
    if but:
        return (
            f"units have more in common, but {listed(but)}, so that no meaning needs to be behind it: {_NOT_REJECTED}"
        )
    return "units have more in common: here the claim is rejected"


def _pictures(family: Family) -> Iterable[Pictures]:
    k = _best(family)
    note = (
        f"A row is a direction, its {k} images from the strongest on, none chosen by hand: the first of a random order."
    )
    first = family.first
    yield Pictures(
        "tops_pictures",
        f"Top images of {first.name}",
        note,
        tuple((LABELS[basis], _sheet(first, basis)) for basis in ("natural", "random", "rotated", "pca")),
    )
    others = [
        one for one in family.networks if one.label in (NO_TRAINING, SHUFFLED_LABELS) or one.name.endswith(ROBUST)
    ]
    if others:
        yield Pictures(
            "tops_pictures_beside",
            "The same for the networks beside it",
            note,
            tuple(
                (f"{one.label}, {LABELS[basis]}", _sheet(one, basis))
                for one in others
                for basis in ("natural", "random")
            ),
        )


def _sheet(one: Looked, basis: str) -> Array:
    pictures = one.seen[f"picture_{basis}"]  # (s, k, C, H, W)
    flat = pictures.reshape(-1, *pictures.shape[2:]).astype(np.float32) / 255
    return _three(sheet(flat, columns=pictures.shape[1]))


def _three(page: Array) -> Array:
    """A page as a picture: of one channel or three."""
    return page if len(page) in (1, 3) else page.mean(axis=0, keepdims=True)
