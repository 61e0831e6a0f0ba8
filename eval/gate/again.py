"""A baseline's own command, run anew on the networks of today, in a process of its own."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from eval.errors import InputError
from eval.gate.baseline import Baseline

_ROOT = Path(__file__).resolve().parents[2]
_START = "import sys; sys.path.insert(0, {root!r}); sys.argv[0] = 'toastproof'; from eval.__main__ import main; main()"
_KEY = re.compile(r"[+~]*([^=]*)")
_OTHER = "holds another run"  # says `eval.run` of a folder
_SHOWN = 300  # characters of what a crash said


def overrides(made: Sequence[str], more: Sequence[str] = ()) -> list[str]:
    """What the command line said, and on top of it more; of the same key the last.

    Left out is where the run was kept, and who did the work.

    >>> overrides(["model=cnn", "seed=1", "run.dir=runs/1", "run.backend=ray"], ["seed=2"])
    ['model=cnn', 'seed=2']
    """
    found: dict[str, str] = {}
    for text in (*made, *more):
        name = _KEY.match(text)[1]  # type: ignore[index]
        found.pop(name, None)
        found[name] = text
    return [text for name, text in found.items() if name != "hydra.run.dir" and not name.startswith("run.")]


def place(baseline: Path, home: Path) -> Path:
    """The folder for runs of a baseline below the folder `home`, which version control is told to pass over."""
    cache = home / ".toastproof"
    cache.mkdir(exist_ok=True)
    (cache / ".gitignore").write_text("*\n", encoding="utf-8")
    return cache / baseline.stem


def again(
    baseline: Baseline,
    folder: Path,
    more: Sequence[str],
    home: Path,
    anew: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Run it into a folder; what is there of the same run is gone on with.

    Args:
        baseline: remembers the command.
        folder: of the run.
        more: overrides on top of that, several in a text as a shell has them.
        home: where relative paths begin.
        anew: whether to replace a run of something else, such as other weights, instead of refusing.
        tell: is told the command, and where its output goes.

    Raises:
        InputError: the command refused, or crashed; in its own words.
    """
    try:
        added = [word for text in more for word in shlex.split(text)]
    except ValueError as error:
        raise InputError(f"--toastproof-config: must be overrides as a shell has them, got {error}") from None
    words = overrides(baseline.snapshot.made["overrides"], added)
    log = folder.with_name(f"{folder.name}.log")
    folder.parent.mkdir(parents=True, exist_ok=True)
    tell(f"evaluating, as by: {shlex.join(['toastproof', *words])} (output: {log})")
    status, said = _run(words, folder, home, log)
    if status == 2 and _OTHER in said and anew:
        aside = folder.with_name(f".{folder.name}.before")
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
        status, said = _run(words, folder, home, log)
        if status == 2:  # what was there is not lost to a request that makes no sense
            shutil.rmtree(folder, ignore_errors=True)
            aside.rename(folder)
        shutil.rmtree(aside, ignore_errors=True)
    if status == 2:
        raise InputError(said)
    if status not in (0, 1):  # 1: an attack crashed, which the run's header says
        raise InputError(f"{baseline.snapshot.where}: its command must end, but crashed: {said}; see {log}")


def _run(words: Sequence[str], folder: Path, home: Path, log: Path) -> tuple[int, str]:
    """The exit status of a run, and the last line that it said."""
    quoted = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    code = _START.format(root=str(_ROOT))
    with log.open("wb") as output:
        done = subprocess.run(
            [sys.executable, "-P", "-c", code, *words, f"hydra.run.dir='{quoted}'"],
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return done.returncode, last.removeprefix("toastproof: ")[:_SHOWN]
