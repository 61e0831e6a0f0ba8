"""What an attack sees of a network: decisions, scores, or the weights and with them gradients."""

from __future__ import annotations

ACCESS = ("labels", "scores", "weights")
"""From the least to the most."""


def needs(attack: object) -> str:
    """What an attack must see at least: what its attribute `needs` says, else `weights`.

    >>> from attacks.square import Square
    >>> from attacks.pgd import PGD
    >>> needs(Square()), needs(PGD())
    ('scores', 'weights')
    """
    return str(getattr(attack, "needs", "weights"))


def suffices(access: str, attack: object) -> bool:
    """Whether the attack can do with `access`."""
    return ACCESS.index(needs(attack)) <= ACCESS.index(access)
