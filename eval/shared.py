"""Parts that several runs share: what one of them made, the next ones take.

A part is one file `<name>.zip`: its records, and the images kept beside them. Its name is a hash of all that decides
them, the source of this program included, so that code under development is never served what older code made. It is
written beside its place and renamed, and its sums are checked when it is read; one that is not whole is made anew.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from eval.jobs import Job
from eval.records import ARROW, SCHEMA, example_file, key, part_file, replace

_RECORDS, _IMAGES = "records.parquet", "images.npz"
_PACKAGES = ("attacks", "models", "eval")
_TORN = (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error, pa.ArrowInvalid)


def source(root: Path) -> str:
    """A hash of the source of the packages that records depend on, as it lies on disk."""
    digest = hashlib.sha256()
    for package in _PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()


CODE = source(Path(__file__).resolve().parent.parent)
"""That of this program, as it was when this process began: an edit from now on is another program's."""


@dataclass
class Shared:
    """A folder of parts.

    Attributes:
        root: the folder; None for none, so that nothing is taken and nothing kept.
        beside: what else decides the records, and is the same for all parts of a run.
        taken: parts that were taken.
        troubles: a line for each file that was no use, and one if the folder takes nothing.
    """

    root: Path | None
    beside: Mapping[str, Any]
    taken: int = 0
    troubles: list[str] = field(default_factory=list)
    _full: bool = False

    def path(self, job: Job) -> Path | None:
        """Where a part has its place; None for one that is not shared, as where pictures are made on the way."""
        if self.root is None or job.trial.watch is not None:
            return None
        name = key({"part": job.part, "beside": self.beside, "code": CODE, "schema": SCHEMA})
        return self.root / name[:2] / f"{name}.zip"

    def take(self, job: Job, folder: Path) -> bool:
        """Copy a part to a run's folder, if it is there and whole; returns whether it was."""
        path = self.path(job)
        if path is None or not path.exists():
            return False
        try:
            with zipfile.ZipFile(path) as file:  # reading checks the sums
                found = {name: file.read(name) for name in file.namelist()}
            table = pq.read_table(io.BytesIO(found[_RECORDS]))
        except _TORN as error:
            self.troubles.append(f"paths.parts: {path} is not whole ({type(error).__name__}) and was made anew")
            return False
        if table.schema != ARROW or table.num_rows < len(job.unit.index):
            self.troubles.append(f"paths.parts: {path} holds other rows than it should and was made anew")
            return False
        if _IMAGES in found:
            replace(example_file(folder, job.part), lambda beside: beside.write_bytes(found[_IMAGES]))
        replace(part_file(folder, job.part), lambda beside: beside.write_bytes(found[_RECORDS]))
        self.taken += 1
        return True

    def put(self, job: Job, folder: Path) -> None:
        """Keep a part that a run has made, in place of one that was no use."""
        path, images = self.path(job), example_file(folder, job.part)
        if path is None or self._full:
            return

        def write(beside: Path) -> None:
            with zipfile.ZipFile(beside, "w") as file:  # both are compressed already
                file.write(part_file(folder, job.part), _RECORDS)
                if images.exists():
                    file.write(images, _IMAGES)

        try:
            replace(path, write)
        except OSError as error:  # the run has its part
            self._full = True
            self.troubles.append(f"paths.parts: nothing more can be kept in {self.root}: {error.strerror or error}")
