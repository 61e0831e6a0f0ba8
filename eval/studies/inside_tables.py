"""What a run of `eval.studies.inside` says. Free of torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from eval.intervals import Floats
from eval.records import Run, read_measured
from eval.studies.cells import Table, Value, overlap
from eval.studies.inside_maps import attack_section, gains, heat, map_section, seen
from eval.studies.inside_names import OTHER, ROBUST, Measured, Networks, sentence
from eval.studies.inside_units import class_section, filter_section, unit_section
from eval.studies.reading import Pictures, Reading, Section
from eval.studies.resampled import resampled, said

_KINDS = ("occlusion", "gradient")


def read(run: Run, records: pd.DataFrame, folder: Path) -> Reading:
    """What a run of `eval.studies.inside.Inside` says.

    Raises:
        LookupError: it has not finished, and something is missing.
    """
    networks = Networks.of(run)
    measured = {probe: read_measured(folder, probe) for probe in ("filters", "maximised", "mapped", "randomised")}
    for name in networks.labels:
        for probe, of in measured.items():
            if name not in of:
                raise LookupError(f"nothing of {probe} on {name}")
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
    lines, images = [], []
    known = {name: measured[name] for name in networks.trained if len(measured[name]["layer"])}
    for name, one in known.items():
        label = networks.labels[name]
        for place, layer in enumerate(map(str, one["layer"])):
            cells = [resampled(one[f"{kind}_{way}"][:, place]) for kind in _KINDS for way in ("cascade", "alone")]
            rows.append((f"{label}: {layer}", tuple(cells)))
        nulls = {what: [resampled(one[f"{kind}_{what}"]) for kind in _KINDS] for what in ("another", "edges")}
        rows += [
            (f"{label}: {text}", (nulls[what][0], None, nulls[what][1], None))
            for what, text in (("another", "maps of two images"), ("edges", "map and edges of the image"))
        ]
        if name in networks.models:
            for kind in _KINDS:
                last, null = resampled(one[f"{kind}_cascade"][:, -1]), resampled(one[f"{kind}_another"])
                more = last.ours > null.ours and not overlap(last, null)
                how = "more than" if more else "no more than"
                lines.append(
                    f"with all layers of {label} drawn again its {kind} maps correlate at {said(last)} with what they "
                    f"were, {how} those of two images, {said(null)}"
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
        "weights. Below: maps of two different images on the network as it is, and the map with the edges of its "
        "image, which know nothing of the network.",
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
            edges[name] = resampled(drawn[name]["gradient_edges"])
            agreed = resampled(agreement(known, model, name)) if name != model else None
            gained = [resampled(values) for kind in (0, 1) for values in gains(known[name], 0, kind)]
            rows.append((networks.labels[name], (edges[name], agreed, *gained)))
        if model in edges and robust in edges:
            lines.append(_beside(known, networks, edges, model, robust))
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


def _beside(known: Measured, networks: Networks, edges: dict[str, Value], model: str, robust: str) -> str:
    """What is said of a robustly trained network: it differs if it does from the model and from the other seed's."""
    mine, plain = edges[robust], {name: value for name, value in edges.items() if name != robust}
    more = all(mine.low > value.high for value in plain.values())
    less = all(mine.high < value.low for value in plain.values())
    how = "more than those" if more else "less than those" if less else "not clearly otherwise than those"
    others = " and ".join(f"of {networks.labels[name]}, {said(value)}" for name, value in plain.items())
    text = f"gradients of {networks.labels[robust]} follow the edges of the image at {said(mine)}, {how} {others}"
    agreed = [f"{said(resampled(agreement(known, model, name)))}" for name in edges if name != model]
    if len(agreed) < 2:
        return f"{text}; occlusion maps of the two agree at {agreed[0]}"
    return (
        f"{text}; its occlusion maps agree with those of {model} at {agreed[1]}, those of another seed at {agreed[0]}"
    )


def agreement(known: Measured, one: str, other: str) -> Floats:
    """Rank correlations (m,) of two networks' occlusion maps on the images that both were measured on."""
    a, b = known[one], known[other]
    places = {str(sample): i for i, sample in enumerate(b["sample"])}
    pairs = [(i, places[str(sample)]) for i, sample in enumerate(a["sample"]) if str(sample) in places]
    return np.array([_spearman(a["drop"][i], b["drop"][j]) for i, j in pairs], dtype=np.float64)


def _spearman(one: Floats, other: Floats) -> float:
    ranks = [pd.Series(values.ravel()).rank() for values in (one, other)]
    flat = any(values.nunique() < 2 for values in ranks)
    return float("nan") if flat else float(np.corrcoef(ranks[0], ranks[1])[0, 1])
