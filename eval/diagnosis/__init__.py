"""Whether an evaluation can be trusted: what is measured of a network (probes), and what is read from it (checks)."""
