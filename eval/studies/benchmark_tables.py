"""What `eval.studies.benchmark` measured: ratios to the floor, and the robust accuracy beside each. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eval.intervals import Floats
from eval.records import Run, read_measured
from eval.studies.cells import Table, Value, share
from eval.studies.reading import Reading, Section

_TIMING = "timing"
_FLOOR, _LEVER, _LIBRARY, _ATTACK = "floor", "lever", "library", "attack"
_COLUMNS = (
    "time beside the floor",
    "time beside its own evaluations",
    "evaluations",
    "robust accuracy",
    "images a second",
)
Arrays = dict[str, np.ndarray[Any, Any]]


def read(run: Run, records: pd.DataFrame, folder: Path) -> Reading:
    """What a run of `eval.studies.benchmark.Benchmark` says."""
    del records
    measured = read_measured(folder, _TIMING)
    return Reading((), (), sections=tuple(_section(run, name, arrays) for name, arrays in measured.items()))


def _section(run: Run, network: str, arrays: Arrays) -> Section:
    study = run.config["study"]
    rows = _rows(arrays)
    n, rounds = arrays["held"].shape[1], arrays["seconds"].shape[1]
    table = Table(
        f"speed_{network}",
        f"{network}: time beside the floor",
        f"The median of {rounds} rounds in which all took turns, with the least and the greatest. The floor is "
        f"{study['steps']} forwards and gradients of the network as it came, in float32, by images perturbed at random "
        "as searches begin with them. Its own "
        "evaluations are the forwards and backwards that a search made, at the floor's price. Times are CPU times on "
        "a CPU; images a second hold for this machine alone.",
        _COLUMNS,
        rows,
    )
    return Section(
        f"network_{network}",
        f"{network}",
        f"No gradient attack of {study['steps']} steps can cost less than {study['steps']} forwards and gradients of "
        "the network at hand, unless it leaves work undone or does it cheaper; how far above that floor is it?",
        f"PGD in {study['norm']} at eps = {study['eps']}, {n} images in one batch, {run.device}, seed {run.seed}; "
        "what other libraries make is judged by the same network.",
        "The floor, timed in the same turns.",
        _answer(arrays),
        (table,),
    )


def _rows(arrays: Arrays) -> tuple[tuple[str, tuple[Value | None, ...]], ...]:
    seconds, least = arrays["seconds"], arrays["seconds"][0]
    n = arrays["held"].shape[1]
    rows = []
    for i, label in enumerate(arrays["label"]):
        kind, version = str(arrays["kind"][i]), str(arrays["version"][i])
        ratio = seconds[i] / least
        made = float(arrays["forwards"][i] + arrays["backwards"][i])
        own = ratio * (arrays["forwards"][0] + arrays["backwards"][0]) / made if made > 0 else None
        values = (
            _number(ratio),
            None if kind == _FLOOR or own is None or np.isnan(made) else _number(own),
            None if np.isnan(made) else Value("number", made, made, made, 0),
            None if kind == _FLOOR else share(arrays["held"][i]),
            _number(n / seconds[i]),
        )
        rows.append((f"{label} {version}".strip(), values))
    return tuple(rows)


def _number(values: Floats) -> Value:
    return Value("number", float(np.median(values)), float(values.min()), float(values.max()), 0)


def _median(arrays: Arrays, i: int) -> float:
    return float(np.median(arrays["seconds"][i] / arrays["seconds"][0]))


def _of(arrays: Arrays, kind: str) -> Sequence[int]:
    return [i for i, k in enumerate(arrays["kind"]) if k == kind]


def _answer(arrays: Arrays) -> str:
    levers = _of(arrays, _LEVER)
    first = levers[0]
    best = min(
        (i for i in levers if str(arrays["label"][i]).startswith("samples leave")), key=lambda i: _median(arrays, i)
    )
    held = arrays["held"].mean(axis=1)
    said = (
        f"With every step our loop takes {_median(arrays, first):.2f} of the floor, and with all that makes it faster "
        f"({arrays['label'][best]!s}) {_median(arrays, best):.3f}, which leaves {held[best]:.1%} of the images "
        f"standing where every step leaves {held[first]:.1%}"
    )
    others = _of(arrays, _LIBRARY)
    if not others:
        return f"{said}; no other library was timed."
    fastest = min(others, key=lambda i: _median(arrays, i))
    times = np.median(arrays["seconds"][fastest] / arrays["seconds"][best])
    return (
        f"{said}; the fastest of the other libraries, {arrays['label'][fastest]}, takes "
        f"{_median(arrays, fastest):.2f} and leaves {held[fastest]:.1%}: {times:.1f} times as long."
    )
