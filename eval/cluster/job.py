"""One job of a sweep in a worker of Ray: the state that Hydra and the job find in the launching process."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hydra import version
from hydra.core.utils import JobReturn, JobRuntime, run_job, setup_globals

from eval.errors import InputError


@dataclass(frozen=True)
class Order:
    """What a worker is told.

    Attributes:
        number: of the job.
        cwd: the folder that relative paths start from.
        arguments: of the command line, from which messages say what was meant.
        environ: variables that the job reads.
        said: the folder for its lines, see `files`.
        name: of the application.
        job: context, task and configuration, pickled; the configuration was composed where the command was given.
    """

    number: int
    cwd: Path
    arguments: Sequence[str]
    environ: Mapping[str, str]
    said: Path
    name: str
    job: bytes


def files(folder: Path, number: int) -> tuple[Path, Path]:
    """Where a job's standard output and standard error are written to."""
    return folder / f"{number}.out", folder / f"{number}.err"


def work(order: Order) -> JobReturn | int:
    """Do the job; what it came to, or the exit status where its report ended it.

    Raises:
        InputError: this machine has not the folders.
    """
    for folder in (order.cwd, order.said.parent):
        if not folder.is_dir():
            raise InputError(
                f"hydra.launcher: every node must have the folder {folder}, on a file system that they share; "
                f"{os.uname().nodename} has none"
            )
    os.chdir(order.cwd)
    sys.argv[:] = order.arguments
    os.environ.update(order.environ)
    setup_globals()
    version.setbase("1.3")
    JobRuntime.instance().set("name", order.name)
    with _written(*files(order.said, order.number)):
        context, task, config = pickle.loads(order.job)
        try:
            return run_job(
                hydra_context=context,
                task_function=task,
                config=config,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
            )
        except SystemExit as stop:  # would end the worker, and look like its death
            return stop.code if isinstance(stop.code, int) else 1


@contextmanager
def _written(out: Path, err: Path) -> Iterator[None]:
    """Append what this process says, libraries in C and the last words before it dies too, to two files."""
    kept = []
    for stream, path in ((sys.stdout, out), (sys.stderr, err)):
        stream.flush()
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        kept.append((stream, stream.fileno(), os.dup(stream.fileno())))
        os.dup2(target, stream.fileno())
        os.close(target)
    try:
        yield
    finally:
        for stream, number, before in kept:
            stream.flush()
            os.dup2(before, number)
            os.close(before)
