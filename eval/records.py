"""The rows and the header of a run, and how they are kept on disk. Free of torch.

A run's folder holds `run.json` (the header), `parts/<hash>.parquet` (rows), `examples/<hash>.npz` (a few images) and
`measured/<hash>.npz` (what probes of a study measured).
A part is written beside its place and renamed, named by a hash of all that produced it: it is either whole or absent,
and a run that is started again skips the parts that it finds. Parts are the business of `eval.parts`, whose functions
can be had from here too; records as a data frame that of `eval.frames`, which is imported, with pandas, when one is
asked for.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.errors import InputError
from eval.parts import (
    ARROW,
    COLUMNS,
    SCHEMA,
    failed,
    has_part,
    part_file,
    parts_made,
    read_part,
    replace,
    whole_part,
    write_part,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "ARROW", "COLUMNS", "SCHEMA", "UNFINISHED", "Run", "example_file", "failed", "has_measured", "has_part", "key",
    "part_file", "parts_made", "read_example", "read_examples", "read_measured", "read_part", "read_records",
    "read_slices", "replace", "whole_part", "write_examples", "write_measured", "write_part",
]  # fmt: skip

UNFINISHED = ("running", "interrupted")
"""What the header of a run says that may be gone on with."""


@dataclass
class Run:
    """The header of a run: what was done, with what, on what.

    Attributes:
        title: a few words for the top of a report.
        started, finished: UTC, ISO 8601; `finished` is empty until the run has ended.
        status: `running`, `interrupted`, `complete` or `failed`.
        command: the command line that repeats the run.
        overrides: Hydra overrides of this run.
        config: the resolved configuration.
        seed: the seed of everything random.
        versions: package name -> version, `python` among them.
        commit: git commit of the harness's source, or empty.
        device: in words.
        data: name, split, n, classes (names), shape (C, H, W), box (low, high), fingerprint, groups (of samples: name
            of the grouping, digest of the groups; None without).
        models: one mapping each: name, description, parameters, fingerprint, trained (mapping or None).
        attacks: one mapping each: name, description, minimal (bool), needs (what it must see), norm, fields (mapping),
            stops (bool: it ends with its first success, where nothing is transferred),
            stages (of an attack made of several: one mapping each, name and needs).
        threat: norm, headline (text of eps), eps (list of {text, value}, ascending).
        goal: `untargeted`, or how targets are chosen.
        warnings: lines to be shown prominently.
        wall_seconds: per stage: data, models, probes (of a study that has some), attacks.
        taken: parts that other runs made (`paths.parts`), whose times are on record; 0 where the key is missing.
        parts: of which it is made when it is complete; 0 where the key is missing.
        schema: number of this layout.
    """

    title: str
    started: str
    command: str
    overrides: list[str]
    config: dict[str, Any]
    seed: int
    versions: dict[str, str]
    commit: str
    device: str
    data: dict[str, Any]
    models: list[dict[str, Any]]
    attacks: list[dict[str, Any]]
    threat: dict[str, Any]
    goal: str
    finished: str = ""
    status: str = "running"
    warnings: list[str] = field(default_factory=list)
    wall_seconds: dict[str, float] = field(default_factory=dict)
    taken: int = 0
    parts: int = 0
    schema: int = SCHEMA

    def write(self, folder: Path) -> None:
        """Write `run.json`, replacing an earlier one in one step."""
        text = json.dumps(asdict(self), indent=2, allow_nan=False)
        replace(folder / "run.json", lambda path: path.write_text(text, encoding="utf-8"))

    @classmethod
    def read(cls, folder: Path) -> Run:
        """The header of a run.

        Raises:
            InputError: there is none, it is not readable, or its schema is another one.
        """
        path = folder / "run.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"{folder}: must be the folder of a run, but holds no run.json") from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise InputError(
                f"{path}: must be the JSON header of a run, but cannot be read: {error}; delete it, and the "
                "same command goes on with the parts that are whole"
            ) from None
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            found = content.get("schema") if isinstance(content, dict) else type(content).__name__
            raise InputError(f"{path}: schema must be {SCHEMA}, got {found}; run it again with this version")
        for name in ("taken", "parts"):
            content.setdefault(name, 0)
        known = {f.name for f in fields(cls)}
        if (missing := known - set(content)) or set(content) - known:
            raise InputError(f"{path}: must have the keys of schema {SCHEMA}; missing {sorted(missing)}")
        return cls(**content)


def key(content: Mapping[str, Any]) -> str:
    """A name for what `content` (JSON-serialisable) produces: the first 128 bits of its SHA-256, in hex."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def write_examples(folder: Path, name: str, **arrays: np.ndarray[Any, Any]) -> None:
    """Write a few images beside the part `name`, in one step.

    Arrays: `sample` (n,) str; `x`, `x_adv` (n, C, H, W) float32 in box units; `source`, `attack`, `eps_text` () str.
    """
    _write_arrays(example_file(folder, name), arrays)


def write_measured(folder: Path, name: str, probe: str, source: str, arrays: Mapping[str, Any], first: int = 0) -> None:
    """Write what a probe measured of a network as the file `name`, in one step.

    `first` is the index of the first sample that was measured, where not all are measured at once.
    """
    head = {"probe": np.array(probe), "source": np.array(source), "first": np.array(first)}
    _write_arrays(_measured(folder, name), {**head, **arrays})


def has_measured(folder: Path, name: str) -> bool:
    """Whether `write_measured` wrote the file `name`."""
    return _measured(folder, name).exists()


def _measured(folder: Path, name: str) -> Path:
    return folder / "measured" / f"{name}.npz"


def _write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    def write(beside: Path) -> None:
        with beside.open("wb") as file:
            np.savez_compressed(file, **arrays)

    replace(path, write)


def read_records(folder: Path, parts: Sequence[str] | None = None) -> pd.DataFrame:
    """All rows of a run, or those of the `parts` named, sorted so that the order of the parts does not matter.

    Names stand in it as text, as suits runs of thousands of records; of millions `eval.frames.read_frame` is the way.

    Raises:
        InputError: a part is torn, damaged or of another schema.
    """
    from eval.frames import read_frame
    from eval.rows import spelled

    return spelled(read_frame(folder, parts))


def read_example(folder: Path, name: str) -> dict[str, np.ndarray[Any, Any]] | None:
    """The images beside the part `name`, if there are any."""
    return _read_arrays(path) if (path := example_file(folder, name)).exists() else None


def example_file(folder: Path, name: str) -> Path:
    """Where the images beside the part `name` are kept, if there are any."""
    return folder / "examples" / f"{name}.npz"


def read_examples(folder: Path) -> list[dict[str, np.ndarray[Any, Any]]]:
    """The stored images of a run, one mapping of arrays a file, as `write_examples` took them."""
    return [_read_arrays(path) for path in sorted((folder / "examples").glob("*.npz"))]


def read_measured(folder: Path, probe: str) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
    """What a probe measured of all samples at once: its arrays, by the name of the network.

    Raises:
        InputError: a file is torn, or there are several on one network.
    """
    found = read_slices(folder, probe)
    for source, slices in found.items():
        if len(slices) > 1:
            raise InputError(f"{folder}/measured: must hold one file of {probe} on {source}, got {len(slices)}")
    return {source: slices[0] for source, slices in found.items()}


def read_slices(folder: Path, probe: str) -> dict[str, list[dict[str, np.ndarray[Any, Any]]]]:
    """What a probe measured slice by slice: its arrays in the order of the samples, by the name of the network.

    Raises:
        InputError: a file is torn, or two are about the same samples.
    """
    found: dict[str, dict[int, dict[str, np.ndarray[Any, Any]]]] = {}
    for path in sorted((folder / "measured").glob("*.npz")):
        arrays = _read_arrays(path)
        if str(arrays["probe"]) != probe:
            continue
        source, first = str(arrays["source"]), int(arrays.get("first", 0))
        if first in found.setdefault(source, {}):
            raise InputError(f"{path}: must be the only file of {probe} on {source} from sample {first}, is another")
        found[source][first] = arrays
    return {source: [slices[first] for first in sorted(slices)] for source, slices in found.items()}


def _read_arrays(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: must be a whole file of arrays, got: {error}; delete it and run again") from None
