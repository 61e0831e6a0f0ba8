"""What a report and a gate take on a run of ten million records: CPU seconds, wall seconds and peak memory of each.

    python -m tests.benchmarks.ten_million
    python -m tests.benchmarks.ten_million --transfer

The run is made up: a network is a row of distances to its decision boundary. Its folder is as the harness writes it,
in parts of 512 samples. With `--transfer` every perturbation is judged on all networks, beside noise of its size, so
that the same number of records is in fewer and larger parts. The commands are whole processes; the check compares with
a baseline from which one network has fallen since.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.records import COLUMNS, Run, write_part

ROOT = Path(__file__).parents[2]
EPS = (("1/255", 1 / 255), ("2/255", 2 / 255), ("4/255", 4 / 255), ("8/255", 8 / 255))
ATTACKS = {"fgsm": 1.5, "pgd": 1.1, "square": 1.3, "standard": 1.0, "lbfgs": 1.02}
"""How far beyond the nearest boundary each ends up; `standard` is a cascade, `lbfgs` searches for the smallest."""
_COST = {"fgsm": 1, "pgd": 40, "square": 5000, "standard": 1500, "lbfgs": 160}
_STAGES = ("apgd", "fab", "square")
_MINIMAL = "lbfgs"
_SLICE, _CLASSES, _GROUPS, _DIM = 512, 100, 8, 3 * 32 * 32
_KIB = 1024  # of what Linux calls a kilobyte

Columns = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Shape:
    """Of a run: its samples, its networks, and whether each perturbation is judged on all of them, beside noise."""

    samples: int
    models: int
    transfer: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The networks."""
        return tuple(f"net{m:02d}" for m in range(self.models))

    @property
    def rows(self) -> int:
        """How many records it has."""
        units = self.models * sum(1 if attack == _MINIMAL else len(EPS) for attack in ATTACKS)
        return self.samples * (self.models + units * (2 * self.models if self.transfer else 1))


WHITE_BOX, TRANSFER = Shape(49_100, 12), Shape(11_760, 5, transfer=True)
"""Ten million records each."""


class _World:
    """The samples of a run and where the boundaries of its networks are."""

    def __init__(self, shape: Shape, seed: int) -> None:
        self.shape, n = shape, shape.samples
        rng = np.random.default_rng(seed)
        self.ids = np.array([f"test/{i:05d}" for i in range(n)])
        self.labels = rng.integers(0, _CLASSES, n)
        self.groups = np.array([f"group {g}" for g in range(_GROUPS)])[rng.integers(0, _GROUPS, n)]
        self.boundary = {m: rng.gamma(2.0, 0.006 * (1 + i / 8), n) for i, m in enumerate(shape.names)}
        right = {m: rng.random(n) < 0.93 for m in shape.names}
        self.clean = {m: np.where(right[m], self.labels, (self.labels + 1) % _CLASSES) for m in shape.names}
        self.confidence = rng.uniform(0.5, 1.0, n)

    def rows(self, at: slice, source: str, target: str, role: str, **more: Any) -> Columns:
        """The records of some samples, with `more` columns or single values."""
        labels, k = self.labels[at], len(self.ids[at])
        given = {
            "sample": self.ids[at], "label": labels, "group": self.groups[at], "target_class": -1, "source": source,
            "target_model": target, "role": role, "clean_pred": self.clean[target][at],
            "clean_conf": self.confidence[at], "clean_rank": (self.clean[target][at] != labels).astype(int),
            "adv_conf": self.confidence[at], "in_box": True, "in_budget": True, "forwards": 0, "backwards": 0,
            "seconds": 0.0, "stage": "", "error": "", **more,
        }  # fmt: skip
        size = given["linf"]
        given |= {"l0": np.where(size > 0, float(_DIM), 0.0), "l1": size * _DIM * 0.8, "l2": size * _DIM**0.5 * 0.9}
        given |= {"rms": size * 0.9, "adv_rank": (given["adv_pred"] != labels).astype(int)}
        return {c: np.full(k, given[c]) if np.ndim(given[c]) == 0 else given[c] for c in COLUMNS}

    def clean_rows(self, model: str) -> Columns:
        """The records of a network without an attack."""
        size, seen = np.zeros(len(self.ids)), self.clean[model]
        wrong = seen != self.labels
        unit = {"attack": "none", "norm": "", "eps": 0.0, "eps_text": "0", "success": wrong, "success_8bit": wrong}
        return self.rows(slice(None), model, model, "clean", adv_pred=seen, linf=size, **unit)

    def part(self, rng: np.random.Generator, at: slice, source: str, attack: str, text: str, eps: float) -> Columns:
        """The records of one unit of work on one slice of the samples."""
        labels, k = self.labels[at], len(self.ids[at])
        need = self.boundary[source][at] * ATTACKS[attack]
        size = np.where(need <= eps, need, eps) * (self.clean[source][at] == labels)
        unit = {"attack": attack, "norm": "linf", "eps": eps, "eps_text": text, "linf": size}
        parts = []
        for target in self.shape.names if self.shape.transfer else (source,):
            seen = self.clean[target][at]
            reach = need if target == source else self.boundary[target][at] * 1.5
            pred = np.where((seen != labels) | (size >= reach), (labels + 1) % _CLASSES, labels)
            hit = pred != labels
            said: dict[str, Any] = {"adv_pred": pred, "success": hit, "success_8bit": hit & (rng.random(k) < 0.97)}
            if target == source:
                said |= {"forwards": _COST[attack], "backwards": _COST[attack]}
                said |= {"seconds": rng.uniform(0.5, 1.5, k) * _COST[attack] * 1e-5}
            if attack == "standard":
                said |= {"stage": np.where(hit, np.array(_STAGES)[rng.integers(0, len(_STAGES), k)], "")}
            parts.append(self.rows(at, source, target, "attack", **unit, **said))
            if self.shape.transfer:
                noise = np.where(rng.random(k) < 0.02, (labels + 2) % _CLASSES, seen)
                away = noise != labels
                told = {"adv_pred": noise, "success": away, "success_8bit": away}
                parts.append(self.rows(at, source, target, "control", **unit, **told))
        return {c: np.concatenate([part[c] for part in parts]) for c in COLUMNS}


def _units(shape: Shape) -> Iterator[tuple[str, str, str, float]]:
    for source in shape.names:
        for attack in ATTACKS:
            for text, eps in (("min", math.inf),) if attack == _MINIMAL else EPS:
                yield source, attack, text, eps


def make(folder: Path, shape: Shape, seed: int = 0, *, fallen: str = "") -> Path:
    """Write a run; or again those parts of it that are of the network `fallen`, which is a third easier to fool.

    Returns:
        Its folder.
    """
    world = _World(shape, seed)
    if fallen:
        world.boundary[fallen] = world.boundary[fallen] / 1.5
    rng = np.random.default_rng([seed, 1])
    for model in shape.names:
        if fallen in ("", model):
            write_part(folder, f"clean-{model}", world.clean_rows(model))
    for u, (source, attack, text, eps) in enumerate(_units(shape)):
        for start in range(0, shape.samples, _SLICE) if fallen in ("", source) else ():
            at = slice(start, min(start + _SLICE, shape.samples))
            write_part(folder, f"{u:03d}-{start:06d}", world.part(rng, at, source, attack, text, eps))
    _header(shape, seed).write(folder)
    return folder


def _header(shape: Shape, seed: int) -> Run:
    attacks = [
        {
            "name": a, "description": f"{a}.", "minimal": a == _MINIMAL, "needs": "gradients", "stops": False,
            "norm": "linf", "fields": {"steps": _COST[a]},
            "stages": [{"name": s, "needs": "gradients"} for s in _STAGES] if a == "standard" else [],
        }
        for a in ATTACKS
    ]  # fmt: skip
    return Run(
        title="Ten million records",
        started="2026-11-20T12:00:00+00:00",
        finished="2026-11-20T18:00:00+00:00",
        status="complete",
        command="toastproof data=many",
        overrides=["data=many"],
        config={"data": {"name": "many"}, "seed": seed, "access": "weights", "queries": None, "attack": {}},
        seed=seed,
        versions={"python": "3.11.2", "toastproof": "0.1.0", "torch": "2.13.0"},
        commit="0123456789abcdef",
        device="cpu",
        data={
            "name": "many", "description": "", "split": "test", "n": shape.samples,
            "classes": [f"class {c}" for c in range(_CLASSES)], "shape": [3, 32, 32], "box": [0.0, 1.0],
            "fingerprint": "d4" * 16, "groups": {"name": "group", "digest": "d4" * 8},
        },
        models=[
            {"name": m, "description": f"{m}.", "parameters": 1, "fingerprint": "ab" * 16, "trained": None}
            for m in shape.names
        ],
        attacks=attacks,
        threat={"norm": "linf", "headline": "8/255", "eps": [{"text": t, "value": v} for t, v in EPS]},
        goal="untargeted",
    )  # fmt: skip


@dataclass(frozen=True)
class Taken:
    """By one process: user and system time and the clock's in seconds, most memory at once in bytes, and its status."""

    cpu: float
    wall: float
    peak: int
    status: int


def taken(arguments: Sequence[str]) -> Taken:
    """What a Python process takes with these arguments; it has one thread for numbers."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - began
    return Taken(used.ru_utime + used.ru_stime, wall, used.ru_maxrss * _KIB, process.returncode)


def measured(folder: Path, shape: Shape, seed: int = 0) -> Iterator[tuple[str, Taken]]:
    """What the commands take on a run that `make` made in the folder; after `accept` one network falls."""
    baseline = folder.with_name("baseline.json")
    yield "toastproof-report", taken(["-m", "reports", str(folder)])
    yield "toastproof-gate accept", taken(["-m", "reports.gate", "accept", str(folder), "--baseline", str(baseline)])
    make(folder, shape, seed, fallen=shape.names[-1])
    yield "toastproof-gate check", taken(["-m", "reports.gate", "check", str(folder), "--baseline", str(baseline)])


def main() -> None:
    """Print one line per command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transfer", action="store_true", help="judge each perturbation on all networks, beside noise")
    parser.add_argument("--samples", type=int, help="of the run (default: such that there are ten million records)")
    chosen = parser.parse_args()
    standard = TRANSFER if chosen.transfer else WHITE_BOX
    shape = Shape(chosen.samples or standard.samples, standard.models, standard.transfer)
    with tempfile.TemporaryDirectory() as name:
        folder = make(Path(name) / "run", shape)
        parts = sum(1 for _ in (folder / "parts").iterdir())
        print(f"{shape.rows:,} records in {parts:,} parts")
        print(f"{'':24}{'CPU s':>8}{'wall s':>8}{'peak GB':>9}{'status':>8}")
        for what, used in measured(folder, shape):
            print(f"{what:24}{used.cpu:8.1f}{used.wall:8.1f}{used.peak / 1e9:9.2f}{used.status:8}", flush=True)


if __name__ == "__main__":
    main()
