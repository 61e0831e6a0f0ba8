"""What a run of `eval.studies.blackbox` says: success, and the queries that it takes, by what is seen. Free of torch.

Source of the paper's number: Papernot et al., "Practical black-box attacks against machine learning", Asia CCS 2017
(arXiv 1602.02697): how many of the MNIST images that fool a substitute the service of MetaMind took for another class.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eval.intervals import Bools, Floats
from eval.records import Run
from eval.rows import erred, flag, numbers, wrong
from eval.studies.cells import Table, Value, average, share, told
from eval.studies.reading import Curves, Reading

_METAMIND, _METAMIND_N = 84.24, 10_000
_METAMIND_BY, _METAMIND_EPS = "fgsm", 0.3  # the attack behind it, and its budget in Linf
_MARKS = (10, 100, 1000)  # queries that the table of success looks at, besides the limit
_POINTS = 80  # of a curve
_SEES = {"weights": "sees the weights", "scores": "sees scores", "labels": "sees labels"}
FOOLED, ERROR, MEDIAN, EVERY = "fooled", "error", "queries, median", "queries, mean of all"


@dataclass(frozen=True)
class _Attack:
    """An attack as the header describes it; `stops`: what it asked tells when it first succeeded."""

    name: str
    sees: str
    minimal: bool
    stops: bool

    @property
    def label(self) -> str:
        return f"{self.name}, {_SEES[self.sees]}"


@dataclass(frozen=True)
class _Case:
    """The records of one network at one budget."""

    rows: pd.DataFrame
    model: str
    text: str
    norm: str
    eps: float

    def fed(self, source: str, attack: str, role: str = "attack") -> pd.DataFrame:
        """What was made for `source`, as the network sees it."""
        rows = self.rows
        here = (rows["source"] == source) & (rows["target_model"] == self.model) & (rows["attack"] == attack)
        return rows[here & (rows["role"] == role) & rows["eps_text"].isin([self.text, "min"])]

    def fooled(self, fed: pd.DataFrame) -> Bools:
        """Whether each of them is a success inside the budget; those that were wrong before are not counted."""
        inside = numbers(fed[self.norm]) <= self.eps * (1 + 1e-5) + 1e-6
        return np.asarray(flag(fed["success"]) & inside, dtype=bool)


def read(run: Run, records: pd.DataFrame, folder: Path) -> Reading:
    """Tables and curves for each network and budget."""
    del folder
    rows = records[~erred(records)]
    substitutes: dict[str, list[tuple[str, int]]] = {}
    targets = []
    for model in run.models:
        oracle = (model["trained"] or {}).get("oracle")
        if oracle is None:
            targets.append(str(model["name"]))
        else:
            substitutes.setdefault(str(oracle), []).append((str(model["name"]), int(model["trained"]["queries"])))
    found: list[Table] = []
    curves: list[Curves] = []
    said: list[str] = []
    several = len(targets) * len(run.threat["eps"]) > 1
    for place, (name, eps) in enumerate((m, e) for m in targets for e in run.threat["eps"]):
        case = _Case(rows, name, str(eps["text"]), str(run.threat["norm"]), float(eps["value"]))
        learnt = sorted(substitutes.get(name, []), key=lambda pair: pair[1])
        suffix = f"_{place}" if several else ""
        made = [_summary(run, case, learnt, suffix), *_rounds(run, case, learnt, suffix), *_within(run, case, suffix)]
        found += made
        curves += _curves(run, case, learnt, suffix)
        said += _findings(case, made)
    return Reading(tuple(found), (*said, *_unlearnt(substitutes)), curves=tuple(curves))


def _attacks(run: Run) -> list[_Attack]:
    """Those of the run, the ones that see most first."""
    order = list(_SEES)
    found = [
        _Attack(str(a["name"]), str(a.get("needs", "weights")), bool(a["minimal"]), bool(a.get("stops", False)))
        for a in run.attacks
    ]
    return sorted(found, key=lambda a: order.index(a.sees))


def _title(case: _Case) -> str:
    norm = {"linf": "L\u221e", "l2": "L2"}.get(case.norm, case.norm)
    return f"{case.model}, {norm} \u03b5 = {case.text}"


def _right(fed: pd.DataFrame) -> pd.DataFrame:
    """The samples that are right without perturbation."""
    return fed[~wrong(fed, "clean_pred")]


def _row(
    case: _Case, fed: pd.DataFrame, queries: bool, stops: bool, paper: float | None = None
) -> tuple[Value | None, ...]:
    right = _right(fed)
    hits = case.fooled(right)
    asked = numbers(right["forwards"])
    return (
        share(hits),
        share(wrong(fed, "adv_pred"), paper, _METAMIND_N),
        _median(asked[hits]) if queries and stops else None,
        average("count", asked[hits]) if queries and stops else None,
        average("count", asked) if queries else None,
        average("number", numbers(right["l2"])[hits]),
        average("number", numbers(right["linf"])[hits]),
    )


def _median(asked: Floats) -> Value:
    """The median, and the quartiles beside it."""
    if len(asked) == 0:
        return Value("count", math.nan, math.nan, math.nan, 0)
    low, middle, high = (float(q) for q in np.quantile(asked, (0.25, 0.5, 0.75)))
    return Value("count", middle, low, high, len(asked))


def _summary(run: Run, case: _Case, learnt: Sequence[tuple[str, int]], suffix: str) -> Table:
    rows = [(a.label, _row(case, case.fed(case.model, a.name), True, a.stops)) for a in _attacks(run)]
    beside = False
    for name, queries in learnt[-1:]:
        for attack in _sent(run):
            label = f"{attack.name}, sees a substitute that learnt from {queries:,} labels"
            paper = _METAMIND if _is_the_papers(run, case, attack) else None
            beside |= paper is not None
            rows.append((label, _row(case, case.fed(name, attack.name), False, False, paper)))
    return Table(
        f"access{suffix}",
        f"What it takes: {_title(case)}",
        "Fooled: of the samples that are right without perturbation, those with a success inside the budget. Error: of "
        "all samples, those misclassified in the end. Queries: how often it asked for a sample: of successes (with "
        "the quartiles beside the median), where the attack ends with the first; and of all. Where the weights are "
        "seen, a forward stands for a backward too. A substitute asks in advance, for all samples together, and "
        "nothing for any one of them."
        + (" The paper's number is about another network, a remote service." if beside else ""),
        (FOOLED, ERROR, MEDIAN, "queries, mean", EVERY, "L2", "L\u221e"),
        tuple(rows),
    )


def _is_the_papers(run: Run, case: _Case, attack: _Attack) -> bool:
    """Whether this is what the paper's number is about: its attack, at its budget, on its data."""
    data = str(run.data["name"]).lower() == "mnist" and run.goal == "untargeted"
    return data and attack.name == _METAMIND_BY and case.norm == "linf" and math.isclose(case.eps, _METAMIND_EPS)


def _sent(run: Run) -> list[_Attack]:
    """The attacks that were tried on substitutes."""
    return [a for a in _attacks(run) if a.sees == "weights" and not a.minimal]


def _rounds(run: Run, case: _Case, learnt: Sequence[tuple[str, int]], suffix: str) -> list[Table]:
    """How the substitute gets better, if there is one."""
    if not learnt or not _sent(run):
        return []
    rows = []
    for name, queries in learnt:
        values: list[Value | None] = [share(_agrees(case, name))]
        for attack in _sent(run):
            fed, noise = _right(case.fed(name, attack.name)), _right(case.fed(name, attack.name, "control"))
            values += [share(case.fooled(fed)), share(wrong(noise, "adv_pred"))]
        rows.append((f"{queries:,} labels", tuple(values)))
    columns = ["agrees"]
    for attack in _sent(run):
        columns += [attack.name, f"noise as large as {attack.name}'s"]
    return [
        Table(
            f"rounds{suffix}",
            f"Substitutes of {_title(case)}",
            "Agrees: samples of which the substitute says what the network says. Then the share of samples, right "
            "before, on which what was made for the substitute fools the network, and noise of the same size does.",
            tuple(columns),
            tuple(rows),
        )
    ]


def _agrees(case: _Case, name: str) -> Bools:
    clean = case.rows[case.rows["role"] == "clean"].drop_duplicates(["target_model", "sample"])
    said = {m: clean[clean["target_model"] == m].set_index("sample")["clean_pred"] for m in (name, case.model)}
    both = said[name].to_frame("a").join(said[case.model].rename("b"), how="inner")
    return np.asarray(both["a"] == both["b"], dtype=bool)


def _counted(run: Run) -> list[_Attack]:
    """The attacks that end with their first success, so that what they asked tells when that was."""
    return [a for a in _attacks(run) if a.stops]


def _left_out(run: Run) -> str:
    """Whom success against queries does not speak of."""
    names = [a.name for a in _attacks(run) if not a.stops]
    return f" Left out, since they do not end with their first success: {', '.join(names)}." if names else ""


def _limit(run: Run) -> int:
    study: Mapping[str, Any] = run.config["study"]
    return int(study["queries"])


def _within(run: Run, case: _Case, suffix: str) -> list[Table]:
    """Success within so many queries, if there is an attack of which that can be told."""
    limit = _limit(run)
    marks = [*(q for q in _MARKS if q < limit), limit]
    rows = []
    for attack in _counted(run):
        right = _right(case.fed(case.model, attack.name))
        hits, asked = case.fooled(right), numbers(right["forwards"])
        rows.append((attack.label, tuple(share(hits & (asked <= q)) for q in marks)))
    table = Table(
        f"within{suffix}",
        f"Success within so many queries: {_title(case)}",
        f"Of the samples that are right without perturbation.{_left_out(run)}",
        tuple(f"{q:,} queries" for q in marks),
        tuple(rows),
    )
    return [table] if rows else []


def _curves(run: Run, case: _Case, learnt: Sequence[tuple[str, int]], suffix: str) -> list[Curves]:
    """One chart, if there is a line to draw."""
    limit = _limit(run)
    lines = []
    for attack in _counted(run):
        right = _right(case.fed(case.model, attack.name))
        hits, asked = case.fooled(right), numbers(right["forwards"])
        most = max(float(asked.max(initial=1)), 1.0) if attack.sees == "weights" else float(limit)
        grid = np.unique(np.rint(np.geomspace(1, max(most, 2), _POINTS)))
        reached = [float(np.mean(hits & (asked <= q))) if len(hits) else 0.0 for q in grid]
        lines.append((attack.label, np.stack([np.log10(grid), reached], axis=1)))
    for attack in _sent(run) if learnt else []:
        points = [
            (math.log10(queries), float(np.mean(case.fooled(_right(case.fed(name, attack.name))))))
            for name, queries in learnt
            if len(_right(case.fed(name, attack.name)))
        ]
        if points:
            lines.append((f"{attack.name} on a substitute, labels in all", np.array(points)))
    chart = Curves(
        f"queries{suffix}",
        f"Success against queries: {_title(case)}",
        "Of the samples that are right without perturbation, the share fooled within so many queries. Those of a "
        f"substitute are asked once for all samples; the others for each.{_left_out(run)}",
        "queries",
        "fooled",
        tuple(lines),
        bases=(10, 0),
    )
    return [chart] if lines else []


def _findings(case: _Case, made: Sequence[Table]) -> list[str]:
    """What the tables say, in sentences whose numbers are theirs."""
    summary = made[0]
    place = {column: i for i, column in enumerate(summary.columns)}
    said = []
    for label, values in summary.rows:
        fooled, asked, every = (values[place[column]] for column in (FOOLED, MEDIAN, EVERY))
        if fooled is None or not fooled.n:
            continue
        cost = ""
        if asked is not None and asked.n:
            cost = f"; its median success takes {_queries(asked.ours)}"
        elif asked is None and every is not None and every.n:
            cost = f"; it does not end with a success, and asks {_queries(every.ours)} for a sample"
        said.append(f"{_title(case)}: {label}, fools it on {told(fooled)} of {fooled.n} samples{cost}.")
    return said


def _queries(count: float) -> str:
    return f"{count:,.0f} {'query' if count == 1 else 'queries'}"


def _unlearnt(substitutes: Mapping[str, Sequence[tuple[str, int]]]) -> list[str]:
    return [] if substitutes else ["No substitute was trained: it needs samples beside those that are attacked."]
