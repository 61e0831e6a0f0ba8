"""A run's folder with chosen outcomes, as the harness writes it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from eval.records import Run, write_part

LEVELS = {"8/255": 8 / 255}


def outcomes(n, held, *, seed=0):
    """Outcomes (n,) of which a share holds."""
    return (np.random.default_rng(seed).random(n) < held).astype(np.uint8)


def write_run(
    folder: Path, models, *, levels=LEVELS, silent=(), skip=(), error=(), slices=2, fields=None, minimal=(), ids=None,
    fingerprint="d4" * 16, **header,
) -> Path:  # fmt: skip
    """Write a run.

    Args:
        folder: where.
        models: by name a mapping: "none" or (attack, eps text) -> outcomes (n,), 1 where the sample holds. What is
            wrong under "none" is misclassified.
        levels: text and value of each eps.
        silent, skip, error: (model, attack, eps text, indices) of records without an answer, that were never written,
            and with an error.
        slices: parts a unit.
        fields: of every attack.
        minimal: names of attacks that search for the smallest perturbation; their outcomes are at the least eps.
        ids: of the samples.
        fingerprint: of the data.
        header: more keys of `Run`.
    """
    n = len(next(iter(models.values()))["none"])
    ids = np.array([f"test/{i:05d}" for i in range(n)] if ids is None else ids)
    labels = np.arange(n) % 3
    attacks = list(dict.fromkeys(key[0] for cells in models.values() for key in cells if key != "none"))
    for model, cells in models.items():
        clean = np.where(cells["none"] == 1, labels, (labels + 1) % 3)
        for key, held in cells.items():
            role, attack, text = ("clean", "none", "0") if key == "none" else ("attack", *key)
            eps = 0.0 if key == "none" else math.inf if attack in minimal else levels[text]
            reach = min(levels.values()) if math.isinf(eps) else eps
            hit = (held == 0) & (role == "attack")
            pred = np.where(hit, (labels + 1) % 3, clean)
            said = np.full(n, "", dtype=object)
            for name, a, t, index in silent:
                if (name, a, t) == (model, attack, text):
                    pred[index], hit[index] = -1, False
            for name, a, t, index in error:
                if (name, a, t) == (model, attack, text):
                    said[index], hit[index] = "RuntimeError: out of memory", False
            keep = np.ones(n, dtype=bool)
            for name, a, t, index in skip:
                if (name, a, t) == (model, attack, text):
                    keep[index] = False
            size = np.where(hit & (clean == labels), reach, 0.0)
            for part, rows in enumerate(np.array_split(np.flatnonzero(keep), slices)):
                k = len(rows)

                def one(value, k=k):
                    return [value] * k

                columns = {
                    "sample": ids[rows], "label": labels[rows], "group": one(""), "target_class": one(-1),
                    "source": one(model), "target_model": one(model), "role": one(role), "attack": one(attack),
                    "norm": one("" if role == "clean" else "linf"), "eps": one(eps),
                    "eps_text": one("min" if math.isinf(eps) else text), "clean_pred": clean[rows],
                    "clean_conf": one(0.9), "clean_rank": one(0), "adv_pred": pred[rows], "adv_conf": one(0.9),
                    "adv_rank": one(0), "success": hit[rows],
                    "success_8bit": hit[rows], "in_box": one(True), "in_budget": one(True), "l0": size[rows],
                    "l1": size[rows], "l2": size[rows], "linf": size[rows], "rms": size[rows],
                    "forwards": np.zeros(k, int), "backwards": np.zeros(k, int), "seconds": np.zeros(k),
                    "stage": one(""), "error": said[rows],
                }  # fmt: skip
                write_part(folder, f"{model}-{attack}-{text.replace('/', '_')}-{part}", columns)
    about = {
        "title": "Robustness report", "started": "2026-11-20T12:00:00+00:00", "finished": "2026-11-20T12:01:00+00:00",
        "status": "complete", "command": "toastproof data=digits", "overrides": ["data=digits"], "seed": 0,
        "config": {"data": {"name": "digits"}, "seed": 0, "access": "weights", "queries": None, "paths": {"data": "/d"},
                   "attack": {a: {"_target_": f"attacks.{a}.Attack"} for a in attacks}},
        "versions": {"python": "3.11.2", "toastproof": "0.1.0", "torch": "2.13.0"}, "commit": "0" * 40,
        "device": "cpu",
        "data": {"name": "digits", "description": "", "split": "test", "n": n, "classes": ["a", "b", "c"],
                 "shape": [1, 8, 8], "box": [0.0, 1.0], "fingerprint": fingerprint, "groups": None},
        "models": [{"name": m, "description": "", "parameters": 1, "fingerprint": "ab" * 16, "trained": None}
                   for m in models],
        "attacks": [{"name": a, "description": "", "minimal": a in minimal, "norm": "linf", "needs": "gradients",
                     "fields": fields or {"steps": 40}, "stages": []} for a in attacks],
        "threat": {"norm": "linf", "headline": list(levels)[-1],
                   "eps": [{"text": t, "value": v} for t, v in levels.items()]},
        "goal": "untargeted",
    }  # fmt: skip
    Run(**(about | header)).write(folder)
    return folder


def flipped(held, lost, won):
    """The outcomes with the first `lost` that hold broken, and the first `won` that do not held."""
    new = held.copy()
    new[np.flatnonzero(held == 1)[:lost]] = 0
    new[np.flatnonzero(held == 0)[:won]] = 1
    return new
