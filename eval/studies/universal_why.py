"""Why and how of universal perturbations: dominant labels, few images, shared normals. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eval.intervals import Floats, wilson
from eval.studies.cells import Table, Value, share
from eval.studies.estimates import standing
from eval.studies.reading import Curves, Section
from eval.studies.universal_found import SOURCE, Array, Arrays, Found, above, row_of, span, unstable
from eval.studies.universal_names import ASCENT, NORMS, PAPERS

_RESAMPLES = 500
_MANY = 0.30  # of the images: what the paper says 500 images suffice for


def _entropy(labels: Array, classes: int) -> Value:
    """Of the distribution of labels, in bits, with a bootstrap interval."""
    if not len(labels):
        return Value("number", np.nan, np.nan, np.nan, 0)
    counts = np.bincount(labels, minlength=classes)
    drawn = np.random.default_rng(0).multinomial(len(labels), counts / len(labels), _RESAMPLES)
    low, high = np.quantile([_bits(c) for c in drawn], [0.025, 0.975])
    return Value("number", _bits(counts), float(low), float(high), len(labels))


def _bits(counts: Array) -> float:
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log2(p)).sum())


def labels(found: Found, classes: int, where: str) -> Section:
    """Into which classes images are fooled."""
    rows: list[tuple[str, tuple[Value | None, ...]]] = []
    for name in found.names:
        for norm in NORMS:
            a, d = found.made[ASCENT, norm][name], found.drawn[name]
            hit, chance = found.fooled(ASCENT, norm, name), d[norm] != d["clean"]
            after, drawn = a["own"][0][hit], d[norm][chance]
            values = (
                _dominant(after, len(after)),
                _entropy(after, classes),
                _dominant(drawn, int(chance.any(axis=0).sum())),
                _entropy(drawn, classes),
                _entropy(a["clean"], classes),
            )
            rows.append((f"{name}, {NORMS[norm]}", values))
    table = Table(
        "induced",
        "Labels that images are fooled into",
        "Of the images that are fooled: the share that gets the commonest new label, and the entropy of the new labels "
        "in bits; the same of those that random perturbations fool, several draws together (each image counts once "
        "for the interval of the share); the entropy of all predictions without perturbation. Entropies of few images "
        "come out too low.",
        ("dominant label", "entropy", "random: dominant", "random: entropy", "clean entropy"),
        tuple(rows),
    )
    pairs = [(v[0], v[2]) for _, v in rows if v[0] is not None and v[2] is not None and v[0].n]
    more = sum(above(a, b) for a, b in pairs)
    answer = (
        f"The commonest new label takes {span([a for a, _ in pairs])} of the fooled images, of those that random "
        f"perturbations fool {span([b for _, b in pairs if b.n]) or 'nothing, since they fool none'}; clearly more in "
        f"{more} of {len(pairs)} cases: {standing(more, len(pairs))}."
        if pairs
        else "No image was fooled."
    )
    return Section(
        "labels",
        "Into which classes: dominant labels",
        f"Universal perturbations turn most images into a few dominant labels ({SOURCE}).",
        where + "The ascent's perturbations.",
        "The images that random perturbations of the same size fool, and the predictions without any.",
        answer,
        (table,),
    )


def _dominant(labels: Array, images: int) -> Value:
    """The share of the commonest label; with an interval for as many samples as there are `images`, not draws."""
    if not len(labels):
        return Value("share", np.nan, 0.0, 1.0, 0)
    part = float((labels == np.bincount(labels).argmax()).mean())
    low, high = wilson(part * images, images)
    return Value("share", part, float(low), float(high), images)


def few(found: Found, where: str) -> Section:
    """On how few images it can be made."""

    def counted(a: Arrays) -> list[int]:
        return sorted(range(len(a["images"])), key=lambda i: int(a["images"][i]))

    first = found.made[ASCENT, "linf"][found.names[0]]
    images = [int(first["images"][i]) for i in counted(first)]
    rows, lines, least = [], [], {}
    for name in found.names:
        for maker in (PAPERS, ASCENT):
            order = counted(found.made[maker, "linf"][name])
            values = tuple(share(found.fooled(maker, "linf", name, i)) for i in order)
            rows.append((row_of(name, maker), values))
            points = np.array([[np.log10(n), v.ours] for n, v in zip(images, values, strict=True)])
            lines.append((row_of(name, maker), points))
            if maker == ASCENT:
                least[name] = _from(images, [v.low > _MANY for v in values])
    table = Table(
        "few", "Fooling rates by the number of images", "Held-out images, Linf.", tuple(map(str, images)), tuple(rows)
    )
    curve = Curves(
        "few-images", "Fooling rate by the number of images", "Held-out images, Linf; the axis is logarithmic.",
        "images that it is made on", "fooled", tuple(lines), ticks=tuple((float(np.log10(n)), str(n)) for n in images),
        bases=(10, 0),
    )  # fmt: skip
    known = sum(n is not None for n in least.values())
    told_few = ", ".join(f"{name} {n if n is not None else 'not with ' + str(images[-1])}" for name, n in least.items())
    return Section(
        "few-images-section",
        "On how few images: data needed",
        f"A perturbation made on 500 images fools more than 30% of ImageNet's validation images ({SOURCE}, figure 6).",
        where + "Both makers, in Linf, on nested subsets of the images, the classes in balance.",
        "Perturbations made on one image alone, the first column.",
        f"The ascent fools clearly more than {_MANY:.0%} of held-out images from so many images on: {told_few}; "
        f"of up to {images[-1]} images {standing(known, len(least))}."
        + (f" {odd}" if (odd := unstable(found)) else ""),
        (table,),
        (curve,),
    )


def _from(images: Sequence[int], holds: Sequence[bool]) -> int | None:
    """The least of ascending numbers from which on all hold; None if the last one does not.

    >>> _from([1, 4, 16], [True, False, True]), _from([1, 4], [True, False])
    (16, None)
    """
    least = None
    for number, one in zip(reversed(images), reversed(holds), strict=True):
        if not one:
            break
        least = number
    return least


def normals(found: Found, where: str) -> Section:
    """Whether the normals of the boundaries share directions."""
    rows: list[tuple[str, tuple[Value | None, ...]]] = []
    lines: list[tuple[str, Floats]] = []
    held = {}
    for name in found.names:
        a = found.drawn[name]
        d = int(a["dimensions"])
        energy = {kind: np.cumsum(a[kind].astype(np.float64) ** 2) for kind in ("singular", "chance")}
        held[name] = {kind: float(e[min(d, len(e)) - 1] / e[-1]) for kind, e in energy.items()}
        for kind, label in (("singular", name), ("chance", f"{name}: random")):
            e = energy[kind] / energy[kind][-1]
            keep = np.unique(np.linspace(0, len(e) - 1, min(len(e), 60)).round().astype(int))
            lines.append((label, np.stack([keep + 1.0, e[keep]], axis=1)))
        parts = [Value("number", held[name][k], np.nan, np.nan, len(a[k])) for k in ("singular", "chance")]
        random = [found.directions(kind, name) for kind in ("whole", "components", "span")]
        rows.append((name, (*random, share(found.fooled(ASCENT, "l2", name)), *parts)))
    draws, judged = found.drawn[found.names[0]]["span"].shape
    d = int(found.drawn[found.names[0]]["dimensions"])
    pixels = int(found.drawn[found.names[0]]["pixels"])
    table = Table(
        "span",
        f"Random perturbations in subspaces of {d} of {pixels:,} dimensions, L2",
        "Fooling rates of random directions of one length: in the whole space, in the span of principal components of "
        f"the images, in that of the foremost singular vectors of the boundaries' normals, means over {draws} "
        f"directions each on {judged:,} images, with 95% intervals over directions; the ascent's perturbation; and "
        "which part of the squares of the normals the subspace holds, beside that of random directions in theirs.",
        ("random", "in components", "in normals", "ascent", "held", "held, random"),
        tuple(rows),
    )
    more, than = (sum(above(v[2], v[i]) for _, v in rows) for i in (0, 1))
    less = sum(above(v[1], v[2]) for _, v in rows)
    spans = [v[2] for _, v in rows if v[2] is not None]
    return Section(
        "normals",
        "Why: the normals of the boundaries span few directions",
        "The normals of the decision boundaries near images lie near a small subspace; a random vector of it fools 38% "
        f"of the images, one of the whole space 10% ({SOURCE}).",
        where + f"DeepFool's perturbations of the images that perturbations are made on, as unit vectors; subspaces of "
        f"{d} of {pixels:,} dimensions; random directions in them, of the L2 budget.",
        "Random directions in the whole space, and in as many principal components of the images: whether it is the "
        "boundaries or merely the images that the subspace is about. For the singular values: random unit vectors.",
        f"A random direction among the normals' foremost ones fools {span(spans)} of the images: clearly more than "
        f"one of the whole space on {more} of {len(rows)} networks, and than one of the images' principal "
        f"components on {than}, clearly less on {less}; {_both(rows)}. The subspace holds "
        f"{_percent([h['singular'] for h in held.values()])} of the normals' squares, of random directions' "
        f"{_percent([h['chance'] for h in held.values()])}.",
        (table,),
        (
            Curves(
                "normals-spectrum", "How few directions the normals share",
                "The part of their squares in the foremost directions.", "directions", "part of the squares",
                tuple(lines),
            ),
        ),
    )  # fmt: skip


def _both(rows: Sequence[tuple[str, Sequence[Value | None]]]) -> str:
    """Whether directions among the normals fool more than both others do, network by network."""
    clear = sum(above(v[2], v[0]) and above(v[2], v[1]) for _, v in rows)
    against = sum(above(v[0], v[2]) or above(v[1], v[2]) for _, v in rows)
    return standing(clear, len(rows), against)


def _percent(values: Sequence[float]) -> str:
    low, high = f"{min(values):.0%}", f"{max(values):.0%}"
    return low if low == high else f"{low} to {high}"
