"""The folder that a run or a sweep is written to: whether it may be, before Hydra makes it. Free of torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import OmegaConf

from eval import excuse, task
from eval.alive import alive
from eval.errors import InputError
from eval.writable import unwritable


def check(folder: str, sweep: bool) -> None:
    """Refuse a folder that a run, or a sweep, cannot have for itself.

    Raises:
        InputError: it has no name, cannot be written, or a run and a sweep would be mixed.
    """
    if not folder:
        raise InputError("run.dir: must name a folder, got an empty text; write run.dir=FOLDER, or leave it out")
    path = Path(folder)
    if why := unwritable(path):
        raise InputError(f"run.dir: must be a folder that can be written, got {folder} ({why}); name another")
    if sweep and (found := _of_a_run(path)):
        raise InputError(
            f"run.dir: must be a folder without a run for a sweep, but {folder} holds {found}; choose another "
            "folder, or delete it"
        )
    if not sweep and (found := _of_a_sweep(path)):
        raise InputError(
            f"run.dir: must be a folder without a sweep for a run, but {folder} holds {found}; choose another "
            "folder, write -m to go on with the sweep, or delete it"
        )


def _of_a_run(folder: Path) -> str:
    """What shows that a run was begun in a folder, in words; empty where nothing does."""
    for pattern in ("run.json", "parts/*.parquet"):
        for path in folder.glob(pattern):
            return str(path.relative_to(folder))
    return "the lock of a process at work" if alive(folder) else ""


def _of_a_sweep(folder: Path) -> str:
    """What shows that a sweep was begun in a folder, in words; empty where nothing does."""
    if (folder / excuse.PLAN).exists():
        return excuse.PLAN
    found = (path for name in ("run.json", excuse.FILE) for path in folder.glob(f"*/{name}"))
    return next((f"{path.parent.name}/{path.name}" for path in found if path.parent.name.isdecimal()), "")


class Guard(Callback):
    """Checks the folder of a run or of a sweep, before anything is loaded or written.

    Hydra turns an `Exception` of a callback into a warning, so a refusal leaves here as SystemExit.
    """

    def on_run_start(self, config: Any, **kwargs: Any) -> None:
        """Check the folder of a run."""
        _guard(config, "hydra.run.dir", sweep=False)

    def on_multirun_start(self, config: Any, **kwargs: Any) -> None:
        """Check the folder of a sweep, which an interrupt names from now on."""
        task.begun[:] = [(True, Path(_guard(config, "hydra.sweep.dir", sweep=True)).absolute())]


def _guard(config: Any, key: str, sweep: bool) -> str:
    """The folder that `key` names, if it may be written."""
    state = HydraConfig.instance()
    before = state.cfg
    state.set_config(config)  # as when Hydra makes the folder, whose name may hold ${hydra:...}
    try:
        folder = str(OmegaConf.select(config, key))
        check(folder, sweep)
    except InputError as error:
        print(f"toastproof: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    finally:
        state.cfg = before
    return folder
