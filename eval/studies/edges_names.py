"""Names that the study of edge fingerprints and its reader share. Free of torch."""

from __future__ import annotations

TEMPLATES = "templates"
"""Name of the probe of filters and templates."""
RANDOM = "_random_"
VARIANTS = {
    "_plain": "8 edges, nothing standardised",
    "_straight": "4 straight filters",
    "_diagonal": "4 diagonal filters",
    "_pixels": "no filters: the mean image",
    "_weighted": "8 edges, weights learnt",
    "_edges_learnt": "8 edges to begin with, all learnt",
    "_random_learnt": "8 random filters to begin with, all learnt",
}
"""Endings of the names of the variants, and what the tables call them, beside those with random filters."""
PAIR = {
    "_pair": "as in the lesson: templates standardised",
    "_pair_both": "both standardised",
    "_pair_plain": "nothing standardised",
    "_pair_straight": "4 straight filters, both standardised",
    "_pair_pixels": "no filters: the mean image",
}
"""The same of those that tell two classes apart."""
EDGES = "8 edges, nothing learnt"
EIGHT_AND_ONE = ("8", "1")
EIGHT, ONE, BOTH = 96.9, 96.3, 96.6
"""Recall of both and accuracy, in percent, of one run of the lesson on 1,000 images of each."""
EACH = 1000
