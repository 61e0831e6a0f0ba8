"""Names and numbers that the study of gradients and the reader of its records share. Free of torch."""

from __future__ import annotations

GRADIENTS = "gradients"
UNTRAINED = "_untrained"
BOUND = 1e-6
"""Greatest error of a right gradient."""
