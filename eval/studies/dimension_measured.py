"""What the probes of `eval.studies.dimension` measured, in arrays by seed, size and image. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from eval.exponents import Exponent, Floats, exponent, student
from eval.records import Run, read_measured
from eval.studies.cells import Value
from eval.studies.clauses import listed
from eval.studies.dimension_names import HANDLES, HE, sides_of, suffix
from eval.studies.reading import Curves

Arrays = dict[str, np.ndarray[Any, Any]]
_LABELS = {"softmax": "softmax regression", "mlp_relu": "perceptron", "cnn": "convolutional network"}


@dataclass(frozen=True)
class Measured:
    """A run.

    Attributes:
        native: side of the data's own images.
        sides: (D,), ascending.
        channels: of the images.
        seeds: networks of each kind.
        models: all of them.
        handled: those with several starts.
        handles: the starts, He's first.
        resize: how images grow.
        draws: of noise, an image.
        probes: arrays by the name of the probe and of the network.
    """

    native: int
    sides: tuple[int, ...]
    channels: int
    seeds: int
    models: tuple[str, ...]
    handled: tuple[str, ...]
    handles: tuple[str, ...]
    resize: str
    draws: int
    probes: Mapping[str, Mapping[str, Arrays]]

    @classmethod
    def of(cls, run: Run, folder: Path) -> Measured:
        """What is in a folder."""
        study = run.config["study"]
        channels, native, _ = run.data["shape"]
        others = [h for h in HANDLES if h in study["handles"] and h != HE]
        names = ("boundary", "gradients", "projected", "separation", "subspaces")
        return cls(
            native,
            sides_of(native, study["sides"]),
            channels,
            int(study["seeds"]),
            tuple(study["models"]),
            tuple(study["handled"]),
            (HE, *others),
            str(study["resize"]),
            int(study["draws"]),
            {name: read_measured(folder, name) for name in names},
        )

    @cached_property
    def pixels(self) -> Floats:
        """Numbers (D,) of values of an image."""
        return self.channels * np.array(self.sides, dtype=np.float64) ** 2

    @property
    def at_native(self) -> int:
        """The place of the data's own size among the sizes."""
        return self.sides.index(self.native)

    @cached_property
    def other(self) -> Floats:
        """The distance (D, n) of each image to the nearest of another class."""
        first = (self.models[0] + suffix(HE, side, 0) for side in self.sides)
        return np.stack([self.probes["separation"][name]["other"] for name in first])

    @property
    def images(self) -> int:
        """Test images."""
        return int(self.other.shape[1])

    @property
    def replicated(self) -> bool:
        """Whether pixels are copied where images grow, so that distances between them grow as d^1/2 exactly."""
        return self.resize == "nearest"

    @property
    def delta(self) -> Exponent:
        """Of the distance to another class, from the data's own size upwards."""
        return self.exponent(self.other[None], enlarged=True)

    def get(self, probe: str, key: str, model: str, handle: str = HE, sides: Sequence[int] | None = None) -> Floats:
        """An array of a probe, (S, D, n, ...)."""
        own = self.probes[probe]
        rows = [
            [own[model + suffix(handle, side, seed)][key] for side in sides or self.sides] for seed in range(self.seeds)
        ]
        return np.array(rows, dtype=np.float64)

    def distance(self, model: str, handle: str = HE, probe: str = "boundary") -> Floats:
        """r_adv (S, D, n), NaN for what is wrong unperturbed."""
        found = self.get(probe, "adversarial", model, handle)
        return np.where(found == 0, math.nan, found)

    def random(self, model: str) -> Floats:
        """The median (S, D, n) over lines of r_rand, NaN for what is wrong unperturbed."""
        found = np.median(self.get("boundary", "random", model), axis=-1)
        return np.where(found == 0, math.nan, found)

    def exponent(self, values: Floats, beside: Floats | None = None, *, enlarged: bool = False) -> Exponent:
        """Of values (S, D, n), over all sizes or those from the data's own upwards."""
        first = self.at_native if enlarged else 0
        usual = None if beside is None else beside[..., first:, :]
        return exponent(self.pixels[first:], values[:, first:], usual)


def label(model: str) -> str:
    """What a model is called in tables."""
    return _LABELS.get(model, model)


def over_seeds(found: Exponent, paper: float | None = None) -> Value:
    """An exponent with its interval over seeds."""
    apart = paper is not None and not found.low <= paper <= found.high and math.isfinite(found.low)
    return Value("number", found.mean, found.low, found.high, len(found.by_seed), paper, apart)


def over_images(found: Exponent) -> Value:
    """An exponent with its interval over images."""
    return Value("number", found.mean, found.near, found.far, found.images)


def mean_of(by_seed: Floats, kind: str = "number") -> Value:
    """The mean of one number a seed, with Student's interval; with none where all seeds have the same."""
    known = np.asarray(by_seed, dtype=np.float64)
    low, high = student(known) if float(np.ptp(known)) > 0 else (math.nan, math.nan)
    if kind == "share":
        low, high = (float(bound) for bound in np.clip([low, high], 0.0, 1.0))
    return Value(kind, float(known.mean()), low, high, len(known))


def told(value: Value) -> str:
    """A number as a sentence has it.

    >>> told(Value("number", 0.5, 0.4, 0.6, 5))
    '0.50 (0.40 to 0.60)'
    """
    if math.isnan(value.ours):
        return "not known"
    if math.isnan(value.low):
        return f"{value.ours:.2f}"
    return f"{value.ours:.2f} ({value.low:.2f} to {value.high:.2f})"


def described(found: Measured) -> str:
    """What was measured, as a section says it."""
    sizes = listed([f"{side} x {side}" for side in found.sides])
    several = f"{found.seeds} networks of each kind and size, which differ in their seed"
    networks = several if found.seeds > 1 else "one network of each kind and size"
    return f"{found.images} held-out images at {sizes}; {networks}."


def grown(found: Measured) -> str:
    """What the exponent of the distance to another class is where images are enlarged, and why."""
    if found.replicated:
        return "delta is 1/2 by construction, since pixels are replicated"
    return f"delta is {told(over_images(found.delta))} as measured, since interpolation smooths images"


def logs(across: Floats, up: Floats) -> Floats:
    """Points (n, 2) of a chart with logarithmic axes to base 2; those alone that have logarithms."""
    with np.errstate(divide="ignore", invalid="ignore"):
        points = np.log2(np.stack([across, up], axis=1))
    found: Floats = points[np.isfinite(points).all(axis=1)]
    return found


def chart(
    name: str, title: str, across: Floats, up: str, lines: Sequence[tuple[str, Floats]], axis: str = "d, pixels"
) -> Curves:
    """A chart with logarithmic axes."""
    ticks = tuple((float(np.log2(d)), f"{d:,.0f}") for d in across)
    note = "Means over seeds. Both axes are logarithmic: a power law is a straight line, and its exponent the slope."
    return Curves(name, title, note, axis, up, tuple(line for line in lines if len(line[1])), ticks=ticks, bases=(2, 2))
