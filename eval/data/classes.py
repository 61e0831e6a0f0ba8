"""Classes by their names."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from eval.errors import InputError


def imagenet_classes() -> tuple[str, ...]:
    """The names of ImageNet's 1,000 classes, in the order of the networks' outputs."""
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.DEFAULT.meta["categories"])


def class_number(wanted: str, classes: Sequence[str], where: str, also: Sequence[str] = ()) -> int:
    """The number of a class given by number or name; upper and lower case do not matter.

    Args:
        wanted: what the user wrote.
        classes: names.
        where: the key that it was written for.
        also: what else could have been written.

    Raises:
        InputError: there is none; suggests the nearest names.
    """
    if wanted in classes:
        return classes.index(wanted)
    lower = [name.lower() for name in classes]
    if wanted.lower() in lower:
        return lower.index(wanted.lower())
    if wanted.isdigit() and int(wanted) < len(classes):
        return int(wanted)
    part = [name for name in classes if wanted.lower() in name.lower()]
    near = [classes[lower.index(name)] for name in get_close_matches(wanted.lower(), lower, 4, 0.5)]
    offered = list(dict.fromkeys([*part[:3], *near]))[:4]
    hint = f"; near it: {', '.join(offered)}" if offered else f"; such as {', '.join(classes[:4])}"
    among = f"{', '.join(also)}, or one of " if also else "one of "
    raise InputError(f"{where}: must be {among}{len(classes)} classes by name or number, got {wanted!r}{hint}")
