"""Numbers of jobs that an earlier report counted, kept beside the page, so that a report on a running sweep is quick.

A job's numbers are taken from there if its parts have the names, sizes and times of change that they had, if it asks
the same of them, and if the code that counts is the same. The file may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from eval.levels import Threat
from eval.parts import replace

FILE = ".sweep-numbers.json"
_ROOT = Path(__file__).resolve().parent.parent
_CODE = (
    "eval/effort.py", "eval/frames.py", "eval/intervals.py", "eval/levels.py", "eval/metrics.py", "eval/parts.py",
    "eval/rows.py", "reports/sweep_numbers.py", "reports/sweep_store.py", "reports/tables.py",
)  # fmt: skip


@dataclass(frozen=True)
class Numbers:
    """What a job's records say: a row for each network and eps, the worst case over its attacks.

    `results` is how many white-box records there are; `problem` why there are no numbers.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    results: int = 0
    problem: str = ""


@dataclass(frozen=True)
class Files:
    """The parts of a job: a digest of what they are, and their size in bytes together."""

    digest: str
    size: int

    @classmethod
    def of(cls, folder: Path, threat: Threat) -> Files:
        """Those that are there now, and what is asked of them."""
        parts, size = [], 0
        if (folder / "parts").is_dir():
            with os.scandir(folder / "parts") as found:
                for entry in found:
                    if entry.name.endswith(".parquet"):
                        stat = entry.stat()
                        parts.append((entry.name, stat.st_size, stat.st_mtime_ns))
                        size += stat.st_size
        text = repr((sorted(parts), asdict(threat)))
        return cls(hashlib.sha256(text.encode()).hexdigest()[:32], size)


class Store:
    """The numbers of jobs by their folders.

    Args:
        folder: where the page is written.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._old = self._read()
        self._new: dict[str, Any] = {}

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
        except (FileNotFoundError, UnicodeDecodeError, json.JSONDecodeError):  # counting anew costs time alone
            return {}
        same = isinstance(content, dict) and content.get("code") == _code()
        return content["jobs"] if same else {}

    def find(self, folder: Path, files: Files) -> Numbers | None:
        """The numbers of a job whose parts are the same, if they are known."""
        kept = self._old.get(str(folder.resolve()))
        if kept is None or kept[0] != files.digest:
            return None
        self._new[str(folder.resolve())] = kept
        return Numbers(rows=kept[1], results=kept[2])

    def keep(self, folder: Path, files: Files, numbers: Numbers) -> None:
        """Take the numbers of a job in, unless they are none."""
        if not numbers.problem:
            self._new[str(folder.resolve())] = [files.digest, numbers.rows, numbers.results]

    def write(self) -> None:
        """Write the file, with the jobs that were asked for alone, if anything changed."""
        if self._new != self._old:
            text = json.dumps({"code": _code(), "jobs": self._new}, separators=(",", ":"))
            replace(self._path, lambda path: path.write_text(text, encoding="utf-8"))


@cache
def _code() -> str:
    """A digest of the code that counts."""
    return hashlib.sha256(b"".join((_ROOT / name).read_bytes() for name in _CODE)).hexdigest()
