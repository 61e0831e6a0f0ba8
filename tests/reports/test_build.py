from __future__ import annotations

import json
import re
import subprocess
import sys

import pandas as pd
import pytest

from eval.effort import DISTANCES
from eval.errors import InputError
from eval.metrics import WORST
from eval.records import read_records
from reports import tables
from reports.build import write

SECTIONS = ["overview", "headline", "curves", "robust", "transfer", "classes", "distortion", "gallery", "costs",
            "reading", "again"]  # fmt: skip


def read_csv(path):
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def test_all_sections_are_there(run_folder):
    page = write(run_folder).read_text()
    assert sorted(re.findall(r'<section id="(\w+)"', page)) == sorted(SECTIONS)


def test_nothing_from_outside_is_markup(run_folder):
    page = write(run_folder).read_text()
    assert "<img src=x" not in page
    assert "<script>alert" not in page
    assert page.count("<script") == 1
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_names_of_models_and_attacks_are_escaped_in_charts_and_tables(tmp_path, make_run):
    evil = 'a"><svg/onload=alert(3)>&'
    folder = make_run(tmp_path, models=(evil, "b"), attacks=("fgsm", "pgd"), n=20)
    page = write(folder).read_text()
    assert "<svg/onload" not in page
    assert all("<svg/onload" not in path.read_text() for path in (folder / "figures").iterdir())


def test_the_page_needs_nothing_from_outside(run_folder):
    page = write(run_folder).read_text()
    assert set(re.findall(r'(?:src|href)="([^"]{0,5})', page)) <= {"data:", *(f"#{s}"[:5] for s in SECTIONS)}
    assert "@import" not in page
    assert re.findall(r"url\(", page) == []


def test_ids_are_unique(run_folder):
    ids = re.findall(r'\bid="([^"]+)"', write(run_folder).read_text())
    assert len(ids) == len(set(ids))


def test_headline_numbers_stand_on_the_page(run_folder):
    page = write(run_folder).read_text()
    summary = read_csv(run_folder / "summary.csv")
    worst = summary[(summary["attack"] == WORST) & (summary["eps_text"] == "8/255")]
    assert len(worst) == 3
    for row in worst.itertuples():
        assert f"<strong>{row.robust_accuracy:.1%}</strong>" in page
        assert f"<strong>{row.clean_accuracy:.1%}</strong>" in page


def test_summary_has_a_row_per_model_attack_and_eps_in_the_order_of_the_run(run_folder):
    write(run_folder)
    summary = read_csv(run_folder / "summary.csv")
    assert tuple(summary.columns) == tables.SUMMARY
    assert list(dict.fromkeys(summary["model"])) == ["softmax", "mlp", "None"]
    assert list(summary["attack"])[:8:2] == ["fgsm", "pgd", "lbfgs", WORST]
    assert len(summary) == 3 * 4 * 2
    assert set(summary[summary["minimal"]]["attack"]) == {"lbfgs"}


def test_the_summary_has_the_distances_of_minimal_attacks_the_same_at_every_eps(run_folder):
    write(run_folder)
    summary, records = read_csv(run_folder / "summary.csv"), read_records(run_folder)
    minimal = summary[summary["minimal"]]
    assert summary[summary["attack"].isin(["fgsm", "pgd"])][list(DISTANCES)].isna().all(axis=None)
    assert minimal["distance_norm"].eq("linf").all()
    assert minimal.groupby("model")["distance_median"].nunique().eq(1).all()
    own = (records["attack"] == "lbfgs") & (records["role"] == "attack") & (records["source"] == "mlp")
    mine = records[own & (records["target_model"] == "mlp") & (records["clean_pred"] == records["label"])]
    row = minimal[minimal["model"] == "mlp"].iloc[0]
    assert row["found"] == row["searched"] == len(mine)
    assert row["distance_median"] == pytest.approx(mine["linf"].median())
    assert row["rms_mean"] == pytest.approx(mine["rms"].mean())


def test_transfer_has_a_row_per_source_target_attack_and_budget(run_folder):
    write(run_folder)
    transfer = read_csv(run_folder / "transfer.csv")
    assert tuple(transfer.columns) == tables.TRANSFER
    assert len(transfer) == 3 * 3 * 5
    assert transfer["noise_n"].eq(60).all()
    assert transfer["moved"].between(1, 60).all()


def test_the_table_and_the_reading_say_what_rounding_may_do(run_folder):
    page = write(run_folder).read_text()
    for section in ("robust", "reading"):
        text = page.split(f'<section id="{section}">')[1].split("</section>")[0]
        assert "ox and budget are those before rounding" in text
        assert "1/510 of the range" in text


def test_records_are_written_on_request_only(run_folder):
    write(run_folder)
    assert not (run_folder / "records.csv").exists()
    write(run_folder, records_csv=True)
    again = pd.read_csv(run_folder / "records.csv", keep_default_na=False)
    assert list(again["target_model"]) == list(read_records(run_folder)["target_model"])
    assert len(again) == len(read_records(run_folder))


def test_figures_are_whole_svg_files(run_folder):
    from xml.etree import ElementTree

    write(run_folder)
    names = {p.name for p in (run_folder / "figures").iterdir()}
    assert {"accuracy-worst-case.svg", "accuracy-model-0.svg", "distortion-linf.svg", "distortion-rms.svg"} <= names
    for name in names:
        ElementTree.parse(run_folder / "figures" / name)


def test_writing_twice_gives_the_same_bytes(run_folder):
    first = write(run_folder).read_bytes()
    assert write(run_folder).read_bytes() == first


def test_another_folder_leaves_the_run_alone(run_folder, tmp_path):
    before = sorted(p.name for p in run_folder.iterdir())
    assert write(run_folder, output=tmp_path / "out") == tmp_path / "out" / "report.html"
    assert sorted(p.name for p in run_folder.iterdir()) == before


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("running", "This run has not finished"),
        ("interrupted", "This run was interrupted"),
        ("failed", "This run failed"),
    ],
)
def test_a_run_that_did_not_complete_says_so_at_the_top(tmp_path, make_run, status, words):
    page = write(make_run(tmp_path, n=20, status=status)).read_text()
    assert page.index(words) < page.index("<nav")


@pytest.mark.parametrize("status", ["running", "interrupted", "complete"])
def test_a_run_that_is_not_done_says_how_much_of_it_is(tmp_path, make_run, status):
    folder = make_run(tmp_path, n=20, status=status)
    header = json.loads((folder / "run.json").read_text())
    there = len(list((folder / "parts").iterdir()))
    (folder / "parts" / "ab-failed.parquet").write_bytes(next((folder / "parts").iterdir()).read_bytes())
    assert ("The numbers cover what is on disk." in write(folder).read_text()) == (status != "complete")
    (folder / "run.json").write_text(json.dumps({**header, "parts": 1234}))
    told = f"{there} of its 1,234 parts are on disk, and the numbers cover no others"
    assert (told in write(folder).read_text()) == (status != "complete")


def test_warnings_stand_before_the_numbers(run_folder):
    page = write(run_folder).read_text()
    assert page.index("softmax: clean accuracy is at chance &lt;b&gt;") < page.index('id="headline"')


def test_a_crashed_attack_is_told_and_not_counted(tmp_path, make_run):
    folder = make_run(tmp_path, crash=("pgd",), status="failed")
    page = write(folder).read_text()
    summary = read_csv(folder / "summary.csv")
    assert (summary[summary["attack"] == "pgd"]["n"] == 0).all()
    assert (summary[summary["attack"] == "pgd"]["errors"] > 0).all()
    assert "this number is not to be trusted" in page


def test_a_run_without_records_still_has_a_page(tmp_path, make_run):
    folder = make_run(tmp_path, status="running", n=20, examples=False)
    for part in (folder / "parts").iterdir():
        part.unlink()
    page = write(folder).read_text()
    assert "This run has not finished" in page
    assert re.findall(r'<section id="(\w+)"', page) != []
    assert tuple(read_csv(folder / "summary.csv").columns) == tables.SUMMARY


def test_one_model_without_transfer(tmp_path, make_run):
    assert "needs at least two models" in write(make_run(tmp_path, models=("mlp",), transfer=False)).read_text()


def test_very_many_classes_show_the_weakest(tmp_path, make_run):
    folder = make_run(tmp_path, n=150, models=("mlp",), classes=tuple(f"class {i}" for i in range(100)))
    page = write(folder).read_text()
    classes = read_csv(folder / "classes.csv")
    assert page.count('<th scope="row">class ') == 60 + 30  # of the table, and of that beside the chart
    assert f"the other {classes['class'].nunique() - 60} are in" in page


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 8, 8), (3, 300, 200)])
def test_images_of_any_shape(tmp_path, make_run, shape):
    page = write(make_run(tmp_path, n=20, models=("mlp",), shape=shape)).read_text()
    assert page.count("data:image/png;base64,") >= 9


def test_a_torn_part_is_one_line_and_writes_nothing(run_folder):
    next((run_folder / "parts").iterdir()).write_bytes(b"PAR1 torn")
    with pytest.raises(InputError, match="must be a whole Parquet part") as caught:
        write(run_folder)
    assert "\n" not in str(caught.value)
    assert not (run_folder / "report.html").exists()


def test_a_report_starts_without_torch_and_without_hydra():
    code = "import sys, reports.build; print([m for m in ('torch', 'hydra', 'matplotlib') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
