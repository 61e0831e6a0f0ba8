"""The command `toastproof`. Torch and the rest are imported once there is something to compute."""

from __future__ import annotations

import os
import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from signal import SIGINT, SIGTERM

_ROOT = Path(__file__).resolve().parent.parent
_ONLY_TEXT = ("--hydra-help", "--info", "--shell-completion", "-sc")  # what needs no schemas


def _own_packages() -> None:
    """Put our packages first, and stop where another `models` or `attacks` was imported in their place."""
    sys.path[:] = [str(_ROOT), *(p for p in sys.path if p != str(_ROOT))]
    for name in ("attacks", "models", "conf", "reports"):
        spec = find_spec(name)
        found = Path(spec.origin or "") if spec else Path()
        if not found.is_relative_to(_ROOT):
            print(f"toastproof: the package {name!r} must be its own, got {found}; move that one", file=sys.stderr)
            raise SystemExit(2)


def main() -> None:
    """Run the command line."""
    _own_packages()
    arguments = sys.argv[1:]
    if "--help" in arguments or "-h" in arguments:
        from eval.usage import usage

        print(usage(_ROOT / "conf", arguments))
        return
    if "--version" in arguments:
        from eval import __version__

        print(f"toastproof {__version__}")
        return
    from eval.importing import importing

    with importing():
        import hydra

        from eval import task

    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        os.environ[task.TRACEBACK] = "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints and exits by itself, with status 1
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
        if os.environ.get(task.TRACEBACK):
            raise
        print(f"toastproof: {task.line(error)}", file=sys.stderr)
        raise SystemExit(2) from None
    if task.codes:
        raise SystemExit(max(task.codes))


if __name__ == "__main__":
    main()
