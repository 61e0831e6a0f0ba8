"""Several runs on one page: their sections are those of one name."""

from __future__ import annotations

import pytest

from eval.studies.cells import Table, Value
from eval.studies.reading import Reading, Section, together


def section(name: str, answer: str, ours: float = 1.0) -> Section:
    table = Table(f"{name}-table", name, "", ("x",), (("r", (Value("number", ours, ours, ours, 1),)),))
    return Section(name, name, "claim", "measured", "null", answer, (table,))


def reading(**answers: str) -> Reading:
    return Reading((), (), sections=tuple(section(name, said, len(said)) for name, said in answers.items()))


@pytest.mark.parametrize("first", [0, 1])
def test_sections_are_joined_by_their_names_and_those_that_a_seed_lacks_say_so(first: int) -> None:
    runs = [reading(tops="1 of 2.", stability="3 of 4.", firing="5 of 6."), reading(tops="2 of 2.", firing="6 of 6.")]
    order = [first, 1 - first]
    both = together([runs[i] for i in order], order).sections
    assert [(s.name, s.answer, s.by_seed) for s in both] == [
        ("tops", "1\u20132 of 2.", ()),
        ("stability", "3 of 4. Not measured with seed 1.", ()),
        ("firing", "5\u20136 of 6.", ()),
    ]
    counts = [s.tables[0].rows[0][1][0] for s in both]
    assert [value.n for value in counts if value is not None] == [2, 1, 2]


def test_where_the_others_differ_the_seed_that_lacks_a_section_stands_among_them() -> None:
    both = together([reading(a="Yes."), Reading((), ()), reading(a="No.")], [3, 4, 5]).sections
    assert [(s.answer, s.by_seed) for s in both] == [("", ((3, "Yes."), (4, "Not measured."), (5, "No.")))]
