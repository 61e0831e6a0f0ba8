"""What the study of thinned groups and those who read its runs call things. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from eval.errors import InputError

REPEATED, BACK = "_repeated", "_given_back"
"""After the name of a network: what is left was shown as often as all were; all data were given back."""


def suffix(left: int, total: int) -> str:
    """Of a network that has `left` of the `total` training samples of the group."""
    return f"_{left}of{total}"


def column(by: str, grouped: bool) -> str:
    """The column of the records that says what a sample's group is: `label` or `group`.

    Args:
        by: `class`, `group`, or `auto`: groups where the data have some.
        grouped: whether they do.
    """
    return "group" if by == "group" or (by == "auto" and grouped) else "label"


def chosen(wanted: str | None, names: Sequence[str]) -> str:
    """The group by its name, or the first.

    Raises:
        InputError: there is none of that name.
    """
    known = [name for name in names if name]
    if wanted is None and known:
        return sorted(known)[0]
    if wanted in known:
        return str(wanted)
    near = get_close_matches(str(wanted), known, 4, 0.5)
    hint = f"; near it: {', '.join(near)}" if near else ""
    raise InputError(f"study.group: must be one of {len(known)} ({', '.join(known[:10])}), got {wanted}{hint}")
