"""The experiments that are more than all attacks on all networks."""
