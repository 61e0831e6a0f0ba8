"""The page of a study: our numbers, the paper's beside them where they are about the same data, and what they say."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from eval.errors import InputError
from eval.studies.cells import Table, Value, spread
from eval.studies.findings import findings
from eval.studies.reading import Curves, Pictures, Reading, Section, together
from reports.build import write, write_sweep
from reports.html import render
from reports.study import read
from tests.reports.poison import harmless, poisoned
from tests.reports.studied import page, studied
from tests.reports.test_browser import CHROMIUM, dump

SMALL = (
    "experiment=intriguing/tables",
    "debug=quick",
    "model=[paper/fc10_1e-4,paper/fc10_1]",
    "study.full=[fc10_1e-4,fc10_1]",
    "study.first=[fc10_1]",
    "study.second=[fc10_1]",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return studied(tmp_path_factory.mktemp("study"), *SMALL)


def test_the_papers_numbers_stand_beside_ours_on_mnist_alone(folder: Path, tmp_path: Path) -> None:
    on_digits = page(folder, "digits", tmp_path / "digits")
    on_mnist = page(folder, "mnist", tmp_path / "mnist")

    assert "paper 22.7%" not in on_digits
    assert "paper 22.7%" in on_mnist  # Table 2, FC10(1e-4) fed to FC10(1)
    assert "paper 0.1400" in on_mnist  # Table 1, distortion of FC10(1)
    assert "&ne;</b>" in on_mnist
    assert "&ne;</b>" not in on_digits
    table = pd.read_csv(tmp_path / "mnist" / "tables.csv")
    assert set(table["table"]) >= {"table1", "table2", "table2_matched", "table3", "table4", "table4_amplified"}
    assert table["paper"].notna().sum() > 10
    assert (table["low"] <= table["ours"] + 1e-9).all()


def test_the_page_has_findings_pictures_and_the_command(folder: Path, tmp_path: Path) -> None:
    html = page(folder, "digits", tmp_path)

    assert "Distortions from smallest to largest" in html
    assert html.count('class="strip"') >= 2
    assert "FC10(10⁻⁴)" in html
    assert "toastproof" in html


def section(answer: str, ours: float) -> Section:
    table = Table("tilt", "Tilts", "How they tilt.", ("a",), (("row", (value(ours),)),))
    line = Curves("bend", "A bend", "", "x", "y", (("one", np.array([[0.0, 0.0], [1.0, ours]])),))
    picture = Pictures("seen", "What was seen", "As it is.", (("a <grey> one", np.full((1, 4, 4), 0.5)),))
    return Section("tilts", "Tilting: all of it", "It <tilts> (A. Nobody)", "40 of it", "none of it", answer, (table,),
                   (line,), (picture,))  # fmt: skip


def test_a_claim_stands_with_what_became_of_it(folder: Path, tmp_path: Path) -> None:
    html = render(
        "study.html.j2", replace(read(folder), reading=Reading((), (), sections=(section("It is so.", 0.5),)))
    )
    for text in (">Tilting<", "It &lt;tilts&gt; (A. Nobody)", "40 of it", "none of it", "<strong>It is so.</strong>",
                 "How they tilt.", 'id="bend"', "a &lt;grey&gt; one"):  # fmt: skip
        assert text in html
    assert html.count("It is so.") == 2  # among the findings too
    assert html.count('class="card"><ul></ul>') == 0


GAPS = """<script>
const next = [...document.querySelectorAll("section > .card + .card, section > .card + .grid")];
const edge = (one) => one.getBoundingClientRect(), before = (one) => edge(one.previousElementSibling);
document.title = "gaps " + next.map((one) => Math.round(edge(one).top - before(one).bottom)).join();
</script></body>"""


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium executable")
def test_cards_do_not_touch(folder: Path, tmp_path: Path) -> None:
    said = Reading((), ("Besides.",), sections=(section("It is so.", 0.5),))
    html = render("study.html.j2", replace(read(folder), reading=said))
    page = tmp_path / "page.html"
    page.write_text(re.sub(r"<meta http-equiv=[^>]*>", "", html).replace("</body>", GAPS))
    dom, _ = dump(page, tmp_path / "profile")
    found = re.search(r"<title>gaps ([-\d,]+)</title>", dom)
    assert found is not None
    gaps = [int(gap) for gap in found.group(1).split(",")]
    assert len(gaps) == 2  # both lists of findings; a table and its charts
    assert min(gaps) >= 12


def test_pictures_have_a_section_only_where_some_were_kept(folder: Path) -> None:
    page = read(folder)
    assert page.examples
    assert page.run.attacks
    kept, none = (render("study.html.j2", one) for one in (page, replace(page, examples=(), more_examples=())))
    assert 'id="gallery"' in kept
    assert 'href="#gallery"' in kept
    assert 'id="gallery"' not in none
    assert 'href="#gallery"' not in none


def test_answers_of_several_seeds_are_one_where_they_differ_in_numbers_alone() -> None:
    (alike,) = together([Reading((), (), sections=(section(f"{k} of 9 tilt.", k),)) for k in (3, 5)], [0, 1]).sections
    assert (alike.answer, alike.by_seed) == ("3\u20135 of 9 tilt.", ())
    assert alike.tables[0].rows[0][1][0] == Value("share", 4, 3, 5, 2)
    (apart,) = together([Reading((), (), sections=(section(a, 1),)) for a in ("Yes.", "No.")], [0, 1]).sections
    assert (apart.answer, apart.by_seed) == ("", ((0, "Yes."), (1, "No.")))


def value(ours: float, paper: float | None = None, apart: bool = False) -> Value:
    return Value("share", ours, ours - 0.01, ours + 0.01, 100, paper, apart)


def test_findings_count_what_the_tables_hold() -> None:
    sizes = [Value("size", s, s, s, 9, p) for s, p in ((0.06, 0.07), (0.1, 0.05))]
    first = Table(
        "table1",
        "",
        "",
        ("fooled", "distortion, train"),
        (("a", (value(1.0), sizes[0])), ("b", (value(1.0), sizes[1]))),
    )
    matrix = ("a", (value(1.0), value(0.3, 0.2, True))), ("b", (value(0.2), value(1.0)))
    matched = (
        *(("x", tuple(Value("excess", v, v - 0.01, v + 0.01, 9) for v in row)) for row in ((0.9, 0.25), (0.005, 0.9))),
    )
    floor = ("noise", tuple(Value("excess", 0.0, -0.01, 0.01, 9) for _ in range(2)))
    lines = findings(
        [
            first,
            Table("table2", "", "", ("a", "b"), matrix),
            Table("table2_matched", "", "", ("a", "b"), (*matched, floor)),
            Table("table4", "", "", ("a", "b"), matrix),
            Table("table4_matched", "", "", ("a", "b"), (*matched, floor)),
        ]
    )
    said = " ".join(lines)

    assert "fooled every network" in said
    assert "a 0.060, b 0.100" in said
    assert "The paper's order is b, a." in said
    assert "an error of 20.0% (19.0 to 21.0%) to 30.0% (29.0 to 31.0%)" in said
    assert "in 1 of 2 pairs" in said
    assert "2 of 4 numbers lie further" in said


def test_several_seeds_give_one_page_with_their_spread(folder: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        shutil.copytree(folder, tmp_path / str(seed))
        header = json.loads((folder / "run.json").read_text())
        header["seed"] = header["config"]["seed"] = seed
        (tmp_path / str(seed) / "run.json").write_text(json.dumps(header))
    html = write_sweep([tmp_path], tmp_path).read_text(encoding="utf-8")

    assert "seeds 0, 1" in html
    assert "the mean of 2 runs" in html
    said = html[html.index('id="findings"') : html.index('<section id="table1"')]
    assert said.count("<li>") == len(read(folder).reading.findings)  # the same in both: once
    assert "<details" not in said
    assert set(pd.read_csv(tmp_path / "tables.csv")["seed"]) == {0, 1}


def test_what_only_one_seed_says_is_folded_away_under_it() -> None:
    readings = [Reading((), ("all: 1%", *own)) for own in ((), ("only here",))]
    both = together(readings, [3, 4])
    assert both.findings == ("all: 1%",)
    assert both.by_seed == ((4, ("only here",)),)


def test_a_run_that_has_not_finished_is_left_out_of_several_and_named(folder: Path, tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        shutil.copytree(folder, tmp_path / str(seed))
        header = json.loads((folder / "run.json").read_text())
        header["seed"] = header["config"]["seed"] = seed
        header["status"] = "running" if seed == 2 else "complete"
        (tmp_path / str(seed) / "run.json").write_text(json.dumps(header))
    html = write_sweep([tmp_path], tmp_path).read_text(encoding="utf-8")

    assert "seeds 0, 1 " in html.replace("</p>", " ")
    assert "2: holds no finished run" in html


def test_an_unfinished_run_with_too_little_is_told_in_one_line(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "run")
    header = json.loads((folder / "run.json").read_text())
    header["config"]["study"]["_target_"] = "eval.studies.pools.Pools"  # whose records these are not
    header["status"] = "running"
    (tmp_path / "run" / "run.json").write_text(json.dumps(header))
    with pytest.raises(InputError, match="the run has not finished"):
        write(tmp_path / "run")


def test_the_spread_is_from_the_least_to_the_greatest() -> None:
    def table(ours: float, apart: bool) -> Table:
        return Table("t", "T", "", ("a", "b"), (("r", (value(ours, 0.5, apart), None)),))

    (both,) = spread([[table(0.1, True)], [table(0.3, True)]])
    (one,) = spread([[table(0.1, True)], [table(0.3, False)]])
    cell = both.rows[0][1][0]

    assert cell is not None
    assert (cell.ours, cell.low, cell.high, cell.n, cell.paper, cell.apart) == (
        pytest.approx(0.2),
        0.1,
        0.3,
        2,
        0.5,
        True,
    )
    assert both.rows[0][1][1] is None
    assert one.rows[0][1][0] is not None
    assert not one.rows[0][1][0].apart


def test_the_page_of_the_linear_explanation_has_charts_pictures_and_the_papers_numbers(tmp_path: Path) -> None:
    small = ["debug=quick", "model.maxout240.widths=[16]", "study.softmax=[fc10_1]", "study.traced=20"]
    done = studied(tmp_path, "experiment=intriguing/linear", *small)
    on_digits, on_mnist = page(done, "digits", tmp_path), page(done, "mnist", tmp_path)

    assert on_digits.count('class="chart"') == 6
    assert len(list((tmp_path / "figures").glob("ray-maxout240*.svg"))) == 6
    assert "Logistic regression: its weights are the perturbation" in on_digits
    assert "paper 89.4%" not in on_digits
    assert on_mnist.count("paper 89.4%") == 2  # on itself, in both tables
    assert "paper 0.84%" in on_mnist
    assert "paper 79.3%" in on_mnist


def test_nothing_from_outside_is_markup_on_the_page_of_a_study(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "evil")
    assert harmless(write(poisoned(tmp_path / "evil")).read_text())


def test_curves_without_lines_make_no_chart(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = Curves("none", "", "", "", "", ())
    monkeypatch.setattr("reports.study.reading", lambda *_: Reading((), (), curves=(empty,)))
    assert read(folder).charts == ()
