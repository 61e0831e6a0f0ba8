"""Clauses of what a page says. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence


def listed(parts: Sequence[str]) -> str:
    """Parts of a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def sentence(lines: Sequence[str], otherwise: str = "") -> str:
    """Clauses that each begin with a plain word, as one sentence.

    >>> sentence(["all of it", "half of the rest"])
    'All of it; half of the rest.'
    """
    text = "; ".join(lines) or otherwise
    return f"{text[0].upper()}{text[1:]}."
