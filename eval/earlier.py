"""The run that a folder holds already: whether it is the same one, and what of it is whole."""

from __future__ import annotations

import io
import os
import tempfile
import zipfile
from collections.abc import Iterable, Sequence, Set
from pathlib import Path
from typing import Any

from eval.errors import InputError
from eval.jobs import VERSIONS
from eval.parts import failed, left_behind, part_file, whole_part
from eval.records import Run

_SAME_RECORDS = ("batch_size", "device", "title", "paths", "examples", "tensorboard", "run", "precision")
_COUNT = slice(-12, -10)  # of the files in an archive, which Python's reader passes over


def _identity(about: Run) -> dict[str, Any]:
    """What two runs must share for the records of one to belong to the other, by a name to tell the user."""
    config = {k: v for k, v in about.config.items() if k not in _SAME_RECORDS}
    config["data"] = {k: v for k, v in config["data"].items() if k != "root"}
    return {
        **config,
        "run.shard": about.config.get("run", {}).get("shard"),
        "the data themselves": about.data["fingerprint"],
        "the groups themselves": about.data.get("groups"),
        "versions": {k: v for k, v in about.versions.items() if k in VERSIONS},
        "commit": about.commit,
    }


def earlier(folder: Path, about: Run) -> Run | None:
    """The run that is to be gone on with in this folder, if any.

    Raises:
        InputError: the folder holds another run, whose records would be mixed with those of this one.
    """
    if not (folder / "run.json").exists():
        return None
    found = Run.read(folder)
    mine, theirs = _identity(about), _identity(found)
    _refuse(folder, sorted(k for k in mine.keys() | theirs.keys() if mine.get(k) != theirs.get(k)))
    return found


def same_networks(folder: Path, models: Sequence[dict[str, Any]], before: Run) -> None:
    """Refuse to go on with other networks, or with gradients of another precision.

    Raises:
        InputError: they are others.
    """
    if [m["fingerprint"] for m in models] != [m["fingerprint"] for m in before.models]:
        _refuse(folder, ["the networks themselves"])
    for mine, theirs in zip(models, before.models, strict=True):
        if mine["gradients"] != theirs.get("gradients"):
            raise InputError(
                f"run.dir: {folder} holds a run with gradients of {mine['name']} in {theirs['gradients']}, which are "
                f"in {mine['gradients']} on this machine; write precision={theirs['gradients']}, or choose another "
                "folder"
            )


def strangers(folder: Path, own: Set[str]) -> None:
    """Refuse a folder with parts of another run, where no header says what they are.

    Args:
        folder: of the run.
        own: the names of its parts.

    Raises:
        InputError: there are others; reports would count them.
    """
    there = {path.stem for path in (folder / "parts").glob("*.parquet")}
    if others := sorted(there - own - {failed(part) for part in own}):
        raise InputError(
            f"run.dir: {folder} holds records of another run ({len(others)} parts, {others[0]} is one) without a "
            "run.json; choose another folder, or delete them"
        )


def mended(folder: Path) -> list[str]:
    """Remove files that are no longer whole, with the parts that they belong to, so that these are made anew.

    A part is whole or absent as far as this program goes; disks and people do otherwise.

    Returns:
        A line for each file that was removed.
    """
    found = torn(folder)
    for path in found:
        path.unlink()
        part_file(folder, path.stem).unlink(missing_ok=True)
    return [f"{path.relative_to(folder)} was not whole and is made anew" for path in found]


def torn(folder: Path, among: Iterable[Path] | None = None) -> list[Path]:
    """The files that are no longer whole, of all or of those that are given; one that is gone is none of them."""
    if among is None:
        parts = sorted((folder / "parts").glob("*.parquet"))
        among = [*parts, *(path for kind in ("examples", "measured") for path in sorted((folder / kind).glob("*.npz")))]
    return [path for path in among if (_torn_part(folder, path) if path.suffix == ".parquet" else _torn(path))]


def written_now(folder: Path) -> int:
    """When a file that is written in a folder at this moment was written, in ns.

    By the clock of its file system, as for all files there: those of the machines that write them may differ.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_mtime_ns


def swept(folder: Path, began: int) -> None:
    """Remove what processes that were killed began to write, where the file is there by now: once all is written.

    What was written since this run began is left alone, for another process may be at it. So is what belongs to
    reports, which may be written at any time.

    Args:
        folder: of the run.
        began: what `written_now` said when this process began.
    """
    begun = left_behind(folder, "run.json*")
    for kind in ("parts", "examples", "measured", "pictures"):
        begun += left_behind(folder / kind)
    for path in begun:
        try:
            old = path.stat().st_mtime_ns < began
        except FileNotFoundError:  # it has got its name by now
            continue
        if old:
            path.unlink(missing_ok=True)


def _torn_part(folder: Path, path: Path) -> bool:
    return not whole_part(folder, path.stem) and path.exists()


def _torn(path: Path) -> bool:
    """Whether a file of arrays is not what was written: its sums tell, and the number of arrays at its end."""
    try:
        content = path.read_bytes()  # a disk that does not give it is another matter
    except FileNotFoundError:  # whoever leads removed it
        return False
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            return file.testzip() is not None or len(file.infolist()) != int.from_bytes(content[_COUNT], "little")
    except MemoryError:  # which says nothing of the file
        raise
    except Exception:  # as many kinds as there are fields: it may seem encrypted, or of another method
        return True


def _refuse(folder: Path, differs: list[str]) -> None:
    if differs:
        raise InputError(
            f"run.dir: {folder} holds another run (differs in: {', '.join(differs)}); choose another folder, "
            "or delete it"
        )
