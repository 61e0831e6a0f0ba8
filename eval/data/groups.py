"""Which group each sample belongs to, where somebody says so: a column of a CSV, or an array."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from eval.errors import InputError

Groups = npt.NDArray[np.str_]
"""(N,), empty for a sample of no group."""

KEY = "data.groups"
_SHOWN = 4  # names in an error
_ALIKE = 0.5


def parse(reference: str) -> tuple[str, str]:
    """The file and the column of `FILE.csv:COLUMN`.

    >>> parse("faces.csv:skin")
    ('faces.csv', 'skin')

    Raises:
        InputError: it is not of that form.
    """
    file, colon, column = reference.rpartition(":")
    if not colon or not file.lower().endswith(".csv") or not column:
        raise InputError(f"{KEY}: must be FILE.csv:COLUMN, got {reference!r}; such as groups=faces.csv:skin")
    return file, column


def by_path(file: Path, column: str, ids: Sequence[str]) -> Groups:
    """The groups of images, from the rows of a CSV whose first column holds their paths relative to `data.root`.

    Raises:
        InputError: there is no such file or column, an image has no row, or two that differ.
    """
    head, rows = _table(file)
    value = _place(file, column, head)
    found: dict[str, str] = {}
    for row in rows:
        path, group = row[0].strip().replace("\\", "/").removeprefix("./"), row[value].strip()
        if found.setdefault(path, group) != group:
            raise InputError(
                f"{file}: must have one {column} an image, got {found[path]!r} and {group!r} for {path}; remove a row"
            )
    missing = [i for i in ids if i not in found]
    if missing:
        raise InputError(
            f"{file}: column {head[0]!r}, its first, must have the path of each image relative to data.root, got none "
            f"for {len(missing)} of {len(ids)}, such as {missing[0]}{_near(missing[0], list(found))}; add rows with an "
            f"empty {column} for images of no group"
        )
    return np.array([found[i] for i in ids], dtype=np.str_)


def by_order(
    reference: str, place: Callable[[str], Path], archive: Mapping[str, npt.NDArray[Any]], suffix: str, count: int
) -> Groups:
    """The groups of `count` images in the order of an archive.

    Args:
        reference: the name of an array of the archive without the suffix, a `.npy` file, or `FILE.csv:COLUMN`.
        place: finds a file.
        archive: arrays by name.
        suffix: what follows the names of this part's arrays, such as `_test`.
        count: images there are.

    Raises:
        InputError: there is no such thing, or it is not one text or whole number an image.
    """
    if f"{reference}{suffix}" in archive:
        where, values = f"{KEY}={reference}{suffix}", archive[f"{reference}{suffix}"]
    elif reference.lower().endswith(".npy"):
        where, values = f"{KEY}={reference}", _array(place(reference))
    elif ":" in reference:
        name, column = parse(reference)
        file = place(name)
        head, rows = _table(file)
        at = _place(file, column, head)
        where, values = f"{KEY}={reference}", np.array([row[at].strip() for row in rows], dtype=np.str_)
    else:
        arrays = [name.removesuffix(suffix) for name in archive if name.endswith(suffix)]
        raise InputError(
            f"{KEY}: must be an array of the archive ({', '.join(arrays)}), a .npy file or FILE.csv:COLUMN, got "
            f"{reference!r}{_near(reference, arrays)}"
        )
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or values.dtype.kind not in "iubU":
        raise InputError(
            f"{where}: must be one text or whole number an image, (N,), got {values.dtype} of shape {values.shape}"
        )
    if len(values) != count:
        raise InputError(f"{where}: must have one group an image, got {len(values)} groups of {count} images")
    return values.astype(np.str_)


def _table(file: Path) -> tuple[list[str], list[list[str]]]:
    """The head and the rows of a CSV, all of one length."""
    if not file.is_file():
        raise InputError(f"{KEY}: must name a file here or under data.root, got {file}, which is none")
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            lines = [line for line in csv.reader(stream) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file}: must be a CSV in UTF-8, but: {error}; save it as such") from None
    if not lines:
        raise InputError(f"{file}: must hold a line of column names and a line an image, but is empty")
    head, rows = [name.strip() for name in lines[0]], lines[1:]
    for number, row in enumerate(rows, start=2):
        if len(row) != len(head):
            raise InputError(
                f"{file}: rows must have the {len(head)} values that the head names, got {len(row)} in row {number}; "
                "are values with commas quoted?"
            )
    return head, rows


def _place(file: Path, column: str, head: Sequence[str]) -> int:
    if column not in head:
        raise InputError(
            f"{KEY}: must name a column of {file} ({', '.join(head)}), got {column!r}{_near(column, head)}"
        )
    return list(head).index(column)


def _array(file: Path) -> npt.NDArray[Any]:
    if not file.is_file():
        raise InputError(f"{KEY}: must name a file here or under data.root, got {file}, which is none")
    try:
        found = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        cause = " ".join(str(error).partition(". ")[0].split())  # NumPy goes on to advise unpickling
        raise InputError(f"{file}: must be an array as numpy.save writes it, but: {cause}") from None
    if not isinstance(found, np.ndarray):
        raise InputError(f"{file}: must be one array as numpy.save writes it, got an archive; name its array instead")
    return found


def _near(wrong: str, known: Sequence[str]) -> str:
    """The names that are most alike, as a remedy."""
    lower = {name.lower(): name for name in known}
    part = [name for name in known if wrong.rpartition("/")[2] == name.rpartition("/")[2]]
    found = [*part, *(lower[name] for name in get_close_matches(wrong.lower(), list(lower), _SHOWN, _ALIKE))]
    return f"; near it: {', '.join(list(dict.fromkeys(found))[:_SHOWN])}" if found else ""
