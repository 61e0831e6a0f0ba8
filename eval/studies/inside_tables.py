"""What a run of `eval.studies.inside` says. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from eval.errors import InputError
from eval.intervals import Floats
from eval.records import Run, read_measured
from eval.studies.cells import Table, Value
from eval.studies.clauses import sentence
from eval.studies.estimates import correlation_of, correlation_of_pairs, mean_of, of_pairs, said, verdict
from eval.studies.inside_maps import attack_section, gains, heat, map_section, seen
from eval.studies.inside_names import OTHER, ROBUST, Array, Measured, Networks
from eval.studies.inside_units import class_section, filter_section, unit_section
from eval.studies.reading import Pictures, Reading, Section

_KINDS = ("occlusion", "gradient")
_NAMED = 5  # parts of a network in a sentence


def read(run: Run, records: pd.DataFrame, folder: Path) -> Reading:
    """What a run of `eval.studies.inside.Inside` says.

    Raises:
        LookupError: it has not finished, and something is missing.
        InputError: an earlier version measured it, and not all that is told now.
    """
    networks = Networks.of(run)
    measured = {probe: read_measured(folder, probe) for probe in ("filters", "maximised", "mapped", "randomised")}
    for name in networks.labels:
        for probe, of in measured.items():
            if name not in of:
                raise LookupError(f"nothing of {probe} on {name}")
        if "noises" not in measured["maximised"][name]:
            raise InputError(
                f"{folder}: must be measured by this version, {name} was by an earlier one; run it again elsewhere"
            )
    first = filter_section(measured["filters"], networks)
    sections = [
        *([first] if first else []),
        unit_section(measured["maximised"], networks),
        class_section(measured["maximised"], networks),
        map_section(measured["mapped"], networks),
        attack_section(measured["mapped"], networks),
        check_section(measured["randomised"], networks),
    ]
    robust = robust_section(measured["mapped"], measured["randomised"], networks)
    return Reading((), (), sections=tuple(sections + ([robust] if robust else [])))


def check_section(measured: Measured, networks: Networks) -> Section:
    """Whether maps depend on what was learnt."""
    rows: list[tuple[str, tuple[Value | None, ...]]] = []
    lines, images, stay = [], [], []
    known = {name: measured[name] for name in networks.trained if len(measured[name]["layer"])}
    for name, one in known.items():
        label = networks.labels[name]
        for place, layer in enumerate(map(str, one["layer"])):
            cells = [correlation_of(one[f"{kind}_{way}"][:, place]) for kind in _KINDS for way in ("cascade", "alone")]
            rows.append((f"{label}: {layer}", tuple(cells)))
        nulls = {
            "another": [correlation_of_pairs(one[f"{kind}_another"], one["partner"]) for kind in _KINDS],
            "edges": [correlation_of(one[f"{kind}_edges"]) for kind in _KINDS],
        }
        if len(one["left"]):
            stay.append(f" In {label} what cannot be drawn again stays as it was: {_listed(one['left'])}.")
        rows += [
            (f"{label}: {text}", (nulls[what][0], None, nulls[what][1], None))
            for what, text in (("another", "maps of two images"), ("edges", "map and edges of the image"))
        ]
        if name in networks.models:
            left = f"but {_listed(one['left'])} " if len(one["left"]) else ""
            for kind, null in zip(_KINDS, nulls["another"], strict=True):
                last = one[f"{kind}_cascade"][:, -1]
                kept, gap = correlation_of(last), of_pairs(last - one[f"{kind}_another"], one["partner"])
                lines.append(
                    f"with all layers of {label} {left}drawn again its {kind} maps correlate at "
                    f"{said(kept)} with what they were, those of two images at {said(null)}: image by image "
                    f"{said(gap)} more, {verdict(gap, 'they keep something', 'less than two images share')}"
                )
            titles = ["as it is", *(f"from the top to {layer}" for layer in one["layer"])]
            images += [
                (f"{label}: {title}", heat(values)) for title, values in zip(titles, one["first_gradient"], strict=True)
            ]
    table = Table(
        "randomised",
        "Maps before and after layers are drawn again",
        "Mean rank correlation with the map of the network as it is, from the top layer down: with that layer and all "
        "above it drawn again, and with that layer alone; intervals are over images, not over draws of the "
        "weights. Below: maps of two images, of different classes where there are several, on the network as it is, "
        "and the map with the edges of its image, which know nothing of the network." + "".join(stay),
        ("occlusion, from the top", "occlusion, alone", "gradient, from the top", "gradient, alone"),
        tuple(rows),
    )
    counts = ", ".join(f"{networks.labels[name]}: {len(one['occlusion_another'])}" for name, one in known.items())
    return Section(
        "randomised-layers",
        "Sanity check: does a map depend on what was learnt",
        "A map that stays as it is when the weights are drawn again cannot tell what a network learnt; maps that are "
        "edge detectors in disguise do stay (Adebayo et al. 2018).",
        f"Correctly classified test images ({counts}), their maps on networks of which some layers were drawn again.",
        "Maps of two different images on the network as it is, and the edges of the image.",
        sentence(lines, "no image was classified correctly"),
        (table,),
        pictures=(
            Pictures(
                "randomised-gradients",
                "The gradient's map of one image, layer by layer drawn again",
                "White where the logit of the class depends most on the pixel.",
                tuple(images),
            ),
        )
        if images
        else (),
    )


def _listed(parts: Array) -> str:
    """Names of parts, not too many."""
    first = ", ".join(map(str, parts[:_NAMED]))
    return first if len(parts) <= _NAMED else f"{first} and {len(parts) - _NAMED} more"


def robust_section(mapped: Measured, drawn: Measured, networks: Networks) -> Section | None:
    """Networks that were trained robustly beside plain ones and those of another seed; None without any."""
    known = seen(mapped, networks)
    rows: list[tuple[str, tuple[Value | None, ...]]] = []
    lines: list[str] = []
    for model in networks.models:
        robust = networks.variant(model, ROBUST)
        if robust is None or model not in known:
            continue
        edges = {}
        for name in (model, networks.variant(model, OTHER), robust):
            if name is None or name not in known or not len(drawn[name]["layer"]):
                continue
            edges[name] = correlation_of(drawn[name]["gradient_edges"])
            agreed = correlation_of(agreement(known, model, name)) if name != model else None
            gained = [mean_of(values) for kind in (0, 1) for values in gains(known[name], 0, kind)]
            rows.append((networks.labels[name], (edges[name], agreed, *gained)))
        if model in edges and robust in edges:
            gaps = {name: mean_of(_edges_more(drawn[robust], drawn[name])) for name in edges if name != robust}
            lines.append(_beside(known, networks, edges, gaps, model, robust))
    if not rows:
        return None
    table = Table(
        "robust-inside",
        "Trained robustly, and not",
        "Mean rank correlations: of the gradient's map with the edges of the image; of the occlusion maps with those "
        "of the model itself on the same images. Gained: over a random map of the same grain, as in the section on "
        "occlusion.",
        (
            "gradient and edges",
            "occlusion, as the model's",
            "gained, deletion",
            "gained, insertion",
            "gradient: gained, deletion",
            "gradient: gained, insertion",
        ),
        tuple(rows),
    )
    counts = ", ".join(f"{networks.labels[name]}: {len(one['label'])}" for name, one in known.items())
    return Section(
        "robust-beside-plain",
        "Trained robustly: does the network look at other things",
        "Gradients of networks that were trained on adversarial images follow what people see in the image, where "
        "those of plain ones look like noise (Tsipras et al. 2019).",
        f"Correctly classified test images of each network ({counts}), their occlusion maps and gradients.",
        "The same network from another seed. How images that are made for classes fare: see the section on "
        "classes; how maps fare under attack: the one on attacks.",
        sentence(lines, "nothing could be compared"),
        (table,),
    )


def _gap(gap: Value) -> str:
    if not gap.n:
        return "no image in common"
    return f"image by image {said(gap)} more, {verdict(gap, 'it does so more', 'it does so less')}, n={gap.n}"


def _beside(
    known: Measured, networks: Networks, edges: dict[str, Value], gaps: dict[str, Value], model: str, robust: str
) -> str:
    """What is said of a robustly trained network beside the model and the other seed's."""
    plain = {name: (value, gaps[name]) for name, value in edges.items() if name != robust}
    others = " and ".join(
        f"those of {networks.labels[name]} at {said(value)} ({_gap(gap)})" for name, (value, gap) in plain.items()
    )
    text = f"gradients of {networks.labels[robust]} follow the edges of the image at {said(edges[robust])}, {others}"
    agreed = [f"{said(correlation_of(agreement(known, model, name)))}" for name in edges if name != model]
    if len(agreed) < 2:
        return f"{text}; occlusion maps of the two agree at {agreed[0]}"
    return (
        f"{text}; its occlusion maps agree with those of {model} at {agreed[1]}, those of another seed at {agreed[0]}"
    )


def _edges_more(one: Mapping[str, Array], other: Mapping[str, Array]) -> Floats:
    """How much more (m,) one network's gradients follow the edges than another's, on the images of both."""
    pairs = _shared(one, other)
    return np.array([one["gradient_edges"][i] - other["gradient_edges"][j] for i, j in pairs], dtype=np.float64)


def _shared(one: Mapping[str, Array], other: Mapping[str, Array]) -> list[tuple[int, int]]:
    """The places of the images that both were measured on."""
    places = {str(sample): j for j, sample in enumerate(other["sample"])}
    return [(i, places[str(sample)]) for i, sample in enumerate(one["sample"]) if str(sample) in places]


def agreement(known: Measured, one: str, other: str) -> Floats:
    """Rank correlations (m,) of two networks' occlusion maps on the images that both were measured on."""
    a, b = known[one], known[other]
    return np.array([_spearman(a["drop"][i], b["drop"][j]) for i, j in _shared(a, b)], dtype=np.float64)


def _spearman(one: Floats, other: Floats) -> float:
    ranks = [pd.Series(values.ravel()).rank() for values in (one, other)]
    flat = any(values.nunique() < 2 for values in ranks)
    return float("nan") if flat else float(np.corrcoef(ranks[0], ranks[1])[0, 1])
