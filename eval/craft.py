"""One unit of work: perturbations made for one source by one attack on one slice of samples, judged on all targets."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attacks.base import Attack, Logits
from attacks.goal import Goal
from attacks.rng import Rng
from attacks.threat import ThreatModel, unlimited
from eval.blackbox import Access
from eval.clean import Clean, forward_of
from eval.data import Samples
from eval.derived import Derived
from eval.device import synchronize
from eval.goals import make
from eval.judge import judge
from eval.meter import Meter
from eval.records import COLUMNS
from eval.watch import Watcher
from models.classifier import Classifier

log = logging.getLogger(__name__)

Rows = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Unit:
    """What makes one part: an attack with its budget, from one source, on the samples `index`."""

    source: str
    attack_name: str
    attack: Attack
    text: str
    threat: ThreatModel
    index: np.ndarray[Any, Any]


@dataclass(frozen=True)
class Bench:
    """What every unit works on.

    Attributes:
        samples: all samples of the run.
        classifiers: by name, on `device`.
        clean: what they say without perturbation, by name, of all samples.
        seed: of everything random.
        goal: rule of `eval.goals`.
        batch_size: images per call of an attack.
        transfer: judge on all classifiers, not on the source alone.
        derived: what is judged beside each perturbation, by role.
        examples: images to keep per unit.
        access: what the attacks see of the networks.
        victims: the network that perturbations made for a substitute are meant to fool, by the substitute's name.
    """

    samples: Samples
    classifiers: Mapping[str, Classifier]
    clean: Mapping[str, Clean]
    device: torch.device
    seed: int
    goal: str
    batch_size: int
    transfer: bool
    derived: Mapping[str, Derived]
    examples: int
    access: Access = field(default_factory=Access)
    victims: Mapping[str, str] = field(default_factory=dict)

    @property
    def sources(self) -> list[str]:
        """The networks that perturbations are made for: the substitutes, or all where there are none."""
        return list(self.victims or self.classifiers)

    def targets(self, source: str) -> list[str]:
        """The networks that judge what was made for `source`, itself first."""
        return [source, *(n for n in self.classifiers if n != source)] if self.transfer else [source]


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
        "source": np.full(n, source),
        "target_model": np.full(n, target),
        "role": np.full(n, role),
        "attack": np.full(n, name),
        "norm": np.full(n, norm),
        "eps": np.full(n, eps),
        "eps_text": np.full(n, text),
        "clean_pred": clean.prediction[where].cpu().numpy(),
        "clean_conf": clean.confidence[where].cpu().numpy(),
        "forwards": np.zeros(n, np.int64),
        "backwards": np.zeros(n, np.int64),
        "seconds": np.zeros(n),
        "error": np.full(n, ""),
    }
    merged = {**rows, **judged}
    return {column: merged[column] for column in COLUMNS}


@dataclass
class _Made:
    x_adv: Tensor
    forwards: np.ndarray[Any, Any]
    backwards: np.ndarray[Any, Any]
    seconds: np.ndarray[Any, Any]
    error: str


def _make(bench: Bench, unit: Unit, x: Tensor, goal: Goal, rng: Rng, start: Tensor, watcher: Watcher | None) -> _Made:
    """Run the attack on those samples (`start`, bool) that do not reach the goal unperturbed."""
    n, todo = len(x), torch.nonzero(start)[:, 0]
    x_adv = x.clone()
    meter = Meter(bench.classifiers[unit.source], len(todo), bench.device)
    error = ""
    synchronize(bench.device)
    began = time.perf_counter()
    if len(todo) > 0:
        try:
            images = x[todo]
            whole: Logits = meter if watcher is None else watcher.begin(meter, images, goal[todo])
            network = bench.access.to(whole, len(todo), bench.device)
            candidates = unit.attack(network, images, goal[todo], unit.threat, rng=rng[todo])
            if candidates.shape != images.shape:
                raise ValueError(f"must return {tuple(images.shape)}, got {tuple(candidates.shape)}")
            x_adv[todo] = candidates.detach().to(x.dtype)
        except Exception as problem:  # of whatever library: told, recorded, and the run ends with a failure
            log.exception("attack.%s on %s failed on %d samples", unit.attack_name, unit.source, len(todo))
            error = f"{type(problem).__name__}: {problem}".splitlines()[0]
    synchronize(bench.device)
    spent = np.zeros((3, n))
    where = todo.cpu().numpy()
    spent[:2, where] = meter.per_sample()
    spent[2, where] = (time.perf_counter() - began) / max(len(where), 1)
    counts = np.rint(spent[:2]).astype(np.int64)
    return _Made(x_adv, counts[0], counts[1], spent[2], error)


def _batch(
    bench: Bench, unit: Unit, index: np.ndarray[Any, Any], kept: dict[str, list[Any]], watcher: Watcher | None
) -> list[Rows]:
    samples, device = bench.samples, bench.device
    where = torch.as_tensor(index, device=device)
    ids = samples.ids[index].tolist()
    x = samples.batch(index).to(device)
    labels = torch.as_tensor(samples.labels[index], device=device)
    clean = bench.clean[bench.victims.get(unit.source, unit.source)]
    goal = make(
        bench.goal, labels, clean.least_likely[where], samples.classes, Rng.of(bench.seed, ["goal"], ids, device)
    )
    prediction = clean.prediction[where]
    reached = prediction != labels if goal.targets is None else prediction == goal.targets
    rng = Rng.of(bench.seed, ["attack", unit.attack_name], ids, device)
    made = _make(bench, unit, x, goal, rng, ~reached, watcher)
    if watcher is not None and not made.error and not bool(reached.all()):
        watcher.end(bench.classifiers[unit.source], made.x_adv[~reached], samples.select(index[~reached.cpu().numpy()]))
    targets_of = goal.labels.new_full((len(x),), -1) if goal.targets is None else goal.targets
    attack = (unit.attack_name, unit.threat.norm, unit.threat.eps, unit.text)
    beside: dict[str, Tensor] = {}
    if not made.error:
        for role, derive in bench.derived.items():
            streams = Rng.of(bench.seed, [role, unit.source, unit.attack_name, unit.text], ids, device)
            beside[role] = derive(x, made.x_adv, streams, unit.threat.box)
    result = []
    for target in bench.targets(unit.source):
        judged = _columns(bench, target, x, made.x_adv, goal, unit.threat)
        judged["target_class"] = targets_of.cpu().numpy()
        if target == unit.source:
            judged |= {"forwards": made.forwards, "backwards": made.backwards, "seconds": made.seconds}
            _keep(bench, kept, ids, x, made.x_adv, judged["success"] & (judged["rms"] > 0))
        if made.error:
            _void(judged, made.error)
        result.append(_rows(bench, index, unit.source, target, "attack", attack, judged))
        free = unlimited(unit.threat.norm, unit.threat.box)  # it has a size, not a budget
        for role, images in beside.items():
            other = _columns(bench, target, x, images, goal, free)
            other["target_class"] = judged["target_class"]
            result.append(_rows(bench, index, unit.source, target, role, attack, other))
    return result


def _columns(bench: Bench, target: str, x: Tensor, x_adv: Tensor, goal: Goal, threat: ThreatModel) -> Rows:
    with forward_of(target):
        judged = judge(bench.classifiers[target], x, x_adv, goal, threat)
    return {k: v.cpu().numpy() for k, v in judged.items()}


def _void(judged: Rows, error: str) -> None:
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
    bench: Bench, unit: Unit, tell: Callable[[int], None], watcher: Watcher | None = None
) -> tuple[Rows, Rows | None]:
    """Do one unit of work; `tell` is told how many samples are done, batch by batch, and `watcher` sees the search.

    Returns:
        The columns of its records, and the images to keep (arrays as `eval.records.write_examples` takes them), if
        the attack had any success.
    """
    kept: dict[str, list[Any]] = {"sample": [], "x": [], "x_adv": []}
    parts: list[Rows] = []
    for start in range(0, len(unit.index), bench.batch_size):
        index = unit.index[start : start + bench.batch_size]
        parts += _batch(bench, unit, index, kept, watcher)
        tell(len(index))
    rows = {column: np.concatenate([part[column] for part in parts]) for column in COLUMNS}
    crashed = rows["error"] != ""
    if crashed.any() and not rows["forwards"][~crashed].any():  # nothing that had to be done was done
        _void(rows, str(rows["error"][crashed][0]))
    if not kept["sample"]:
        return rows, None
    arrays = {"x": np.stack(kept["x"]), "x_adv": np.stack(kept["x_adv"]), "sample": np.array(kept["sample"])}
    names = {"source": unit.source, "attack": unit.attack_name, "eps_text": unit.text}
    return rows, arrays | {k: np.array(v) for k, v in names.items()}
