"""The search itself: what an attack is given, what it proposes, what that costs, and what becomes of a crash."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from traceback import walk_tb
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attacks.base import Attack, Logits, rows
from attacks.cascade import Broken, Stages, budget
from attacks.goal import Goal
from attacks.rng import Rng
from eval.batches import REMEDY, in_batches, shortage
from eval.bench import Bench, Unit
from eval.device import synchronize
from eval.errors import TRACEBACK
from eval.goals import make
from eval.meter import Meter
from eval.watch import Watcher
from models.foreign import told

log = logging.getLogger(__name__)
Pulse = Callable[[], None]
"""What is called whenever a network is asked."""


@dataclass(frozen=True)
class Asked:
    """What an attack is to do.

    Attributes:
        index: numbers (n,) of the samples in the run.
        x: their images (n, C, H, W), on the device.
        goal: what is wanted of each.
        open: (n,) bool, which of them do not reach the goal unperturbed.
        rng: a stream for each.
    """

    index: np.ndarray[Any, Any]
    x: Tensor
    goal: Goal
    open: Tensor
    rng: Rng

    def __getitem__(self, part: slice) -> Asked:
        """What is asked of some of the samples."""
        return Asked(
            self.index[part], self.x[part], self.goal[_where(self, part)], self.open[part], Rng(self.rng.keys[part])
        )


def _where(asked: Asked, part: slice) -> Tensor:
    return torch.arange(len(asked.x), device=asked.x.device)[part]


def asked(bench: Bench, unit: Unit, index: np.ndarray[Any, Any]) -> Asked:
    """What a unit of work asks for the samples `index`."""
    samples, device = bench.samples, bench.device
    where = torch.as_tensor(index, device=device)
    ids = samples.ids[index].tolist()
    labels = torch.as_tensor(samples.labels[index], device=device)
    clean = bench.clean[bench.victims.get(unit.source, unit.source)]
    goal = make(
        bench.goal, labels, clean.least_likely[where], samples.classes, Rng.of(bench.seed, ["goal"], ids, device)
    )
    prediction = clean.prediction[where]
    reached = prediction != labels if goal.targets is None else prediction == goal.targets
    rng = Rng.of(bench.seed, ["attack", unit.attack_name], ids, device)
    return Asked(index, samples.batch(index).to(device), goal, ~reached, rng)


@dataclass
class Made:
    """What came of it, sample by sample.

    Attributes:
        x_adv: candidates (n, C, H, W); the images themselves where nothing was to be done.
        forwards, backwards: (n,) int64.
        seconds: (n,), those of its batch shared out evenly, abandoned tries among them.
        stage: name (n,) of the stage of a cascade that broke it; "" for none, and for other attacks.
        error: why there are no candidates; "" when there are.
    """

    x_adv: Tensor
    forwards: np.ndarray[Any, Any]
    backwards: np.ndarray[Any, Any]
    seconds: np.ndarray[Any, Any]
    stage: np.ndarray[Any, Any]
    error: str

    def __getitem__(self, part: slice) -> Made:
        """That of some of the samples."""
        forwards, backwards, seconds = self.forwards[part], self.backwards[part], self.seconds[part]
        return Made(self.x_adv[part], forwards, backwards, seconds, self.stage[part], self.error)


class _Ledger:
    """Costs and crashes of one search: on `n` samples, its seconds among those (B,) of all that were given."""

    def __init__(self, bench: Bench, unit: Unit, n: int, seconds: np.ndarray[Any, Any], pulse: Pulse | None) -> None:
        self.meter = Meter(bench.quicker.get(unit.source) or bench.classifiers[unit.source], n, bench.device, pulse)
        self.seconds = seconds
        self.error = ""
        self._bench, self._unit = bench, unit

    def network(self, attack: Attack) -> Logits:
        """What the attack asks: the network, or its form with rounded gradients."""
        rough = self._bench.rough(self._unit.source, attack)
        return self.meter if rough is None else self.meter.through(rough)

    @contextmanager
    def charged(self, where: np.ndarray[Any, Any]) -> Iterator[None]:
        """Share out the time among the samples `where`, and keep what a crash said.

        Raises:
            Exception: memory ran out, and fewer samples may fit; nothing but the time is charged.
        """
        batch, before = self._bench.batches[self._unit.source], self.meter.counted()
        synchronize(self._bench.device)
        began = time.perf_counter()
        try:
            yield
        except Exception as problem:  # of whatever library: told, recorded, and the run ends with a failure
            unit, memory = self._unit, shortage(problem)
            if memory and batch.size > 1:
                self.meter.recall(before)
                raise
            what = "attack.%s on %s failed on %d samples: %s"
            trace = bool(os.environ.get(TRACEBACK)) or not _of_network(problem)
            log.error(what, unit.attack_name, unit.source, len(where), told(problem), exc_info=trace)
            self.error = f"{type(problem).__name__}: {problem}".splitlines()[0]
            if memory:
                self.error = f"{memory}; memory ran out with one image at once: {REMEDY}"
        finally:
            synchronize(self._bench.device)
            self.seconds[where] += (time.perf_counter() - began) / max(len(where), 1)

    def close(self, x_adv: Tensor, stage: np.ndarray[Any, Any], where: np.ndarray[Any, Any] | None = None) -> Made:
        """The account: of all samples, or of those `where` among those of `x_adv`."""
        forwards, backwards = (np.rint(count).astype(np.int64) for count in self.meter.per_sample())
        columns = [forwards, backwards]
        if where is not None:
            for i, column in enumerate(columns):
                columns[i] = np.zeros(len(x_adv), dtype=column.dtype)
                columns[i][where] = column
        return Made(x_adv, columns[0], columns[1], self.seconds, stage, self.error)


def _of_network(problem: Exception) -> bool:
    """Whether it comes from within the network, which is somebody else's code: where, is told in one line."""
    frames = pairwise(frame.f_code for frame, _ in walk_tb(problem.__traceback__))
    ours = (Meter.run.__code__, Meter.both.__code__)
    return any(code in ours and inner.co_filename != code.co_filename for code, inner in frames)


def search(
    bench: Bench,
    unit: Unit,
    asked: Asked,
    seconds: np.ndarray[Any, Any],
    watcher: Watcher | None,
    pulse: Pulse | None = None,
) -> Made:
    """Run the attack on those samples of one batch that do not reach the goal unperturbed.

    Args:
        bench: what it works on.
        unit: what is to be done.
        asked: of which samples.
        seconds: (n,) of these so far, to which this search adds its own.
        watcher: sees the search, and its result once it is there.
        pulse: is called whenever the network is asked.

    Raises:
        Exception: memory ran out, as `eval.batches.shortage` knows it, and fewer samples may fit; `seconds` has what
            that took, and a watcher has seen the search begin, but not end.
    """
    todo = torch.nonzero(asked.open)[:, 0]
    where = todo.cpu().numpy()
    x_adv = asked.x.clone()
    ledger = _Ledger(bench, unit, len(todo), seconds, pulse)
    if len(todo) > 0:
        with ledger.charged(where):
            images, goal = asked.x[todo], asked.goal[todo]
            whole = ledger.network(unit.attack) if watcher is None else watcher.begin(ledger.meter, images, goal)
            network = bench.access.to(whole, len(todo), bench.device)
            candidates = unit.attack(network, images, goal, unit.threat, rng=asked.rng[todo])
            if candidates.shape != images.shape:
                raise ValueError(f"must return {tuple(images.shape)}, got {tuple(candidates.shape)}")
            x_adv[todo] = candidates.detach().to(asked.x.dtype)
        if watcher is not None and not ledger.error:
            ledger.error = _shown(bench, unit, watcher, x_adv[todo], asked.index[where])
    return ledger.close(x_adv, np.full(len(asked.x), ""), where)


def _shown(bench: Bench, unit: Unit, watcher: Watcher, x_adv: Tensor, index: np.ndarray[Any, Any]) -> str:
    """Show a watcher the candidates `x_adv` (b, C, H, W) of the samples `index`; what to tell if memory ran out.

    It may have kept a part of what it saw, so that it cannot be shown the same again.
    """
    batch = bench.batches[unit.source]
    try:
        watcher.end(bench.classifiers[unit.source], x_adv, bench.samples.select(index))
        return ""
    except Exception as problem:
        said = shortage(problem)
        if not said:
            raise
    batch.halve(len(index))
    return f"{said}; memory ran out when the result was looked at: start again in the same folder"


def in_stages(
    bench: Bench,
    unit: Unit,
    stages: Stages,
    asked: Asked,
    seconds: np.ndarray[Any, Any],
    tell: Callable[[float], None],
    pulse: Pulse | None = None,
) -> Made:
    """Run a cascade on all samples of a unit, stage by stage, so that those left always fill their batches.

    The outcome of each sample is that of `attacks.cascade.in_turn`. Where memory runs out, a stage does the batch again
    in smaller ones. Queries of the abandoned try count against a limit on them, which no cascade has: all of them see
    the weights. `seconds` (n,) is what the samples have cost so far; what they cost here is added.
    """
    n = len(asked.x)
    ledger = _Ledger(bench, unit, n, seconds, pulse)
    broken = Broken(asked.x)
    seen = bench.access.to(ledger.meter, n, bench.device)
    done = np.where(asked.open.cpu().numpy(), 0.0, 1.0)  # of the work on each
    tell(float(done.sum()))

    def once(number: int, attack: Attack, left: Tensor, part: slice) -> Tensor:
        """A stage on some of the samples `left`, which are returned."""
        index = left[part]
        whole = seen if bench.rough(unit.source, attack) is None else ledger.network(attack)
        with ledger.charged(index.cpu().numpy()):
            images, goal, network = asked.x[index], asked.goal[index], rows(whole, index)
            threat = budget(attack, unit.threat)
            found = attack(network, images, goal, threat, rng=asked.rng[index].fold(number))
            # asks before it keeps anything, so that it can be told the same again
            broken.take(number, index, found, network, images, goal, unit.threat)
        return index

    for number, (_, attack) in enumerate(stages):
        left = broken.left()
        left = left[asked.open[left]]
        for index in in_batches(bench.batches[unit.source], len(left), partial(once, number, attack, left)):
            where = index.cpu().numpy()
            if ledger.error:  # what the later stages could do is no longer known, so that nothing is
                tell(float((1 - done).sum()))
                return ledger.close(asked.x.clone(), np.full(n, ""))
            now = np.where((broken.stage[index] >= 0).cpu().numpy(), 1.0, (number + 1) / len(stages))
            tell(float((now - done[where]).clip(0).sum()))
            done[where] = np.maximum(now, done[where])
    names = np.array([name for name, _ in stages] + [""])
    return ledger.close(broken.x_adv, names[broken.stage.cpu().numpy()])
