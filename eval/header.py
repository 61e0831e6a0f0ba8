"""The header of a run: what was done, with which versions, by which command."""

from __future__ import annotations

import dataclasses
import platform
import shlex
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from attacks.access import needs
from attacks.base import Attack
from attacks.cascade import Cascade
from eval import __version__
from eval.config import Plan, budgets
from eval.data import Data
from eval.device import describe
from eval.records import Run, key
from eval.stopping import ends_with_success

_PACKAGES = ("torch", "torchvision", "foolbox", "numpy", "pandas", "hydra-core")


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "toastproof": __version__}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # optional, or not installed as a distribution
            continue
    return found


def _commit() -> str:
    """The commit of the source, if it lies in a git checkout: with + when it has local changes."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return ""
    try:
        shown = [
            subprocess.run(["git", "-C", str(root), *args], capture_output=True, text=True, timeout=10, check=True)
            for args in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
    except (OSError, subprocess.SubprocessError):  # no git, or not a repository of this user
        return ""
    return shown[0].stdout.strip() + ("+" if shown[1].stdout.strip() else "")


def describe_attack(name: str, attack: Attack, plan: Plan) -> dict[str, Any]:
    """What the header says of an attack."""
    fields = dataclasses.asdict(attack)  # type: ignore[call-overload]
    _, threat = budgets(plan, attack, (0.0, 1.0))[0]
    stages = attack.stages(threat.norm) if isinstance(attack, Cascade) else ()
    return {
        "name": name,
        "description": (type(attack).__doc__ or "").strip().partition("\n")[0],
        "minimal": attack.minimal,
        "needs": needs(attack),
        "stops": ends_with_success(plan.attacks[name], threat.norm),
        "norm": threat.norm,
        "fields": fields,
        "stages": [{"name": stage, "needs": needs(part)} for stage, part in stages],
    }


def _groups(data: Data) -> dict[str, str] | None:
    """What the groups of the samples are called, and a hash of which sample is in which."""
    groups = data.test.groups
    return None if groups is None else {"name": data.grouping, "digest": key({"groups": groups.tolist()})}


def header(plan: Plan, data: Data, overrides: list[str], device: torch.device, started: str) -> Run:
    """The header of a run that began at the time `started`; its models and attacks are still to be filled in."""
    samples = data.test
    return plan.hidden.header(
        Run(
            title=plan.title,
            started=started,
            command=shlex.join(["toastproof", *overrides]),
            overrides=overrides,
            config=plan.shown,
            seed=plan.seed,
            versions=_versions(),
            commit=_commit(),
            device=describe(device),
            data={
                "name": data.name,
                "description": data.description,
                "split": "test",
                "n": len(samples),
                "classes": list(samples.classes),
                "shape": list(samples.shape),
                "box": [0.0, 1.0],
                "fingerprint": samples.fingerprint,
                "groups": _groups(data),
            },
            models=[],
            attacks=[],
            threat={
                "norm": plan.threats[0][1].norm,
                "headline": plan.headline,
                "eps": [{"text": text, "value": threat.eps} for text, threat in plan.threats],
            },
            goal=plan.goal,
            warnings=list(data.warnings),
        )
    )
