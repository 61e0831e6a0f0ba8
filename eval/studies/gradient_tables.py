"""What a run of `eval.studies.gradients` says. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from eval.intervals import Bools, Floats
from eval.records import Run, read_measured
from eval.studies.cells import Table, Value, share
from eval.studies.gradient_names import BOUND, GRADIENTS
from eval.studies.reading import Reading, Section

Array = np.ndarray[Any, Any]
Measured = Mapping[str, Mapping[str, Array]]

_CLAIM = (
    "What backprop gives is the derivative of what the network computes: central differences in float64 agree with it "
    "to an error below 10\u207b\u2076 wherever the network is smooth."
)
_SHOWN = 40  # layers in a table
_HALF = 0.5  # of a gradient's length: what counts as lost in float32


def read(run: Run, records: pd.DataFrame, folder: Path) -> Reading:
    """What a run of `eval.studies.gradients.Gradients` says.

    Raises:
        InputError: what its probe measured is torn.
        LookupError: it has not finished, and something is missing.
    """
    measured = read_measured(folder, GRADIENTS)
    names = [str(m["name"]) for m in run.models]
    missing = [name for name in names if name not in measured]
    if missing:
        raise LookupError(f"no gradients of {missing[0]}")
    sections = [_losses(run, measured, names), _rounded(measured, names)]
    if any(len(measured[name]["layer"]) for name in names):
        sections.insert(1, _layers(measured, names))
    return Reading((), (), sections=tuple(sections))


def wrong(error: Array, kink: Array) -> Bools:
    """Where a derivative is not what backprop says: what is no number is wrong, a kink tells nothing."""
    found: Bools = ~kink & ~(error < BOUND)
    return found


def _worst(error: Floats, apart: Array) -> Value:
    """The largest error of those that tell something; infinite where backprop is no number."""
    told = error[~apart]
    return Value("number", float(told.max()) if len(told) else math.nan, math.nan, math.nan, max(1, len(told)))


def _cells(error: Floats, kink: Array, flat: Array) -> tuple[tuple[Value, ...], int, int]:
    """A row of the table, how many derivatives are wrong, and of how many that can be told."""
    kink, flat = kink.astype(bool), flat.astype(bool)
    apart = kink | flat
    failed = wrong(error, apart)
    row = (
        _worst(error, apart), _median(error, apart), share(failed[~apart], digits=2), share(kink, digits=2),
        share(flat, digits=2),
    )  # fmt: skip
    return row, int(failed.sum()), int((~apart).sum())


def _losses(run: Run, measured: Measured, names: Sequence[str]) -> Section:
    tables, bad, smooth, caught, planted, every = [], 0, 0, 0, 0, 0
    checked: list[tuple[int, int, str]] = []  # of every loss and network: points that could be told, all, and its name
    for name in names:
        network = measured[name]
        rows = []
        for m, loss in enumerate(network["loss"]):
            cells, failed, told = _cells(*(network[k][..., m].flatten() for k in ("error", "kink", "flat")))
            bad, smooth = bad + failed, smooth + told
            every += network["error"][..., m].size
            checked.append((told, network["error"][..., m].size, f"{loss}, of {name}"))
            rows.append((str(loss), cells))
        if "planted_error" in network:
            cells, failed, told = _cells(*(network[f"planted_{k}"].flatten() for k in ("error", "kink", "flat")))
            caught, planted = caught + failed, planted + told
            rows.append((f"all losses, wrong backward planted after {network['planted']}", cells))
        tables.append(
            Table(
                f"losses_{name}",
                f"{name}: derivatives of the attack losses",
                "Error: of the directional derivative by central differences beside backprop's, relative; the largest "
                "and the median over images, random directions and single pixels where the loss is smooth. Wrong: the "
                "share of these with an error of 10\u207b\u2076 or more; that of a gradient that is NaN or infinite is "
                "infinite, wherever it is. Kinks: the share of all where slopes at two steps say that a ReLU, a "
                "max-pool or the loss itself changes sides; they are counted here and nowhere else. Flat: the share "
                "whose derivative is lost in the rounding of float64, as that of the cross-entropy of a network that "
                "is sure.",
                ("largest error", "median error", "wrong", "kinks", "flat"),
                tuple(rows),
            )
        )
    first = measured[names[0]]
    images, ways = first["error"].shape[:2]
    return Section(
        "losses",
        "Backprop of the attack losses",
        _CLAIM,
        f"{images} test images, {ways} directions each, random ones and single pixels, {len(first['loss'])} losses, "
        f"{len(names)} networks. To each image noise of {run.config['study']['noise']:g} is added, since pixels of one "
        "value tie in max-pools.",
        "The same networks with a wrong backward after the layer in their middle, off by one in a thousand; and "
        "networks with untrained weights.",
        _wrong_at(bad, smooth, every, checked)
        + (
            f" The planted backward is found at {caught} of {planted}."
            if planted
            else " At no point could it be told whether the planted backward is found."
        ),
        tuple(tables),
    )


def _wrong_at(bad: int, told: int, every: int, checked: Sequence[tuple[int, int, str]]) -> str:
    """What became of the points: nothing is right where nothing could be told."""
    if not told:
        return f"Whether backprop is right is not known: all {every} points are kinks or lost in rounding."
    if told == every:
        return f"Backprop is wrong at {bad} of {told} points, all that there are."
    some, of, name = min(checked, key=lambda one: one[0] / one[1])
    return (
        f"Backprop is wrong at {bad} of {told} points; {every - told} more are kinks or lost in rounding; least can "
        f"be told of {name}, {some} of {of}."
    )


def _median(error: Floats, apart: Array) -> Value:
    """The median of those that tell something, with quartiles; of infinite ones too."""
    told = error[~apart]
    if not len(told):
        return Value("number", math.nan, math.nan, math.nan, 1)
    between: Literal["linear", "inverted_cdf"] = (
        "linear" if np.isfinite(told).all() else "inverted_cdf"
    )  # halfway to infinity there is no number
    low, middle, high = (float(q) for q in np.quantile(told, (0.25, 0.5, 0.75), method=between))
    return Value("number", middle, low, high, len(told))


def _apart(network: Mapping[str, Array], prefix: str = "") -> Bools:
    """Where (L, directions) a layer tells nothing: at kinks, in flat places, and where it was not asked."""
    found: Bools = network[prefix + "layer_kink"].astype(bool) | ~network[prefix + "layer_asked"].astype(bool)
    return found


def blamed(network: Mapping[str, Array], prefix: str = "") -> list[str]:
    """The modules whose backward is wrong, without those that only hold one of them."""
    failed = [bool(row.any()) for row in wrong(network[prefix + "layer_error"], _apart(network, prefix))]
    holders = {int(p) for p, bad in zip(network["parent"], failed, strict=True) if bad}
    return [str(network["layer"][i]) for i, bad in enumerate(failed) if bad and i not in holders]


def _layers(measured: Measured, names: Sequence[str]) -> Section:
    tables, told, found, planted, never = [], [], 0, 0, 0
    for name in names:
        network = measured[name]
        error, apart, asked = network["layer_error"], _apart(network), network["layer_asked"].astype(bool)
        worst = [_worst(e, k) for e, k in zip(error, apart, strict=True)]
        never += int(apart.all(axis=1).sum())
        order = sorted(range(len(worst)), key=lambda i: -np.nan_to_num(worst[i].ours, nan=-1.0))[:_SHOWN]
        rows = []
        for i in sorted(order):
            bad, at = wrong(error[i], apart[i]), apart[i][asked[i]]
            rows.append((f"{network['layer'][i]}: {network['kind'][i]}", (worst[i], _count(int(bad.sum())), share(at))))
        left = f" The {_SHOWN} with the largest errors of {len(worst)}." if len(worst) > _SHOWN else ""
        tables.append(
            Table(
                f"layers_{name}",
                f"{name}: derivatives of the layers by their inputs",
                "Each module is asked alone what it was asked on the way of an image, along the direction in which its "
                "input moves with the image and along a random one; its output is weighted by random numbers." + left,
                ("largest error", "wrong", "kinks"),
                tuple(rows),
            )
        )
        guilty = blamed(network)
        told += [f"{name}: {', '.join(guilty)}"] if guilty else []
        if "planted_layer_error" in network:
            planted += 1
            found += blamed(network, "planted_") == sorted({*guilty, str(network["planted"])}, key=_place(network))
    total = sum(len(measured[name]["layer"]) for name in names)
    if told:
        answer = f"Backprop is wrong in {'; '.join(told)}."
    elif never < total:
        answer = f"No module of {total - never} has a wrong backward."
    else:
        answer = f"Whether a module has a wrong backward is not known: all {total} tell nothing."
    return Section(
        "layers",
        "Backprop, layer by layer",
        _CLAIM,
        f"{total} modules of {len(names)} networks, each on the inputs that some test images bring it; {never} of them "
        "are at a kink, or flat, at every point and tell nothing.",
        "The same networks with a wrong backward in one layer: that layer must be named, and no other.",
        f"{answer} Of the {planted} planted ones {found} are named, and no other module with them.",
        tuple(tables),
    )


def _place(network: Mapping[str, Array]) -> Any:
    return list(map(str, network["layer"])).index


def _count(number: int) -> Value:
    return Value("count", float(number), math.nan, math.nan, 1)


def _rounded(measured: Measured, names: Sequence[str]) -> Section:
    rows, lost, total, nothing = [], 0, 0, 0
    for name in names:
        apart, zero = measured[name]["single"], measured[name]["zero"].astype(bool)
        for m, loss in enumerate(measured[name]["loss"]):
            idle = np.isnan(apart[:, m])
            lost, total = lost + int((apart[~idle, m] >= _HALF).sum()), total + int((~idle).sum())
            nothing += int(idle.sum())
            cells = (_median(apart[:, m], idle), _worst(apart[:, m], idle), share(zero[:, m] & ~idle))
            rows.append((f"{name}: {loss}", cells))
    return Section(
        "rounded",
        "What float32 leaves of the gradient",
        "Attacks follow the gradient in float32, where that of a network that is sure of its answer may cancel "
        "(Goodfellow et al. 2015 show errors that such gradients hide).",
        f"The gradient of every loss on {len(next(iter(measured.values()))['single'])} test images in float32, beside "
        "that in float64.",
        "Untrained networks, which are sure of nothing.",
        (
            f"Of {total} gradients {lost} are off by half their length or more in float32, or no numbers there."
            if total
            else "What float32 leaves is not known of any gradient."
        )
        + (f" {nothing} more are 0 in both or no numbers in float64, and tell nothing." if nothing else ""),
        (
            Table(
                "single",
                "Gradients in float32 beside float64",
                "Relative difference of the gradients, |g32 \u2212 g64| / |g64|: median over images with quartiles, "
                "and the largest; infinite where float32 gives no number, or gives one where float64 gives 0. "
                "Vanished: 0 in float32 and not in float64.",
                ("median difference", "largest", "vanished"),
                tuple(rows),
            ),
        ),
    )
