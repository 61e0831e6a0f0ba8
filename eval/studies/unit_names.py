"""What the networks of `eval.studies.units` are called, for who trains and who reads. Free of torch."""

from __future__ import annotations

ROBUST, SHUFFLED, UNTRAINED = "_robust", "_shuffled", "_untrained"
"""After the name of the model: trained on adversarial images, trained on labels that were shuffled, not trained."""


def sibling(name: str, number: int) -> str:
    """The network of another seed, which tables call so too; 0 is the one that was asked for.

    >>> sibling("cnn", 0), sibling("cnn", 2)
    ('cnn', 'cnn_seed2')
    """
    return f"{name}_seed{number}" if number else name
