"""What units say of perturbed images: does the one that fired for the cat fire for the toaster? Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from eval.records import read_slices
from eval.studies.cells import Table, Value, share, told
from eval.studies.reading import Section
from eval.studies.unit_family import Array, Family, Looked, between, number
from eval.units.matching import correlations

_STAGES = ("before", "after", "noise")
_STRONGEST = 0.1  # of the units: those that an image is known by
_FEWEST = 3  # of them, at least


@dataclass(frozen=True)
class Fired:
    """The units of one network before and after its images were perturbed, of those images that then fooled it.

    Attributes:
        one: the network.
        label: (n,) classes.
        said: (n,) what the network takes the perturbed images for.
        stages: responses by stage, (n, U) each.
    """

    one: Looked
    label: Array
    said: Array
    stages: Mapping[str, Array]

    @property
    def strongest(self) -> int:
        """How many units an image is known by."""
        return min(self.units, max(_FEWEST, round(_STRONGEST * self.units)))

    @property
    def units(self) -> int:
        """How many units are looked at: the live ones, or those of them that lead where there are very many."""
        return self.one.count("natural")

    def standard(self, responses: Array, basis: str = "natural") -> Array:
        """Responses (n, U) along a basis, in deviations from their mean on images that are not told: (n, D)."""
        known = self.one.responses(basis, ~self.one.told)
        v = self.one.seen[f"v_{basis}"]
        z: Array = (responses @ v.T - known.mean(0)) / known.std(0).clip(1e-9)
        return z

    def kept(self, stage: str, basis: str = "natural") -> Array:
        """The share (n,) of the strongest before that are so afterwards, of as many directions as there are units."""
        most = self.units  # of more directions fewer would be kept by chance
        before, after = (self._top(self.standard(self.stages[s], basis)[:, :most]) for s in ("before", stage))
        shares: Array = (before & after).sum(1) / self.strongest
        return shares

    def first_kept(self) -> Array:
        """Whether (n,) the strongest unit before is among the strongest afterwards."""
        first = self.standard(self.stages["before"]).argmax(1)
        after = self._top(self.standard(self.stages["after"]))
        kept: Array = after[np.arange(len(first)), first]
        return kept

    def alike(self, stage: str) -> Array:
        """The correlation (n,) of the units before and afterwards."""
        before, after = (self.standard(self.stages[s]) for s in ("before", stage))
        return np.array([correlations(a[:, None], b[:, None])[0, 0] for a, b in zip(before, after, strict=True)])

    def _top(self, z: Array) -> Array:
        """Which (n, D) are the strongest of their image."""
        order = np.argsort(-z, axis=1, kind="stable")[:, : self.strongest]
        inside = np.zeros(z.shape, bool)
        np.put_along_axis(inside, order, True, axis=1)
        return inside

    def units_of(self, classes: Array) -> Array:
        """The units (C, m) that respond most to each class, in deviations, on images that are not told."""
        where = ~self.one.told
        z, labels = self.standard(self.one.seen["responses"][where]), self.one.seen["label"][where]
        means = np.stack([z[labels == c].mean(0) for c in classes])
        found: Array = np.argsort(-means, axis=1, kind="stable")[:, : self.strongest]
        return found


def fired(family: Family) -> dict[str, Fired]:
    """What the watchers saw, by what a row of the tables is called; nothing where no image fooled its network."""
    attacks = [str(a["name"]) for a in family.run.attacks]
    found = {}
    for attack in attacks:
        watched = read_slices(family.folder, f"watched:{attack}")
        for one in family.networks:
            parts = [part for part in watched.get(one.name, ()) if "label" in part]
            if not parts:
                continue
            seen = {key: np.concatenate([part[key] for part in parts]) for key in parts[0] if parts[0][key].ndim}
            fooled = seen["moved"] & (seen["said_before"] == seen["label"]) & (seen["said_after"] != seen["label"])
            if fooled.sum() > 1:
                row = one.label + (f", {attack}" if len(attacks) > 1 else "")
                stages = {stage: seen[stage][fooled] for stage in _STAGES}
                found[row] = Fired(one, seen["label"][fooled], seen["said_after"][fooled], stages)
    return found


def section(family: Family) -> Section | None:
    """The section of the page; None where nothing was attacked, or no image fooled its network."""
    all_ = fired(family)
    if not all_:
        return None
    first = next(iter(all_.values()))
    kept = Table(
        "firing_kept",
        "Do the strongest units stay?",
        f"Responses in deviations from their mean. The strongest are a tenth of the units, {first.strongest} here: "
        "which share of those of the image are so for the perturbed image; whether the strongest of all is among them; "
        "the correlation of all units. Noise: Gaussian noise of the perturbation's RMS on the same image. n counts "
        "images that fooled the network, intervals are over them.",
        ("strongest kept", "by noise", "strongest of all kept", "random directions kept", "by noise, random",
         "correlation", "noise, correlation"),
        tuple((row, _kept(one)) for row, one in all_.items()),
    )  # fmt: skip
    tables = [kept]
    classes = {row: values for row, one in all_.items() if (values := _classes(family, one)) is not None}
    if classes:
        tables.append(_table(classes))
    size = ", ".join(f"{len(one.label)} on {row}" for row, one in all_.items())
    return Section(
        name="firing",
        title="Adversarial images: does the cat's unit fire for the toaster?",
        claim="A perturbation that nobody sees changes what the network says (Szegedy et al. 2013, section 4). If "
        "units meant what their top images show, those of the true class would go on firing.",
        measured=f"{family.held_out} Perturbed images that fooled their network: {size}. The units of a class are "
        "those that respond most to it on images used for nothing else.",
        null="Gaussian noise of the same RMS on the same images; real images of the class that the network names.",
        answer=" ".join(
            _turn(row.partition(", ")[2], one, classes.get(row)) for row, one in all_.items() if one.one is first.one
        ),
        tables=tuple(tables),
    )


def _kept(one: Fired) -> tuple[Value, ...]:
    return (
        number(one.kept("after")),
        number(one.kept("noise")),
        share(one.first_kept()),
        number(one.kept("after", "random")),
        number(one.kept("noise", "random")),
        number(one.alike("after")),
        number(one.alike("noise")),
    )


_COLUMNS = (
    "true class, before", "true class, after", "true class, noise",
    "named class, before", "named class, after", "named class, noise", "named class, real images of it",
    "named above true, before", "named above true, after", "named above true, noise",
)  # fmt: skip


def _classes(family: Family, one: Fired) -> tuple[Value, ...] | None:
    """The responses of the units of the true class and of the one named; None without classes with images enough."""
    classes = family.classes
    inside = np.isin(one.label, classes) & np.isin(one.said, classes)
    if inside.sum() < 2:
        return None
    units = one.units_of(classes)
    own, named = (units[np.searchsorted(classes, c[inside])] for c in (one.label, one.said))  # (n, m)
    z = {stage: one.standard(responses[inside]) for stage, responses in one.stages.items()}
    of = {
        (stage, kind): np.take_along_axis(z[stage], chosen, 1).mean(1)
        for stage in _STAGES
        for kind, chosen in (("own", own), ("named", named))
    }
    where = one.one.told
    real, labels = one.standard(one.one.seen["responses"][where]), one.one.seen["label"][where]
    usual = {c: real[labels == c][:, units[i]].mean() for i, c in enumerate(classes)}
    return (
        *(number(of[stage, "own"]) for stage in _STAGES),
        *(number(of[stage, "named"]) for stage in _STAGES),
        number(np.array([usual[c] for c in one.said[inside]])),
        *(share(of[stage, "named"] > of[stage, "own"]) for stage in _STAGES),
    )


def _table(classes: Mapping[str, tuple[Value, ...]]) -> Table:
    return Table(
        "firing_classes",
        "The units of the true class and those of the class that is named",
        "The mean response, in deviations, of the units that respond most to the true class of an image, and of those "
        "of the class that the network takes the perturbed image for; and how often the second are above the first. A "
        "search for the smallest perturbation ends at the boundary, where neither class leads; one with a budget goes "
        "on beyond it.",
        _COLUMNS,
        tuple(classes.items()),
    )


def _fires(values: tuple[Value, ...]) -> str:
    """Yes, no or in part: whether units of the true class fall, and those of the named one fire as for it."""
    by = dict(zip(_COLUMNS, values, strict=True))
    left = by["true class, after"].high < by["true class, noise"].low
    came = by["named class, after"].low > by["named class, noise"].high
    like = came and by["named class, after"].high >= by["named class, real images of it"].low
    above = by["named above true, after"].low > 0.5
    if left and like and above:
        return "Yes: the units of the true class fall, and those of the named class fire as for its real images"
    if left and came:
        return "In part: the units of the true class fall and those of the named class rise, but " + (
            "not to where its real images have them" if not like else "not clearly above those of the true class"
        )
    if left or came:
        return (
            "In part: " + ("the units of the true class fall" if left else "those of the named class rise") + " alone"
        )
    return "No: beyond noise neither the units of the true class fall nor those of the named class rise clearly"


def _turn(attack: str, one: Fired, values: tuple[Value, ...] | None) -> str:
    """What became of the units of a network's images, in a sentence or two."""
    share_, noise, _, _, _, alike, still = _kept(one)
    name = f"{attack}: " if attack else ""
    if values is not None:
        name += f"{_fires(values)}. "
    said = (
        f"{name}Of the units strongest for an image {between(share_)} stay so when it is "
        f"perturbed, {between(noise)} with noise of that size; all units correlate with what they were by "
        f"{between(alike)}, with noise by {between(still)}."
    )
    if values is None:
        return said
    by = dict(zip(_COLUMNS, values, strict=True))
    return (
        f"{said} The units of the true class go from {between(by['true class, before'])} to "
        f"{between(by['true class, after'])} deviations, those of the class that is named from "
        f"{between(by['named class, before'])} to {between(by['named class, after'])}, where its real images have "
        f"{between(by['named class, real images of it'])}; they are above those of the true class in "
        f"{told(by['named above true, after'])} of the images, before in {told(by['named above true, before'])}, with "
        f"noise in {told(by['named above true, noise'])}."
    )
