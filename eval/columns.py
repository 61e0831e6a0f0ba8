"""Columns of Arrow's tables as NumPy's arrays. Free of torch and pandas.

From their buffers: every other way imports pandas or all of Arrow's functions, which takes longer than the rest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from eval.intervals import Bools, Codes

Small = npt.NDArray[np.signedinteger[Any]]
"""Codes (n,), of the least type that holds them."""

_DTYPES = {"int32": np.int32, "float": np.float32, "double": np.float64}


def arrays(table: pa.Table) -> tuple[dict[str, list[str]], dict[str, npt.NDArray[Any]]]:
    """The columns of a table: of text the texts, sorted, with codes into them; else its numbers or truth values.

    One by one, and what Arrow holds of each is given back, so that there are never two copies of all.
    """
    names: dict[str, list[str]] = {}
    found: dict[str, npt.NDArray[Any]] = {}
    for name in table.schema.names:
        column, table = table[name], table.drop_columns([name])
        if pa.types.is_dictionary(column.type):
            names[name], found[name] = coded(column)
        else:
            found[name] = plain(column)
        del column
        give_back()
    return names, found


def give_back() -> None:
    """Let the system have the memory that Arrow freed: it keeps it, for tables to come."""
    pa.default_memory_pool().release_unused()


def coded(column: pa.ChunkedArray) -> tuple[list[str], Small]:
    """The texts of a column (n,) of dictionaries, sorted, and for each row the place of its text among them.

    What is missing is an empty text.
    """
    joined = column.unify_dictionaries().combine_chunks()
    texts = [*map(str, joined.dictionary.to_pylist())]
    codes = joined.indices
    values = _values(codes)
    if codes.null_count:
        values = np.where(_valid(codes), values, len(texts))
        texts.append("")
    names = sorted(set(texts))
    place = {name: code for code, name in enumerate(names)}
    return names, small([place[text] for text in texts], len(names))[values]


def small(codes: npt.ArrayLike, n: int) -> Small:
    """Codes into a table of n, in the least type that holds them."""
    return np.asarray(codes).astype(np.min_scalar_type(-max(1, n)))


def plain(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """A column (n,) of numbers or of truth values; what is missing is NaN, or false."""
    array = column.combine_chunks()
    missing = False if pa.types.is_boolean(array.type) else np.nan
    return np.where(_valid(array), _values(array), missing) if array.null_count else _values(array)


def _values(array: pa.Array) -> npt.NDArray[Any]:
    window, content = slice(array.offset, array.offset + len(array)), array.buffers()[1]
    if pa.types.is_boolean(array.type):
        return _bits(content)[window]
    return np.frombuffer(content, dtype=_DTYPES[str(array.type)])[window]


def _valid(array: pa.Array) -> Bools:
    return _bits(array.buffers()[0])[array.offset : array.offset + len(array)]


def _bits(buffer: pa.Buffer) -> Bools:
    return np.unpackbits(np.frombuffer(buffer, dtype=np.uint8), bitorder="little").astype(bool)


def grouped(codes: npt.NDArray[Any], n: int) -> list[Codes]:
    """For each of n codes the places (k,) where it stands, ascending."""
    order = np.argsort(small(codes, n), kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=n))
    return np.split(order, ends[:-1])[:n]
