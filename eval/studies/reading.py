"""What a study says of a run: tables, sentences and pictures, for a report to show. Free of torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eval.records import Run
from eval.studies.cells import Table, keyed, merged, spread
from eval.studies.folded import fold


@dataclass(frozen=True)
class Pictures:
    """Images side by side.

    Attributes:
        name: of their section.
        title: what they are.
        note: how to read them.
        images: label and image (C, H, W) with values in 0..1 each.
    """

    name: str
    title: str
    note: str
    images: tuple[tuple[str, np.ndarray[Any, Any]], ...]


@dataclass(frozen=True)
class Curves:
    """Curves on one chart.

    Attributes:
        name: of its file.
        title: what it is.
        note: how to read it.
        across: name of the horizontal axis.
        up: name of the vertical one.
        lines: label and points (n, 2) each, from left to right.
        strong: label of the line that matters most, if any.
        mark: a place on the horizontal axis and its name, if any.
        ticks: where the horizontal axis is labelled, and how; None for round numbers.
        bases: of the logarithms that the points are, across and up, 0 where they are the numbers themselves; the
            chart is labelled with the numbers and says that it is logarithmic, and the table has the numbers.
    """

    name: str
    title: str
    note: str
    across: str
    up: str
    lines: tuple[tuple[str, np.ndarray[Any, Any]], ...]
    strong: str = ""
    mark: tuple[float, str] | None = None
    ticks: tuple[tuple[float, str], ...] | None = None
    bases: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Section:
    """A claim, and what became of it.

    Attributes:
        name: of its place on the page.
        title: what it is about.
        claim: what is said, and who said it.
        measured: what was measured here, on how many of what.
        null: what it is compared with, so that chance or the method alone cannot give the answer.
        answer: what came of it, in a sentence whose numbers are counted from the tables.
        tables: see `Reading`.
        curves: see `Reading`.
        pictures: see `Reading`.
        by_seed: of several runs, the answer of each, where they differ.
    """

    name: str
    title: str
    claim: str
    measured: str
    null: str
    answer: str
    tables: tuple[Table, ...] = ()
    curves: tuple[Curves, ...] = ()
    pictures: tuple[Pictures, ...] = ()
    by_seed: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class Reading:
    """What a run of a study says.

    Attributes:
        tables: with the literature's numbers beside ours.
        findings: sentences whose numbers are counted from the tables.
        pictures: beside those of perturbed images, which every report has.
        curves: charts.
        told: lines about the run's own files, for the end of the run; they mean nothing for several together.
        shows: what a study with a page of its own has to show; several are put together by its `joined`.
        csv: more tables to be written, by name.
        by_seed: of several runs, what each says that not all do, by its seed.
        sections: claims with what became of them, each with tables, charts and pictures of its own.
    """

    tables: tuple[Table, ...]
    findings: tuple[str, ...]
    pictures: tuple[Pictures, ...] = ()
    curves: tuple[Curves, ...] = ()
    told: tuple[str, ...] = ()
    shows: Any = None
    csv: Mapping[str, pd.DataFrame] = field(default_factory=dict, repr=False)
    by_seed: tuple[tuple[int, tuple[str, ...]], ...] = ()
    sections: tuple[Section, ...] = ()

    @property
    def all_tables(self) -> tuple[Table, ...]:
        """Those of the sections too."""
        return (*self.tables, *(table for section in self.sections for table in section.tables))


Reader = Callable[[Run, pd.DataFrame, Path], Reading]
"""(header, records, folder of the run) -> what it says."""


def together(readings: list[Reading], seeds: list[int]) -> Reading:
    """What several runs say that differ in their seed: means in the tables, shared sentences once, charts of the first.

    A sentence that all say, but for its numbers, is told with the least and the greatest of each. Sections are put
    together by their names; of one that some runs lack it is said which.
    """
    common, left = fold([reading.findings for reading in readings])
    by = [dict(zip(keyed([s.name for s in r.sections]), r.sections, strict=True)) for r in readings]
    return replace(
        readings[0],
        tables=tuple(spread([reading.tables for reading in readings], seeds)),
        findings=common,
        told=(),
        shows=None if readings[0].shows is None else readings[0].shows.joined([r.shows for r in readings], seeds),
        by_seed=tuple((seed, said) for seed, said in zip(seeds, left, strict=True) if said),
        sections=tuple(
            _section([r.get(key) for r in by], seeds) for key in merged([list(sections) for sections in by])
        ),
    )


def _section(of: Sequence[Section | None], seeds: Sequence[int]) -> Section:
    """A section of several runs, None of those that lack it, told as `together` tells the rest."""
    own = [(seed, section) for seed, section in zip(seeds, of, strict=True) if section is not None]
    lacks = [seed for seed, section in zip(seeds, of, strict=True) if section is None]
    common, left = fold([[section.answer] for _, section in own])
    answer = common[0] if common else ""
    said = [(seed, lines[0]) for (seed, _), lines in zip(own, left, strict=True) if lines]
    if lacks and answer:
        answer += f" Not measured with seed {', '.join(map(str, lacks))}."
    elif lacks:
        said += [(seed, "Not measured.") for seed in lacks]
    return replace(
        own[0][1],
        tables=tuple(spread([section.tables for _, section in own], [seed for seed, _ in own])),
        answer=answer,
        by_seed=tuple(sorted(said)),
    )
