from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval import metrics
from eval.errors import InputError
from eval.gate.fates import fate
from eval.gate.outcomes import ABSENT, BROKEN, CLEAN, HELD, Cell, worst
from eval.gate.snapshot import read_run
from eval.levels import WORST
from eval.records import Run, read_records
from tests.bytecode import BYTECODE
from tests.eval.gate_runs import outcomes, write_run

LEVELS = {"4/255": 4 / 255, "8/255": 8 / 255}


def network(n, seed, attacks=("pgd", "fgsm")):
    rng = np.random.default_rng(seed)
    clean = outcomes(n, 0.9, seed=seed)
    cells = {"none": clean}
    for attack in attacks:
        near = rng.random(n)
        cells |= {(attack, text): clean * (near > eps * 10).astype(np.uint8) for text, eps in LEVELS.items()}
    return cells


def counted(folder):
    """Robust and all samples by cell, by the metrics of reports."""
    run, records = Run.read(folder), read_records(folder)
    threat = metrics.Threat.of(run)
    table = metrics.robust_accuracy(metrics.outcomes(records, threat), threat)
    found = {Cell(r["model"], r["attack"], r["eps_text"]): (r["robust"], r["n"]) for r in table.to_dict("records")}
    for r in metrics.clean_accuracy(records).to_dict("records"):
        found[Cell(r["model"], CLEAN, "0")] = (r["correct"], r["n"])
    return found


@given(st.integers(0, 1000), st.integers(3, 40))
@settings(deadline=None, max_examples=15)
def test_outcomes_are_those_of_the_reports(tmp_path_factory, seed, n):
    folder = tmp_path_factory.mktemp("run")
    silent = [("mlp", "pgd", "8/255", [0, n - 1])]
    write_run(folder, {"mlp": network(n, seed), "cnn": network(n, seed + 1)}, levels=LEVELS, silent=silent)
    known = counted(folder)
    cells = read_run(folder).cells
    assert set(cells) == set(known)
    for cell, values in cells.items():
        if cell != Cell("mlp", WORST, "8/255"):  # where the answer of one attack is missing
            assert ((values == HELD).sum(), (values != ABSENT).sum()) == known[cell], cell


def test_the_report_of_a_made_up_run_counts_the_same(tmp_path):
    from tests.reports.conftest import build_run

    folder = build_run(tmp_path, n=40)
    known = counted(folder)
    for cell, values in read_run(folder).cells.items():
        assert ((values == HELD).sum(), (values != ABSENT).sum()) == known[cell], cell


def test_an_attack_without_an_answer_leaves_the_worst_case_open(tmp_path):
    held = np.array([1, 1, 1, 1], np.uint8)
    cells = {"none": held, ("pgd", "8/255"): held, ("fgsm", "8/255"): np.array([1, 0, 1, 0], np.uint8)}
    write_run(tmp_path, {"mlp": cells}, silent=[("mlp", "pgd", "8/255", [0, 1])])
    found = read_run(tmp_path).cells
    assert found["mlp", "pgd", "8/255"].tolist() == [ABSENT, ABSENT, HELD, HELD]
    assert found["mlp", WORST, "8/255"].tolist() == [ABSENT, BROKEN, HELD, BROKEN]


def test_one_attack_is_its_own_worst_case(tmp_path):
    held = np.ones(4, np.uint8)
    write_run(tmp_path, {"mlp": {"none": held, ("pgd", "8/255"): held}})
    assert [cell.attack for cell in read_run(tmp_path).cells] == [CLEAN, "pgd"]


def test_a_search_for_the_smallest_counts_at_every_eps(tmp_path):
    held = np.array([1, 0, 1], np.uint8)
    cells = {"none": np.ones(3, np.uint8), ("lbfgs", "4/255"): held}
    write_run(tmp_path, {"mlp": cells}, levels=LEVELS, minimal=["lbfgs"])
    found = read_run(tmp_path).cells
    assert found["mlp", "lbfgs", "4/255"].tolist() == found["mlp", "lbfgs", "8/255"].tolist() == [1, 0, 1]


def test_samples_are_in_order_whatever_the_parts(tmp_path):
    ids = ["b", "d", "a", "c"]
    held = np.array([1, 0, 0, 1], np.uint8)
    write_run(tmp_path, {"mlp": {"none": held, ("pgd", "8/255"): held}}, ids=ids, slices=3)
    found = read_run(tmp_path)
    assert found.samples == ("a", "b", "c", "d")
    assert found.cells["mlp", "pgd", "8/255"].tolist() == [0, 1, 1, 0]


@given(st.lists(st.lists(st.sampled_from([0, 1, 2]), min_size=5, max_size=5), min_size=1, max_size=4))
def test_the_worst_case_is_broken_by_any_and_held_by_all(several):
    expected = [0 if 0 in column else 2 if 2 in column else 1 for column in zip(*several, strict=True)]
    assert worst([np.array(row, np.uint8) for row in several]).tolist() == expected


def test_a_fate_names_what_broke_a_sample(tmp_path):
    clean = np.array([1, 0, 1], np.uint8)
    cells = {"none": clean, ("pgd", "8/255"): np.array([0, 0, 1], np.uint8), ("fgsm", "8/255"): clean}
    write_run(tmp_path, {"mlp": cells}, silent=[("mlp", "pgd", "8/255", [2])])
    run = read_run(tmp_path)
    broken = fate(run, Cell("mlp", WORST, "8/255"), "test/00000")
    assert (broken.label, broken.before, broken.after, broken.attack) == (0, 0, 1, "pgd")
    assert broken.size == pytest.approx(8 / 255)
    wrong = fate(run, Cell("mlp", "pgd", "8/255"), "test/00001")
    assert (wrong.label, wrong.after, wrong.attack) == (1, 2, "")
    assert fate(run, Cell("mlp", "pgd", "8/255"), "test/00002").after == -1
    assert fate(run, Cell("mlp", "pgd", "8/255"), "nobody") is None


BAD = {
    "no folder": (lambda f: f / "none", "is no folder"),
    "empty": (lambda f: f / "empty", "holds no run.json"),
    "sweep": (lambda f: f.parent, "name one, such as"),
    "torn header": (lambda f: (f / "run.json").write_text('{"schema": 2, "ti') and f, "cannot be read"),
    "torn part": (lambda f: next((f / "parts").glob("*pgd*")).write_bytes(b"PAR1") and f, "whole Parquet part"),
    "no parts": (lambda f: [p.unlink() for p in (f / "parts").iterdir()] and f, "has none in parts"),
    "part lost": (lambda f: next((f / "parts").glob("*pgd*")).unlink() or f, "lacks 4 .* of mlp: pgd, eps 8/255"),
    "refused": (lambda f: (f / "error.json").write_text('{"status": "refused", "error": "x", "overrides": []}') and f,
                "it was refused: x"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_whole_run_is_refused_in_one_line(tmp_path, what):
    spoil, told = BAD[what]
    held = outcomes(8, 0.5)
    folder = write_run(tmp_path / "sweep" / "0", {"mlp": {"none": held, ("pgd", "8/255"): held}})
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match=told) as caught:
        read_run(spoil(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "told"),
    [({"status": "running"}, "still runs or was interrupted"),
     ({"status": "failed", "warnings": ["attack.pgd on mlp crashed: out of memory"]}, "crashed: out of memory"),
     ({"config": {"study": {"_target_": "eval.studies.tables.Tables"}}}, "is the study eval.studies.tables.Tables"),
     ({"threat": {"norm": "linf"}}, "must have"), ({"attacks": []}, "ran no attack")],
)  # fmt: skip
def test_runs_that_cannot_be_compared_are_refused(tmp_path, header, told):
    held = outcomes(8, 0.5)
    write_run(tmp_path, {"mlp": {"none": held, ("pgd", "8/255"): held}}, **header)
    with pytest.raises(InputError, match=told):
        read_run(tmp_path)


def test_the_gate_starts_without_torch_and_pandas(tmp_path):
    held = outcomes(8, 0.5)
    write_run(tmp_path / "run", {"mlp": {"none": held, ("pgd", "8/255"): held}})
    code = (
        "import sys\nfrom reports.gate.__main__ import main\n"
        "for command in (['accept'], ['check']):\n"
        "    try: main([*command, 'run', '--baseline', 'b.json'])\n"
        "    except SystemExit as left: assert not left.code, left.code\n"
        "print([m for m in ('torch', 'pandas', 'scipy', 'pyarrow.compute') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False,
                          env={"PYTHONPATH": ":".join(p for p in sys.path if p), "PATH": "", **BYTECODE})  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
