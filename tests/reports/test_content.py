from __future__ import annotations

import pytest

from eval.errors import InputError
from eval.metrics import WORST
from eval.records import Run
from reports.content import read


def test_a_card_counts_the_attacks_that_have_a_result(tmp_path, make_run):
    page = read(make_run(tmp_path, crash=("pgd",), status="failed"))
    assert [card.attacks for card in page.cards] == [2, 2, 2]
    assert all(card.errors > 0 for card in page.cards)


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
    examples = read(run_folder).examples
    assert {e.model for e in examples} == {"softmax", "mlp", "None"}
    assert {e.attack for e in examples} == {"fgsm", "pgd", "lbfgs"}
    assert all(e.before != e.after for e in examples)


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
