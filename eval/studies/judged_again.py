"""The command that judges a saved picture again: what the networks of its run say of the file. Free of torch."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from eval.records import Run

_PLAIN = re.compile(r"[A-Za-z0-9_./:+-]+(?: [A-Za-z0-9_./:+-]+)*")  # what Hydra takes as it stands
_OF_THE_RUN = ("task", "image", "hydra", "data.limit")
_OF_THE_SEARCH = ("attack", "study", "goal", "title", "examples", "transfer", "controls")
_OF_BOTH = ("threat", "access", "queries", "train")  # networks may be trained for it, or attacks chosen to fit it


def command(run: Run, picture: Path) -> str:
    """The command line, to be given where this process runs.

    What the run's own said of data and networks stands in it, so that the same networks see the picture as it is; what
    it said of the search does not, unless they may depend on it.
    """
    said = [override for override in run.overrides if not _of(override, _OF_THE_RUN)]
    if not any(_of(override, _OF_BOTH) for override in said):
        # study= as a whole says which data and networks there are
        said = [o for o in said if o.startswith("study=") or not _of(o, _OF_THE_SEARCH)]
    return shlex.join(["toastproof", "task=classify", f"image={_value(nearby(picture))}", *said])


def nearby(path: Path) -> Path:
    """The path as seen from the current folder, if it is below."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _of(override: str, keys: tuple[str, ...]) -> bool:
    key = override.partition("=")[0].lstrip("+~")
    return key in keys or re.split(r"[.@/]", key)[0] in keys


def _value(path: Path) -> str:
    text = path.as_posix()
    return text if _PLAIN.fullmatch(text) else "'" + text.replace("'", "\\'") + "'"
