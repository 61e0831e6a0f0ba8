"""The command `toastproof`. Torch and the rest are imported once there is something to compute."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from signal import SIGINT, SIGTERM

from eval.errors import TRACEBACK

_ROOT = Path(__file__).resolve().parent.parent
_ONLY_TEXT = ("--hydra-help", "--info", "--shell-completion", "-sc")  # what needs no schemas
_SWEEP = ("-m", "--multirun")
_FULL = "HYDRA_FULL_ERROR"  # else Hydra prints and exits by itself, with status 1


def _own_packages() -> None:
    """Put our packages first, and stop where another `models` or `attacks` was imported in their place."""
    sys.path[:] = [str(_ROOT), *(p for p in sys.path if p != str(_ROOT))]
    for name in ("attacks", "models", "conf", "reports"):
        spec = find_spec(name)
        found = Path(spec.origin or "") if spec else Path()
        if not found.is_relative_to(_ROOT):
            print(f"toastproof: the package {name!r} must be its own, got {found}; move that one", file=sys.stderr)
            raise SystemExit(2)


def _sweep_first(arguments: list[str]) -> list[str]:
    """The same with the word for a sweep before all else: behind an override Hydra's parser takes no other."""
    return sorted(arguments, key=lambda argument: argument not in _SWEEP)


def main() -> None:
    """Run the command line."""
    _own_packages()
    arguments = sys.argv[1:] = _sweep_first(sys.argv[1:])
    if "--help" in arguments or "-h" in arguments:
        from eval.usage import usage

        print(usage(_ROOT / "conf", arguments))
        return
    if "--version" in arguments:
        from eval import __version__

        print(f"toastproof {__version__}")
        return
    with _full_errors():
        _run(arguments)


@contextmanager
def _full_errors() -> Iterator[None]:
    """Have Hydra raise its errors; a user who asks it for them gets ours too.

    The variables are as before in the end: who calls this once more, or begins a process, has not asked for anything.
    """
    before = {name: os.environ.get(name) for name in (_FULL, TRACEBACK)}
    if before[_FULL] == "1":
        os.environ[TRACEBACK] = "1"
    os.environ[_FULL] = "1"
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _run(arguments: list[str]) -> None:
    """Have Hydra do what is asked."""
    from eval.importing import importing

    with importing():
        import hydra

        from eval import task

    task.forget()
    signal.signal(SIGTERM, task.terminate)
    if not any(argument in _ONLY_TEXT for argument in arguments):
        with importing():
            from eval.schema import register

            register()
    try:
        hydra.main(version_base="1.3", config_path=str(_ROOT / "conf"), config_name="config")(task.task)()
    except KeyboardInterrupt as interrupt:
        print(f"toastproof: {task.interruption()}", file=sys.stderr)
        raise SystemExit(128 + (SIGTERM if isinstance(interrupt, task.Terminated) else SIGINT)) from None
    except task.refusals() as error:
        if os.environ.get(TRACEBACK):
            raise
        print(f"toastproof: {task.line(error)}", file=sys.stderr)
        raise SystemExit(2) from None
    if task.codes:
        raise SystemExit(max(task.codes))


if __name__ == "__main__":
    main()
