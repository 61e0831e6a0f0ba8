"""The rows of a run, part by part: their schema, and how parts are written and read. Free of torch and pandas.

A part is a Parquet file, written beside its place and renamed, with a checksum of all its bytes: it is as it was
written, or absent, or known to be damaged. The checksum stands in the file's own metadata, for Parquet's are of the
pages alone: a bit that flips in the head of a page can change the rows without being noticed.
"""

from __future__ import annotations

import os
import re
import secrets
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from eval.errors import InputError

SCHEMA = 3

COLUMNS: Mapping[str, pa.DataType] = {
    "sample": pa.string(),  # id within the data set, such as test/00042 or a relative path
    "label": pa.int32(),
    "group": pa.string(),  # to which group of samples it belongs, if the data say so; "" for none
    "target_class": pa.int32(),  # wanted class of a targeted attack, else -1
    "source": pa.string(),  # model that the perturbation was made for
    "target_model": pa.string(),  # model that judges it; white box where it equals source
    "role": pa.string(),  # clean: no perturbation; attack; control: noise of the same RMS as the attack's
    "attack": pa.string(),  # name of the attack; for a control the attack that it stands beside; clean: "none"
    "norm": pa.string(),  # of the budget, or of the distance that a minimal attack minimises; clean: ""
    "eps": pa.float64(),  # budget in box units; infinity for a minimal attack; 0 for clean
    "eps_text": pa.string(),  # as the user wrote it, such as 8/255; "min" for a minimal attack; "0" for clean
    "clean_pred": pa.int32(),
    "clean_conf": pa.float32(),  # softmax probability of clean_pred
    "clean_rank": pa.int32(),  # classes that come before the label unperturbed: 0 where it is the prediction
    "adv_pred": pa.int32(),
    "adv_conf": pa.float32(),
    "adv_rank": pa.int32(),  # classes that come before the label; -1 where the network gave no finite answer
    "success": pa.bool_(),  # the goal is reached on target_model, inside the box and the budget
    "success_8bit": pa.bool_(),  # the same after rounding to 8 bits
    "in_box": pa.bool_(),
    "in_budget": pa.bool_(),
    "l0": pa.float64(),
    "l1": pa.float64(),
    "l2": pa.float64(),
    "linf": pa.float64(),
    "rms": pa.float64(),
    "forwards": pa.int32(),  # of source, for making this candidate; 0 on transfer, control and clean rows
    "backwards": pa.int32(),
    "seconds": pa.float64(),  # of its batch, shared out evenly; 0 where forwards is 0
    "stage": pa.string(),  # of an attack made of several, the one that first broke the sample; "" for none
    "error": pa.string(),  # why there is no result; "" when there is one
}
"""The columns of a record, in order, with their types."""

NAMES = tuple(column for column, kind in COLUMNS.items() if kind == pa.string())
"""Those of text: few texts that come again and again, so that they are kept, and read, as codes into a table."""

ARROW = pa.schema(list(COLUMNS.items()))
_SEAL, _DIGITS = b"crc32 of all other bytes: ", 8
_RANDOM = 8  # bytes
_BESIDE = re.compile(rf"\.(.+)\.[0-9a-f]{{{2 * _RANDOM}}}\.tmp")
_TOGETHER = 64  # small parts that become one: each by itself takes as much memory again for its 31 columns
_READERS = 4  # threads at most: Arrow reads without Python's lock
_READ = pa.schema([(c, pa.dictionary(pa.int32(), kind) if c in NAMES else kind) for c, kind in COLUMNS.items()])


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file beside `path` and rename it there: whole or not at all, in folders made on the way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(_RANDOM)}.tmp")
    try:
        write(beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def left_behind(folder: Path, names: str = "*") -> list[Path]:
    """What `replace` began in a folder, for files that are there, of such names.

    Processes that were killed left it; or somebody is writing a file anew at this moment.
    """
    begun = ((path, _BESIDE.fullmatch(path.name)) for path in folder.glob(f".{names}.tmp"))
    return [path for path, name in begun if name is not None and path.with_name(name[1]).exists()]


def has_part(folder: Path, name: str) -> bool:
    """Whether the part `name` is there."""
    return part_file(folder, name).exists()


def whole_part(folder: Path, name: str) -> bool:
    """Whether the part `name` is there and can be read: neither torn, nor damaged, nor of another schema."""
    try:
        _read(part_file(folder, name), _READ)
    except InputError:
        return False
    return True


def part_file(folder: Path, name: str) -> Path:
    """Where the part `name` is kept."""
    return folder / "parts" / f"{name}.parquet"


def failed(part: str) -> str:
    """What the records of a part are called while some of them are of a crash: they are shown, and tried again."""
    return f"{part}-failed"


def parts_made(folder: Path) -> int:
    """How many parts are on disk, those of a crash left out."""
    return sum(not path.stem.endswith(failed("")) for path in (folder / "parts").glob("*.parquet"))


def write_part(folder: Path, name: str, columns: Mapping[str, Sequence[Any] | np.ndarray[Any, Any]]) -> None:
    """Write rows, given column by column, as the part `name` in one step.

    Without what takes long to read and nobody asks for: statistics, Arrow's own schema, dictionaries of numbers.
    """
    table = pa.Table.from_pydict({c: pa.array(columns[c], type=t) for c, t in COLUMNS.items()}, schema=ARROW)
    slim: dict[str, Any] = {"write_statistics": False, "store_schema": False, "use_dictionary": list(NAMES)}
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, ARROW, compression="lz4", **slim) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"checksum": _SEAL.decode() + "0" * _DIGITS})
    sealed = _sealed(sink.getvalue().to_pybytes())
    replace(part_file(folder, name), lambda path: path.write_bytes(sealed))


def _sealed(content: bytes) -> bytes:
    """A file with its checksum in the place that was left for it."""
    place = content.rindex(_SEAL) + len(_SEAL)
    return content[:place] + _checksum(content, place) + content[place + _DIGITS :]


def _checksum(content: bytes, place: int) -> bytes:
    """CRC-32 of all but the digits at `place`, in hex."""
    crc = zlib.crc32(memoryview(content)[place + _DIGITS :], zlib.crc32(memoryview(content)[:place]))
    return f"{crc:0{_DIGITS}x}".encode()


def read_part(folder: Path, name: str) -> dict[str, np.ndarray[Any, Any]]:
    """The columns of one part, as `write_part` took them.

    Raises:
        InputError: it is absent, torn, damaged or of another schema.
    """
    table = _read(part_file(folder, name), _READ).cast(ARROW)
    return {column: table[column].to_numpy() for column in COLUMNS}


def read_table(folder: Path, parts: Sequence[str] | None = None, columns: Sequence[str] = tuple(COLUMNS)) -> pa.Table:
    """Rows of a run, in the order of the parts' names, with the texts as codes into a dictionary for each part.

    Args:
        folder: of the run.
        parts: names of parts; all if None.
        columns: the names of those that are wanted.

    Raises:
        InputError: a part is absent, torn, damaged or of another schema.
    """
    schema = pa.schema([field for field in _READ if field.name in columns])
    if parts is None:
        paths = sorted((folder / "parts").glob("*.parquet"), key=lambda path: path.stem)
    else:
        paths = [part_file(folder, name) for name in parts]
    groups = [paths[first : first + _TOGETHER] for first in range(0, len(paths), _TOGETHER)]

    def joined(group: Sequence[Path]) -> pa.Table:
        return pa.concat_tables([_read(path, schema) for path in group]).unify_dictionaries().combine_chunks()

    if len(groups) <= 1:
        return pa.concat_tables([*map(joined, groups)] or [schema.empty_table()])  # which imports pandas
    with ThreadPoolExecutor(min(_READERS, os.cpu_count() or 1)) as readers:
        return pa.concat_tables([*readers.map(joined, groups)])


def _read(path: Path, schema: pa.Schema) -> pa.Table:
    """The columns of a part that a schema names. Of its bytes: for small files that is the fastest way."""
    try:
        content = path.read_bytes()
        place = content.rfind(_SEAL) + len(_SEAL)
        if place >= len(_SEAL) and content[place : place + _DIGITS] != _checksum(content, place):
            raise OSError("its checksum is another, so it was damaged or changed")
        file = pq.ParquetFile(pa.BufferReader(content), read_dictionary=list(NAMES), pre_buffer=False)
        some = None if len(schema) == len(_READ) else schema.names
        table = file.read(columns=some, use_threads=False)
    except KeyError:  # a column of names is missing
        table = None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, MemoryError) and place >= len(_SEAL):  # Arrow's: the file is as it was written
            raise
        what = " ".join(str(error).split())
        raise InputError(f"{path}: must be a whole Parquet part, got: {what}; delete it and run again") from None
    if table is None or table.schema != schema:
        raise InputError(f"{path}: columns must be those of schema {SCHEMA}; delete it and run again")
    return table
