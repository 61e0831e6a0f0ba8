"""What a run of `eval.studies.defences` says: which network is robust, and which one only looked it. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from eval.intervals import Bools
from eval.records import Run
from eval.rows import erred, flag, numbers, wrong
from eval.studies.cells import Table, Value, overlap, share
from eval.studies.reading import Reading

_KINDS = {"": "no defence", "_adversarial": "adversarial training", "_distilled": "defensive distillation"}
_SLACK = 1e-6
_CLEAN, _WEAK, _ALL = "clean", "all weak", "worst case"
_OTHERS = "made for others"


@dataclass(frozen=True)
class _Network:
    """A network that is judged: the name of its model, of its defence, and its own."""

    model: str
    defence: str
    name: str


def read(run: Run, records: pd.DataFrame, folder: Path) -> Reading:
    """What a run of `eval.studies.defences.Defences` says."""
    rows = records[~erred(records) & records["role"].isin(["clean", "attack"])]
    weak = list(run.config["study"]["weak"])
    attacks = [str(a["name"]) for a in run.attacks]
    table = _table(run, rows, weak, [a for a in attacks if a not in weak])
    return Reading((table,), tuple(_findings(table, weak)))


def _networks(run: Run) -> Iterator[_Network]:
    names = {str(m["name"]) for m in run.models}
    for model in (n for n in names if n + "_distilled" in names):
        yield from (_Network(model, defence, model + kind) for kind, defence in _KINDS.items() if model + kind in names)


def _table(run: Run, rows: pd.DataFrame, weak: Sequence[str], strong: Sequence[str]) -> Table:
    eps = max(numbers(rows["eps"])[np.isfinite(numbers(rows["eps"]))], default=np.inf)
    found = []
    networks = sorted(_networks(run), key=lambda n: (n.model, list(_KINDS.values()).index(n.defence)))
    several = len({n.model for n in networks}) > 1
    for network in networks:
        mine = rows[rows["target_model"] == network.name]
        clean = mine[mine["role"] == "clean"].drop_duplicates("sample").set_index("sample").sort_index()
        right = ~wrong(clean, "clean_pred")
        attacked = mine[mine["role"] == "attack"]
        white = attacked[attacked["source"] == network.name]
        by = {name: _left(white[white["attack"] == name], clean.index, eps) for name in (*weak, *strong)}
        others = _left(attacked[attacked["source"] != network.name], clean.index, eps)
        every = [right, *by.values(), others]
        values: tuple[Value | None, ...] = (
            share(right),
            *(share(by[name] & right) for name in weak),
            share(np.logical_and.reduce([right, *(by[name] for name in weak)])),
            *(share(by[name] & right) for name in strong),
            share(others & right),
            share(np.logical_and.reduce(every)),
        )
        found.append((f"{network.model}: {network.defence}" if several else network.defence, values))
    return Table(
        "defences",
        "Accuracy under attack",
        f"Left of “{_WEAK}”: searches that defences were once shown with. Right of it: stronger ones, among them what "
        "was made for the other networks of the run. The last column takes for each image whatever broke it.",
        (_CLEAN, *weak, _WEAK, *strong, _OTHERS, _ALL),
        tuple(found),
    )


def _left(rows: pd.DataFrame, samples: pd.Index, eps: float) -> Bools:
    """Which of the samples no perturbation in `rows` of at most `eps` brought to another class."""
    hit = flag(rows["success"]) & (numbers(rows["linf"]) <= eps * (1 + 1e-5) + _SLACK)
    broken = set(rows["sample"][hit])
    return np.array([sample not in broken for sample in samples], dtype=bool)


def _findings(table: Table, weak: Sequence[str]) -> Iterator[str]:
    plain: tuple[Value, Value] | None = None
    for label, values in table.rows:
        clean, shown, worst = (values[table.columns.index(name)] for name in (_CLEAN, _WEAK, _ALL))
        if clean is None or shown is None or worst is None or not clean.n:
            continue
        only_looked = shown.low > worst.high and worst.ours < shown.ours / 2
        verdict = ": most of what the weak searches left standing was no robustness." if only_looked else "."
        yield (
            f"{label}: {clean.ours:.1%} of the images are right without attack, {shown.ours:.1%} after "
            f"{' and '.join(weak)}, and {worst.ours:.1%} after everything that was tried{verdict}"
            + _beside(plain, shown, worst)
        )
        if label.endswith(_KINDS[""]):
            plain = shown, worst


def _beside(plain: tuple[Value, Value] | None, shown: Value, worst: Value) -> str:
    """How a defended network compares with the same one without defence."""
    if plain is None:
        return ""
    weakly, truly = _gain(plain[0], shown), _gain(plain[1], worst)
    return f" Beside no defence that is {weakly} at first sight, and {truly} in the end."


def _gain(before: Value, after: Value) -> str:
    """A difference of shares, and whether their intervals allow that there is none."""
    chance = " (their intervals overlap)" if overlap(before, after) else ""
    return f"{100 * (after.ours - before.ours):+.1f} points{chance}"
