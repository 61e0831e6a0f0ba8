"""One unit of work: perturbations made for one source by one attack on one slice of samples, judged on all targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attacks.cascade import Cascade
from attacks.goal import Goal
from attacks.rng import Rng
from attacks.threat import ThreatModel, unlimited
from eval.batches import Batch, in_batches
from eval.bench import Bench, Unit
from eval.clean import forward_of
from eval.derived import Derived
from eval.device import synchronize
from eval.judge import judge
from eval.records import COLUMNS
from eval.search import Asked, Made, Pulse, asked, in_stages, search
from eval.watch import Watcher

Rows = dict[str, np.ndarray[Any, Any]]


def clean_rows(bench: Bench, name: str) -> Rows:
    """The records of the unperturbed samples on one network."""
    index = np.arange(len(bench.samples))
    n = len(index)
    clean = bench.clean[name]
    wrong = clean.prediction.cpu().numpy() != bench.samples.labels
    same: Rows = {
        "target_class": np.full(n, -1),
        "adv_pred": clean.prediction.cpu().numpy(),
        "adv_conf": clean.confidence.cpu().numpy(),
        "adv_rank": clean.rank.cpu().numpy(),
        "success": wrong,
        "success_8bit": wrong,
        "in_box": np.ones(n, bool),
        "in_budget": np.ones(n, bool),
        **{size: np.zeros(n) for size in ("l0", "l1", "l2", "linf", "rms")},
    }
    return _rows(bench, index, name, name, "clean", ("none", "", 0.0, "0"), same)


def _rows(
    bench: Bench,
    index: np.ndarray[Any, Any],
    source: str,
    target: str,
    role: str,
    attack: tuple[str, str, float, str],
    judged: Mapping[str, np.ndarray[Any, Any]],
) -> Rows:
    n = len(index)
    clean = bench.clean[target]
    where = torch.as_tensor(index, device=clean.prediction.device)
    name, norm, eps, text = attack
    rows: Rows = {
        "sample": bench.samples.ids[index],
        "label": bench.samples.labels[index],
        "group": np.full(n, "") if bench.samples.groups is None else bench.samples.groups[index],
        "source": np.full(n, source),
        "target_model": np.full(n, target),
        "role": np.full(n, role),
        "attack": np.full(n, name),
        "norm": np.full(n, norm),
        "eps": np.full(n, eps),
        "eps_text": np.full(n, text),
        "clean_pred": clean.prediction[where].cpu().numpy(),
        "clean_conf": clean.confidence[where].cpu().numpy(),
        "clean_rank": clean.rank[where].cpu().numpy(),
        "forwards": np.zeros(n, np.int64),
        "backwards": np.zeros(n, np.int64),
        "seconds": np.zeros(n),
        "stage": np.full(n, ""),
        "error": np.full(n, ""),
    }
    merged = {**rows, **judged}
    return {column: merged[column] for column in COLUMNS}


def _judged(bench: Bench, unit: Unit, asked: Asked, made: Made, kept: dict[str, list[Any]]) -> list[Rows]:
    """The records of one batch: what was made for the source, on each of the targets."""
    index, x, goal = asked.index, asked.x, asked.goal
    ids = bench.samples.ids[index].tolist()
    targets_of = goal.labels.new_full((len(x),), -1) if goal.targets is None else goal.targets
    attack = (unit.attack_name, unit.threat.norm, unit.threat.eps, unit.text)
    beside: dict[str, Tensor] = {}
    if not made.error:
        for role, derive in bench.derived.items():
            streams = Rng.of(bench.seed, [role, unit.source, unit.attack_name, unit.text], ids, bench.device)
            once = partial(_derived, derive, x, made.x_adv, streams, unit.threat.box)
            beside[role] = torch.cat(list(in_batches(bench.batches[unit.source], len(x), once)))
    result = []
    for target in bench.targets(unit.source):
        judged = _columns(bench, target, x, made.x_adv, goal, unit.threat)
        judged |= {"target_class": targets_of.cpu().numpy(), "stage": made.stage}
        if target == unit.source:
            judged |= {"forwards": made.forwards, "backwards": made.backwards, "seconds": made.seconds}
            _keep(bench, kept, ids, x, made.x_adv, judged["success"] & (judged["rms"] > 0))
        if made.error:
            void(judged, made.error)
        result.append(_rows(bench, index, unit.source, target, "attack", attack, judged))
        free = unlimited(unit.threat.norm, unit.threat.box)  # it has a size, not a budget
        for role, images in beside.items():
            other = _columns(bench, target, x, images, goal, free)
            other["target_class"] = judged["target_class"]
            result.append(_rows(bench, index, unit.source, target, role, attack, other))
    return result


def _derived(derive: Derived, x: Tensor, x_adv: Tensor, rng: Rng, box: tuple[float, float], part: slice) -> Tensor:
    return derive(x[part], x_adv[part], Rng(rng.keys[part]), box)


def _columns(bench: Bench, target: str, x: Tensor, x_adv: Tensor, goal: Goal, threat: ThreatModel) -> Rows:
    def once(part: slice) -> Rows:
        where = torch.arange(len(x), device=x.device)[part]
        with forward_of(target):
            judged = judge(bench.classifiers[target], x[part], x_adv[part], goal[where], threat)
        return {k: v.cpu().numpy() for k, v in judged.items()}

    parts = list(in_batches(bench.batches[target], len(x), once))
    return {column: np.concatenate([part[column] for part in parts]) for column in parts[0]}


def void(judged: Rows, error: str) -> None:
    """Mark all rows of a batch whose attack crashed: neither successes nor failures.

    Those that were misclassified to begin with too, else the rate over what is left would be biased.
    """
    for column in ("success", "success_8bit"):
        judged[column] = np.zeros_like(judged[column])
    judged["error"] = np.full(len(judged["success"]), error)


def _keep(
    bench: Bench, kept: dict[str, list[Any]], ids: Sequence[str], x: Tensor, x_adv: Tensor, worth: np.ndarray[Any, Any]
) -> None:
    for i in np.flatnonzero(worth)[: max(0, bench.examples - len(kept["sample"]))]:
        kept["sample"].append(ids[i])
        kept["x"].append(x[i].cpu().numpy())
        kept["x_adv"].append(x_adv[i].cpu().numpy())


def warm_up(bench: Bench, source: str) -> None:
    """One forward and one backward that nobody measures.

    Else the first attack of a process would be charged for what PyTorch loads and the device prepares on first use: a
    backward from given derivatives alone imports half a second's worth of modules.
    """
    x = bench.samples.batch(np.arange(min(2, len(bench.samples)))).to(bench.device).requires_grad_()
    with forward_of(source), torch.enable_grad():
        logits = bench.classifiers[source](x)
        torch.autograd.grad(logits, x, torch.ones_like(logits))
    synchronize(bench.device)


def craft(
    bench: Bench,
    unit: Unit,
    tell: Callable[[float], None],
    watcher: Watcher | None = None,
    pulse: Pulse | None = None,
) -> tuple[Rows, Rows | None]:
    """Do one unit of work.

    `tell` is told how many samples are done, batch by batch; `pulse` is called whenever the network is asked, and
    `watcher` sees the search.

    Returns:
        The columns of its records, and the images to keep (arrays as `eval.records.write_examples` takes them), if
        the attack had any success.
    """
    kept: dict[str, list[Any]] = {"sample": [], "x": [], "x_adv": []}
    parts: list[Rows] = []
    batch, n = bench.batches[unit.source], len(unit.index)
    stages = unit.attack.stages(unit.threat.norm) if isinstance(unit.attack, Cascade) and watcher is None else None
    seconds = np.zeros(n)

    def once(part: slice) -> tuple[Asked, Made]:
        some = asked(bench, unit, unit.index[part])
        if stages is None:
            return some, search(bench, unit, some, seconds[part], watcher, pulse)
        return some, in_stages(bench, unit, stages, some, seconds[part], tell, pulse)

    # a cascade has all its samples on the device, and makes batches of those that are left to each stage
    for some, made in in_batches(batch if stages is None else Batch(unit.source, n), n, once):
        step = batch.size  # which judging may halve
        for start in range(0, len(some.x), step):
            part = slice(start, start + step)
            parts += _judged(bench, unit, some[part], made[part], kept)
        if stages is None:
            tell(len(some.x))
        del some, made  # not kept while the next are made
    rows = {column: np.concatenate([part[column] for part in parts]) for column in COLUMNS}
    crashed = rows["error"] != ""
    if crashed.any() and not rows["forwards"][~crashed].any():  # nothing that had to be done was done
        void(rows, str(rows["error"][crashed][0]))
    if not kept["sample"]:
        return rows, None
    arrays = {"x": np.stack(kept["x"]), "x_adv": np.stack(kept["x_adv"]), "sample": np.array(kept["sample"])}
    names = {"source": unit.source, "attack": unit.attack_name, "eps_text": unit.text}
    return rows, arrays | {k: np.array(v) for k, v in names.items()}
