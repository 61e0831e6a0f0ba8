"""A cluster on paper: `eval.schedule.in_turn` hands parts to workers that fail, and time passes in numbers alone.

What it does as Ray does: each task is a process's; a worker that dies is started again and builds its networks anew,
its task is tried again elsewhere until its retries are used up; a node takes all of its workers along, and comes back.
What it does as our crew on Ray (`eval.cluster`) does: it looks every few seconds at how large the cluster is, takes one
task more than there is room for, and hands back all that is done at once. The driver is one process: what it spends on
a task, nobody else can spend on the next one.

Left out: how long messages take, files of a dead node that the driver had not fetched yet, and what Ray itself spends.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

MADE, GIVEN_UP = "made", "given up"


@dataclass(frozen=True)
class Part:
    """A task: what it is called, what it builds on, and what it takes a worker in seconds."""

    part: str
    after: str | None
    seconds: float


@dataclass(frozen=True)
class World:
    """What a cluster is like. Times in seconds.

    Attributes:
        workers: at the start, on nodes of `per_node`.
        per_node: workers of a node.
        start: until the process of a worker has built its networks.
        worker_lives, node_lives: mean times between deaths of a worker, and of a node.
        back: until a node that died is there again.
        retries: of a task whose worker died.
        begin, finish: of the driver for a task, when it hands it out and when it takes what came of it.
        look: between looks at the size of the cluster.
        spare: tasks handed out beyond those that there is room for.
        impatient: the driver wakes to look at the size of the cluster even if nothing was done meanwhile.
        changes: when nodes are added (positive) or taken away.
        seed: of deaths.
    """

    workers: int
    per_node: int = 8
    start: float = 20.0
    worker_lives: float = math.inf
    node_lives: float = math.inf
    back: float = 120.0
    retries: int = 3
    begin: float = 0.0
    finish: float = 0.0
    look: float = 5.0
    spare: int = 1
    impatient: bool = False
    changes: tuple[tuple[float, int], ...] = ()
    seed: int = 0


@dataclass
class _Worker:
    node: int
    alive: bool = True
    built: bool = False
    life: int = 0  # how often it was started; what was foreseen for an earlier life does not happen
    task: Part | None = None
    began: float = 0.0


@dataclass
class Cluster:
    """A crew for `in_turn` whose clock is a number; it notes what a schedule must not do."""

    world: World
    now: float = 0.0
    work: float = 0.0
    lost: float = 0.0
    driver: float = 0.0
    most: int = 0
    deaths: int = 0
    deaths_at_work: int = 0
    faults: list[str] = field(default_factory=list)
    log: list[tuple[float, str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        world = self.world
        self._rng = np.random.default_rng(world.seed)
        self._events: list[tuple[float, int, str, int, int]] = []
        self._number = 0
        self._workers: list[_Worker] = []
        self._nodes: list[list[int]] = []
        self._gone: set[int] = set()  # nodes that were taken away for good
        self._idle: deque[int] = deque()
        self._queue: deque[Part] = deque()
        self._deaths_of: dict[str, int] = {}
        self._done: list[tuple[Part, str]] = []
        self._flight: set[str] = set()
        self._known: set[str] = set()
        self._over: set[str] = set()
        self._looked, self._room = -math.inf, 1
        for first in range(0, world.workers, world.per_node):
            self._add_node(0.0, min(world.per_node, world.workers - first))
        for at, nodes in world.changes:
            self._foresee(at, "change", nodes, 0)

    def slots(self) -> int:
        """As many as there was room for when it last looked, and the spare ones."""
        if self.now - self._looked >= self.world.look:
            self._room, self._looked = max(1, sum(worker.alive for worker in self._workers)), self.now
        return self._room + self.world.spare

    def begin(self, task: Part) -> None:
        """Hand out a task."""
        if task.part in self._flight:
            self.faults.append(f"{task.part} was handed out while somebody was at it")
        if task.part in self._over:
            self.faults.append(f"{task.part} was handed out again after it was done")
        if task.after is not None and task.after not in self._over:
            self.faults.append(f"{task.part} was handed out before {task.after} was done")
        if len(self._flight) >= self._room + self.world.spare:
            self.faults.append(f"{task.part} was handed out with no room for it")
        self._spend(self.world.begin)
        self._flight.add(task.part)
        self.most = max(self.most, len(self._flight))
        self._queue.append(task)
        self._feed(self.now)

    def finished(self, patience: float | None) -> Sequence[tuple[Part, str]]:
        """Let time pass until something is done, or for as long as `patience` says."""
        until = math.inf if patience is None else self.now + patience
        if self.world.impatient:
            until = min(until, self.now + self.world.look)
        while not self._done:
            if not self._events or self._events[0][0] > until:
                if not math.isfinite(until):
                    raise RuntimeError(f"nothing is under way, and {len(self._flight)} tasks are waited for")
                self.now = until
                return []
            self._happen()
        done, self._done = self._done, []
        for task, what in done:
            self._spend(self.world.finish)
            self._flight.discard(task.part)
            self._over.add(task.part)
            self.log.append((self.now, task.part, what))
        return done

    def _spend(self, seconds: float) -> None:
        """The driver is busy; workers go on."""
        self.driver += seconds
        self.now += seconds
        while self._events and self._events[0][0] <= self.now:
            self._happen()

    def _foresee(self, at: float, what: str, who: int, life: int) -> None:
        if math.isfinite(at):
            self._number += 1
            heapq.heappush(self._events, (at, self._number, what, who, life))

    def _happen(self) -> None:
        at, _, what, who, life = heapq.heappop(self._events)
        self.now = max(self.now, at)
        if what == "done" and self._workers[who].life == life:
            worker = self._workers[who]
            assert worker.task is not None
            self.work += worker.task.seconds
            self._done.append((worker.task, MADE))
            worker.built, worker.task = True, None
            self._idle.append(who)
        elif what == "death" and self._workers[who].life == life and self._workers[who].alive:
            self._die(who, at)
            self._live(who, at)
        elif what == "node" and who not in self._gone:
            self._take_away(who, at)
            self._foresee(at + self.world.back, "back", who, 0)
        elif what == "back" and who not in self._gone:
            for worker in self._nodes[who]:
                self._live(worker, at)
            self._foresee(at + self._life(self.world.node_lives), "node", who, 0)
        elif what == "change":
            self._change(who, at)
        self._feed(at)

    def _change(self, nodes: int, at: float) -> None:
        for _ in range(nodes):
            self._add_node(at, self.world.per_node)
        kept = [node for node in range(len(self._nodes)) if node not in self._gone]
        for node in kept[nodes:] if nodes < 0 else []:
            self._gone.add(node)
            self._take_away(node, at)

    def _add_node(self, at: float, workers: int) -> None:
        node = len(self._nodes)
        self._nodes.append([])
        for _ in range(workers):
            self._nodes[node].append(len(self._workers))
            self._workers.append(_Worker(node, alive=False))
            self._live(len(self._workers) - 1, at)
        self._foresee(at + self._life(self.world.node_lives), "node", node, 0)

    def _take_away(self, node: int, at: float) -> None:
        for worker in self._nodes[node]:
            if self._workers[worker].alive:
                self._die(worker, at)

    def _life(self, mean: float) -> float:
        return math.inf if math.isinf(mean) else float(self._rng.exponential(mean))

    def _live(self, who: int, at: float) -> None:
        worker = self._workers[who]
        worker.alive, worker.built, worker.task = True, False, None
        worker.life += 1
        self._idle.append(who)
        self._foresee(at + self._life(self.world.worker_lives), "death", who, worker.life)

    def _die(self, who: int, at: float) -> None:
        worker = self._workers[who]
        worker.alive = False
        worker.life += 1
        self.deaths += 1
        if (task := worker.task) is None:
            return
        worker.task = None
        self.deaths_at_work += 1
        self.lost += at - worker.began
        self._deaths_of[task.part] = self._deaths_of.get(task.part, 0) + 1
        if self._deaths_of[task.part] > self.world.retries:
            self._done.append((task, GIVEN_UP))
        else:
            self._queue.append(task)

    def _feed(self, at: float) -> None:
        while self._queue and self._idle:
            who = self._idle.popleft()
            worker = self._workers[who]
            if not worker.alive or worker.task is not None:
                continue
            worker.task, worker.began = self._queue.popleft(), at
            takes = worker.task.seconds + (0.0 if worker.built else self.world.start)
            self._foresee(at + takes, "done", who, worker.life)
