"""The command `toastproof`. Torch and the rest are imported once there is something to compute."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent
_ONLY_TEXT = ("--help", "-h", "--hydra-help", "--version", "--info", "--shell-completion", "-sc")
_TRACE = "TOASTPROOF_TRACEBACK"  # set by a user who asks Hydra for full errors
_failed: list[int] = []  # exit codes of jobs that were refused or failed


def _own_packages() -> None:
    """Put our packages first, and stop where another `models` or `attacks` was imported in their place."""
    sys.path[:] = [str(_ROOT), *(p for p in sys.path if p != str(_ROOT))]
    for name in ("attacks", "models", "conf", "reports"):
        spec = find_spec(name)
        found = Path(spec.origin or "") if spec else Path()
        if not found.is_relative_to(_ROOT):
            print(f"toastproof: the package {name!r} must be its own, got {found}; move that one", file=sys.stderr)
            raise SystemExit(2)


def _task(cfg: Any) -> str:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from rich.console import Console

    from eval.run import run

    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    try:
        about = run(cfg, folder, [*hydra.overrides.task, *_folder_override(hydra)], Console())
    except _refusals() as error:
        _leave_nothing(folder)
        if os.environ.get(_TRACE):
            raise
        sweep = hydra.mode == RunMode.MULTIRUN
        line = _line(error)
        print(f"toastproof: {f'job {hydra.job.num}: ' if sweep else ''}{line}", file=sys.stderr)
        if sweep:  # the other jobs go on, and the combined report tells of this one
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "error.txt").write_text(line + "\n", encoding="utf-8")
        _failed.append(2)
        return "refused"
    if about.status == "failed":
        _failed.append(1)
        print(f"toastproof: {about.warnings[-1]}", file=sys.stderr)
    return about.status


def _folder_override(hydra: Any) -> list[str]:
    return [o for o in hydra.overrides.hydra if o.startswith("hydra.run.dir=")]


def _leave_nothing(folder: Path) -> None:
    """Remove the folder that Hydra made for a run that was refused, if nothing is in it."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _refusals() -> tuple[type[Exception], ...]:
    """What is told in one line: bad input, and a machine that refuses."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    if "models.errors" not in sys.modules and "torch" not in sys.modules:
        return (HydraException, OmegaConfBaseException, OSError)
    from eval.errors import InputError
    from models.errors import ModelError

    return (HydraException, OmegaConfBaseException, InputError, ModelError, OSError)


def _line(error: BaseException) -> str:
    """An error in one line."""
    parts = [str(error)]
    cause = error.__cause__
    if cause is not None and type(error).__module__.startswith("hydra"):
        parts.append(str(cause))
    if isinstance(error, OSError) and error.strerror:
        parts = [f"{error.filename or 'the run'}: {error.strerror}"]
    lines = [line.strip() for part in parts for line in part.splitlines()]
    keep = [line for line in lines if line and not line.startswith(("object_type=", "reference_type="))]
    return "; ".join(dict.fromkeys(keep)) or type(error).__name__


def main() -> None:
    """Run the command line."""
    _own_packages()
    import hydra

    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        os.environ[_TRACE] = "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints and exits by itself, with status 1
    _failed.clear()
    if not any(a in _ONLY_TEXT for a in sys.argv[1:]):
        from eval.schema import register

        register()
    try:
        hydra.main(version_base="1.3", config_path=str(_ROOT / "conf"), config_name="config")(_task)()
    except KeyboardInterrupt:
        print("toastproof: interrupted; the same command with the same hydra.run.dir goes on", file=sys.stderr)
        raise SystemExit(130) from None
    except _refusals() as error:
        if os.environ.get(_TRACE):
            raise
        print(f"toastproof: {_line(error)}", file=sys.stderr)
        raise SystemExit(2) from None
    if _failed:
        raise SystemExit(max(_failed))


if __name__ == "__main__":
    main()
