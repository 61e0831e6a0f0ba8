"""What the tables of Szegedy et al. say, in sentences whose numbers are counted from them. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from eval.studies.cells import Table, Value, overlap, told


def findings(tables: Sequence[Table]) -> list[str]:
    """A sentence or two on each finding of the paper: small perturbations, shared by networks, and by training sets."""
    by = {table.name: table for table in tables}
    return [
        *_distances(by["table1"]),
        _shared(by["table2"], by["table2_matched"], "networks trained on the same samples"),
        _shared(by["table4"], by["table4_matched"], "networks trained on the same half of the samples", _same_half),
        _shared(by["table4"], by["table4_matched"], "networks trained on disjoint halves of them", _other_half),
        _apart(tables),
    ]


def _column(table: Table, name: str) -> dict[str, Value]:
    place = table.columns.index(name)
    return {label: value for label, values in table.rows if (value := values[place]) is not None}


def _distances(table: Table) -> list[str]:
    fooled, sizes = _column(table, "fooled"), _column(table, "distortion, train")
    tried = [v for v in fooled.values() if v.n]
    if not tried:
        return ["The networks classify no image correctly, so that there was nothing to search for."]
    least = min(v.ours for v in tried)
    said = (
        "The search fooled every network of Table 1 on every image that it classifies correctly"
        if least == 1
        else f"The search fooled each network of Table 1 on at least {math.floor(1000 * least) / 10:.1f}% of the images"
    )
    known = {label: v for label, v in sizes.items() if not math.isnan(v.ours)}
    order = sorted(known, key=lambda label: known[label].ours)
    lines = [
        f"{said}. Distortions from smallest to largest: " + ", ".join(f"{x} {known[x].ours:.3f}" for x in order) + "."
    ]
    paper = {label: v.paper for label, v in known.items() if v.paper is not None}
    if len(paper) > 1:
        theirs = sorted(paper, key=lambda label: paper[label])
        same = theirs == [label for label in order if label in paper]
        lines.append(f"The paper's order is {'the same' if same else ', '.join(theirs)}{_unsettled(known, order)}.")
    return lines


def _unsettled(known: Mapping[str, Value], order: Sequence[str]) -> str:
    """Which neighbours of our order have intervals that overlap, so that they could as well change places."""
    pairs = [f"{a} and {b}" for a, b in pairwise(order) if overlap(known[a], known[b])]
    return f"; the intervals of {', of '.join(pairs)} overlap" if pairs else ""


def _half(label: str) -> str:
    """Which half of the training samples a network saw: `p1` or `p2`, with which its name ends."""
    return label.rstrip(")")[-2:].lower()


def _same_half(source: str, target: str) -> bool:
    return _half(source) == _half(target)


def _other_half(source: str, target: str) -> bool:
    return _half(source) != _half(target)


def _shared(
    native: Table, matched: Table, whom: str, chosen: Callable[[str, str], bool] = lambda source, target: True
) -> str:
    """How many pairs of different networks share perturbations, beyond the errors that they make anyway.

    Args:
        native: errors of each network on what was made for another.
        matched: errors added at one size; the last row is that of noise.
        whom: the pairs in words.
        chosen: (source, target) -> whether a pair is one of these.
    """
    *sources, floor = matched.rows
    names = matched.columns
    places = {(i, j) for i, a in enumerate(names) for j, b in enumerate(names) if i != j and chosen(a, b)}
    pairs = [
        (cell, noise)
        for i, (_, cells) in enumerate(sources)
        for j, (cell, noise) in enumerate(zip(cells, floor[1], strict=True))
        if (i, j) in places and cell is not None and noise is not None and cell.n and noise.n
    ]
    above = sum(cell.low > noise.high for cell, noise in pairs)
    off = [
        value
        for i, (_, values) in enumerate(native.rows[: len(sources)])
        for j, value in enumerate(values[: len(sources)])
        if (i, j) in places and value is not None and value.n
    ]
    scaled = [cell for cell, _ in pairs]
    if not pairs:
        return f"There is no pair of {whom} to compare."
    return (
        f"Between {whom}: as found, perturbations bring another network to an error of {_range(off)}, its clean errors "
        f"included; at one size they add {_range(scaled)} to these. That is above what noise does in {above} of "
        f"{len(pairs)} pairs."
    )


def _range(values: Sequence[Value]) -> str:
    """The least and the greatest, each with its interval."""
    least, most = (choose(values, key=lambda v: v.ours) for choose in (min, max))
    return told(least) if least.ours == most.ours else f"{told(least)} to {told(most)}"


def _apart(tables: Sequence[Table]) -> str:
    compared = [v for t in tables for _, values in t.rows for v in values if v is not None and v.paper is not None]
    if not compared:
        return "The paper's numbers are about MNIST; beside other data they are not shown."
    apart = sum(v.apart for v in compared)
    return (
        f"{apart} of {len(compared)} numbers lie further from the paper's than chance and rounding explain; they are "
        "marked. Its errors are those of all samples; its matrices and distortions are taken as those of 256 images, "
        "which their figures let one infer. For noise nothing does, so that none is marked. The paper does not say how "
        "its networks were trained."
    )
