"""Sweeps as the harness leaves them on disk, made up: as many jobs as are wanted, with what became of each."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval.excuse import Excuse
from eval.records import Run, write_part

CLASSES = ["cat", "dog", "frog", "toaster"]
STRENGTH = {"softmax": 0.05, "mlp": 0.1, "cnn": 0.2}
"""Of each network the median distance to its boundary, in box units."""
BEGUN = ("complete", "failed", "running")


def _columns(n: int, labels: Any, **more: Any) -> dict[str, Any]:
    return {
        "sample": [f"test/{i:05d}" for i in range(n)], "label": labels, "group": [""] * n, "target_class": [-1] * n,
        "norm": ["linf"] * n, "clean_conf": [0.9] * n, "adv_conf": [0.9] * n, "clean_rank": [0] * n,
        "adv_rank": [0] * n, "in_box": [True] * n, "in_budget": [True] * n, "l0": [64.0] * n, "backwards": [1] * n,
        "forwards": [1] * n, "seconds": [0.01] * n, "stage": [""] * n, "error": [""] * n,
    } | more  # fmt: skip


def config(model: str, eps: str, seed: int, more: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved configuration with as many keys as a true one."""
    fields = {f"field{i}": i / 10 for i in range(12)}
    return {
        "title": "Grid", "seed": seed, "batch_size": "auto", "goal": "untargeted", "study": None,
        "data": {"_target_": "eval.data.Digits", "test": 40, "train": None, **fields},
        "model": {"path": None, "weights": None, model: {"decay": 0.0}},
        "attack": {"fgsm": {"_target_": "attacks.fgsm.Fgsm", **fields}, "pgd": {"_target_": "a.Pgd", **fields}},
        "threat": {"norm": "linf", "eps": eps}, "train": {f"key{i}": i for i in range(20)}, "paths": {"parts": None},
        "debug": {"samples": None, "attack": {}},
    } | dict(more)  # fmt: skip


def job(
    folder: Path, model: str, eps: str, seed: int, *, status: str = "complete", n: int = 40,
    more: Mapping[str, Any] = {}, attacks: Sequence[str] = ("fgsm", "pgd"), overrides: Sequence[str] | None = None,
) -> int:  # fmt: skip
    """One job; returns how many of the n samples its attacks left standing. One that runs has not yet run its last."""
    rng = np.random.default_rng([seed, *model.encode(), *(str(sorted(more.items())).encode() if more else b"")])
    labels = rng.integers(0, len(CLASSES), n)
    right = rng.random(n) < 0.95
    clean = np.where(right, labels, (labels + 1) % len(CLASSES))
    need = rng.exponential(STRENGTH.get(model, 0.1), n) * 1.4
    budget = float(eps)
    own = {"source": [model] * n, "target_model": [model] * n, "clean_pred": clean}
    still = {c: [0.0] * n for c in ("l1", "l2", "linf", "rms", "eps")}
    first = {"role": ["clean"] * n, "attack": ["none"] * n, "eps_text": ["0"] * n, "norm": [""] * n}
    nothing = {"adv_pred": clean, "success": ~right, "success_8bit": ~right}
    write_part(folder, "clean", _columns(n, labels, **own, **still, **first, **nothing))
    for place, attack in enumerate(attacks):
        if status == "running" and place == len(attacks) - 1:
            break
        broken = need * (1.2 if attack == "fgsm" else 1.0) <= budget
        wrong = ~right | broken
        after = np.where(broken & right, (labels + 2) % len(CLASSES), clean)
        moved = np.where(right, budget, 0.0)
        size = {"l1": 64 * moved, "l2": 8 * moved, "linf": moved, "rms": moved, "eps": [budget] * n}
        what = {"role": ["attack"] * n, "attack": [attack] * n, "eps_text": [eps] * n}
        found = {"adv_pred": after, "success": wrong, "success_8bit": wrong}
        write_part(folder, attack, _columns(n, labels, **own, **size, **what, **found))
    crashed = "attack.pgd on mlp crashed: RuntimeError: out of memory"
    header(folder, model, eps, seed, status, n, more, attacks, overrides, [crashed] if status == "failed" else [])
    return int((right & ~(need <= budget)).sum())


def header(
    folder: Path, model: str, eps: str, seed: int, status: str, n: int, more: Mapping[str, Any], attacks: Sequence[str],
    overrides: Sequence[str] | None, warnings: list[str],
) -> None:  # fmt: skip
    """Write its run.json."""
    plain = [f"model={model}", f"threat.eps={eps}", f"seed={seed}"]
    Run(
        title="Grid", started="2026-11-20T12:00:00+00:00", status=status,
        finished="" if status == "running" else "2026-11-20T12:01:00+00:00",
        command="toastproof", overrides=list(plain if overrides is None else overrides),
        config=config(model, eps, seed, more), seed=seed, versions={"python": "3.11.2"}, commit="", device="cpu",
        data={"name": "digits", "description": "", "split": "test", "n": n, "classes": CLASSES, "shape": [1, 8, 8],
              "box": [0.0, 1.0], "fingerprint": "d4", "groups": None},
        models=[{"name": model, "description": "", "parameters": 9, "fingerprint": f"{model}{seed}", "trained": None}],
        attacks=[{"name": a, "description": "", "minimal": False, "norm": "linf", "fields": {}} for a in attacks],
        threat={"norm": "linf", "headline": eps, "eps": [{"text": eps, "value": float(eps)}]},
        goal="untargeted", warnings=warnings, wall_seconds={"data": 0.5, "models": 2.0, "attacks": 1.5 + seed},
    ).write(folder)  # fmt: skip


def sweep(
    folder: Path, models: Sequence[str], budgets: Sequence[str], seeds: Sequence[int], fate: Mapping[int, str] = {},
    *, n: int = 40, plan: bool = True,
) -> dict[int, int]:  # fmt: skip
    """A sweep over networks, budgets and seeds.

    Args:
        folder: of the sweep.
        models: which networks.
        budgets: which eps.
        seeds: which seeds.
        fate: by number what became of a job, if it did not complete: `failed`, `running`, `refused`, `crashed`,
            `torn` (its header), `missing` (an empty folder), `waiting` (no folder).
        n: samples of each.
        plan: write multirun.yaml, as Hydra does when a sweep begins.

    Returns:
        How many samples were left standing, of each job that completed.
    """
    held = {}
    asked = [f"model={','.join(models)}", f"threat.eps={','.join(budgets)}", f"seed={','.join(map(str, seeds))}"]
    folder.mkdir(parents=True, exist_ok=True)
    if plan:
        hydra = {
            "overrides": {"task": asked, "hydra": []},
            "sweep": {"dir": str(folder), "subdir": "${hydra:job.num}"},
            "sweeper": {"_target_": "hydra._internal.core_plugins.basic_sweeper.BasicSweeper", "params": None},
        }
        (folder / "multirun.yaml").write_text(json.dumps({"seed": 0, "hydra": hydra}))  # JSON is YAML
    for number, (model, eps, seed) in enumerate(itertools.product(models, budgets, seeds)):
        what, place = fate.get(number, "complete"), folder / str(number)
        said = (f"model={model}", f"threat.eps={eps}", f"seed={seed}")
        if what in BEGUN:
            count = job(place, model, eps, seed, status=what, n=n)
            if what == "complete":
                held[number] = count
        elif what == "torn":
            place.mkdir()
            (place / "run.json").write_text('{"schema": 3, "tit')
        elif what == "missing":
            place.mkdir()
        elif what != "waiting":
            error = {"refused": "threat.eps: must be > 0 in box units, got 0", "crashed": "ValueError: no luck"}[what]
            Excuse(what, error, said).write(place)
    return held


def budgets(count: int) -> list[str]:
    """As many eps, evenly from 0.01 to 0.3."""
    return [f"{0.01 + 0.29 * i / max(1, count - 1):.4g}" for i in range(count)]


def mixed(count: int) -> dict[int, str]:
    """Of many jobs, what became of the few that did not complete."""
    kinds = {17: "refused", 37: "crashed", 53: "running", 71: "failed", 83: "torn", 91: "missing"}
    return {i: kinds[i % 100] for i in range(count) if i % 100 in kinds}


def share(count: int, n: int) -> str:
    """As a page writes it."""
    return f"{100 * count / n:.1f}%" if n else f"{math.nan}"
