"""Workers on Ray: parts of a run made in other processes, on this machine or on many, and written here.

Every part is a core task of its own, tried again where its worker or its node dies. The run itself, which holds
everything that all parts share, is put into Ray's object store once; each node fetches it once, and each worker builds
its networks once. Only as many tasks are handed out as there is room for, and a few more, so that a run of millions of
parts keeps no more than these in memory, and what a killed run had begun is a part for each worker.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Self

from eval.errors import InputError
from eval.jobs import Job
from eval.make import Made, failed
from eval.parcel import Files, Parcel, Sent, before
from eval.records import part_file
from eval.schema import Work

_ROOT = str(Path(__file__).resolve().parent.parent)
_LOOK = 5.0  # seconds between looks at how large the cluster is
_SPARE = 1  # tasks handed out beyond those that are at work, so that no worker waits for us


def _ray() -> Any:
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else Ray warns of a change to come
    try:
        import ray
    except ImportError:
        raise InputError(
            "run.backend: ray must be installed, which it is not; pip install 'toastproof[ray]', or write "
            "run.backend=local"
        ) from None
    return ray


def _task(root: str) -> Callable[..., Sent]:
    """What a worker calls: pickled with its code, since it must first see to it that `eval` is ours.

    Ray puts the folder that a run was started in before everything else, and there may be another `eval` in it.
    """

    def make(name: str, parcel: list[Any], part: str, files: Files) -> Sent:
        import sys

        sys.path[:] = [root, *(path for path in sys.path if path != root)]
        import ray

        from eval.parcel import serve

        return serve(name, lambda: ray.get(parcel[0]), part, files)

    return make


class Cluster:
    """A crew of Ray's workers, for `eval.schedule.in_turn`.

    Args:
        work: what the plan says of it.
        accelerated: whether the run's device may be a GPU.
        parcel: the run.
        folder: that parts are written to.
        tell: told how many samples are done.
    """

    def __init__(
        self, work: Work, accelerated: bool, parcel: Parcel, folder: Path, tell: Callable[[float], None]
    ) -> None:
        self._work, self._accelerated, self._parcel = work, accelerated, parcel
        self._folder, self._tell = folder, tell
        self._pending: dict[Any, Job] = {}
        self._looked, self._room, self._own = -_LOOK, 1, False

    def __enter__(self) -> Self:
        """Reach the cluster, or start one on this machine.

        Raises:
            InputError: Ray is not installed, or does not answer.
        """
        ray = self._ray = _ray()
        if not ray.is_initialized():
            self._own = True
            _start(ray, self._work)
        self._gpus = self._work.gpus
        if self._gpus is None:
            self._gpus = 1.0 if self._accelerated and ray.cluster_resources().get("GPU", 0) else 0.0
        self._name = secrets.token_hex(8)
        self._sent = [ray.put(self._parcel)]
        self._make = ray.remote(num_cpus=self._work.cpus, num_gpus=self._gpus, max_retries=self._work.retries)(
            _task(_ROOT)
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for reference in self._pending:
            self._ray.cancel(reference, force=True)
        if self._own:
            self._ray.shutdown()

    @property
    def size(self) -> tuple[int, int]:
        """Workers that there is room for, and nodes that have room for some."""
        rooms = []
        for node in self._ray.nodes():
            has = node["Resources"]
            if node["Alive"]:
                room = has.get("CPU", 0.0) // self._work.cpus
                rooms.append(int(min(room, has.get("GPU", 0.0) // self._gpus) if self._gpus else room))
        return min(sum(rooms), self._work.workers or sys.maxsize), sum(room > 0 for room in rooms)

    def slots(self) -> int:
        """As many as there is room for, and a few more."""
        if monotonic() - self._looked >= _LOOK:
            self._room, self._looked = max(1, self.size[0]), monotonic()
        return self._room + (_SPARE if self._work.workers is None else 0)

    def begin(self, task: Job) -> None:
        """Hand out a part."""
        name = f"{task.unit.source}: {task.unit.attack_name} {task.unit.text}"
        reference = self._make.options(name=name).remote(self._name, self._sent, task.part, before(task, self._folder))
        self._pending[reference] = task

    def finished(self, patience: float | None) -> Sequence[tuple[Job, Made]]:
        """What came of parts; those that were made are in the run's folder.

        Raises:
            InputError: a worker could not begin.
        """
        ready, _ = self._ray.wait(list(self._pending), num_returns=1, timeout=patience)
        if ready:
            ready, _ = self._ray.wait(list(self._pending), num_returns=len(self._pending), timeout=0)
        done = []
        for reference in ready:
            job = self._pending.pop(reference)
            done.append((job, self._made(reference, job.part)))
            self._tell(float(len(job.unit.index)))
        return done

    def _made(self, reference: Any, part: str) -> Made:
        dead = self._ray.exceptions
        try:
            sent: Sent = self._ray.get(reference)
        except (dead.WorkerCrashedError, dead.NodeDiedError, dead.OutOfMemoryError, dead.ObjectLostError) as error:
            times = self._work.retries + 1
            return Made([f"its worker died {times} times ({type(error).__name__})"], "")
        if sent.refused:
            raise InputError(sent.refused)
        part_file(self._folder, failed(part)).unlink(missing_ok=True)
        sent.unpack(self._folder)
        return Made(sent.wrong, sent.device)


def _start(ray: Any, work: Work) -> None:
    """Reach the cluster at an address, or start one of this machine's processors."""
    here = {"num_cpus": work.workers * work.cpus} if work.workers is not None else {}
    paths = [_ROOT, *filter(None, [os.environ.get("PYTHONPATH")])]
    try:
        ray.init(
            address=work.address or "local",
            include_dashboard=False if work.address is None else None,
            configure_logging=False,
            log_to_driver=False,
            runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(paths)}},
            **(here if work.address is None else {}),
        )
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        raise InputError(
            f"run.address: a Ray cluster must answer at {work.address or 'this machine'}, but: "
            f"{str(error).splitlines()[0]}; start one with ray start --head, or leave run.address out"
        ) from None
