"""What the networks of `eval.studies.dimension` are called, for who trains and who reads. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

HE = "he"
UNTRAINED = "untrained"
HANDLES: Mapping[str, tuple[float, bool, str]] = {
    HE: (1.0, False, "He's start"),
    "he_decay": (1.0, True, "He's start, decay"),
    "small": (0.1, False, "a tenth of He's"),
    "small_decay": (0.1, True, "a tenth of He's, decay"),
    "zero": (0.0, False, "from zero"),
    "zero_decay": (0.0, True, "from zero, decay"),
}
"""How networks are trained: part of He's weights that the first layer starts from, whether weights decay, in words."""
NOISE = (1.0, 0.5)
"""Deviations of the noise per pixel, as multiples of r_adv of the image."""
_LEAST = 4  # pixels a side
STEP = 0.1
"""RMS of random steps."""


def suffix(handle: str, side: int, seed: int) -> str:
    """Of the name of a network, after its model's.

    >>> "mlp" + suffix("he", 28, 0)
    'mlp-he-28-0'
    """
    return f"-{handle}-{side}-{seed}"


def sides_of(native: int, wanted: Sequence[int] | None) -> tuple[int, ...]:
    """The sides that are measured, ascending: those wanted, or a quarter of `native`, at least 4, to four times it.

    >>> sides_of(28, None), sides_of(8, None)
    ((7, 14, 28, 56, 112), (4, 8, 16, 32))
    """
    if wanted is not None:
        return tuple(sorted(wanted))
    smaller = tuple(native // k for k in (4, 2) if native % k == 0 and native // k >= _LEAST)
    return (*smaller, native, 2 * native, 4 * native)
