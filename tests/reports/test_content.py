from __future__ import annotations

import re

import pandas as pd
import pytest

from eval.errors import InputError
from eval.metrics import WORST
from eval.records import Run, write_part
from reports.build import write
from reports.content import read


def test_a_card_counts_the_attacks_that_have_a_result(tmp_path, make_run):
    page = read(make_run(tmp_path, crash=("pgd",), status="failed"))
    assert [card.attacks for card in page.cards] == [2, 2, 2]
    assert all(card.errors > 0 for card in page.cards)


@pytest.mark.parametrize(("status", "word"), [("complete", "Finished"), ("interrupted", "Interrupted")])
def test_when_it_ended_is_called_what_it_was(tmp_path, make_run, status, word):
    header = Run.read(make_run(tmp_path, n=20))
    header.status = status
    header.write(tmp_path)
    assert (word, "2026-11-20 12:00:42 UTC") in read(tmp_path).overview


def unfinished(folder, make_run, lacking, none=(), status="interrupted", crash=()):
    """A run of 60 samples in which PGD has the first 60 - `lacking`, and networks `none` have no attack yet."""
    header = Run.read(make_run(folder, status=status, crash=crash, transfer=False, attacks=("fgsm", "pgd")))
    for path in (folder / "parts").iterdir():
        table = pd.read_parquet(path)
        if table["source"][0] in none and table["role"][0] != "clean":
            path.unlink()
        elif table["attack"][0] == "pgd":
            write_part(folder, path.stem, {c: table[c][: 60 - lacking] for c in table})
    header.parts = 18
    header.write(folder)
    return folder


def test_a_card_says_which_attacks_lack_samples(tmp_path, make_run):
    folder = unfinished(tmp_path, make_run, 16, none=("None",))
    first, _, last = read(folder).cards
    assert (first.robust.n, first.attacks, first.strongest) == (60, 2, "")
    assert first.incomplete == ("pgd: 44 of 60 samples so far",)
    assert last.incomplete == ("fgsm: no result yet", "pgd: no result yet")
    page = write(folder).read_text()
    assert "strongest alone" not in page
    assert page.count("Not complete: pgd: 44 of 60 samples so far.") == 2
    assert (
        "At \u03b5 = 8/255 no result yet: None; not complete: softmax (pgd: 44 of 60 samples so far), "
        "mlp (pgd: 44 of 60 samples so far). The same command"
    ) in page


def test_a_cell_of_fewer_samples_than_its_row_says_so(tmp_path, make_run):
    folder = make_run(tmp_path, models=("mlp",), status="interrupted", transfer=False, attacks=("fgsm", "pgd"))
    for path in (folder / "parts").iterdir():
        table = pd.read_parquet(path)
        if (table["attack"][0], table["eps_text"][0]) == ("pgd", "8/255"):
            write_part(folder, path.stem, {c: table[c][:44] for c in table})
    section = write(folder).read_text().split('<section id="robust">')[1].split("</section>")[0]
    assert re.findall(r"%, n = \d+</small>", section) == ["%, n = 44</small>"]


@pytest.mark.parametrize("lacking", [0, 16])
def test_what_crashed_is_not_called_incomplete(tmp_path, make_run, lacking):
    card = read(unfinished(tmp_path, make_run, lacking, crash=("pgd",))).cards[0]
    assert (card.attacks, card.strongest) == (1, "fgsm")
    assert card.incomplete == (("pgd: 44 of 60 samples so far",) if lacking else ())


@pytest.mark.parametrize("status", ["complete", "failed"])
def test_a_run_that_is_done_lacks_nothing(tmp_path, make_run, status):
    cards = read(make_run(tmp_path, status=status, crash=("pgd",) if status == "failed" else ())).cards
    assert {card.incomplete for card in cards} == {()}


def test_the_strongest_attack_is_told_of_the_same_samples_alone(tmp_path, make_run):
    folder = make_run(tmp_path, models=("mlp",), status="failed", transfer=False, attacks=("fgsm", "pgd"))
    assert read(folder).cards[0].strongest == "pgd"
    for path in (folder / "parts").iterdir():
        table = pd.read_parquet(path)
        if table["attack"][0] == "fgsm":
            table.loc[:9, ["error", "success", "success_8bit"]] = "RuntimeError: out of memory", False, False
            write_part(folder, path.stem, {c: table[c] for c in table})
    assert read(folder).cards[0].strongest == ""


def test_the_worst_case_stands_last_and_lowest(run_folder):
    rows = [r for r in read(run_folder).robust if r.model == "mlp"]
    assert [r.attack for r in rows] == ["fgsm", "pgd", "lbfgs", WORST]
    for i in range(2):
        assert rows[-1].cells[i].share.value == min(r.cells[i].share.value for r in rows)


def test_matrices_of_the_headline_come_first(run_folder):
    matrices = read(run_folder).matrices
    assert [m.headline for m in matrices] == sorted((m.headline for m in matrices), reverse=True)
    assert {m.eps for m in matrices if m.headline} == {"\u03b5 = 8/255", "minimal"}
    assert [source for source, _ in matrices[0].rows] == ["softmax", "mlp", "None"]


def test_a_matrix_has_its_controls(run_folder):
    matrix = read(run_folder).matrices[0]
    assert all(c.noise.known for c in matrix.cells)
    assert all(0 <= v < 0.2 for v in matrix.clean)
    assert not matrix.targeted


def test_white_box_transfer_is_complete(run_folder):
    for matrix in read(run_folder).matrices:
        assert all(c.transferred.value == 1 for c in matrix.cells if c.source == c.target and c.transferred.known)


def test_examples_are_of_several_models_and_attacks(run_folder):
    page = read(run_folder)
    examples = page.examples + page.more_examples
    assert {e.model for e in examples} == {"softmax", "mlp", "None"}
    assert {e.attack for e in examples} == {"fgsm", "pgd", "lbfgs"}
    assert all(e.before != e.after for e in examples)


def test_attacks_beside_one_another_show_different_samples(run_folder):
    first = [e for e in read(run_folder).examples if e.model == "mlp"]
    assert len({e.attack for e in first}) == len({e.sample for e in first}) == 3


def test_without_transfer_there_is_no_matrix(tmp_path, make_run):
    assert read(make_run(tmp_path, transfer=False, n=20)).matrices == ()


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_distances_are_drawn_in_the_norm_that_a_search_minimises_too(tmp_path, make_run, norm):
    folder = make_run(tmp_path, n=20)
    header = Run.read(folder)
    header.attacks[2]["norm"] = norm
    header.write(folder)
    for path in (folder / "parts").iterdir():
        table = pd.read_parquet(path)
        if table["attack"][0] == "lbfgs":
            write_part(folder, path.stem, {c: table[c] for c in table} | {"norm": [norm] * len(table)})
    charts = {chart.name: chart for chart in read(folder).distortions}
    assert list(charts) == ["distortion-linf", f"distortion-{norm}", "distortion-rms"]
    assert any("lbfgs" in row[0] for row in charts[f"distortion-{norm}"].rows)


@pytest.mark.parametrize(("attacks", "said"), [(("fgsm", "lbfgs"), True), (("fgsm", "pgd"), False)])
def test_the_rounding_of_minimal_perturbations_is_explained_where_there_are_some(tmp_path, make_run, attacks, said):
    page = write(make_run(tmp_path, n=20, models=("mlp",), attacks=attacks)).read_text()
    assert ("a minimal perturbation ends on the boundary" in page) is said


def test_charts_and_their_tables_say_the_same(run_folder):
    page = read(run_folder)
    shown = {row for row in page.curves[0].rows if row[0] == "mlp"}
    cell = next(r for r in page.robust if r.model == "mlp" and r.attack == WORST).cells[1]
    assert cell.share.text in {row[2] for row in shown}


def test_a_crashed_attack_is_named_in_the_chart(tmp_path, make_run):
    chart = read(make_run(tmp_path, crash=("pgd",), status="failed", n=20)).curves[1]
    assert "pgd (no result)" in chart.svg


def test_a_header_without_a_threat_is_one_line(tmp_path, make_run):
    folder = make_run(tmp_path, n=5, models=("mlp",), examples=False)
    header = Run.read(folder)
    header.threat = {}
    header.write(folder)
    with pytest.raises(InputError, match="threat must have a norm"):
        read(folder)


@pytest.mark.parametrize("attacks", [("fgsm",), ("lbfgs",), ("fgsm", "pgd")])
def test_any_mixture_of_attacks(tmp_path, make_run, attacks):
    page = read(make_run(tmp_path, attacks=attacks, n=30))
    assert len(page.curves) == 4
    assert all(card.robust.known for card in page.cards)


def test_a_search_is_named_by_the_norm_that_it_minimises(tmp_path, make_run):
    folder = make_run(tmp_path, n=20)
    header = Run.read(folder)
    header.attacks[2]["norm"] = "l2"
    header.write(folder)
    assert [r.minimises for r in read(folder).robust][:4] == ["", "", "smallest L2", ""]
    page = write(folder).read_text()
    assert page.count('<span class="tag">smallest L2</span>') == 3
    assert "it minimises its own norm" in page


def test_a_search_in_the_norm_of_the_threat_needs_no_excuse(run_folder):
    page = write(run_folder).read_text()
    assert '<span class="tag">smallest L\u221e</span>' in page
    assert "it minimises its own norm" not in page


@pytest.mark.parametrize("lower", [False, True])
def test_a_lower_bound_after_rounding_stands_beside_the_headline(tmp_path, make_run, lower):
    folder = make_run(tmp_path, models=("mlp",))
    if lower:
        for path in (folder / "parts").iterdir():
            table = pd.read_parquet(path)
            write_part(folder, path.stem, {c: table[c] for c in table} | {"success_8bit": [True] * len(table)})
    page, card = write(folder).read_text(), read(folder).cards[0]
    assert card.worse_rounded is lower
    assert (f"<strong>{card.rounded.text}</strong><span>once images are saved with 8 bits" in page) is lower


@pytest.mark.parametrize(("n", "closed"), [(40, True), (300, False)])
def test_classes_of_few_samples_are_folded_away(tmp_path, make_run, n, closed):
    page = write(make_run(tmp_path, n=n, models=("mlp",), examples=False)).read_text()
    section = page.split('<section id="classes">')[1].split("</section>")[0]
    assert ("<summary>Charts and table" in section) is closed
    assert ("Closed because half of the classes" in section) is closed
    assert section.count("<table") == 2  # of all networks, and beside the chart of the one there is


def test_costs_are_those_of_the_headline_with_the_rest_folded_away(run_folder):
    page = read(run_folder)
    assert {row["eps_text"] for row in page.costs} == {"8/255", "min"}
    assert {row["eps_text"] for row in page.more_costs} == {"4/255"}


def test_the_gallery_opens_with_few_of_each_model(run_folder):
    page = read(run_folder)
    assert [e.model for e in page.examples].count("mlp") == 3
    assert len(page.examples) == 9
    assert {e.attack for e in page.examples} == {"fgsm", "pgd", "lbfgs"}
    assert page.more_examples
    assert not set(page.examples) & set(page.more_examples)


def test_a_targeted_goal_is_not_called_robust(tmp_path, make_run):
    folder = make_run(tmp_path, n=40)
    for path in (folder / "parts").iterdir():  # every attack ends in a wrong class, and none in the wanted one
        table = pd.read_parquet(path)
        if table["role"][0] == "attack":
            wrong = {"target_class": (table["label"] + 2) % 5, "adv_pred": (table["label"] + 1) % 5, "in_budget": True}
            table = table.assign(**wrong, success=False, success_8bit=False)
            write_part(folder, path.stem, {c: table[c] for c in table})
    header = Run.read(folder)
    header.goal = "next"
    header.write(folder)
    page, html = read(folder), write(folder).read_text()
    assert all(card.robust.value == card.clean.value for card in page.cards)
    assert all(card.right.value == 0.0 for card in page.cards)
    assert "<span>correct before, and not brought to the wanted class, \u03b5 = 8/255</span>" in html
    assert html.count("<strong>0.0%</strong><span>accuracy under fgsm</span>") == 3
    assert "how often it still is" not in html
    assert "obust accuracy" not in html
    assert "correct before, and not brought" in page.curves[0].svg


def test_the_accuracy_beside_a_targeted_goal_is_what_the_white_box_error_leaves(tmp_path, make_run):
    folder = make_run(tmp_path, n=40)
    assert not read(folder).cards[0].right.known
    header = Run.read(folder)
    header.goal = "next"
    header.write(folder)
    page = read(folder)
    matrix = next(m for m in page.matrices if m.attack == "pgd" and m.headline)
    cell = next(c for c in matrix.cells if c.source == c.target == "mlp")
    row = next(r for r in page.robust if (r.model, r.attack) == ("mlp", "pgd"))
    assert row.cells[1].right.value == 1 - cell.error.value
