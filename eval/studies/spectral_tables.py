"""What a run of `eval.studies.spectra` says, the paper's Table 5 beside ours. Free of torch.

Source of the numbers: Szegedy et al., "Intriguing properties of neural networks", ICLR 2014 (arXiv 1312.6199v4), 4.3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eval.intervals import Floats
from eval.records import Run, read_measured
from eval.rows import erred, flag, numbers, white_box, wrong
from eval.studies.cells import Table, Value
from eval.studies.estimates import standing
from eval.studies.reading import Curves, Reading, Section
from eval.studies.spectral_names import BOUNDED, SLIPS, SPECTRA, UNTRAINED
from eval.studies.spectral_product import product, radius
from eval.studies.spectral_slips import slips

Array = np.ndarray[Any, Any]
Measured = Mapping[str, Mapping[str, Array]]

_TABLE_5 = ("2.75", "10", "7", "7.5", "11", "3.12", "4", "4")
_LAYERED = ("Conv2d", "Linear")
_DRAWN = 6  # layers on a chart
_UNIT = 1 + 1e-6  # a norm that is not above 1, but for rounding
_SURE = 1e-6  # a part of a norm that its two bounds may be apart where it counts as known
_CLAIM = (
    "The layers of a network are unstable: bounds of their Lipschitz constants lie above 1 from the first convolution "
    "on, so that small changes may grow with every layer. Small bounds exclude adversarial examples; large ones do not "
    "imply them (Szegedy et al. 2014, section 4.3)."
)


def read(run: Run, records: pd.DataFrame, folder: Path) -> Reading:
    """What a run of `eval.studies.spectra.Spectra` says.

    Raises:
        InputError: what its probes measured is torn.
        LookupError: it has not finished, and something is missing.
    """
    measured, wrongly = read_measured(folder, SPECTRA), read_measured(folder, SLIPS)
    if not measured or not wrongly:
        raise LookupError("no norms")
    labels = {str(m["name"]): str(m["name"]) for m in run.models}
    missing = [name for name in labels if name not in measured]
    if missing:
        raise LookupError(f"no norms of {missing[0]}")
    distances = {name: _distances(records, name, measured[name]["sample"]) for name in labels}
    trained = [name for name in labels if not name.endswith(UNTRAINED)]
    sections = (
        _layers(measured, trained),
        slips(next(iter(wrongly.values()))),
        product(run, measured, list(labels)),
        radius(run, measured, list(labels), distances),
    )
    return Reading((), (), sections=sections)


def _known(network: Mapping[str, Array], i: int, column: str = "high") -> Value:
    """A norm, with the bounds that hold it where they are apart."""
    low, high = float(network["low"][i]), float(network[column][i])
    sure = high - low <= _SURE * high
    return Value("number", high, math.nan if sure else low, math.nan if sure else high, 1)


def alexnet(network: Mapping[str, Array]) -> list[int]:
    """The layers of the paper's Table 5, where the network has them: five convolutions and three dense layers."""
    places = [i for i, kind in enumerate(network["kind"]) if kind in _LAYERED]
    kinds = [str(network["kind"][i]) for i in places]
    first = str(network["weight"][places[0]]) if places else ""
    return places if kinds == ["Conv2d"] * 5 + ["Linear"] * 3 and first.endswith("3\u00d711\u00d711 s4") else []


def _beside(value: Value, number: str) -> Value:
    """With the paper's number."""
    digits = len(number.partition(".")[2])
    paper, reach = float(number), 0.5 * 10.0**-digits
    low, high = (value.ours if math.isnan(v) else v for v in (value.low, value.high))
    return Value(value.kind, value.ours, value.low, value.high, 1, paper, not low - reach <= paper <= high + reach)


def _layers(measured: Measured, trained: Sequence[str]) -> Section:
    tables, curves, told = [], [], []
    for name in trained:
        network, null = measured[name], measured.get(name.removesuffix(BOUNDED) + UNTRAINED)
        paper = dict(zip(alexnet(network), _TABLE_5, strict=False))
        rows = []
        for i, layer in enumerate(network["layer"]):
            other = _same(null, network, i)
            norm = _known(network, i)
            printed = float(network["printed"][i])
            cells = (
                _beside(norm, paper[i]) if i in paper else norm,
                None if other is None or null is None else _known(null, other),
                None if math.isnan(printed) else Value("number", printed, math.nan, math.nan, 1),
                Value("number", float(network["total"][i]), math.nan, math.nan, 1),
            )
            rows.append((f"{layer}: {network['kind'][i]} {network['weight'][i]}".strip(), cells))
        tables.append(
            Table(
                f"norms_{name}",
                f"{name}: norms of the layers",
                "The largest singular value of each layer as it acts on maps of its size; of a pool its gain. Where "
                "a layer is too large to be decomposed, the number is the bound from above, and beneath it stand the "
                "two bounds that hold the norm. As printed: the Fourier form with the paper's factor for strides. The "
                "product is that of all up to the layer, sums and concatenations as they are. Layers that leave "
                "lengths as they are, at most, are left out." + _unknown(network),
                ("norm", "untrained", "as printed", "product so far"),
                tuple(rows),
            )
        )
        curves += _spectra(name, network, "trained" if null is not None else "")
        if null is not None and not name.endswith(BOUNDED):
            curves += _spectra(name + UNTRAINED, null, "untrained")
        told.append(_first(name, network, null) + _agreed([row[1][0] for row in rows]))
    plain = [name for name in trained if not name.endswith(BOUNDED)]
    told.append(_unstable([measured[name] for name in plain]))
    return Section(
        "layers",
        "Table 5: the norms of the layers",
        _CLAIM,
        "The norm of every layer of every network, from above by the Fourier form or a decomposition, from below by "
        "Lanczos where these do not give it exactly. It depends on the weights and the size of the maps alone, on no "
        "image.",
        "The same architecture with weights as they are drawn before training: what its norms owe to the architecture.",
        " ".join(told),
        tuple(tables),
        tuple(curves),
    )


def _unknown(network: Mapping[str, Array]) -> str:
    unknown = list(map(str, network["unknown"]))
    return (
        f" No bound is known of {', '.join(unknown[:5])}{' and more' if len(unknown) > 5 else ''}." if unknown else ""
    )


def _unstable(networks: Sequence[Mapping[str, Array]]) -> str:
    """What becomes of the claim, by networks: those trained with the norms as a penalty are made to contradict it."""
    clear = against = 0
    for network in networks:
        places = _weighted(network)
        clear += bool(places) and not len(network["unknown"]) and all(network["low"][i] > _UNIT for i in places)
        against += any(network["high"][i] <= _UNIT for i in places)
    return (
        f"From the first layer with weights to the last all lie above 1 in {clear} of {len(networks)} networks that "
        f"were trained without the norms as a penalty: of unstable layers {standing(clear, len(networks), against)}. "
        "What small bounds exclude is told with the radius."
    )


def _weighted(network: Mapping[str, Array]) -> list[int]:
    """The layers with weights."""
    return [i for i, kind in enumerate(network["kind"]) if network["weight"][i] or kind in _LAYERED]


def _same(null: Mapping[str, Array] | None, network: Mapping[str, Array], i: int) -> int | None:
    """The layer of another network that has the name of layer `i`."""
    if null is None:
        return None
    places = np.flatnonzero(null["layer"] == network["layer"][i])
    return int(places[0]) if len(places) else None


def _first(name: str, network: Mapping[str, Array], null: Mapping[str, Array] | None) -> str:
    weighted = _weighted(network)
    missing = len(network["unknown"])
    text = f"{name}: {_above(network, weighted)}"
    text += f"; of {missing} besides no bound is known" if missing else ""
    grown = [(i, j) for i in weighted if (j := _same(null, network, i)) is not None]
    if null is None or not grown:
        return text + "."
    more = sum(network["low"][i] > null["high"][j] for i, j in grown)
    open_ = len(grown) - more - sum(network["high"][i] < null["low"][j] for i, j in grown)
    grew = f"training has made {more} of {len(grown) - open_} larger" + (f", {open_} not known" if open_ else "")
    return f"{text}; untrained, {_above(null, [j for _, j in grown])}; {grew}."


def _above(network: Mapping[str, Array], places: Sequence[int]) -> str:
    """How many of some layers have a norm above 1, of those whose bounds say it."""
    over = sum(bool(network["low"][i] > _UNIT) for i in places)
    within = sum(bool(network["high"][i] <= _UNIT) for i in places)
    unsure = len(places) - over - within
    text = f"{over} of {over + within} layers with weights have a norm above 1"
    return text + (f", of {unsure} it is not known" if unsure else "")


def _agreed(norms: Sequence[Value | None]) -> str:
    """How many of the paper's numbers are those of this network; nothing of networks that are not the paper's."""
    beside = [v for v in norms if v is not None and v.paper is not None]
    same = sum(not v.apart for v in beside)
    return f" Of Table 5's {len(beside)} numbers {same} are this network's, up to their rounding." if beside else ""


def _spectra(name: str, network: Mapping[str, Array], what: str) -> list[Curves]:
    """Singular values against rank, of some layers evenly along the network."""
    whole = [i for i, values in enumerate(network["singular"]) if np.isfinite(values).sum() > 1]
    chosen = [whole[int(j)] for j in np.unique(np.linspace(0, len(whole) - 1, _DRAWN).round())] if whole else []
    lines = []
    for i in chosen:
        values = network["singular"][i][np.isfinite(network["singular"][i])]
        ranks = np.linspace(0, 1, len(values))
        heights = np.log10(np.maximum(values, 1e-4 * values[0]))
        lines.append((f"{network['layer'][i]} {network['kind'][i]}", np.column_stack([ranks, heights])))
    if not lines:
        return []
    return [
        Curves(
            f"singular_{name}",
            f"{name}: singular values",
            f"{_whose(len(whole))} singular values in descending order; of a large convolution those of the cyclic one "
            "of its size." + (f" Weights: {what}." if what else ""),
            "rank, as a share",
            "singular value",
            tuple(lines),
            bases=(0, 10),
        )
    ]


def _whose(layers: int) -> str:
    """Of which layers a chart shows something."""
    return "Each layer's" if layers <= _DRAWN else f"Of {layers} layers {_DRAWN}, evenly along the network: their"


def _distances(records: pd.DataFrame, name: str, samples: Array) -> Floats:
    """How near the attacks came to each sample (n,): 0 where it was wrong before, infinity where none found any."""
    rows = white_box(records)
    rows = rows[(rows["target_model"] == name) & ~erred(rows)]
    found = np.where(flag(rows["success"]), numbers(rows["l2"]), np.inf)
    found = np.where(wrong(rows, "clean_pred"), 0.0, found)
    nearest = pd.Series(found, index=rows["sample"].astype(str)).groupby(level=0).min()
    return numbers(nearest.reindex([str(s) for s in samples]))
