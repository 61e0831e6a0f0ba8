"""What Hydra calls for each job. Kept out of `__main__`, so that the workers of any launcher can import it."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf.errors import OmegaConfBaseException

from eval import excuse
from eval.errors import TRACEBACK
from eval.importing import importing
from eval.slips import remedy

codes: list[int] = []
"""Exit codes of this process's jobs that were refused or failed."""
begun: list[tuple[bool, Path]] = []
"""The last job of this process: whether it is one of a sweep, and the folder of that, or its own."""
_NOISE = (  # lines of Hydra and OmegaConf that help nobody here
    "object_type=",
    "reference_type=",
    "provider=",
    "Config search path",
    "To append to your config",
    "Set the environment variable",
    "See https://",
)
log = logging.getLogger(__name__)


def refusals() -> tuple[type[Exception], ...]:
    """What is told in one line: bad input, and a machine that refuses."""
    kinds: tuple[type[Exception], ...] = (HydraException, OmegaConfBaseException, OSError)
    if "torch" not in sys.modules:  # nothing of ours has begun
        return kinds
    from eval.errors import InputError
    from models.errors import ModelError

    return (*kinds, InputError, ModelError)


def line(error: BaseException) -> str:
    """An error in one line."""
    parts = [str(error)]
    cause = error.__cause__
    if cause is not None and type(error).__module__.startswith("hydra"):
        parts.append(str(cause))
    if isinstance(error, OSError) and error.strerror:
        parts = [f"{error.filename or 'the run'}: {error.strerror}"]
    lines = [text.strip() for part in parts for text in part.splitlines()]
    keep = [text for text in lines if text and not text.startswith(_NOISE)]
    text = "; ".join(dict.fromkeys(keep)) or type(error).__name__
    if isinstance(error, OverrideParseException):
        text += "; write key=value, and lists in quotes without blanks: 'attack=[pgd,fgsm]'"
    text = remedy(text, Path(__file__).parent.parent / "conf", sys.argv[1:])
    if "full_key" in text:
        text += "; toastproof --help lists the keys"
    return text.replace(":; ", ": ").replace("; full_key: ", ", full key ")


def leave_nothing(folder: Path) -> None:
    """Remove the folder that Hydra made for a run that was refused, and those above it, where nothing is in them."""
    here = Path.cwd()
    while folder.is_dir() and folder != here and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
        if not folder.is_relative_to(here):
            return


def forget() -> None:
    """Begin anew: no job of this process has begun or failed."""
    codes.clear()
    begun.clear()


class Terminated(KeyboardInterrupt):
    """The system wants the process to end, as a cluster does before it takes a machine away."""


def terminate(number: int, frame: object) -> None:
    """Take a signal to end as an interrupt, so that what there is gets its report."""
    raise Terminated


def interruption() -> str:
    """What to say to someone who interrupted: how to go on, where something was written."""
    if not begun and {"-m", "--multirun"} & set(sys.argv):  # the jobs may have begun in other processes
        return "interrupted; the same command with the same run.dir goes on with what was begun"
    if not begun or not (begun[0][1] / (excuse.PLAN if begun[0][0] else "run.json")).exists():
        return "interrupted before there was a record; networks that were trained are kept, the same command finds them"
    folder = begun[0][1]
    if folder.is_relative_to(Path.cwd()):
        folder = folder.relative_to(Path.cwd())
    return f"interrupted; the same command with {shlex.quote(f'run.dir={folder}')} goes on"


def _partial(folder: Path, sweep: bool, records: bool) -> None:
    """Have reports written on what there is of a job that was interrupted, and of its sweep: Hydra has none written.

    Of a sweep whose jobs make `records` there is one even before the first of them.
    """
    from hydra.core.utils import JobReturn, JobStatus
    from hydra.utils import instantiate

    cfg: Any = HydraConfig.instance().cfg
    ended = JobReturn(status=JobStatus.COMPLETED)
    ended.return_value = "interrupted"
    for node in cfg.hydra.callbacks.values():
        callback = instantiate(node)
        with suppress(SystemExit):  # it has said what is in the way, and the exit status is that of the interrupt
            if (folder / "run.json").exists():
                callback.on_job_end(config=cfg, job_return=ended)
            if sweep:
                callback.on_multirun_end(config=cfg, interrupted=records)


def _hide(cfg: Any, text: str, overrides: list[str]) -> tuple[str, list[str]]:
    """What a job leaves behind, without values from the environment."""
    from eval import environment

    hidden = environment.hidden(cfg)
    return hidden.hide(text), hidden.hide(overrides)


def _other(cfg: Any, folder: Path, overrides: list[str]) -> None:
    """Do what is no run: it leaves no folder behind unless it writes something there.

    Raises:
        InputError, models.errors.ModelError: bad input.
    """
    from rich.console import Console

    from eval.classify import classify
    from eval.errors import InputError
    from eval.export import export_network
    from eval.visualise import visualise

    if cfg.task == "visualise":
        visualise(cfg, folder, Console(), overrides)
    leave_nothing(folder)
    if cfg.task == "classify":
        classify(cfg, Console(), overrides)
    elif cfg.task == "export":
        export_network(cfg, Console())
    elif cfg.task != "visualise":
        raise InputError(f"task: must be run, classify, visualise or export, got {cfg.task}")


def task(cfg: Any) -> str:
    """Do one job.

    Returns:
        Its status: `complete`, `failed` (an attack crashed), `refused`, `crashed`, or `helped` (another process leads).
    """
    with importing():
        from rich.console import Console

        from eval.run import run

    hydra = HydraConfig.get()
    folder, sweep = Path(hydra.runtime.output_dir), hydra.mode == RunMode.MULTIRUN
    overrides = [*hydra.overrides.task, *(o for o in hydra.overrides.hydra if o.startswith("hydra.run.dir="))]
    begun[:] = [(sweep, Path(hydra.sweep.dir).absolute() if sweep else folder)]
    if sweep:
        print(f"\nJob {hydra.job.num}: {' '.join(hydra.overrides.task)}", flush=True)
    try:
        if cfg.task != "run":
            _other(cfg, folder, hydra.overrides.task)
            return "complete"
        about = run(cfg, folder, overrides, Console())
    except refusals() as error:
        leave_nothing(folder)
        if os.environ.get(TRACEBACK):
            raise
        text = line(error)
        print(f"toastproof: {f'job {hydra.job.num}: ' if sweep else ''}{text}", file=sys.stderr)
        if sweep:  # the other jobs go on
            excuse.Excuse("refused", *_hide(cfg, text, overrides)).write(folder)
        codes.append(2)
        return "refused"
    except KeyboardInterrupt:
        leave_nothing(folder)
        _partial(folder, sweep, cfg.task == "run")
        raise
    except Exception as error:
        if not sweep:
            raise
        log.exception("job %s crashed", hydra.job.num)
        excuse.Excuse("crashed", *_hide(cfg, f"{type(error).__name__}: {line(error)}", overrides)).write(folder)
        codes.append(1)
        return "crashed"
    if sweep:
        (folder / excuse.FILE).unlink(missing_ok=True)
    if about.status == "failed":
        codes.append(1)
        print(f"toastproof: {about.warnings[-1]}", file=sys.stderr)
    return about.status
