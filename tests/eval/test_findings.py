"""What the tables of Szegedy et al. say of networks that share perturbations."""

from __future__ import annotations

from eval.studies.cells import Table, Value
from eval.studies.findings import _other_half, _same_half, _shared

NAMES = ("FC100-100-10 (P1)", "FC123-456-10 (P1)", "FC100-100-10' (P2)")
NATIVE = ((1.0, 0.146, 0.094), (0.213, 1.0, 0.110), (0.100, 0.084, 1.0))
ADDED = ((0.9, 0.74, 0.53), (0.75, 0.9, 0.55), (0.54, 0.52, 0.9))


def table(values: tuple[tuple[float, ...], ...], *more: tuple[str, tuple[Value, ...]]) -> Table:
    rows = [(n, tuple(Value("share", v, v, v, 9) for v in row)) for n, row in zip(NAMES, values, strict=True)]
    return Table("table4", "", "", NAMES, (*rows, *more))


def test_the_same_half_and_disjoint_halves_are_told_apart() -> None:
    floor = ("noise", tuple(Value("excess", 0.02, 0.02, 0.02, 9) for _ in NAMES))
    native, matched = table(NATIVE), table(ADDED, floor)
    same = _shared(native, matched, "the same half", _same_half)
    other = _shared(native, matched, "disjoint halves", _other_half)

    assert "error of 14.6% (14.6 to 14.6%) to 21.3% (21.3 to 21.3%)" in same
    assert "add 74.0% (74.0 to 74.0%) to 75.0%" in same
    assert same.endswith("in 2 of 2 pairs.")
    assert "error of 8.4% (8.4 to 8.4%) to 11.0%" in other
    assert "add 52.0% (52.0 to 52.0%) to 55.0%" in other
    assert other.endswith("in 4 of 4 pairs.")


def test_without_a_pair_there_is_nothing_to_compare() -> None:
    floor = ("noise", tuple(Value("excess", 0.02, 0.02, 0.02, 9) for _ in NAMES))
    said = _shared(table(NATIVE), table(ADDED, floor), "a kind that is none", lambda source, target: False)
    assert said == "There is no pair of a kind that is none to compare."
