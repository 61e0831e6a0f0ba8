"""What a run of `eval.studies.units` says: a section for each question about units. Free of torch."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from eval.records import Run
from eval.studies import unit_detectors, unit_firing, unit_tops, unit_twins
from eval.studies.reading import Reading
from eval.studies.unit_family import Family, family
from eval.units.bases import BASES


def read(run: Run, records: pd.DataFrame, folder: Path) -> Reading:
    """What a run of `eval.studies.units.UnitStudy` says.

    Raises:
        LookupError: it has not finished, and something is missing.
    """
    found = family(run, folder)
    first = found.first
    sections = [
        unit_tops.section(found),
        unit_detectors.section(found) if found.by_class else None,
        unit_detectors.ablation(found) if "intact_right" in first.seen else None,
        unit_twins.stability(found),
        unit_twins.stimulus(found),
        unit_firing.section(found),
    ]
    said = tuple(section for section in sections if section is not None)
    return Reading(
        (),
        tuple(_findings(found, [section.name for section in said])),
        csv={"directions": unit_detectors.directions(found)} if found.by_class else {},
        sections=said,
    )


def _findings(found: Family, said: list[str]) -> list[str]:
    """What the page is about, and what it leaves out, and why."""
    first = found.first
    count = ", ".join(f"{first.count(basis)} {basis}" for basis in BASES)
    lines = [
        f"Layer {first.place} of {first.name}: directions of five bases ({count}), on held-out images. {found.counts}"
    ]
    if not found.by_class:
        lines.append(
            "Classes have too few images here for purities and detectors: images are judged by the correlation of "
            "their pixels alone."
        )
    if found.gone:
        lines.append(f"Left out, as nothing can be compared there: {'; '.join(found.gone.values())}.")
    if "stability" not in said:
        lines.append("Stability over seeds is not measured: there is one trained network alone whose units respond.")
    if "firing" not in said:
        lines.append("No perturbed image fooled its network: what units say of such images is not measured.")
    return lines
