"""The same unit in networks of other seeds, and what it responds to most. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from eval.intervals import paired_mean
from eval.records import read_measured
from eval.studies.cells import Table, Value
from eval.studies.estimates import beyond, verdict
from eval.studies.reading import Pictures, Section
from eval.studies.sheets import sheet
from eval.studies.unit_family import LABELS, NO_TRAINING, Array, Family, Looked, between, number
from eval.studies.unit_names import ROBUST, UNTRAINED
from eval.units import matching
from eval.units.bases import BASES

_SIDE = 112  # pixels of a stimulus that is shown, at most
_UNTRAINED = "; untrained networks, whose units have in common what the images and the architecture give"
Pair = tuple[Looked, Looked]


def stability(family: Family) -> Section | None:
    """The section of matched units; None where there is one network alone."""
    trained, untrained = family.siblings(), family.siblings(UNTRAINED)
    if len(trained) < 2:
        return None
    kinds: dict[str, Sequence[Pair]] = {"trained, two seeds": list(combinations(trained, 2))}
    if len(untrained) > 1:
        kinds["untrained, two seeds"] = list(combinations(untrained, 2))
    if untrained:
        kinds["trained and untrained"] = [(one, untrained[0]) for one in trained]
    found = {label: {basis: common(pairs, basis) for basis in BASES} for label, pairs in kinds.items()}
    table = Table(
        "stability_pairs",
        "The same direction in another network",
        "The correlation of matched directions on images that they were not matched on; n counts pairs. More "
        "directions are matched better by chance: units and random directions are as many. Intervals are over other "
        "directions of these networks, the networks and the images held fixed: pairs that share a direction, as those "
        "of one unit with its matches in two other networks, depend on one another, and count for less than as many "
        "that share none (Aronow et al. 2015). All live units of a network take part; where they are more "
        "than the directions that were measured of another basis, that has no number here.",
        tuple(LABELS[basis] for basis in BASES),
        tuple((label, tuple(by[basis] for basis in BASES)) for label, by in found.items()),
    )
    ours = {basis: value for basis, value in found["trained, two seeds"].items() if value is not None}
    gap = beyond(ours["natural"], ours["random"])
    says = verdict(
        gap,
        "units are found again more than random directions are",
        "units are found again less than random directions are",
    )
    nulls = "; ".join(
        f"{label}: {between(by['natural'])} for units, {between(by['random'])} for random directions"
        for label, by in found.items()
        if label != "trained, two seeds" and by["natural"] is not None and by["random"] is not None
    )
    return Section(
        name="stability",
        title="Stability: the same unit in another seed",
        claim="If units are features, networks of other seeds should have the same ones (Li et al. 2016, convergent "
        "learning); if only the space matters, random directions should be found again as well.",
        measured=f"{family.held_out} {len(trained)} networks of seeds of their own, {len(kinds['trained, two seeds'])} "
        "pairs: units are matched one to one by the greatest sum of correlations on one half of the images, and "
        "correlated on the other.",
        null=f"As many random directions, matched alike{_UNTRAINED if nulls else ''}.",
        answer=f"Matched units of two seeds correlate by {between(ours['natural'])}, matched random "
        f"directions by {between(ours['random'])}: a difference of {between(gap)}, {says}. "
        + (f"As nulls, {nulls}." if nulls else "There is no untrained network whose units respond, and so no null."),
        tables=(table,),
    )


def common(pairs: Sequence[Pair], basis: str) -> Value | None:
    """The mean correlation of the matched directions of all pairs of networks, on the images told, with its interval.

    A direction is one thing in all pairs of networks in which its network is. None where `matched` is None.
    """
    names = sorted({net.name for pair in pairs for net in pair})
    size = max(len(net.seen["live"]) for pair in pairs for net in pair)
    first = {name: place * size for place, name in enumerate(names)}  # the number of a network's first direction
    values, ends = [], []
    for one, other in pairs:
        both = matched(one, other, basis)
        if both is None:
            return None
        pairing, said = both
        values.append(said)
        ends.append(np.stack([first[one.name] + pairing.one, first[other.name] + pairing.other], axis=1))
    said = np.concatenate(values)
    return Value("number", *paired_mean(said, np.concatenate(ends)), len(said))


def matched(one: Looked, other: Looked, basis: str) -> tuple[matching.Matched, Array] | None:
    """Which direction is which, as the images that are not told have it, and their correlation on those told.

    Of each network all live units take part, by their order, or as many directions of another basis; None of one that
    was measured with fewer.
    """
    fitted, told = ([net.twins(basis, where) for net in (one, other)] for where in (~one.told, one.told))
    if fitted[0] is None or fitted[1] is None or told[0] is None or told[1] is None:
        return None
    found = matching.match(fitted[0], fitted[1])
    return found, matching.held_out(told[0], told[1], found)


@dataclass(frozen=True)
class _Relative:
    """How strong responses are, from the mean of all samples (0) to the strongest of them (1).

    Attributes:
        responses: (n, D) to the samples.
    """

    responses: Array

    def __call__(self, said: Array, direction: Array, sign: Array) -> Array:
        """Responses `said` (s,) of some directions (s,), each in its sign."""
        r = self.responses[:, direction] * sign
        mean = r.mean(0)
        found: Array = (said * sign - mean) / (r.max(0) - mean).clip(1e-12)
        return found


_COLUMNS = ("units, themselves", "random directions, themselves", "matched unit", "other units", "best image, matched")


def stimulus(family: Family) -> Section | None:
    """The section of optimal stimuli; None where they were not searched for."""
    shown = read_measured(family.folder, "stimuli")
    networks = [one for one in family.networks if one.name in shown]
    if not networks:
        return None
    rows, partners = [], {}
    for one in networks:
        partner = _partner(family, one)
        if partner is not None and f"on:{partner.name}" not in shown[one.name]:
            partner = None
        partners[one.label] = partner
        rows.append((one.label, _row(one, partner, shown[one.name])))
    table = Table(
        "stimulus_strength",
        "The optimal stimulus beside the best real image",
        "The response from the mean over all samples (0) to the strongest of them (1). On the right the same images "
        "shown to another seed of the same kind (for adversarial training: to the network without): the unit that "
        "is matched, the mean of all other units there, and, beside, what the best real image does to the match. "
        "Intervals are over directions.",
        _COLUMNS,
        tuple(rows),
    )
    own, random, match, others, real = dict(rows)[family.first.label]
    assert own is not None and random is not None  # noqa: PT018
    crossed = (
        f"Shown to another seed, it moves the matched unit by {between(match)}, the others by {between(others)}, where "
        f"the best real image moves the match by {between(real)}."
        if match is not None and others is not None and real is not None
        else "There is no other seed to show it to."
    )
    count, some = int(shown[family.first.name]["count"]), shown[family.first.name]
    return Section(
        name="stimulus",
        title="Optimal stimulus: what a unit responds to most",
        claim="The optimal stimulus of a unit shows what it stands for (Le et al. 2012).",
        measured=f"{family.held_out} For {count} units and as many random directions the image with the greatest "
        f"response among those whose L2 distance from the mean image is at most {float(some['radius']):.2f}, the mean "
        f"of the samples', within the box; {family.run.config['study']['steps']} steps of projected ascent.",
        null="Random directions; untrained networks; in the other network the units that are not matched, and the "
        "best real image.",
        answer=f"The optimal stimulus of a unit moves it {between(own)} times as far from its mean as the best real "
        f"image does, that of a random direction {between(random)} times: {_stronger(beyond(own, random))}"
        f"{_without(rows)}. {crossed}",
        tables=(table,),
        pictures=(_pictures(networks, shown),),
    )


def _stronger(gap: Value) -> str:
    """What a difference between stimuli of units and of random directions says."""
    return verdict(gap, "units are moved further", "units are moved less far")


def _without(rows: Sequence[tuple[str, tuple[Value | None, ...]]]) -> str:
    """How far units of networks that learnt nothing are moved, each for itself."""
    found = [f"{label} {between(v[0])}" for label, v in rows if label.startswith(NO_TRAINING) and v[0] is not None]
    return f"; units of networks that learnt nothing: {', '.join(found)}" if found else ""


def _partner(family: Family, one: Looked) -> Looked | None:
    """The network that the stimuli of another are shown to."""
    for kind in ("", UNTRAINED):
        group = family.siblings(kind)
        if one in group:
            return next((other for other in group if other is not one), None)
    return family.first if one.name.endswith(ROBUST) else None


def _row(one: Looked, partner: Looked | None, some: dict[str, Array]) -> tuple[Value | None, ...]:
    count = int(some["count"])
    alone: list[Value | None] = []
    for basis, part in (("natural", slice(0, count)), ("random", slice(count, None))):
        said = some[f"on:{one.name}"][part] @ one.seen[f"v_{basis}"].T  # (s, D)
        i = np.arange(len(said))
        everywhere = _Relative(one.responses(basis, np.ones(len(one.told), bool)))
        alone.append(number(everywhere(said[i, i], i, np.ones(len(i)))))
    if partner is None:
        return (*alone, None, None, None)
    both = matched(one, partner, "natural")
    assert both is not None  # units are all measured
    pairs, _ = both
    place = {int(unit): k for k, unit in enumerate(one.seen["live"][pairs.one])}  # of a unit among the pairs
    units = one.seen["v_natural"][:count].argmax(1)
    i = np.array([i for i, unit in enumerate(units) if int(unit) in place], dtype=int)
    if not len(i):
        return (*alone, None, None, None)
    k = np.array([place[int(unit)] for unit in units[i]])
    j, sign = pairs.other[k], pairs.sign[k]
    theirs = _Relative(partner.seen["responses"][:, partner.seen["live"]])
    said = some[f"on:{partner.name}"][i][:, partner.seen["live"]]  # (s, D)
    every = np.arange(said.shape[1])
    rest = [theirs(row, every, np.ones(len(every)))[every != own].mean() for row, own in zip(said, j, strict=True)]
    strongest = one.seen["responses"][:, units[i]].argmax(0)
    real = theirs(theirs.responses[strongest, j], j, sign)
    return (*alone, number(theirs(said[np.arange(len(i)), j], j, sign)), number(np.array(rest)), number(real))


def _pictures(networks: Sequence[Looked], shown: dict[str, dict[str, Array]]) -> Pictures:
    images = []
    for one in networks:
        some = shown[one.name]
        pictures, count = _small(some["stimulus"]), int(some["count"])
        page = sheet(np.clip(pictures, 0, 1), columns=count)
        images.append((one.label, page if len(page) in (1, 3) else page.mean(axis=0, keepdims=True)))
    return Pictures(
        "stimulus_pictures",
        "Optimal stimuli",
        "Above those of units, below those of random directions; the first of a random order.",
        tuple(images),
    )


def _small(images: Array) -> Array:
    """Images (s, C, H, W), larger ones as means of squares of pixels."""
    *rest, height, width = images.shape
    factor = -(-max(height, width) // _SIDE)
    if factor == 1:
        return images
    h, w = height // factor, width // factor
    cut = images[..., : h * factor, : w * factor].reshape(*rest, h, factor, w, factor)
    small: Array = cut.mean(axis=(-3, -1))
    return small
