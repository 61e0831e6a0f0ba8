"""A run's folder as the harness writes it, made up: a network is a row of distances to its decision boundary."""

from __future__ import annotations

import math
import pickle
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from eval.records import COLUMNS, Run, write_examples, write_part

CLASSES = ["airplane", "car & truck", "<script>alert(1)</script>", "deer", "None"]
EVIL = "<img src=x onerror=alert(2)>"
EPS = (("4/255", 4 / 255), ("8/255", 8 / 255))
ATTACKS = {"fgsm": 1.6, "pgd": 1.1, "lbfgs": 1.0}  # how far beyond the nearest boundary each ends up
SHAPE = (3, 8, 8)


def _images(n, rng, shape):
    c, h, w = shape
    ramp = np.linspace(0, 1, h)[:, None] * np.linspace(0.2, 1, w)[None, :]
    return np.clip(ramp[None, None] + rng.normal(0, 0.1, (n, c, h, w)), 0, 1).astype(np.float32)


def build_run(
    folder: Path, *, seed=0, n=60, models=("softmax", "mlp", "None"), status="complete", config=None, strength=1.0,
    transfer=True, crash=(), examples=True, warnings=(), shape=SHAPE, attacks=tuple(ATTACKS), classes=tuple(CLASSES),
    groups=None,
) -> Path:  # fmt: skip
    """Write run.json, parts and examples of a run that never was; `crash` names attacks that always fail."""
    given = (seed, n, models, strength, transfer, crash, examples, shape, attacks, classes, groups)
    key = pickle.dumps(given)  # a text of long arrays leaves out their middle
    if key not in _KEPT:
        kept = Path(_ROOM.name) / str(len(_KEPT))
        _write_records(kept, *given)
        _KEPT[key] = kept
    shutil.copytree(_KEPT[key], folder, dirs_exist_ok=True, copy_function=shutil.copyfile)
    Run(
        title=f"Robustness report {EVIL}",
        started="2026-11-20T12:00:00+00:00",
        finished="2026-11-20T12:00:42+00:00" if status == "complete" else "",
        status=status,
        command="toastproof data=digits 'model=[softmax,mlp]'",
        overrides=["data=digits"],
        config=config or {"data": {"name": "digits"}, "model": list(models), "note": EVIL, "seed": seed},
        seed=seed,
        versions={"python": "3.11.2", "toastproof": "0.1.0", "torch": "2.13.0"},
        commit="0123456789abcdef",
        device="cpu (2 threads)",
        data={
            "name": "digits", "description": "Handwritten digits", "split": "test", "n": n, "classes": list(classes),
            "shape": list(shape), "box": [0.0, 1.0], "fingerprint": "d41d8cd98f00b204e9800998ecf8427e",
            "groups": None if groups is None else {"name": "skin", "digest": "d41d8cd98f00b204"},
        },
        models=[
            {"name": m, "description": f"{m} network", "parameters": 12345, "fingerprint": "ab" * 16, "trained": None}
            for m in models
        ],
        attacks=[
            {"name": a, "description": f"{a} attack.", "minimal": a == "lbfgs", "norm": "linf", "fields": {"steps": 40}}
            for a in attacks
        ],
        threat={"norm": "linf", "headline": "8/255", "eps": [{"text": t, "value": v} for t, v in EPS]},
        goal="untargeted",
        warnings=list(warnings),
        wall_seconds={"data": 0.2, "models": 12.5, "attacks": 29.0},
    ).write(folder)  # fmt: skip
    return folder


_ROOM = tempfile.TemporaryDirectory()
_KEPT: dict[bytes, Path] = {}
"""Folders of records that were made up before, by what they were made of: most tests want the same."""


def _write_records(folder, seed, n, models, strength, transfer, crash, examples, shape, attacks, classes, groups):
    """Write parts and examples."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    dim = math.prod(shape)
    labels = rng.integers(0, len(classes), n)
    ids = np.array([f"test/{i:05d}" for i in range(n)])
    boundary = {m: strength * rng.gamma(2.0, 0.012 * (i + 1), n) for i, m in enumerate(models)}
    clean = {m: np.where(rng.random(n) < 0.05, (labels + 1) % len(classes), labels) for m in models}

    def part(name, source, target, role, attack, norm, eps, text, size, adv_pred, **more):
        legal = size <= eps * (1 + 1e-5)
        hit = (adv_pred != labels) & legal
        columns = {
            "sample": ids, "label": labels, "group": groups or [""] * n,
            "target_class": np.full(n, -1), "source": [source] * n,
            "target_model": [target] * n, "role": [role] * n, "attack": [attack] * n, "norm": [norm] * n,
            "eps": [eps] * n, "eps_text": [text] * n, "clean_pred": clean[target], "clean_conf": rng.uniform(0.6, 1, n),
            "clean_rank": (clean[target] != labels).astype(int), "adv_pred": adv_pred,
            "adv_conf": rng.uniform(0.3, 1, n), "adv_rank": (adv_pred != labels).astype(int), "success": hit,
            "success_8bit": hit & (rng.random(n) < 0.95), "in_box": [True] * n, "in_budget": legal,
            "l0": np.full(n, float(dim)), "l1": size * dim, "l2": size * dim**0.5, "linf": size, "rms": size * 0.9,
            "forwards": [0] * n, "backwards": [0] * n, "seconds": [0.0] * n, "stage": [""] * n,
            "error": [""] * n,
        } | more  # fmt: skip
        assert list(columns) == list(COLUMNS)
        write_part(folder, name, columns)

    for m, model in enumerate(models):
        part(f"clean{m}", model, model, "clean", "none", "", 0.0, "0", np.zeros(n), clean[model])
        for attack in attacks:
            budgets = (("min", math.inf),) if attack == "lbfgs" else EPS
            for b, (text, eps) in enumerate(budgets):
                need = boundary[model] * ATTACKS.get(attack, 1.0)
                size = np.where(need <= eps, need, eps) * (clean[model] == labels)
                for t, target in enumerate(models if transfer else (model,)):
                    reach = need if target == model else boundary[target] * 1.5
                    away = (clean[target] != labels) | (size >= reach * (1 - 1e-12))
                    adv_pred = np.where(away, (labels + 1) % len(classes), labels)
                    name = f"{m}-{attack}-{b}-{t}"
                    cost = {"fgsm": 1, "pgd": 40, "lbfgs": 160}.get(attack, 10)
                    work = {
                        "forwards": [cost] * n, "backwards": [cost] * n,
                        "seconds": rng.uniform(0.5, 1.5, n) * cost / 1e4,
                    }  # fmt: skip
                    if attack in crash:
                        work |= {"error": ["RuntimeError: out of memory"] * n, "success": [False] * n}
                    keys = (model, target, "attack", attack, "linf", eps, text, size, adv_pred)
                    part(name, *keys, **(work if target == model else {}))
                    noise = np.where(rng.random(n) < 0.04, (labels + 2) % len(classes), clean[target])
                    part(f"{name}-noise", model, target, "control", attack, "linf", eps, text, size, noise)
                if examples and attack not in crash:
                    worth = np.flatnonzero((size > 0) & (need <= eps))[:6]
                    if len(worth):
                        x = _images(len(worth), rng, shape)
                        moved = np.sign(rng.normal(size=x.shape)) * size[worth][:, None, None, None]
                        write_examples(
                            folder, f"{m}-{attack}-{b}", sample=ids[worth], x=x,
                            x_adv=np.clip(x + moved, 0, 1).astype(np.float32), source=np.array(model),
                            attack=np.array(attack), eps_text=np.array(text),
                        )  # fmt: skip


@pytest.fixture
def make_run():
    return build_run


@pytest.fixture
def run_folder(tmp_path):
    return build_run(tmp_path / "run", warnings=["softmax: clean accuracy is at chance <b>"])


@pytest.fixture
def sweep_folder(tmp_path):
    """Three jobs of a sweep over a number, one that failed, and one that never got to write its header."""
    folder = tmp_path / "sweep"
    for job, strength in enumerate((0.5, 1.0, 2.0, 1.0)):
        config = {
            "train": {"decay": strength},
            "attack": {"pgd": {"steps": 40}},
            "seed": 0,
            "output": str(folder / str(job)),
        }
        status = "failed" if job == 3 else "complete"
        build_run(folder / str(job), config=config, strength=strength, models=("mlp",), status=status, examples=False)
    (folder / "4").mkdir()
    (folder / "multirun.yaml").write_text("{}")
    return folder
