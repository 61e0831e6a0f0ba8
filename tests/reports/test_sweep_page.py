"""What the page on a sweep says, word by word where words could mislead, and what its table and charts are made of."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
from html import unescape

import pandas as pd
import pytest

from reports.build import write_sweep
from reports.sweep import read
from tests.reports.swept import budgets, job, mixed, share, sweep

GOLD = (
    "23 of 48 complete; 1 interrupted, 1 missing, 18 waiting, 1 failed, 1 crashed, 2 refused, 1 unreadable",
    "This page is partial: 20 of 48 runs are not done (1 interrupted, 1 missing, 18 waiting). What they have on disk "
    "is in the table; best, worst and curves are of complete runs alone, and may change.",
    "5 of 48 runs did not succeed (1 failed, 1 crashed, 2 refused, 1 unreadable): which, and why.",
    "model mlp, softmax threat.eps 0.05, 0.1, 0.2 seed 0, 1, 2, 3, 4, 5, 6, 7",
    "These runs differ in budget, so their numbers answer different questions: none is the best or the worst of all. "
    "Best and worst are told for each question by itself.",
    "By the median over seeds the best setting is mlp (67.5%, 62.5\u201375.0%, 4 seeds), the worst softmax (43.8%, "
    "32.5\u201350.0%, 6 seeds).",
    "6 of the 9 others have intervals that reach into that of the best: chance may have picked it among them.",
    "Interrupted: 1 it was begun, and no process is at work on it 28 (model=mlp threat.eps=0.05 seed=4): 40 of 80 "
    "results (50%)",
    "Failed: 1 an attack crashed 11 (model=softmax threat.eps=0.1 seed=3): attack.pgd on mlp crashed: RuntimeError: "
    "out of memory",
    "Crashed: 1 an error of the program ended it 9 (model=softmax threat.eps=0.1 seed=1): ValueError: no luck",
    "Refused: 2 its input was refused threat.eps: must be > 0 in box units, got 0 2 runs 5 (model=softmax "
    "threat.eps=0.05 seed=5), 7 (model=softmax threat.eps=0.05 seed=7)",
    "Missing: 1 its folder is there, without a word 29 (model=mlp threat.eps=0.05 seed=5): no run.json: it never "
    "started",
    "The best of many is partly luck. The more runs are compared, the further the best one lies above what it would be "
    "on fresh samples. To quote it, evaluate it again on samples that no run has seen.",
)  # fmt: skip
FATE = {**dict.fromkeys(range(30, 48), "waiting"), 5: "refused", 7: "refused", 9: "crashed", 11: "failed", 13: "torn",
        28: "running", 29: "missing"}  # fmt: skip


def said(page: str) -> str:
    """The words of a page, one blank between them."""
    body = re.sub(r"<(style|script|svg).*?</\1>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+([,.:;)])", r"\1", " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())).replace("( ", "(")


@pytest.fixture(scope="module")
def partial(tmp_path_factory):
    folder = tmp_path_factory.mktemp("partial")
    held = sweep(folder, ["softmax", "mlp"], ["0.05", "0.1", "0.2"], range(8), FATE)
    return folder, held, write_sweep([folder], folder).read_text()


def test_the_wording_of_a_partial_page(partial):
    words = said(partial[2])
    for line in GOLD:
        assert line in words, line


def test_every_number_of_the_table_is_that_of_the_records(partial):
    _, held, page = partial
    rows = re.findall(
        r"<tr><th scope=\"row\">(?:<a[^>]*>)?(\d+)(?:</a>)?</th>(.*?)</tr>", page.partition('id="all-runs"')[2]
    )
    assert [number for number, _ in rows] == [str(i) for i in range(30)]
    for number, cells in rows:
        robust = re.findall(r"<td[^>]*>([^<]*)", cells)[5]
        if int(number) in held:
            assert robust == share(held[int(number)], 40)
        elif FATE[int(number)] == "failed":
            assert robust.endswith("%")
        elif FATE[int(number)] == "running":  # which no process is at work on
            assert robust.endswith("% so far")
        else:
            assert robust == "\u2013"


def test_the_table_is_there_without_a_script_and_has_what_can_be_chosen(partial):
    page = partial[2]
    assert '<div class="tools" data-table="all-runs" hidden>' in page
    options = re.findall(r'<select data-column="(\d)">(.*?)</select>', page)
    assert {int(c): re.findall(r"<option>([^<]*)", text) for c, text in options} == {
        1: ["mlp", "softmax"], 2: ["0.05", "0.1", "0.2"], 3: [str(i) for i in range(8)],
        4: ["complete", "crashed", "failed", "interrupted", "missing", "refused", "unreadable"],
    }  # fmt: skip


def test_the_csv_has_every_job_with_its_status_and_error(partial):
    folder, held, _ = partial
    table = pd.read_csv(folder / "sweep.csv", keep_default_na=False, dtype=str).set_index("job")
    assert len(table) == 48
    assert table["status"].value_counts()["waiting"] == 18
    assert table.loc["47", ["status", "config.seed", "overrides", "error"]].tolist() == [
        "waiting", "7", "model=mlp threat.eps=0.2 seed=7", "it has not begun",
    ]  # fmt: skip
    assert table.loc["5", ["status", "error"]].tolist() == ["refused", "threat.eps: must be > 0 in box units, got 0"]
    assert "cannot be read" in table.loc["13", "error"]
    for number, count in held.items():
        assert float(table.loc[str(number), "robust_accuracy"]) == count / 40
    assert float(table.loc["4", "seconds"]) == 0.5 + 2.0 + 1.5 + 4


def test_seeds_are_drawn_as_a_spread(partial):
    folder, held, _ = partial
    page = read([folder], folder)
    chart = next(c for c in page.charts if c.title == "Robust accuracy against threat.eps")
    assert "the median over seeds; bands from the lowest to the highest" in chart.note
    assert chart.svg.count('class="series') == 2
    mine = sorted(held[i] / 40 for i in range(16, 24))
    row = next(r for r in chart.rows if r[:2] == ("softmax", "0.2"))
    assert row[2:] == (
        f"{100 * statistics.median(mine):.1f}%", f"{100 * mine[0]:.1f}\u2013{100 * mine[-1]:.1f}%", "8", "40",
    )  # fmt: skip
    assert not any("seed" in c.title for c in page.charts)


def test_a_sweep_of_seeds_alone_shows_each(tmp_path):
    held = sweep(tmp_path, ["mlp"], ["0.1"], range(5))
    page = read([tmp_path], tmp_path)
    (chart,) = page.charts
    assert chart.title == "Robust accuracy by network"
    assert chart.svg.count('class="dot open"') == 5
    assert chart.rows[0][2] == f"{100 * statistics.median(held.values()) / 40:.1f}%"


def test_a_parameter_of_very_many_values_is_drawn_in_groups(tmp_path):
    for i in range(60):
        job(tmp_path / str(i), "mlp", "0.1", i % 3, more={"train": {"decay": 1.5**-i}})
    page = read([tmp_path], tmp_path)
    chart = next(c for c in page.charts if c.title == "Robust accuracy against train.decay")
    assert "60 values, in 20 groups of neighbours" in chart.note
    assert [row[4] for row in chart.rows] == ["3"] * 20
    assert "(logarithmic)" in chart.svg


def test_clean_accuracy_has_a_curve_where_it_varies_alone(tmp_path):
    for i in range(8):
        job(tmp_path / str(i), "mlp", ["0.1", "0.2"][i % 2], 0, more={"train": {"decay": i // 2}})
    titles = [c.title for c in read([tmp_path], tmp_path).charts]
    assert "Clean accuracy against train.decay" in titles
    assert "Clean accuracy against threat.eps" not in titles  # the same networks on the same images


def test_no_run_is_complete(tmp_path):
    sweep(tmp_path, ["mlp"], ["0.1", "0.2"], range(2), {0: "refused", 1: "running", 2: "waiting", 3: "waiting"})
    words = said(write_sweep([tmp_path], tmp_path).read_text())
    assert "Sweep" not in words
    assert "0 of 4 complete; 1 interrupted, 2 waiting, 1 refused" in words
    assert "No run is complete yet: there is nothing to compare." in words


def test_a_torn_header_is_told_wherever_it_comes(tmp_path):
    sweep(tmp_path, ["mlp"], ["0.1"], range(3), {0: "torn"})
    words = said(write_sweep([tmp_path], tmp_path).read_text())
    assert "2 of 3 complete; 1 unreadable" in words
    assert "Unreadable: 1 a file in its folder is torn 0 (seed=0):" in words


def test_a_sweep_that_has_just_begun_has_a_page(tmp_path):
    sweep(tmp_path, ["mlp", "cnn"], ["0.1"], range(2), dict.fromkeys(range(4), "waiting"))
    words = said(write_sweep([tmp_path], tmp_path).read_text())
    assert "0 of 4 complete; 4 waiting" in words
    assert "model cnn, mlp seed 0, 1" in words
    assert "No run has left a word yet." in words


def test_where_the_intervals_part_it_is_said(tmp_path):
    sweep(tmp_path, ["softmax", "cnn"], ["0.1"], [0], n=400)
    page = said(write_sweep([tmp_path], tmp_path).read_text())
    assert "No other interval reaches into that of the best." in page
    assert "may be chance" not in page


def test_errors_that_are_alike_are_told_once(tmp_path):
    sweep(tmp_path, ["mlp"], budgets(30), range(10), dict.fromkeys(range(10, 300), "refused"))
    page = write_sweep([tmp_path], tmp_path).read_text()
    assert page.count("got 0") == 1
    assert "290 runs" in said(page)
    assert "and 90 more: they are in sweep.csv" in said(page)


def test_two_processes_tell_the_same_whatever_was_counted_before(tmp_path):
    sweep(tmp_path, ["mlp", "cnn"], budgets(3), range(2), {3: "running"})
    first = write_sweep([tmp_path], tmp_path).read_text(), (tmp_path / "sweep.csv").read_text()
    assert (tmp_path / ".sweep-numbers.json").exists()
    assert (write_sweep([tmp_path], tmp_path).read_text(), (tmp_path / "sweep.csv").read_text()) == first
    job(tmp_path / "3", "mlp", "0.155", 1)
    again = said(write_sweep([tmp_path], tmp_path).read_text())
    assert "12 of 12 complete" in again
    assert "partial" not in again


def test_an_output_elsewhere_calls_jobs_by_their_numbers_and_links_to_their_pages(tmp_path):
    sweep(tmp_path / "sweep", ["mlp"], ["0.1", "0.2"], [0])
    (tmp_path / "sweep" / "1" / "report.html").touch()
    page = write_sweep([tmp_path / "sweep"], tmp_path / "out").read_text()
    assert '<th scope="row"><a href="../sweep/0/run.json">0</a></th>' in page
    assert '<a href="../sweep/1/report.html">1</a>' in page


def test_a_job_without_a_page_links_to_its_header_and_one_without_a_header_to_nothing(partial):
    page = partial[2].partition('id="all-runs"')[2]
    assert '<th scope="row"><a href="28/run.json">28</a></th>' in page
    assert '<th scope="row">5</th>' in page


def test_how_to_go_on_is_said_as_the_terminal_says_it(partial):
    words = said(partial[2])
    assert "The same command with the same run.dir goes on with what was begun." in words
    assert "hydra.sweep.dir" not in words


def test_one_run_is_no_runs(tmp_path):
    sweep(tmp_path, ["mlp"], ["0.1"], [0])
    page = write_sweep([tmp_path], tmp_path).read_text()
    assert "<title>Grid: 1 run</title>" in page
    assert "<h1>Grid: 1 run</h1>" in page


REPORT = """
import sys, time
from pathlib import Path
from reports.build import write_sweep
clock = time.process_time()
folder = Path(sys.argv[1])
write_sweep([folder], folder)
seconds, status = time.process_time() - clock, Path("/proc/self/status")
peaks = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")]  # not the parent's
print(seconds, peaks[0])
"""


def measured(folder):
    """Seconds of CPU of a report, in a process of its own, and its peak memory in MB."""
    done = subprocess.run([sys.executable, "-c", REPORT, folder], capture_output=True, text=True, check=True)
    seconds, peak = done.stdout.split()
    return float(seconds), float(peak) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the peak of memory")
def test_a_hundred_jobs_take_no_hundred_times_as_long_as_one(tmp_path, monkeypatch):
    sweep(tmp_path, ["mlp", "softmax"], budgets(10), range(6), mixed(120))
    seconds, _ = measured(tmp_path)
    assert len(read([tmp_path], tmp_path).jobs) == 120
    assert (tmp_path / "report.html").stat().st_size < 200_000
    assert seconds < 4  # one by one they take 7


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the peak of memory")
def test_three_thousand_jobs(tmp_path):
    folder = tmp_path / "sweep"
    held = sweep(folder, ["softmax", "mlp", "cnn"], budgets(100), range(10), mixed(3000))
    seconds, peak = measured(folder)
    again, _ = measured(folder)
    size = (folder / "report.html").stat().st_size
    print(f"{seconds:.1f} s, then {again:.1f} s of CPU, {peak:.0f} MB, a page of {size / 1e6:.2f} MB")
    assert seconds < 30
    assert again < 8
    assert peak < 600
    assert size < 3e6
    table = pd.read_csv(folder / "sweep.csv", dtype={"job": int}).set_index("job")
    assert len(table) == 3000
    for number, count in held.items():
        assert table["robust_accuracy"][number] == count / 40
