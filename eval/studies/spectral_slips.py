"""The two slips of the paper's bounds, as `eval.spectral_slips` measures them. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from eval.studies.cells import Table, Value, average
from eval.studies.estimates import standing
from eval.studies.reading import Section

_SAME = 1e-5  # relative


def slips(measured: Mapping[str, np.ndarray[Any, Any]]) -> Section:
    """Strides and max-pools beside what the paper says of them."""
    dense, fourier, printed = (measured[k] for k in ("dense", "fourier", "printed"))  # (c, kernels)
    part = printed / dense
    strided = Table(
        "strides",
        "Strided convolutions: norms, decomposed and by the Fourier form",
        f"Cyclic convolutions of 12\u00d712 maps, {dense.shape[1]} random kernels each with 3 channels in and 4 out, "
        "and one of a single 1. Means, with 95% intervals over kernels.",
        ("decomposed", "Fourier form, S\u207b\u00b9", "as printed, S\u207b\u00b2", "printed / decomposed"),
        tuple(
            (str(name), tuple(_mean(v[i]) for v in (dense, fourier, printed, part)))
            for i, name in enumerate(measured["convolution"])
        ),
    )
    pools = Table(
        "pools",
        "Max-pools: what they can make of the length of a change",
        "Bound: the root of the number of windows that one pixel is in. Attained: by one bright pixel on black, at its "
        f"best place. Random: the mean over {measured['typical'].shape[1]:,} pairs of Gaussian maps.",
        ("the paper", "bound", "attained by one pixel", "random pairs"),
        tuple(
            (
                str(name),
                (
                    Value("number", 1.0, math.nan, math.nan, 1),
                    Value("number", float(measured["bound"][i]), math.nan, math.nan, 1),
                    Value("number", float(measured["attained"][i]), math.nan, math.nan, 1),
                    average("number", measured["typical"][i]),
                ),
            )
            for i, name in enumerate(measured["pool"])
        ),
    )
    every = int(np.isfinite(dense).sum())
    agree = int((np.abs(fourier / dense - 1) <= _SAME).sum())
    short = int((printed < dense * (1 - _SAME)).sum())
    above = [i for i, value in enumerate(measured["attained"]) if value > 1 + _SAME]
    worst = int(np.argmax(measured["attained"]))
    differ = np.abs(printed / fourier - 1) > _SAME  # where there is no stride both forms are one
    wrong = np.abs(printed / dense - 1) > _SAME  # NaN, where there is no kernel, is neither
    strides, off = int(differ.sum()), int((differ & wrong).sum())
    sure = int((measured["bound"] <= 1 + _SAME).sum())
    return Section(
        "slips",
        "Two slips in the bounds",
        "The norm of a strided convolution is the supremum of the norm of A(\u03be), whose entries have a factor "
        "S\u207b\u00b2; max-pooling is contractive (Szegedy et al. 2014, section 4.3).",
        f"The form as printed and with S\u207b\u00b9 beside a decomposition, on {every} convolutions; the gain of "
        f"{len(measured['pool'])} max-pools on one pixel.",
        "Stride 1, where both forms are the same; pools whose windows do not overlap, which are contractive.",
        f"With S\u207b\u00b9 the Fourier form agrees with the decomposition on {agree} of {every}; as printed it "
        f"is too small on {short}, down to {float(np.nanmin(part)):.3g} of the norm. Of {len(measured['pool'])} "
        f"max-pools {len(above)} lengthen a change, {measured['pool'][worst]} to "
        f"{float(measured['attained'][worst]):.3g} times its length; the 3\u00d73 one of stride 2, AlexNet's, to "
        f"{float(measured['attained'][list(measured['pool']).index('3' + chr(215) + '3, stride 2')]):.3g}. "
        f"Of the factor S\u207b\u00b2 {standing(strides - off, strides, off)}; of max-pools that contract "
        f"{standing(sure, len(measured['pool']), len(above))}.",
        (strided, pools),
    )


def _mean(values: np.ndarray[Any, Any]) -> Value:
    """Of those that there are; without an interval where all are one."""
    values = values[~np.isnan(values)]
    same = float(np.ptp(values)) <= 1e-9 * abs(float(values[0]))
    return Value("number", float(values[0]), math.nan, math.nan, len(values)) if same else average("number", values)
