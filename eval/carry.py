"""What a smaller budget broke is broken within a larger one, by the same image: it is not searched for again.

The verdict is the judge's, on that image: the larger ball holds it as well, so that the row is that of the smaller
budget but for its eps, and costs nothing. Only what holds after rounding to 8 bits too is let go; what does not is
searched for once more, and keeps what it had if nothing comes of that. So no larger budget breaks less than a smaller
one, sample by sample, and only records are handed on, no images.

Cost: nothing for what was broken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from eval.bench import Bench, Unit
from eval.craft import Rows, craft, void
from eval.records import COLUMNS
from eval.search import Pulse

_COSTS = ("forwards", "backwards", "seconds")


def craft_rest(
    bench: Bench,
    unit: Unit,
    before: Rows,
    examples: Mapping[str, Any] | None,
    tell: Callable[[float], None],
    pulse: Pulse | None = None,
) -> tuple[Rows, Rows | None]:
    """Do one unit of work, on what no smaller eps broke.

    Args:
        bench: what it works on.
        unit: what is to be done.
        before: the records of the next smaller eps, on all samples of the unit, none with an error.
        examples: the images that were kept of them.
        tell: as `eval.craft.craft` takes it.
        pulse: the same.

    Returns:
        What `eval.craft.craft` does, of all samples.
    """
    ids = bench.samples.ids[unit.index]
    own = (before["role"] == "attack") & before["success"]
    done = np.isin(ids, before["sample"][own & before["success_8bit"]].astype(str))
    tell(float(done.sum()))
    rest = replace(unit, index=unit.index[~done])
    rows, images = craft(bench, rest, tell, None, pulse) if len(rest.index) else (None, None)
    kept = before["sample"][own].astype(str)
    if rows is not None:
        again = (rows["role"] == "attack") & rows["success"]
        kept = np.setdiff1d(kept, rows["sample"][again].astype(str))
    return _merged(before, rows, kept, unit), _pictures(bench, unit, (examples, images), kept)


def _merged(before: Rows, found: Rows | None, kept: np.ndarray[Any, Any], unit: Unit) -> Rows:
    """The records of all samples: those of the smaller eps for the ids `kept` (m,), else what was found."""
    mine = np.isin(before["sample"].astype(str), kept)
    n = int(mine.sum())
    rows = {column: values[mine] for column, values in before.items()}
    rows |= {"eps": np.full(n, unit.threat.eps), "eps_text": np.full(n, unit.text)}
    rows |= {cost: np.zeros_like(rows[cost]) for cost in _COSTS}
    if found is None:
        return rows
    _charge(rows, found)
    other = ~np.isin(found["sample"], kept)
    merged = {column: np.concatenate([rows[column], found[column][other]]) for column in COLUMNS}
    wrong = found["error"][found["error"] != ""]
    if len(wrong) and n:  # if those that fell before were let in, the rest would look weaker than it is
        void(merged, str(wrong[0]))
    return merged


def _charge(rows: Rows, found: Rows) -> None:
    """Charge what was searched for in vain."""
    spent = {s: i for i, s in enumerate(found["sample"].tolist()) if found["role"][i] == "attack"}
    for row in np.flatnonzero(rows["role"] == "attack"):
        if (i := spent.get(rows["sample"][row])) is not None:
            for cost in _COSTS:
                rows[cost][row] = found[cost][i]


def _pictures(
    bench: Bench, unit: Unit, of: tuple[Mapping[str, Any] | None, Rows | None], kept: np.ndarray[Any, Any]
) -> Rows | None:
    """The images to keep, `of` those of the smaller eps for the ids `kept` (m,), and those that were found."""
    place = {sample: i for i, sample in enumerate(bench.samples.ids[unit.index].tolist())}
    chosen = [
        (place[sample], arrays["x"][i], arrays["x_adv"][i], sample)
        for arrays, mine in zip(of, (True, False), strict=True)
        if arrays is not None
        for i, sample in enumerate(arrays["sample"].tolist())
        if (sample in kept) == mine
    ]
    chosen = sorted(chosen, key=lambda one: one[0])[: bench.examples]
    if not chosen:
        return None
    names = {"source": unit.source, "attack": unit.attack_name, "eps_text": unit.text}
    images = {"x": np.stack([c[1] for c in chosen]), "x_adv": np.stack([c[2] for c in chosen])}
    return images | {"sample": np.array([c[3] for c in chosen])} | {k: np.array(v) for k, v in names.items()}
