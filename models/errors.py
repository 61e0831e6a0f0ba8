"""What is wrong with a network or a checkpoint that a user brought."""

from __future__ import annotations


class ModelError(ValueError):
    """A network cannot be built, loaded or trusted.

    The message is one line: where, what must hold, what came, the remedy.
    """
