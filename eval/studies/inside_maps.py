"""What networks look at, and whether an attack moves it: sections of `eval.studies.inside`. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from eval.intervals import Floats
from eval.studies.cells import Table, Value
from eval.studies.clauses import sentence
from eval.studies.estimates import TOO_FEW, correlation_of, correlation_of_pairs, mean_of, said, verdict
from eval.studies.inside_names import MAPS, Array, Measured, Networks
from eval.studies.reading import Curves, Pictures, Section
from eval.studies.sheets import sheet

_PICTURED = 4  # images a network
_BLANK = np.ones((1, 1, 1), np.float32)  # a cell that holds nothing


def gains(one: Mapping[str, Array], state: int, kind: int) -> tuple[Floats, Floats]:
    """How much better a map is than the random one of its grain, image by image: by deletion and by insertion (n,)."""
    down, up = one["deletion"][:, state], one["insertion"][:, state]  # (n, 4)
    return down[:, kind + 2] - down[:, kind], up[:, kind] - up[:, kind + 2]


def seen(measured: Measured, networks: Networks) -> dict[str, Mapping[str, Array]]:
    """Those trained networks that classify some image correctly, with what was measured of them."""
    return {name: measured[name] for name in networks.trained if "drop" in measured.get(name, {})}


def map_section(measured: Measured, networks: Networks) -> Section:
    """Deletion and insertion on the images as they are."""
    known, rows, lines = seen(measured, networks), [], []
    for name, one in known.items():
        label = networks.labels[name]
        for kind, map_name in enumerate(MAPS):
            values: tuple[Value | None, ...] = tuple(
                mean_of(one[what][:, 0, kind]) for what in ("deletion", "insertion")
            )
            more = tuple(map(mean_of, gains(one, 0, kind))) if kind < 2 else (None, None)
            rows.append((f"{label}: {map_name}", (*values, *more)))
        if name in networks.models:
            by = {kind: tuple(map(mean_of, gains(one, 0, kind))) for kind in (0, 1)}
            lines.append(
                f"on {len(one['label'])} images of {label} the occlusion map beats random squares by "
                f"{said(by[0][0])} in deletion and {said(by[0][1])} in insertion, the gradient random pixels by "
                f"{said(by[1][0])} and {said(by[1][1])}: {_verdict(by[0])}"
            )
    table = Table(
        "deletion",
        "Deletion and insertion: area under the probability of the label",
        "Deletion: pixels become grey, the most important first; a smaller area is better. Insertion: pixels come back "
        "into the blurred image; a greater one is. Gained: what a map has of that over a random one of the same grain "
        "on the same image.",
        ("deletion", "insertion", "gained, deletion", "gained, insertion"),
        tuple(rows),
    )
    return Section(
        "maps",
        "Occlusion: what a network looks at",
        "Hiding what a network looks at takes away the probability of the class, and little else does (Zeiler and "
        "Fergus 2014, section 4.2); a map that is right names the pixels whose loss hurts (Petsiuk et al. 2018).",
        f"{_counts(known, networks)}: a grey square slid over each, and 16 steps of "
        "deletion and insertion in the order of the map.",
        "Random maps of the same grain (squares as large as the one that hides, or single pixels), and the gradient's.",
        sentence(lines, "no image was classified correctly"),
        (table,),
        tuple(curve for name, one in known.items() if name in networks.models for curve in _curves(name, one)),
        _pictures(known, networks),
    )


def _verdict(gained: tuple[Value, ...]) -> str:
    """What the gains by deletion and by insertion say together."""
    each = [verdict(value, "better", "worse", "") for value in gained]
    if TOO_FEW in each:  # both are of the same images
        return TOO_FEW
    found = set(each) - {""}
    if not found:
        return "no difference from chance can be told"
    if len(found) > 1:
        return "by one of the two it knows which pixels matter, by the other it is worse than chance"
    by = "" if all(each) else "by one of the two "
    return by + ("it knows which pixels matter" if found == {"better"} else "it is worse than chance")


def _counts(known: Mapping[str, Mapping[str, Array]], networks: Networks) -> str:
    counts = {len(one["label"]) for one in known.values()}
    if len(counts) == 1:
        return f"{counts.pop()} test images that each network classifies correctly"
    named = ", ".join(f"{networks.labels[name]}: {len(one['label'])}" for name, one in known.items())
    return f"Test images that each network classifies correctly ({named})"


def _curves(name: str, one: Mapping[str, Array]) -> tuple[Curves, ...]:
    across = np.linspace(0.0, 1.0, one["deletion_curve"].shape[1])
    texts = {
        "deletion": ("Pixels become grey, the most important first.", "share of pixels deleted"),
        "insertion": ("Pixels come back into the blurred image, the most important first.", "share of pixels inserted"),
    }
    return tuple(
        Curves(
            f"{what}-{name}",
            f"{name}: {what}",
            f"{note} Mean probability of the label.",
            axis,
            "probability",
            tuple(
                (map_name, np.stack([across, one[f"{what}_curve"][kind]], axis=1)) for kind, map_name in enumerate(MAPS)
            ),
            "occlusion",
        )
        for what, (note, axis) in texts.items()
    )


def heat(values: Array) -> Array:
    """A map (H, W) as an image (1, H, W): the least important black, the most important white."""
    low, high = float(values.min()), float(values.max())
    return ((values - low) / (high - low) if high > low else np.full_like(values, 0.5))[None].astype(np.float32)


def _pictures(known: Mapping[str, Mapping[str, Array]], networks: Networks) -> tuple[Pictures, ...]:
    """One sheet a network: in each row an image, its map, the attacked image, its map."""
    sheets = []
    for name, one in known.items():
        cells = []
        for i in range(min(_PICTURED, len(one["x"]))):
            there = bool(one["x_attacked"][i].any())
            cells += [_image(one["x"][i]), heat(one["map"][i])]
            cells += [_image(one["x_attacked"][i]), heat(one["map_attacked"][i])] if there else [_BLANK] * 2
        wide = np.broadcast_shapes(*(cell.shape for cell in cells))
        sheets.append((networks.labels[name], sheet(np.stack([np.broadcast_to(c, wide) for c in cells]), columns=4)))
    note = (
        "In each row an image, the map of its class, the image as the first attack that succeeded left it (none where "
        "all failed), and the map of the class that is predicted then. White: hiding it takes away most of the class's "
        "probability."
    )
    return (Pictures("occlusion-maps", "Occlusion maps, before and after the attack", note, tuple(sheets)),)


def _image(x: Array) -> Array:
    page: Array = x.astype(np.float32) / 255.0
    return page if page.shape[0] in (1, 3) else page.mean(axis=0, keepdims=True)


def attack_section(measured: Measured, networks: Networks) -> Section:
    """Whether attacks move the maps more than noise of their size does."""
    known = seen(measured, networks)
    moves, worths, lines = [], [], []
    for name, one in known.items():
        for a, attack in enumerate(map(str, one["attack"])):
            label = f"{networks.labels[name]}: {attack}"
            columns = {what: one[what][:, a] for what in _PAIRS}
            apart = columns["label_noise"] - columns["label_attacked"]
            apart_gradient = columns["gradient_noise"] - columns["gradient_attacked"]
            found = {what: correlation_of(values) for what, values in columns.items()}
            gap, gap_gradient = mean_of(apart), mean_of(apart_gradient)
            two = correlation_of_pairs(one["another"], one["partner"])
            size = mean_of(one["size"][:, a], kind="size")
            moves.append((label, (size, *found.values(), gap, gap_gradient, two)))
            worths += [
                (f"{label}, {what}", tuple(map(mean_of, gains(one, state, 0))))
                for what, state in (("attacked", 1 + 2 * a), ("noise", 2 + 2 * a))
            ]
            if name in networks.models and gap.n:
                lines.append(
                    f"under {attack} the label's maps of {networks.labels[name]} keep a rank correlation of "
                    f"{said(found['label_attacked'])} with what they were (on {gap.n} images), under noise of the same "
                    f"size {said(found['label_noise'])}, and two images have {said(two)}: "
                    + verdict(
                        gap,
                        "the attack moves them more than noise does",
                        "noise moves them more than the attack does",
                        "no difference between the attack and noise can be told",
                    )
                )
    table = Table(
        "moved",
        "Do maps move under attack",
        "Mean rank correlation with the map of the image as it is: of the label's occlusion map once the image is "
        "attacked, and under Gaussian noise of the perturbation's RMS; of the occlusion map of the class that is "
        "predicted then, and of that class's map before the attack, which is the reverse of the label's as far as the "
        "two share one probability; of the gradient's map. More than noise: the difference, image by image. Another "
        "image: of the occlusion maps of two images, of different classes where there are several; its interval knows "
        "that an image is in several pairs. Images on which the attack failed are left out.",
        (
            "RMS",
            "label's map, attacked",
            "label's map, noise",
            "predicted class's map",
            "the same class's, unattacked",
            "gradient, attacked",
            "gradient, noise",
            "more than noise",
            "more than noise, gradient",
            "another image",
        ),
        tuple(moves),
    )
    worth = Table(
        "moved-worth",
        "Are maps of attacked images right about what is predicted",
        "What the occlusion map of the class that is predicted gains over random squares, on attacked images and under "
        "noise of the same size.",
        ("gained, deletion", "gained, insertion"),
        tuple(worths),
    )
    return Section(
        "attacked-maps",
        "Under attack: does the map move",
        "Small perturbations change what a map calls important (Ghorbani et al. 2019): an attacked network looks "
        "elsewhere.",
        f"{_counts(known, networks)}, attacked, and mapped again where it succeeded.",
        "Gaussian noise of the same RMS on the same images, and the maps of two different images, which agree as far "
        "as all images are looked at in the middle.",
        sentence(lines, "no attack succeeded"),
        (table, worth),
    )


_PAIRS = ("label_attacked", "label_noise", "said_attacked", "said_clean", "gradient_attacked", "gradient_noise")
