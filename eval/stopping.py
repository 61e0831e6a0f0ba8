"""Whether what an attack asked tells when it first succeeded."""

from __future__ import annotations

from typing import Any

from attacks.cascade import Cascade
from attacks.noise import Noise
from attacks.square import Square


def ends_with_success(attack: Any, norm: str) -> bool:
    """Whether the attack ends a sample's search with its first success, where nothing is transferred.

    One that does not (a fixed number of steps, a search for the smallest perturbation) costs what it costs, succeed or
    not. One of several stages ends so if all of them do; one that leads another, if that does.

    >>> from attacks.bim import BIM
    >>> from attacks.pgd import PGD
    >>> ends_with_success(PGD(), "linf"), ends_with_success(PGD(early_stop=False), "linf")
    (True, False)
    >>> ends_with_success(BIM(), "linf")
    False

    Args:
        attack: an `attacks.base.Attack`.
        norm: of the budget.
    """
    if attack.minimal:
        return False
    if isinstance(attack, Cascade):
        return all(ends_with_success(part, norm) for _, part in attack.stages(norm))
    if isinstance(attack, Square | Noise) or getattr(attack, "within_budget", False):
        return True
    own = getattr(attack, "early_stop", False)  # None: yes, unless transfer to other networks is measured
    inner = getattr(attack, "attack", None)
    return own is not False or (hasattr(inner, "minimal") and ends_with_success(inner, norm))
