"""What adversarial training does to the clean error of the large networks of Goodfellow et al. Free of torch."""

from __future__ import annotations

from eval.studies.cells import Table

DIFFERENCE = "difference"
"""The row that holds it: with adversarial training less without."""


def changed(table: Table | None) -> list[str]:
    """A sentence on the table of the large networks, whose first column holds clean errors; none without it."""
    if table is None:
        return []
    (without, *_), (trained, *_), (change, *_) = (values for _, values in table.rows)
    assert without is not None
    assert trained is not None
    assert change is not None
    does = "lowers" if change.high < 0 else "raises" if change.low > 0 else "is not shown to change"
    return [
        f"Adversarial training {does} the clean error of the large network: {without.ours:.2%} without it, "
        f"{trained.ours:.2%} with it, a difference of {100 * change.ours:+.2f} points ({100 * change.low:+.2f} to "
        f"{100 * change.high:+.2f}, the same images)."
    ]
