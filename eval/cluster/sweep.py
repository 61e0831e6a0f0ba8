"""The launching side of `hydra/launcher=ray`: hands out the jobs of a sweep and tells what comes of them.

Ray's own retries say nothing and end in silence, so they are off, and a job whose worker died is handed out anew here.
What jobs say goes through files in the folder of the sweep, which all nodes share anyway: Ray's own way to the
terminal folds lines and loses the last ones.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobRuntime, JobStatus, configure_log, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from eval import environment, task
from eval.cluster.job import Order, files
from eval.cluster.terms import Terms, connected, in_one_line, room
from eval.errors import InputError
from eval.excuse import CODES, PLAN, Excuse

_ROOT = str(Path(__file__).resolve().parents[2])
_ASKED = re.compile(r"\$\{\s*oc\.env:\s*['\"]?(\w+)")
_STORE = 80 * 2**20  # bytes; little more than the least that Ray takes: jobs return a few kilobytes
_OFTEN = 0.2  # seconds between two looks at what jobs have said
_PATIENCE = 5.0  # seconds that jobs have to end when they are told to


@dataclass
class _Job:
    """A job: its composed configuration, its folder, what of its lines was told, and how often its worker died."""

    number: int
    config: DictConfig
    folder: Path
    told: list[int] = field(default_factory=lambda: [0, 0])
    deaths: int = 0

    @property
    def overrides(self) -> list[str]:
        """What the command line said of it."""
        return [str(o) for o in self.config.hydra.overrides.task]


def launch(
    context: HydraContext,
    function: TaskFunction,
    config: DictConfig,
    job_overrides: Sequence[Sequence[str]],
    first: int,
    terms: Terms,
) -> list[JobReturn]:
    """Do the jobs, the first of which has the number `first`; what each came to, in their order.

    Raises:
        InputError: Ray cannot be reached, or this machine has no room for a job.
    """
    setup_globals()
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    folder = Path(str(config.hydra.sweep.dir)).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    task.begun[:] = [(True, folder)]
    numbered = [(first + i, list(overrides)) for i, overrides in enumerate(job_overrides)]
    try:
        with (
            tempfile.TemporaryDirectory(prefix=".said-", dir=folder) as said,
            connected(terms, object_store_memory=_STORE),
        ):
            sweep = _Sweep(context, function, config, terms, Path(said))
            try:
                returns = sweep.run(numbered)
            except KeyboardInterrupt:
                sweep.stop()
                with suppress(SystemExit):  # it has said what is in the way; the exit status is that of the interrupt
                    records, name = config.task == "run", config.hydra.job.config_name
                    context.callbacks.on_multirun_end(config=config, config_name=name, interrupted=records)
                raise
    except InputError:
        if [path.name for path in folder.iterdir()] == [PLAN]:  # Hydra's, and nothing was begun
            (folder / PLAN).unlink()
            task.leave_nothing(folder)
        raise
    return [returns[number] for number, _ in numbered]


class _Sweep:
    """The jobs of a sweep that are under way."""

    def __init__(
        self, context: HydraContext, function: TaskFunction, config: DictConfig, terms: Terms, said: Path
    ) -> None:
        self.context, self.function, self.config, self.terms, self.said = context, function, config, terms, said
        self.running: dict[Any, _Job] = {}
        self.remote = _remote()

    def run(self, numbered: Sequence[tuple[int, list[str]]]) -> dict[int, JobReturn]:
        """What each job came to, by its number."""
        import ray

        coming = (self._job(*job) for job in numbered)  # composed one by one, while the first are under way
        again: list[_Job] = []
        returns: dict[int, JobReturn] = {}
        most = self.terms.workers or len(numbered)
        while len(returns) < len(numbered):
            new = None if len(self.running) == most else again.pop() if again else next(coming, None)
            if new is not None:
                try:
                    self.terms.allows(str(new.config.device))
                except InputError as error:
                    returns[new.number] = self._excused(new, "refused", task.line(error))
                    continue
                self.running[self._hand_out(new)] = new
            ended, _ = ray.wait(list(self.running), timeout=_OFTEN if new is None else 0)
            stems = {path.stem for path in self.said.iterdir()}  # of those that began: most may wait still
            numbers = {int(stem) for stem in stems if stem.isdecimal()}  # a shared file system leaves files of its own
            for job in self.running.values():
                if job.number in numbers:
                    self._tell(job)
            for ref in ended:
                job = self.running.pop(ref)
                found = self._ended(job, ref)
                if found is None:
                    again.append(job)
                else:
                    returns[job.number] = found
        return returns

    def stop(self) -> None:
        """End the jobs that run."""
        import ray

        for ref in self.running:
            ray.cancel(ref, force=True)
        if self.running:
            ray.wait(list(self.running), num_returns=len(self.running), timeout=_PATIENCE)
        for job in self.running.values():
            with suppress(OSError):  # there is something in it
                job.folder.rmdir()

    def _job(self, number: int, overrides: list[str]) -> _Job:
        config = self.context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        HydraConfig.instance().set_config(config)  # for ${hydra:...} in the folder's name
        folder = Path(str(config.hydra.sweep.dir)).absolute() / str(config.hydra.sweep.subdir)
        HydraConfig.instance().set_config(self.config)
        return _Job(number, config, folder)

    def _hand_out(self, job: _Job) -> Any:
        """Give the job to Ray."""
        from ray import cloudpickle

        dumps: Any = cloudpickle.dumps
        order = Order(
            job.number,
            Path.cwd(),
            list(sys.argv),
            _environ(job.config, job.number),
            self.said,
            JobRuntime.instance().get("name"),
            dumps((self.context, self.function, job.config)),
        )
        gpus = self.terms.gpus_of(str(job.config.device))
        room(self.terms, gpus)
        options = {"num_cpus": self.terms.cpus, "num_gpus": gpus, "max_retries": 0}
        named = self.remote.options(**options, name=f"toastproof job {job.number}")
        return named.remote(_ROOT, dumps(order))

    def _tell(self, job: _Job, last: bool = False) -> None:
        """Print what the job has said since: whole lines, each with its number."""
        for i, (path, stream) in enumerate(zip(files(self.said, job.number), (sys.stdout, sys.stderr), strict=True)):
            if not path.exists():
                continue
            with path.open("rb") as file:  # opened anew each time, as file systems that are shared want it
                file.seek(job.told[i])
                new = file.read()
            new = new if last else new[: new.rfind(b"\n") + 1]
            job.told[i] += len(new)
            if last:
                path.unlink()
                job.told[i] = 0
            for text in new.decode("utf-8", "replace").splitlines():
                if text.strip():
                    print(f"[{job.number}] {text}", file=stream, flush=True)

    def _ended(self, job: _Job, ref: Any) -> JobReturn | None:
        """What a job came to; None where its worker died and it is to be begun again."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        try:
            found = ray.get(ref)
        except RayTaskError as error:  # before the job, or of what it returned
            self._tell(job, last=True)
            cause = error.cause
            if isinstance(cause, ImportError):
                must = "hydra.launcher: every node must have toastproof, and what it needs, where the others have it"
                return self._excused(job, "refused", f"{must}; {in_one_line(cause)}")
            status = "refused" if isinstance(cause, task.refusals()) else "crashed"
            return self._excused(job, status, task.line(cause) if status == "refused" else f"{cause!r}")
        except RayError as error:
            self._tell(job, last=True)
            job.deaths += 1
            why = f"its worker died: {type(error).__name__}: {in_one_line(error).partition('. ')[0].rstrip('.')}"
            if job.deaths > self.terms.retries:
                often = "once" if job.deaths == 1 else f"{job.deaths} times"
                return self._excused(job, "crashed", f"{why} ({often}; hydra.launcher.retries={self.terms.retries})")
            again = f"begun again, {job.deaths} of {self.terms.retries}"
            print(f"toastproof: job {job.number}: {why}; {again}", file=sys.stderr, flush=True)
            return None
        self._tell(job, last=True)
        if isinstance(found, int):  # its report could not be written, and it has said why
            task.codes.append(found)
            return self._return(job, "complete")
        result: JobReturn = found
        if result.status == JobStatus.COMPLETED and result.return_value in CODES:
            task.codes.append(CODES[result.return_value])
        return result

    def _excused(self, job: _Job, status: str, text: str) -> JobReturn:
        """Tell and list a job that has no word of its own."""
        print(f"toastproof: job {job.number}: {text}", file=sys.stderr, flush=True)
        hidden = environment.hidden(job.config)
        Excuse(status, hidden.hide(text), hidden.hide(job.overrides)).write(job.folder)
        task.codes.append(CODES[status])
        return self._return(job, status)

    def _return(self, job: _Job, status: str) -> JobReturn:
        done = JobReturn(
            overrides=job.overrides, cfg=job.config, working_dir=str(Path.cwd()), status=JobStatus.COMPLETED
        )
        done.return_value = status
        return done


def _remote() -> Any:
    """The task, by its code rather than its name: a worker finds ours only after it was told where they are."""
    import ray

    def job(root: str, order: bytes) -> Any:
        import pickle
        import sys

        sys.path[:] = [root, *(p for p in sys.path if p != root)]
        from eval.cluster.job import work

        return work(pickle.loads(order))

    return ray.remote(job)


def _environ(config: DictConfig, number: int) -> dict[str, str]:
    """The variables that a job reads, which a cluster's workers do not have of themselves: see `Order`.

    Secrets are among them only where the job's configuration holds them anyway: there they must be known to be hidden.
    """
    text = OmegaConf.to_yaml(config)
    names = {*_ASKED.findall(text), *(n for n in os.environ if n.startswith("TOASTPROOF_")), *config.hydra.job.env_copy}
    hidden = environment.hidden(config).places
    names |= {place.removeprefix("${oc.env:").removesuffix("}") for secret, place in hidden.items() if secret in text}
    found = {name: os.environ[name] for name in names if name in os.environ}
    if sys.stdout.isatty():
        found["COLUMNS"] = str(shutil.get_terminal_size().columns - len(f"[{number}] "))
    return found
