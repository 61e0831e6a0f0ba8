"""What a worker in another process, or on another machine, is sent of a run, and how it makes a part of it.

A worker is sent the plan, the samples, what the networks say of them unperturbed, and the files of those that were
trained here. It builds everything else as the run itself did, so that no network is ever pickled, and the name of a
part says whether both mean the same thing: it is a hash of all that decides its records. What a part consists of goes
back as files, so that nobody has to share a disk. Files that a configuration names (`model.path`, `model.weights`,
`data.root`) must be at the same place wherever there is a worker.
"""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

from rich.console import Console

from eval import device as devices
from eval import speed
from eval.benches import benches
from eval.clean import Clean, Once
from eval.config import Plan
from eval.craft import warm_up
from eval.data import Data
from eval.errors import InputError
from eval.intake import parts
from eval.jobs import Job, jobs
from eval.make import make
from eval.networks import enter
from eval.records import Run, example_file, part_file
from eval.records import replace as put
from models.errors import ModelError

Files = dict[str, bytes]
"""The content of files by their paths in a run's folder."""
Batches = Mapping[str, Mapping[str, Any]]
"""What is said of how many images networks are shown at once, by their names."""


@dataclass(frozen=True)
class Parcel:
    """What a worker needs to know of a run.

    Attributes:
        plan: of the run.
        about: its header.
        data: its samples.
        clean: what its networks say of them, as `eval.clean.Once.known`.
        checkpoints: files of the networks that were trained here, by name.
        cwd: the folder that relative paths begin in.
        sharers: workers that share the memory of a node (`cpu`) or of a GPU (`cuda`); none where nobody says.
    """

    plan: Plan
    about: Run
    data: Data
    clean: Mapping[tuple[str, str], Clean]
    checkpoints: Mapping[str, bytes]
    cwd: str
    sharers: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Plan, about: Run, data: Data, once: Once) -> Parcel:
        """What workers need of a run whose networks are ready."""
        trained = {
            model["trained"]["checkpoint"] for model in about.models if (model["trained"] or {}).get("checkpoint")
        }
        files = {name: (plan.checkpoints / name).read_bytes() for name in sorted(trained)}
        return cls(plan, about, data, once.known, files, os.getcwd())  # noqa: PTH109 - a word, not a path to work with


@dataclass(frozen=True)
class Sent:
    """What a worker sends back.

    Attributes:
        files: of the part.
        wrong: what crashes said.
        device: that did it, in words.
        refused: why it could not begin, in one line; empty where it could.
        batches: what `eval.batches.Batch.about` says of its networks' batches, by name.
    """

    device: str
    files: Files = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    refused: str = ""
    batches: Batches = field(default_factory=dict)

    def unpack(self, folder: Path) -> None:
        """Put the files into a run's folder, the records last: where they are, all is."""
        for name in sorted(self.files, key=lambda name: (name.startswith("parts/"), name)):
            content = self.files[name]
            put(folder / name, lambda beside, content=content: beside.write_bytes(content))  # type: ignore[misc]


def before(job: Job, folder: Path) -> Files:
    """The files of the part that a job builds on, as far as they are there."""
    if job.after is None:
        return {}
    found = [path for path in (part_file(folder, job.after), example_file(folder, job.after)) if path.exists()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


class Workshop:
    """A run as a worker has it: its networks on the worker's device, and its jobs by the names of their parts.

    Args:
        parcel: what was sent.

    Attributes:
        batches: how many images its networks are shown at once, by their names.

    Raises:
        InputError, ModelError: a file that the configuration names is not here, or the device.
    """

    def __init__(self, parcel: Parcel) -> None:
        if Path(parcel.cwd).is_dir():
            os.chdir(parcel.cwd)
        self.device = devices.choose(parcel.plan.device)
        speed.keep_memory(self.device)
        with _scratch() as place:
            for name, content in parcel.checkpoints.items():
                (place / name).write_bytes(content)
            sharers = parcel.sharers.get(self.device.type, 1)
            plan = replace(parcel.plan, checkpoints=place, tensorboard=False, sharers=sharers)
            cohorts, trials = parts(plan, parcel.data)
            quiet = Console(quiet=True)
            entrants = enter(plan, cohorts, parcel.data.test, self.device, quiet, place)
        self.batches = {e.name: e.forms.batch for e in entrants}
        once = Once(plan.seed, self.device, parcel.clean)
        fingerprints = {e.name: e.fingerprint for e in entrants}
        self._work = {e.name: e.work for e in entrants}
        self._jobs: dict[str, Job] = {
            job.part: job
            for bench, trial in benches(plan, trials, entrants, once)
            for job in jobs(plan, parcel.about, bench, trial, fingerprints)
        }
        self._warm: set[str] = set()

    def make(self, part: str, files: Files) -> Sent:
        """Make a part, given the files of the one that it builds on.

        Raises:
            InputError: there is no such part here.
        """
        if part not in self._jobs:
            raise InputError(
                "run.backend: a worker must have the code, the files and the kind of processor of the run itself, but "
                "makes other parts of them; install the same versions everywhere, or write precision=float32"
            )
        job = self._jobs[part]
        speed.share_out(self._work[job.unit.source], self.device)
        if job.unit.source not in self._warm:
            warm_up(job.bench, job.unit.source)
            self._warm.add(job.unit.source)
        with _scratch() as folder:
            Sent("", files).unpack(folder)
            wrong = make(job, folder, lambda _: None)
            made = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
            new = {name: path.read_bytes() for name, path in made.items() if name not in files}
        return Sent(self.where, new, wrong, batches={name: batch.about() for name, batch in self.batches.items()})

    @property
    def where(self) -> str:
        """The device, in words."""
        return devices.describe(self.device)


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder of the worker's own, for as long as it is needed.

    Raises:
        OSError: without the name of a file, where one was missed in it: nobody else has named that one.
    """
    place = tempfile.gettempdir()
    try:
        with TemporaryDirectory() as place:
            yield Path(place)
    except OSError as error:
        if isinstance(error.filename, str) and Path(error.filename).is_relative_to(place):
            raise OSError(error.errno, f"{error.strerror}: {error.filename}") from error
        raise


_NOT_HERE = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)
"""What a file that the configuration names, and that is none here, comes to."""
_workshops: dict[str, Workshop] = {}
"""Of this process: the one that it works for now, by the name of the run."""


def serve(name: str, fetch: Any, part: str, files: Files, batches: Batches = MappingProxyType({})) -> Sent:
    """Make a part in a worker's process, which keeps what it has built for the next one.

    Args:
        name: of the run, another for each.
        fetch: returns the `Parcel`; called once a process.
        part: to be made.
        files: of the part that it builds on.
        batches: what is left of them where memory ran out in the run so far, here or elsewhere.

    Raises:
        OSError: its machine failed the worker, as with a full disk; another one may do better.
    """
    where = platform.node()
    try:
        if name not in _workshops:
            _workshops.clear()
            _workshops[name] = Workshop(fetch())
        workshop = _workshops[name]
        for network, left in batches.items():
            workshop.batches[network].follow(left)
        return workshop.make(part, files)
    except (InputError, ModelError) as error:
        return Sent(where, refused=f"on {where}: {error}")
    except OSError as error:
        if isinstance(error, _NOT_HERE) and error.filename is not None:  # without, it is for want of a temporary folder
            return Sent(where, refused=f"on {where}: {error}")
        raise OSError(f"on {where}: {error}") from error
