"""What a run's diagnosis says, from its measurements and records. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from eval.diagnosis.bracket import Bracket, Smoothed, bracket, smoothed
from eval.diagnosis.checks import Arrays, Check, Seen
from eval.diagnosis.questions import diagnose, verdict
from eval.metrics import Threat
from eval.records import Run, read_measured
from eval.rows import erred, flag, named, numbers, wrong

PROBES = ("answers", "slopes", "paths", "searches", "neighbours", "broader", "below", "smoothed")
_SEARCHES = ("pgd", "step", "half", "noise", "scores", "longer", "again", "targeted")
NO_SIGN = "no sign of a broken evaluation found"
NOT_TRUSTED = "not trustworthy, because"


@dataclass(frozen=True)
class Diagnosis:
    """What is to be thought of the numbers of one network.

    Attributes:
        model: its name.
        checks: all questions, answered.
        bracket: what is proved beside what is broken; None where nothing was tried.
        smoothed: what is proved of the smoothed network, which is another one; None where that was not asked for.
    """

    model: str
    checks: tuple[Check, ...]
    bracket: Bracket | None = None
    smoothed: Smoothed | None = None

    @property
    def against(self) -> tuple[Check, ...]:
        """The checks for which the numbers are not to be trusted."""
        return verdict(self.checks)

    @property
    def asked(self) -> int:
        """How many could be asked."""
        return sum(check.fired is not None for check in self.checks)

    @property
    def holding(self) -> int:
        """How many found things as they ought to be."""
        return sum(check.fired is False for check in self.checks)

    @property
    def ordered(self) -> tuple[Check, ...]:
        """What speaks against it first, then remarks, what holds, and what could not be asked."""

        def place(check: Check) -> int:
            return 3 if check.fired is None else 2 if not check.fired else 0 if check.question.fault else 1

        return tuple(sorted(self.checks, key=place))

    @property
    def advice(self) -> tuple[str, ...]:
        """What to do about what speaks against it, each once."""
        return tuple(dict.fromkeys(check.question.remedy for check in self.against))

    @property
    def verdict(self) -> str:
        """In a sentence."""
        if not self.against:
            return NO_SIGN
        return f"{NOT_TRUSTED} {'; '.join(check.saw for check in self.against)}"


def diagnoses(run: Run, records: pd.DataFrame, folder: Path) -> tuple[Diagnosis, ...]:
    """One for each network that was diagnosed, in the order of the run; none where nothing was measured.

    Raises:
        InputError: a file of measurements is torn.
    """
    measured = {probe: read_measured(folder, probe) for probe in PROBES}
    names = [str(m["name"]) for m in run.models]
    found = [name for name in names if any(name in arrays for arrays in measured.values())]
    return tuple(_diagnosis(run, records, name, measured) for name in found)


def _diagnosis(run: Run, records: pd.DataFrame, name: str, measured: Mapping[str, Mapping[str, Arrays]]) -> Diagnosis:
    seen = _seen(run, records, name, measured)
    softened = smoothed(measured["smoothed"].get(name, {}), _budget(run)[1])
    return Diagnosis(name, diagnose(seen), seen.bracket, softened)


def _budget(run: Run) -> tuple[Threat, float]:
    """What an attacker may do, and how much of it at the headline."""
    threat = Threat.of(run)
    return threat, dict(threat.levels).get(threat.headline, np.inf)


def _distances(threat: Threat, eps: float, hits: pd.DataFrame, searches: Arrays) -> dict[str, float]:
    """The size of the nearest perturbation that was found, by sample."""
    sizes = hits.groupby("sample", observed=True)[threat.norm].min()
    nearest = {str(sample): float(size) for sample, size in sizes.items()}
    if "sample" in searches:
        broken = np.logical_or.reduce([searches[name] for name in _SEARCHES if name in searches])
        for sample in searches["sample"][broken]:
            nearest[str(sample)] = min(nearest.get(str(sample), np.inf), eps)
    return nearest


def _late(broken: pd.DataFrame, scored: Sequence[str]) -> int:
    """How many samples the searches that need no gradient broke, together, and none with gradients did."""
    by = np.where(named(broken["stage"], ""), broken["attack"].isin(scored), broken["stage"].isin(scored))
    return len(_ids(broken[by]) - _ids(broken[~by]))


def _ids(rows: pd.DataFrame) -> set[str]:
    return set(rows["sample"].unique())


def _seen(run: Run, records: pd.DataFrame, name: str, measured: Mapping[str, Mapping[str, Arrays]]) -> Seen:
    at = {probe: arrays.get(name, {}) for probe, arrays in measured.items()}
    mine = records[records["target_model"] == name]
    clean = mine[mine["role"] == "clean"].drop_duplicates("sample")
    right = ~wrong(clean, "clean_pred")
    n = len(clean)
    most = float(clean["label"].value_counts(normalize=True).max()) if n else np.nan
    attacked = mine[(mine["role"] == "attack") & ~erred(mine)]
    threat, eps = _budget(run)
    distances = _distances(threat, eps, attacked[flag(attacked["success"])], at["searches"])
    level = numbers(attacked["eps"])
    own_smallest = np.isinf(level) & flag(attacked["success"]) & named(attacked["norm"], threat.norm)
    own_smallest &= np.asarray(attacked["source"] == name, dtype=bool)
    smallest = attacked[own_smallest].groupby("sample", observed=True)[threat.norm].min()
    attacked = attacked[np.isinf(level) | np.isclose(level, eps)]
    hit = flag(attacked["success"]) & threat.within(numbers(attacked[threat.norm]), eps)
    own = np.asarray(attacked["source"] == name, dtype=bool)
    samples, fallen, others = _ids(clean[right]), _ids(attacked[hit & own]), _ids(attacked[hit & ~own])
    attacks = run.attacks if own.any() else []
    parts = {str(a["name"]) for a in attacks if not a.get("stages")}
    stages = [stage for attack in attacks for stage in attack.get("stages", ())]
    parts |= {str(stage["name"]) for stage in stages}
    scored = tuple(str(part["name"]) for part in (*attacks, *stages) if part["needs"] != "weights")
    both = bool(scored) and set(scored) < parts
    return Seen(
        answers=at["answers"],
        slopes=at["slopes"],
        paths=at["paths"],
        searches=at["searches"],
        neighbours=at["neighbours"],
        broader=at["broader"],
        standing=frozenset(samples - fallen) if own.any() else None,
        late=_late(attacked[hit & own & (numbers(attacked["rms"]) > 0)], scored) if both else None,
        tried=len(samples),
        elsewhere=len((others & samples) - fallen) if own.any() and (~own).any() else None,
        scored=scored,
        accuracy=(int(right.sum()), n, most),
        targeted=run.goal != "untargeted",
        bracket=bracket(at["below"], distances, lambda size: threat.within(size, eps)),
        smallest={str(sample): float(size) for sample, size in smallest.items()},
    )
