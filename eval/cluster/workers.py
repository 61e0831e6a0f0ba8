"""Workers on Ray: parts of a run made in other processes, on this machine or on many, and written here.

Every part is a core task of its own, tried again where its worker or its node dies. The run itself, which holds
everything that all parts share, is put into Ray's object store once; each node fetches it once, and each worker builds
its networks once. Only as many tasks are handed out as there is room for, and one more, so that Ray keeps no more than
these, and what a killed run had begun is a part for each worker. The list of all parts, small beside what they hold, is
kept by the process that leads and by every worker.
"""

from __future__ import annotations

import logging
import math
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Self

from eval.batches import Batch
from eval.cluster.parcel import Batches, Files, Parcel, Sent, before
from eval.cluster.terms import Terms, connected, in_one_line, installed, places, room
from eval.errors import InputError
from eval.jobs import Job
from eval.make import Made
from eval.records import failed, part_file
from eval.shared import CODE

log = logging.getLogger(__name__)

_ROOT = str(Path(__file__).resolve().parents[2])
_LOOK = 5.0  # seconds between looks at how large the cluster is
_SPARE = 1  # tasks handed out beyond those that are at work, so that no worker waits for us


def _task(root: str, code: str, gpus: float) -> Callable[..., Sent | tuple[str, str]]:
    """What a worker calls: pickled with its code, since it must first see to it that `eval` is ours.

    Ray puts the folder that a run was started in before everything else, and there may be another `eval` in it. Where
    its source is not the one of the hash `code`, nothing of it is called or sent back: what comes is the worker's node
    and what is wrong there.
    """

    def make(name: str, parcel: list[Any], part: str, files: Files, batches: Batches) -> Sent | tuple[str, str]:
        import platform
        import sys

        sys.path[:] = [root, *(path for path in sys.path if path != root)]
        import ray

        try:
            from eval.shared import CODE
        except ImportError as error:
            return platform.node(), f"cannot be imported ({' '.join(str(error).split())})"
        if code != CODE:
            return platform.node(), "is another"
        from eval.cluster.parcel import serve
        from eval.cluster.workers import here

        return serve(name, lambda: here(lambda: ray.get(parcel[0]), gpus), part, files, batches)

    return make


def here(fetch: Callable[[], Parcel], gpus: float) -> Parcel:
    """The run as a worker takes it, which knows with how many others it shares the memory of its node.

    Args:
        fetch: returns the run.
        gpus: that the worker has.
    """
    import ray

    parcel = fetch()
    terms, own = parcel.plan.run.terms(), ray.get_runtime_context().get_node_id()
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    room = next(places(node["Resources"], terms.cpus, gpus) for node in nodes if node["NodeID"] == own)
    most = max(1, min(room, terms.workers or sys.maxsize))
    return replace(parcel, sharers={"cpu": most, "cuda": min(most, max(1, int(1 / gpus))) if gpus else most})


class Cluster:
    """A crew of Ray's workers, for `eval.schedule.in_turn`.

    Args:
        terms: what workers get.
        device: of the run, as the plan says.
        parcel: the run.
        folder: that parts are written to.
        tell: told how many samples are done.
        batches: of the run's networks, by name: smaller from when memory ran out on a worker.
    """

    def __init__(
        self,
        terms: Terms,
        device: str,
        parcel: Parcel,
        folder: Path,
        tell: Callable[[float], None],
        batches: Mapping[str, Batch],
    ) -> None:
        self._terms, self._device, self._parcel = terms, device, parcel
        self._folder, self._tell, self._batches = folder, tell, batches
        self._pending: dict[Any, Job] = {}
        self._looked, self._room = -_LOOK, 1

    def __enter__(self) -> Self:
        """Reach the cluster, or start one on this machine.

        Raises:
            InputError: Ray is not installed, does not answer, or has no room for a worker.
        """
        installed(self._terms.where)
        imported = sys.modules.get("ray")
        self._own = imported is None or not imported.is_initialized()
        with ExitStack() as stack:
            if self._own:
                many = self._terms.workers
                own = {} if many is None else {"num_cpus": max(1, math.ceil(many * self._terms.cpus))}
                stack.enter_context(connected(self._terms, **own))
            import ray

            self._ray: Any = ray
            self._gpus = self._terms.gpus_of(self._device)
            room(self._terms, self._gpus)
            self._name = secrets.token_hex(8)
            self._sent = [ray.put(self._parcel)]
            asked: dict[str, Any] = {"num_cpus": self._terms.cpus, "num_gpus": self._gpus}
            asked |= {"max_retries": self._terms.retries, "retry_exceptions": [OSError]}  # Ray's types know no list
            self._make = ray.remote(**asked)(_task(_ROOT, CODE, self._gpus))
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._own:  # else tasks end with the connection; one that ends as it is cancelled may crash Ray 2.60
            for reference in self._pending:
                self._ray.cancel(reference)
        self._open.close()

    @property
    def size(self) -> tuple[int, int]:
        """Workers that there is room for, and nodes that have room for some."""
        rooms = [places(resources, self._terms.cpus, self._gpus) for resources in self._nodes]
        return min(sum(rooms), self._terms.workers or sys.maxsize), sum(room > 0 for room in rooms)

    @property
    def _nodes(self) -> list[dict[str, float]]:
        """What each node has that is alive."""
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    @property
    def about(self) -> str:
        """How many workers there are, or what is waited for, in one line."""
        workers, nodes = self.size
        if workers:
            at = "this machine" if self._terms.address == "local" else f"{nodes} node{'' if nodes == 1 else 's'}"
            return f"Ray: {workers} worker{'' if workers == 1 else 's'} on {at}"
        many = [key for key, asked in (("GPU", self._gpus), ("CPU", self._terms.cpus)) if asked]
        largest = max(self._nodes, key=lambda has: [has.get(key, 0.0) for key in many], default={})
        asked = {"CPU": self._terms.cpus, **({"GPU": self._gpus} if self._gpus else {})}
        wanted = " and ".join(f"{number:g} {name}" for name, number in asked.items())
        most = " and ".join(f"{largest.get(name, 0.0):g} {name}" for name in asked)
        return f"Ray: no node has room for a worker of {wanted}, the largest has {most}; waits for it to grow"

    def slots(self) -> int:
        """As many as there is room for, and a few more."""
        if monotonic() - self._looked >= _LOOK:
            self._room, self._looked = max(1, self.size[0]), monotonic()
        return self._room + (_SPARE if self._terms.workers is None else 0)

    def begin(self, task: Job) -> None:
        """Hand out a part."""
        name = f"{task.unit.source}: {task.unit.attack_name} {task.unit.text}"
        files, batches = before(task, self._folder), {name: batch.about() for name, batch in self._batches.items()}
        reference = self._make.options(name=name).remote(self._name, self._sent, task.part, files, batches)
        self._pending[reference] = task

    def finished(self, patience: float | None) -> Sequence[tuple[Job, Made]]:
        """What came of parts; those that were made are in the run's folder.

        Returns in time to see that the cluster has grown.

        Raises:
            InputError: a worker could not begin.
        """
        ready, _ = self._ray.wait(list(self._pending), num_returns=1, timeout=min(patience or _LOOK, _LOOK))
        if ready:
            ready, _ = self._ray.wait(list(self._pending), num_returns=len(self._pending), timeout=0)
        done = []
        for reference in ready:
            job = self._pending.pop(reference)
            done.append((job, self._made(reference, job.part)))
            self._tell(float(len(job.unit.index)))
        return done

    @property
    def _times(self) -> str:
        """How often a part is begun before it is given up, in words."""
        times = self._terms.retries + 1
        return "once" if times == 1 else f"{times} times"

    def _made(self, reference: Any, part: str) -> Made:
        dead = self._ray.exceptions
        try:
            sent: Sent | tuple[str, str] = self._ray.get(reference)
        except (dead.WorkerCrashedError, dead.NodeDiedError, dead.OutOfMemoryError, dead.ObjectLostError) as error:
            return Made([f"its worker died {self._times} ({type(error).__name__})"], "")
        except dead.OutOfDiskError as error:
            return Made([f"tried {self._times}: {in_one_line(error)}"], "")
        except dead.RayTaskError as error:
            if not isinstance(error.cause, OSError):
                raise
            return Made([f"tried {self._times}, {in_one_line(error.cause)}"], "")
        if not isinstance(sent, Sent):
            node, what = sent
            raise InputError(
                f"on {node}: run.backend: a worker must have the source that the run began with, but that below "
                f"{_ROOT} {what}; install the same everywhere, and give the command again after an edit"
            )
        if sent.refused:
            raise InputError(sent.refused)
        for network, left in sent.batches.items():
            if self._batches[network].follow(left):
                what = "%s: memory ran out on a worker (%s); going on with %d images at once"
                log.warning(what, network, sent.device, self._batches[network].size)
        part_file(self._folder, failed(part)).unlink(missing_ok=True)
        sent.unpack(self._folder)
        return Made(sent.wrong, sent.device)
