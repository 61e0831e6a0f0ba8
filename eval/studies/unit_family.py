"""The networks of a run of `eval.studies.units`, and what was measured of their units. Free of torch."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from eval.errors import InputError
from eval.exponents import student
from eval.records import Run, read_measured
from eval.studies.cells import Value
from eval.studies.estimates import said
from eval.studies.unit_names import ROBUST, SHUFFLED, UNTRAINED, sibling
from eval.units import tops
from eval.units.bases import BASES

Array = np.ndarray[Any, Any]

LABELS: Mapping[str, str] = {
    "natural": "units",
    "random": "random directions",
    "sparse": "random, sparse, not negative",
    "rotated": "rotations of whitened features",
    "pca": "principal components",
}
"""What the tables call the bases."""
TRAINED, NO_TRAINING, SHUFFLED_LABELS = "trained", "untrained", "labels shuffled"
_FEWEST = 2  # live units of a network that anything is said of


@dataclass(frozen=True)
class Looked:
    """One network, looked at.

    Attributes:
        name: in the records.
        label: what the tables call it.
        seen: what `eval.units.probe.Units` measured.
    """

    name: str
    label: str
    seen: Mapping[str, Array]

    @cached_property
    def told(self) -> Array:
        """Which samples (n,) are told of; the others decided what is told."""
        apart: Array = ~self.seen["fitted"]
        return apart

    def responses(self, basis: str, where: Array) -> Array:
        """The responses (m, D) of a basis to the samples `where`."""
        said: Array = self.seen["responses"][where] @ self.seen[f"v_{basis}"].T
        return said

    def twins(self, basis: str, where: Array) -> Array | None:
        """The responses (m, D) of all live units to the samples `where`, or of as many directions of another basis.

        None of a basis that was measured with fewer directions than there are live units; random ones are drawn anew.
        """
        seen, units = self.seen["responses"][where], self.seen["live"]
        if basis == "natural":
            found: Array = seen[:, units]
            return found
        if len(units) <= self.count("natural"):
            return self.responses(basis, where)[:, : len(units)]
        if basis != "random":
            return None
        rng = np.random.default_rng([zlib.crc32(self.name.encode()), 0x7477696E])
        drawn: Array = seen @ rng.standard_normal((len(units), seen.shape[1])).astype(np.float32).T
        return drawn

    def count(self, basis: str) -> int:
        """The directions of a basis."""
        return len(self.seen[f"v_{basis}"])

    @property
    def place(self) -> str:
        """The layer, in words."""
        shape = [int(s) for s in self.seen["shape"]]
        maps = f", {shape[0]} feature maps of {' x '.join(map(str, shape[1:]))}" if len(shape) > 1 else ""
        units = f"{shape[0]} units" if not maps else ""
        return f"{self.seen['alias']}{maps}{', ' + units if units else ''}"


@dataclass(frozen=True)
class Family:
    """All networks of a run.

    Attributes:
        run: its header.
        networks: the one that was asked for first.
        folder: of the run.
        gone: by their names those whose units respond to nothing, or one of them alone: who it is, and why.
    """

    run: Run
    networks: tuple[Looked, ...]
    folder: Path
    gone: Mapping[str, str] = field(default_factory=dict)

    @property
    def first(self) -> Looked:
        """The network that was asked for."""
        return self.networks[0]

    def named(self, name: str) -> Looked | None:
        """The network of that name, if there is one."""
        return next((one for one in self.networks if one.name == name), None)

    def siblings(self, kind: str = "") -> tuple[Looked, ...]:
        """Networks of one kind that differ in their seed."""
        names = (self.first.name + sibling(kind, i) for i in range(len(self.networks)))
        return tuple(one for one in map(self.named, names) if one is not None)

    @cached_property
    def classes(self) -> Array:
        """Those with images enough."""
        found: Array = self.first.seen["classes"]
        return found

    @property
    def by_class(self) -> bool:
        """Whether what images have in common can be told by their classes: there must be two with images enough."""
        return len(self.classes) > 1

    @property
    def measure(self) -> str:
        """What the images of a direction are judged by."""
        return "purity" if self.by_class else "likeness"

    @property
    def counts(self) -> str:
        """Why there are more directions of one basis than of another, in words; nothing where there are not."""
        first = self.first
        if len({first.count(basis) for basis in BASES}) == 1:
            return ""
        units, live, some = int(first.seen["shape"][0]), len(first.seen["live"]), first.count("natural")
        why = []
        left = units - live
        if left:
            alike, are = ("responds", "is") if left == 1 else ("respond", "are")
            why.append(
                f"{left} of {units} units {alike} alike to all images of one half, or of both, and {are} left out"
            )
        if some < live:
            these = "of the other" if left else "of all"
            why.append(f"{these} {live}, {some} are drawn, and of no basis are there more")
        else:
            asked = "as study.directions asks for, or as there are such units, if more"
            why.append(f"random, sparse and rotated directions are as many {asked}")
        why.append("components are those that carry 99% of the variance")
        return f"Counts differ: {'; '.join(why)}."

    @property
    def held_out(self) -> str:
        """What was measured on, in words."""
        n, told = len(self.first.told), int(self.first.told.sum())
        at = self.run.config["study"]["at"]
        maps = (
            f" The response of a feature map is its {at} over its places." if len(self.first.seen["shape"]) > 1 else ""
        )
        return (
            f"Layer {self.first.place}, of {self.first.name}; {told} held-out images of {self.run.data['name']} "
            f"(the other {n - told} of {n} decide on components, thresholds and pairs), seed {self.run.seed}.{maps}"
        )


def family(run: Run, folder: Path) -> Family:
    """The networks of a run in the order of its tables.

    Raises:
        LookupError: nothing was measured yet.
        InputError: the network that was asked for has no units that could be told apart, or an earlier version
            measured it.
    """
    measured = read_measured(folder, "units")
    first = str(run.models[0]["name"])
    trained, untrained = ([first + sibling(kind, i) for i in range(len(run.models))] for kind in ("", UNTRAINED))
    named = {name: f"{TRAINED}, another seed ({name})" for name in trained}
    named[first] = TRAINED
    named[first + ROBUST] = "trained on adversarial images"
    named[first + SHUFFLED] = SHUFFLED_LABELS
    named |= {name: f"{NO_TRAINING}, another seed ({name})" for name in untrained}
    named[first + UNTRAINED] = NO_TRAINING
    there = {name: label for name, label in named.items() if name in measured}
    if first not in there:
        raise LookupError(f"{folder}: nothing was measured of {first}")
    seen = measured[first]
    if len(seen["live"]) < _FEWEST:
        raise InputError(
            f"layer: must have {_FEWEST} units or more that respond to images differently, {seen['alias']} of {first} "
            f"has {len(seen['live'])} of {int(seen['shape'][0])}; choose another layer, or train longer"
        )
    if "again_right" not in seen:
        raise InputError(f"{folder}: must be measured by this version, {first} was by an earlier one; run it elsewhere")
    few = [name for name in there if len(measured[name]["live"]) < _FEWEST]
    gone = {name: _gone(there[name], measured[name]) for name in few}
    found = tuple(Looked(name, label, measured[name]) for name, label in there.items() if name not in gone)
    return Family(run, found, folder, gone)


def _gone(label: str, seen: Mapping[str, Array]) -> str:
    """Who is left out, and why."""
    units = int(seen["shape"][0])
    return f"{label} ({'1' if len(seen['live']) else 'none'} of its {units} units responds)"


def superiority(one: Array, other: Array, seed: int) -> Value:
    """How often a number of `one` is greater than one of `other`, with its interval over directions."""
    low, high = tops.superiority_interval(one, other, seed)
    return Value("number", tops.superiority(one, other), low, high, len(one))


def number(values: Array, kind: str = "number") -> Value:
    """The mean of some numbers (n,), with its interval after Student."""
    values = np.asarray(values, np.float64)
    return Value(kind, float(values.mean()) if len(values) else math.nan, *student(values), len(values))


def alone(value: float, n: int) -> Value:
    """A number without an interval."""
    return Value("number", value, math.nan, math.nan, n)


def points(values: Array) -> Value:
    """The mean of differences of shares (n,), with its interval."""
    return number(values, "excess")


def between(value: Value, digits: int = 2) -> str:
    """A number as a sentence has it, with its 95% interval.

    >>> between(Value("number", 0.5, 0.25, 0.75, 10))
    '0.50 (0.25 to 0.75)'
    """
    return said(value, digits)


def percents(value: Value) -> str:
    """A difference of shares as a sentence has it, in points.

    >>> percents(Value("excess", 0.05, -0.025, 0.125, 10))
    '+5.0 points (-2.5 to 12.5)'
    """
    ours, low, high = (round(100 * part, 1) + 0.0 for part in (value.ours, value.low, value.high))  # no negative zero
    apart = f"n={value.n}, no interval" if math.isnan(low) else f"{low:.1f} to {high:.1f}"
    return f"{ours:+.1f} points ({apart})"
