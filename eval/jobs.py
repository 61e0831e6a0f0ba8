"""Which units of work a run consists of, in which order, and what their parts are called."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from attacks.base import Attack
from attacks.cascade import Cascade
from attacks.noise import Noise
from attacks.threat import ThreatModel
from eval.bench import Bench, Unit
from eval.config import Plan, budgets
from eval.derived import CONTROL
from eval.nodes import settled
from eval.records import Run, key
from eval.stopping import ends_with_success
from eval.trial import Trial

VERSIONS = ("toastproof", "torch", "foolbox")
"""Packages that records may depend on."""


@dataclass(frozen=True)
class Job:
    """One unit of work, where it belongs, and what it is called.

    Attributes:
        part: name of what it makes: a hash of all that decides its records.
        after: name of the part of the next smaller eps, whose successes hold here too; None where there is none.
    """

    bench: Bench
    trial: Trial
    unit: Unit
    part: str
    after: str | None


def jobs(plan: Plan, about: Run, bench: Bench, trial: Trial, fingerprints: Mapping[str, str]) -> Iterator[Job]:
    """The units of a trial; one that builds on another comes after it."""
    for source in bench.sources:
        classifier = bench.classifiers[source]
        for name, chosen in trial.attacks.items():
            attack = settled(chosen, bench.transfer)
            levels = budgets(plan, attack, classifier.bounds, trial.threats, trial.norm)
            within = plan.reuse and trial.reuse and _nested(bench, trial, attack, levels)
            if within:
                levels = sorted(levels, key=lambda level: level[1].eps)
            before: dict[int, str] = {}
            for text, threat in levels:
                for start in range(0, len(bench.samples), plan.run.shard):
                    index = np.arange(start, min(start + plan.run.shard, len(bench.samples)))
                    unit = Unit(source, name, attack, text, threat, index)
                    after = before.get(start) if within else None
                    before[start] = _name(plan, about, bench, unit, fingerprints, after)
                    yield Job(bench, trial, unit, before[start], after)


def _nested(bench: Bench, trial: Trial, attack: Attack, levels: list[tuple[str, ThreatModel]]) -> bool:
    """Whether what breaks a sample within one of these budgets is all that is wanted of it within the larger ones.

    It is not where it is shown to other networks, or made into other images than controls, or where somebody watches
    the search; nor for a search whose samples do not leave with their first success, nor for noise, which is none.
    """
    kinds = {(threat.norm, threat.box) for _, threat in levels}
    plain = not bench.transfer and trial.watch is None and bench.derived in ({}, CONTROL)
    leaves = isinstance(attack, Cascade) or ends_with_success(attack, levels[0][1].norm)
    return len(levels) > 1 and len(kinds) == 1 and plain and leaves and not isinstance(attack, Noise)


def _name(plan: Plan, about: Run, bench: Bench, unit: Unit, fingerprints: Mapping[str, str], after: str | None) -> str:
    attack = unit.attack
    asked = [part for _, part in attack.stages(unit.threat.norm)] if isinstance(attack, Cascade) else [attack]
    rough = any(bench.rough(unit.source, part) is not None for part in asked)
    return key(
        {
            "attack": [unit.attack_name, type(unit.attack).__name__, dataclasses.asdict(unit.attack)],  # type: ignore[call-overload]
            "threat": [unit.threat.norm, unit.text, str(unit.threat.eps), list(unit.threat.box)],
            "source": unit.source,
            "targets": {target: fingerprints[target] for target in bench.targets(unit.source)},
            "goal": bench.goal,
            "seed": plan.seed,
            "access": [bench.access.kind, bench.access.queries],
            "victim": bench.victims.get(unit.source, unit.source),
            "derived": {role: repr(derive) for role, derive in bench.derived.items()},
            "data": bench.samples.fingerprint,
            "versions": [about.commit, *(about.versions.get(v, "") for v in VERSIONS)],
            "slice": [int(unit.index[0]), len(unit.index)],
            **({"gradients": "bfloat16"} if rough else {}),
            **({} if after is None else {"after": after}),
        }
    )
