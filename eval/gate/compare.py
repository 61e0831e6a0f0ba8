"""Two snapshots side by side: whether they can be compared, and what was lost and won, cell by cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from eval.errors import InputError
from eval.gate.baseline import Baseline
from eval.gate.outcomes import ABSENT, BROKEN, CLEAN, HELD, Cell
from eval.gate.paired import Rules, adjusted, mcnemar
from eval.gate.snapshot import Snapshot, read_run
from eval.intervals import Floats

_TOLD = 3  # differences that a message names
# Weights in sharing out alpha: clean cells and worst cases at the headline eps have 1 each, all others together this.
_REST = 0.03


@dataclass(frozen=True)
class Finding:
    """What changed in a cell.

    Attributes:
        cell: of the run; of the baseline too, but for the network's name where two of other names were paired.
        n: samples that were compared: those with a result in the baseline.
        before: how many of them held in the baseline.
        after: how many of them hold in the run.
        lost: ids of those that held and do not now.
        won: ids of those that did not and do now.
        silent: of `lost`, how many have no result now: the network gave no answer that is a number.
        unknown: samples that have no result in the baseline, and are not compared.
        p: exact one-sided p-value of the losses.
        adjusted: the same, for the number of cells; 1 where the minimum effect is not reached.
        regressed: whether that is an alarm.
        gain: the adjusted p-value of the wins, by the same test.
        improved: whether that is as small.
        floor: the least share that must hold, where it does not; else None.
    """

    cell: Cell
    n: int
    before: int
    after: int
    lost: tuple[str, ...] = field(repr=False)
    won: tuple[str, ...] = field(repr=False)
    silent: int
    unknown: int
    p: float
    adjusted: float
    regressed: bool
    gain: float
    improved: bool
    floor: float | None

    @property
    def failed(self) -> bool:
        """Whether the gate closes on this cell."""
        return self.regressed or self.floor is not None

    @property
    def moved(self) -> bool:
        """Whether any sample was lost or won."""
        return bool(self.lost or self.won)

    @property
    def status(self) -> str:
        """In a word: `regression`, `below floor`, `improvement`, `changed` (by no more than chance) or `same`."""
        if self.failed:
            return "regression" if self.regressed else "below floor"
        return "improvement" if self.improved else "changed" if self.moved else "same"

    @property
    def shares(self) -> tuple[float, float]:
        """The shares that held and that hold; 0 of no sample."""
        return self.before / max(self.n, 1), self.after / max(self.n, 1)

    @property
    def smaller(self) -> float:
        """The adjusted p-value of what there is more of, losses or wins."""
        return min(self.adjusted, self.gain)

    @property
    def sentence(self) -> str:
        """What happened, in one line."""
        was, now = self.shares
        text = (
            f"{was:.1%} -> {now:.1%} of {self.n} samples ({len(self.lost)} lost, {len(self.won)} won; "
            f"adjusted p = {self.smaller:.2g})"
        )
        if self.silent:
            text += f"; {self.silent} of the lost have no answer"
        if self.floor is not None:
            text += f"; below the floor of {self.floor:.1%}"
        return text


@dataclass(frozen=True)
class Comparison:
    """What a check found: a finding a cell, and notes on what differs without harm."""

    before: Snapshot = field(repr=False)
    after: Snapshot = field(repr=False)
    rules: Rules
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The findings that close the gate."""
        return tuple(f for f in self.findings if f.failed)

    @property
    def passed(self) -> bool:
        """Whether the gate stays open."""
        return not self.failed

    @property
    def verdict(self) -> str:
        """In one line."""
        better = sum(f.improved for f in self.findings)
        beside = f", {better} improved" if better else ""
        if self.failed:
            return f"{len(self.failed)} of {len(self.findings)} cells fail{beside}"
        return f"no regression in {len(self.findings)} cells{beside}"


def differences(before: Any, after: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """The keys that differ, with both values; None where there is none.

    >>> differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3, "d": 4}})
    [('a.c', 2, 3), ('a.d', None, 4)]
    """
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return [] if before == after else [(path, before, after)]
    found = []
    for name in dict.fromkeys([*before, *after]):
        found += differences(before.get(name), after.get(name), f"{path}.{name}" if path else str(name))
    return found


def comparable(before: Snapshot, after: Snapshot, among: Sequence[str] = ()) -> None:
    """Refuse to compare what answers different questions.

    Args:
        before: the baseline.
        after: the run.
        among: the parts of the question that must agree; all if empty.

    Raises:
        InputError: saying in what they differ.
    """
    _same_data(before, after)
    apart = [
        f"{name} is {_said(old)} there and {_said(new)} here"
        for name, old, new in differences(before.question, after.question)
        if not name.startswith("data.") and (not among or name.partition(".")[0] in among)
    ]
    if apart:
        more = f" and {len(apart) - _TOLD} more" if len(apart) > _TOLD else ""
        raise InputError(
            f"{after.where}: must answer the same question as {before.where}, but {'; '.join(apart[:_TOLD])}{more}; "
            "run it as that was run, or accept a new baseline"
        )


def _said(value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(v, Mapping) and "text" in v for v in value):
        return ", ".join(str(v["text"]) for v in value)
    return "absent" if value is None else "set" if isinstance(value, Mapping) else str(value)


def _same_data(before: Snapshot, after: Snapshot) -> None:
    was, now = before.question["data"], after.question["data"]
    if was["fingerprint"] == now["fingerprint"] and before.samples == after.samples:
        return
    lacking = sorted(set(before.samples) - set(after.samples))
    more = len(set(after.samples) - set(before.samples))
    if len(lacking) == len(before.samples):
        how = f"has {now['name']} where that has {was['name']}"
    elif lacking or more:
        how = f"lacks {len(lacking)} of its {len(before.samples)} samples and has {more} others"
        how += f" ({lacking[0]} is missing)" if lacking else ""
    else:
        how = "has other images or labels under the same names"
    raise InputError(f"{after.where}: must be on the data of {before.where}, but {how}; run it on the same samples")


def compare(before: Snapshot, after: Snapshot, rules: Rules, pairs: Mapping[Cell, Cell] | None = None) -> Comparison:
    """What was lost and won between two snapshots of the same samples.

    Args:
        before: the baseline.
        after: the run.
        rules: when a loss is an alarm.
        pairs: cells of the run, with those of the baseline that they are compared with; those of the same name
            if None.
    """
    chosen = {c: c for c in after.cells if c in before.cells} if pairs is None else pairs
    counted = []
    for new, old in chosen.items():
        was, now = before.cells[old], after.cells[new]
        known = was != ABSENT
        counted.append((known, known & (was == HELD) & (now != HELD), (was == BROKEN) & (now == HELD)))
    n, lost, won = (np.array([int(c[i].sum()) for c in counted], dtype=np.int64) for i in range(3))
    # Cells that are alike in every sample, such as the worst case of one attack that does all, are one hypothesis.
    alike = [before.cells[old].tobytes() + after.cells[new].tobytes() for new, old in chosen.items()]
    foremost = {after.foremost(model) for model in after.models}
    first = [new in foremost or new.attack == CLEAN for new in chosen]
    once = sorted({alike[i]: i for i in sorted(range(len(alike)), key=lambda i: (first[i], -i))}.values())
    place = {alike[i]: k for k, i in enumerate(once)}
    weights = _weights([first[i] for i in once])
    worse = adjusted(lost[once], won[once], n[once], rules.min_effect, weights)
    better = adjusted(won[once], lost[once], n[once], rules.min_effect, weights)
    findings = []
    for i, (new, old) in enumerate(chosen.items()):
        was, now = before.cells[old], after.cells[new]
        share = float((now == HELD).mean())
        known, away, back = counted[i]
        findings.append(
            Finding(
                cell=new,
                n=int(n[i]),
                before=int((known & (was == HELD)).sum()),
                after=int((known & (now == HELD)).sum()),
                lost=tuple(after.samples[s] for s in np.flatnonzero(away)),
                won=tuple(after.samples[s] for s in np.flatnonzero(back)),
                silent=int((away & (now == ABSENT)).sum()),
                unknown=int((~known).sum()),
                p=mcnemar(int(lost[i]), int(won[i])),
                adjusted=float(worse[place[alike[i]]]),
                regressed=bool(worse[place[alike[i]]] <= rules.alpha),
                gain=float(better[place[alike[i]]]),
                improved=bool(better[place[alike[i]]] <= rules.alpha),
                floor=rules.floor if rules.floor is not None and new in foremost and share < rules.floor else None,
            )
        )
    return Comparison(before, after, rules, tuple(findings), notes(before, after))


def _weights(first: Sequence[bool]) -> Floats:
    """How the chance of a false alarm is shared out: almost all to the cells that come first, `_REST` to all others."""
    heads = np.asarray(first, dtype=bool)
    rest = _REST / max(1, int((~heads).sum()))
    return np.where(heads, 1.0, rest)


def notes(before: Snapshot, after: Snapshot) -> tuple[str, ...]:
    """What differs without making the comparison wrong, and what the run warns of."""
    found = [
        f"{name}: {_said(old)} in {before.where}, {_said(new)} here"
        for part in ("versions", "device")
        for name, old, new in differences(before.made.get(part), after.made.get(part), part)
    ]
    shared = [m for m in after.models if m in before.models]
    same = [m for m in shared if after.models[m] and after.models[m] == before.models[m]]
    if same:
        found.append(f"same weights as before: {', '.join(same)}")
    if new := [m for m in after.models if m not in before.models]:
        found.append(f"not in {before.where}, so not watched: {', '.join(new)}")
    return (*found, *(f"warning of the run: {line}" for line in after.made.get("warnings") or ()))


def check(folder: Path, path: Path, **rules: float | None) -> Comparison:
    """Compare a run with a baseline; rules that are not given are the baseline's. Nothing is written.

    Raises:
        InputError: one of them cannot be read, or they cannot be compared.
    """
    baseline = Baseline.read(path)
    return against(baseline, read_run(folder), **rules)


def against(baseline: Baseline, after: Snapshot, **rules: float | None) -> Comparison:
    """Compare a snapshot with a baseline, as `check` does.

    Raises:
        InputError: they cannot be compared.
    """
    before = baseline.snapshot
    comparable(before, after)
    lacking = [m for m in before.models if m not in after.models]
    if lacking:
        none = "no network in common: " if len(lacking) == len(before.models) else ""
        raise InputError(
            f"{after.where}: must have the networks of {before.where}, but {none}lacks {', '.join(lacking)} and has "
            f"{', '.join(after.models)}; run those, or accept a new baseline"
        )
    return compare(before, after, Rules(**(asdict(baseline.rules) | rules)))
