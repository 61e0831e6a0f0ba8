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
from eval.studies.cells import Table, Value, excess, share, told
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


@dataclass(frozen=True)
class _Outcome:
    """Which samples (n,) a network still classifies correctly: `weakly` after weak searches, `truly` after all."""

    model: str
    label: str
    plain: bool
    samples: pd.Index
    clean: Bools
    weakly: Bools
    truly: Bools


def read(run: Run, records: pd.DataFrame, folder: Path) -> Reading:
    """What a run of `eval.studies.defences.Defences` says."""
    rows = records[~erred(records) & records["role"].isin(["clean", "attack"])]
    weak = list(run.config["study"]["weak"])
    attacks = [str(a["name"]) for a in run.attacks]
    table, outcomes = _judged(run, rows, weak, [a for a in attacks if a not in weak])
    return Reading((table,), tuple(_findings(outcomes, weak)))


def _networks(run: Run) -> Iterator[_Network]:
    names = {str(m["name"]) for m in run.models}
    for model in (n for n in names if n + "_distilled" in names):
        yield from (_Network(model, defence, model + kind) for kind, defence in _KINDS.items() if model + kind in names)


def _judged(run: Run, rows: pd.DataFrame, weak: Sequence[str], strong: Sequence[str]) -> tuple[Table, list[_Outcome]]:
    eps = max(numbers(rows["eps"])[np.isfinite(numbers(rows["eps"]))], default=np.inf)
    found: list[tuple[str, tuple[Value | None, ...]]] = []
    outcomes = []
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
        weakly = np.logical_and.reduce([right, *(by[name] for name in weak)])
        truly = np.logical_and.reduce([right, *by.values(), others])
        values = (
            share(right),
            *(share(by[name] & right) for name in weak),
            share(weakly),
            *(share(by[name] & right) for name in strong),
            share(others & right),
            share(truly),
        )
        label, plain = f"{network.model}: {network.defence}" if several else network.defence, _KINDS[""]
        found.append((label, values))
        outcomes.append(_Outcome(network.model, label, network.defence == plain, clean.index, right, weakly, truly))
    table = Table(
        "defences",
        "Accuracy under attack",
        f"Left of “{_WEAK}”: searches that defences were once shown with. Right of it: stronger ones, among them what "
        "was made for the other networks of the run. The last column takes for each image whatever broke it.",
        (_CLEAN, *weak, _WEAK, *strong, _OTHERS, _ALL),
        tuple(found),
    )
    return table, outcomes


def _left(rows: pd.DataFrame, samples: pd.Index, eps: float) -> Bools:
    """Which of the samples no perturbation in `rows` of at most `eps` brought to another class."""
    hit = flag(rows["success"]) & (numbers(rows["linf"]) <= eps * (1 + 1e-5) + _SLACK)
    broken = set(rows["sample"][hit])
    return np.array([sample not in broken for sample in samples], dtype=bool)


def _findings(outcomes: Sequence[_Outcome], weak: Sequence[str]) -> Iterator[str]:
    bare = {outcome.model: outcome for outcome in outcomes if outcome.plain}
    for o in outcomes:
        if not len(o.samples):
            continue
        fallen = share(~o.truly[o.weakly])
        only_looked = fallen.n and fallen.low > 0.5
        verdict = ": most of what the weak searches left standing was no robustness." if only_looked else "."
        yield (
            f"{o.label}: {told(share(o.clean))} of the images are right without attack, {told(share(o.weakly))} after "
            f"{' and '.join(weak)}, and {told(share(o.truly))} after everything that was tried{verdict}"
            + ("" if o.plain or o.model not in bare else _beside(bare[o.model], o))
        )


def _beside(plain: _Outcome, defended: _Outcome) -> str:
    """How a defended network compares with the same one without defence, on the images that both were tried on."""
    both = plain.samples.intersection(defended.samples)
    mine, other = plain.samples.get_indexer(both), defended.samples.get_indexer(both)
    weakly = _gain(plain.weakly[mine], defended.weakly[other])
    truly = _gain(plain.truly[mine], defended.truly[other])
    return f" Beside no defence that is {weakly} at first sight, and {truly} in the end."


def _gain(before: Bools, after: Bools) -> str:
    """The difference of two shares of the same samples (n,), paired, with its interval."""
    value = excess(after, before)
    chance = "; may be chance" if value.low <= 0 <= value.high else ""
    return f"{100 * value.ours:+.1f} points ({100 * value.low:+.1f} to {100 * value.high:+.1f}{chance})"
