"""Names that the study of universal perturbations and its reader share. Free of torch."""

from __future__ import annotations

PAPERS, ASCENT = "paper", "ascent"
MAKERS = {PAPERS: "the paper's algorithm", ASCENT: "ascent"}
"""What makes perturbations, and what the tables call it."""
NORMS = {"linf": "Linf", "l2": "L2"}
DIRECTIONS = "directions"
"""Name of the probe of random perturbations."""


def probe_of(maker: str, norm: str) -> str:
    """Name of the probe of what `maker` makes in `norm`.

    >>> probe_of("ascent", "l2")
    'universal ascent l2'
    """
    return f"universal {maker} {norm}"
