"""Names that the study of spectra and the reader of its records share. Free of torch."""

from __future__ import annotations

SPECTRA, SLIPS = "spectra", "slips"
UNTRAINED, BOUNDED = "_untrained", "_bounded"
