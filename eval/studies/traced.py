"""What the rays of `eval.rays` say of networks: tables, charts and pictures. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eval.intervals import Bools, Floats
from eval.studies.cells import Table, Value, average, share
from eval.studies.linear_names import LOGISTIC
from eval.studies.reading import Curves, Pictures
from eval.studies.sheets import around_grey

Array = np.ndarray[Any, Any]
Measured = Mapping[str, Mapping[str, Array]]
STRAIGHT, RISE = "R\u00b2 \u2265 0.95", "rise, measured / predicted"
"""Columns that findings speak of."""
_STRAIGHT = 0.95
_SHOWN = 3  # samples on charts and pictures


def straightness(measured: Measured, labels: Mapping[str, str]) -> Table:
    """How straight the logits are along the ray, and how much of a linear network's rise there is."""
    rows = []
    for name, label in labels.items():
        rays = measured[name]
        bends = ~np.isnan(rays["r2"])  # not those of classes that a network does not know
        seen = bends.any(1)  # without the images that have no gradient
        r2, known = rays["r2"][seen], bends[seen]
        low, middle, high = (float(q) for q in np.quantile(r2[known], (0.25, 0.5, 0.75))) if r2.size else (np.nan,) * 3
        rises = seen & (rays["predicted"] > 0)
        ratio = rays["measured"][rises] / rays["predicted"][rises]
        rows.append(
            (
                label,
                (
                    average("number", _mean(r2, known)),
                    Value("number", middle, low, high, len(r2)),
                    average("share", _mean(r2 >= _STRAIGHT, known)),
                    average("number", rays["predicted"]),
                    average("number", rays["measured"]),
                    average("share", ratio),
                ),
            )
        )
    return Table(
        "straight",
        "The linear explanation: logits as straight lines along the gradient's sign",
        "R\u00b2: of the straight line through a logit as a function of \u03b5 from \u22120.5 to 0.5, over all logits "
        "and samples; beside the median stand the quartiles. The rise is that of the lead, in logits, of the most "
        "dangerous class over the label between the image and \u03b5: a linear network of two classes gains "
        "\u03b5\u2016w\u2016\u2081, where w is the lead's gradient, and no linear network more. Images without a "
        "gradient are left out of R\u00b2 and of the ratio.",
        (
            "R\u00b2, mean",
            "R\u00b2, median",
            STRAIGHT,
            "predicted rise \u03b5\u2016w\u2016\u2081",
            "measured rise",
            RISE,
        ),
        tuple(rows),
    )


def _mean(values: Array, known: Bools) -> Floats:
    """The mean of each row of `values` (n, K) over what is known of it, (n,); something is of every row."""
    return np.asarray(np.where(known, values, 0.0).sum(1) / known.sum(1), dtype=np.float64)


def stretches(measured: Measured, labels: Mapping[str, str]) -> Table:
    """Whether a network is wrong on one stretch of the ray on each side of the image."""
    rows = []
    for name, label in labels.items():
        rays = measured[name]
        e, errors = rays["e"], rays["prediction"] != rays["label"][:, None]
        errors = errors[~errors[:, np.argmin(np.abs(e))]]  # those that are right at the image
        up, down = errors[:, e >= 0], errors[:, e <= 0][:, ::-1]
        values: list[Value | None] = []
        for side in (up, down):
            somewhere = side.any(1)
            values += [share(somewhere), share(consecutive(side[somewhere]))]
        values.append(share(consecutive(~errors)))
        rows.append((label, tuple(values)))
    reach, step = float(rays["e"].max()), float(rays["e"][1] - rays["e"][0])
    return Table(
        "stretches",
        "Where along the ray: misclassified in one stretch, or in pockets",
        f"Of the samples that are right at \u03b5 = 0, seen in steps of {step:g} up to {reach:g}: the share that is "
        "misclassified anywhere on that side, and of these the share whose misclassified points follow one another "
        "without a gap. Right on one stretch: no right point lies behind a wrong one on either side, as it must be in "
        "a linear network.",
        (
            "wrong anywhere, \u03b5 > 0",
            "in one stretch, \u03b5 > 0",
            "wrong anywhere, \u03b5 < 0",
            "in one stretch, \u03b5 < 0",
            "right on one stretch",
        ),
        tuple(rows),
    )


def consecutive(chosen: Bools) -> Bools:
    """Whether the chosen points of each row (n, S) follow one another without a gap; so does none."""
    edges = np.diff(chosen.astype(np.int8), axis=1, prepend=0)
    return np.asarray((edges > 0).sum(1) <= 1, dtype=bool)


def curves(measured: Measured, labels: Mapping[str, str], classes: Sequence[str]) -> tuple[Curves, ...]:
    """The logits of the first samples along their rays, network beside network."""
    found = []
    for i in range(min(_SHOWN, *(len(measured[name]["logits"]) for name in labels))):
        for name, label in labels.items():
            rays = measured[name]
            logits, own = rays["logits"][i], classes[int(rays["label"][i])]  # (S, K)
            lines = tuple(
                (each, np.stack([rays["e"], logits[:, k]], axis=1).astype(np.float64)) for k, each in enumerate(classes)
            )
            found.append(
                Curves(
                    f"ray-{name}-{i}",
                    f"{label}: an image of class {own}",
                    f"Logits along the ray of {rays['sample'][i]}; the strong line is that of its class.",
                    "\u03b5",
                    "logit",
                    lines,
                    own,
                    (0.0, "the image"),
                )
            )
    return tuple(found)


def pictures(measured: Measured, labels: Mapping[str, str], eps: float) -> tuple[Pictures, ...]:
    """The weights of logistic regression with what the method makes of them, and the gradients of other networks."""
    one = measured[LOGISTIC]
    x, direction, weights = (one[name][0] for name in ("x", "direction", "weights"))
    grey = around_grey(np.stack([weights, direction]))
    seen = (
        ("gradient of the lead: the weights", grey[0]),
        ("its signs: the perturbation", grey[1]),
        ("an image", x),
        (f"and perturbed by \u03b5 = {eps:g}", np.clip(x + eps * direction, 0.0, 1.0)),
    )
    rows = [
        (f"{label}: image {i + 1}", around_grey(measured[name]["weights"][i : i + 1])[0])
        for name, label in labels.items()
        for i in range(min(_SHOWN, len(measured[name]["weights"])))
    ]
    return (
        Pictures(
            "logistic",
            "Logistic regression: its weights are the perturbation",
            "Grey is 0. The perturbed image is cut off at black and white to be shown.",
            seen,
        ),
        Pictures(
            "gradients",
            "What the networks look for: gradients of the most dangerous class's lead",
            "Grey is 0; each picture is as strong as its greatest value allows. Image by image the same for both.",
            tuple(rows),
        ),
    )
