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
_FLOOR, _LEVER, _DEFAULT, _LIBRARY, _ATTACK = "floor", "lever", "default", "library", "attack"
_COLUMNS = (
    "time beside the floor",
    "time beside its own evaluations",
    "evaluations",
    "robust accuracy",
    "images a second",
)
_BY_DEFAULT = " (as a run does it)"
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
        f"Medians over the rounds ({rounds}), in which all took turns, with the least and the greatest. The floor is "
        f"{study['steps']} forwards and gradients of the network as it came, in float32, by images perturbed at random "
        "as searches begin with them. Its own "
        "evaluations are the forwards and backwards that a search made, at the floor's price. Times are CPU times on "
        "a CPU; images a second hold for this machine alone. Batch norms are folded by fold, channels laid out side "
        "by side by channels_last, dense layers asked in one piece by fuse, 16 bits are precision=bfloat16 (slower "
        "where the processor has no instructions for them, or the network is small), graphs are graphs=true, and "
        "samples leave by attack.pgd.early_stop; a run without transfer does what is marked.",
        _COLUMNS,
        rows,
    )
    return Section(
        f"network_{network}",
        f"{network}",
        f"No gradient attack of {study['steps']} steps can cost less than {study['steps']} forwards and gradients of "
        "the network at hand, unless it leaves work undone or does it cheaper; how far above that floor is it?",
        f"PGD in {study['norm']} at eps = {study['eps']}, {n} images in one batch, {run.device}, seed {run.seed}; "
        f"what other libraries make is judged by the same network.{_missing(arrays)}",
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
            _over("number", ratio),
            None if kind == _FLOOR or own is None or np.isnan(made) else _over("number", own),
            None if np.isnan(made) else Value("number", made, np.nan, np.nan, n),
            None if kind == _FLOOR else share(arrays["held"][i]),
            _over("count" if np.median(n / seconds[i]) >= 100 else "number", n / seconds[i]),
        )
        rows.append((f"{label} {version}".strip() + (_BY_DEFAULT if kind == _DEFAULT else ""), values))
    return tuple(rows)


def _missing(arrays: Arrays) -> str:
    """Who was to be timed and was not."""
    missing = arrays.get("missing", np.array([]))
    return f" Not installed, and so not timed: {'; '.join(map(str, missing))}." if len(missing) else ""


def _over(kind: str, values: Floats) -> Value:
    """The median of the rounds, with the least and the greatest."""
    return Value(kind, float(np.median(values)), float(values.min()), float(values.max()), len(values))


def _median(arrays: Arrays, i: int) -> float:
    return float(np.median(arrays["seconds"][i] / arrays["seconds"][0]))


def _of(arrays: Arrays, kind: str) -> Sequence[int]:
    return [i for i, k in enumerate(arrays["kind"]) if k == kind]


def _answer(arrays: Arrays) -> str:
    first, ours = _of(arrays, _LEVER)[0], [*_of(arrays, _LEVER), *_of(arrays, _DEFAULT)][-1]
    how = "as a run does it" if _of(arrays, _DEFAULT) else "with all that makes it faster"
    held = arrays["held"].mean(axis=1)
    said = (
        f"With every step our loop takes {_median(arrays, first):.3g} of the floor, and {how} "
        f"({arrays['label'][ours]!s}) {_median(arrays, ours):.3g}, which leaves {held[ours]:.1%} of the images "
        f"standing where every step leaves {held[first]:.1%}"
    )
    others = _of(arrays, _LIBRARY)
    if not others:
        return f"{said}; no other library was timed."
    fastest = min(others, key=lambda i: _median(arrays, i))
    times = arrays["seconds"][fastest] / arrays["seconds"][ours]
    return (
        f"{said}. The fastest of the other libraries ({arrays['label'][fastest]}) takes "
        f"{_median(arrays, fastest):.3g} and leaves {held[fastest]:.1%}: in the median round "
        f"{np.median(times):.3g} times as long as a run of ours ({times.min():.3g} to {times.max():.3g})."
    )
