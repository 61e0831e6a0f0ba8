"""The page in a real browser: its own policy lets its script run, and nothing complains."""

from __future__ import annotations

import json
import math
import re
import shutil
import statistics
import subprocess
from html import unescape

import pytest

from reports.build import write, write_sweep
from tests.reports.swept import budgets, job, sweep

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--enable-logging=stderr", "--v=0", "--virtual-time-budget=3000"]  # fmt: skip

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium executable")]


def dump(page, profile, width=1200):
    """The page after its script ran, and what the console said."""
    command = [
        CHROMIUM,
        *FLAGS,
        f"--window-size={width},900",
        f"--user-data-dir={profile}",
        "--dump-dom",
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout, re.findall(r".*CONSOLE.*", done.stderr)


def test_a_report_opens_without_complaint(run_folder, tmp_path):
    dom, console = dump(write(run_folder), tmp_path / "profile")
    assert console == []
    sections = re.findall(r'<section id="(\w+)"', dom)
    assert set(sections) == {"overview", "headline", "curves", "robust", "transfer", "classes", "distortion", "gallery",
                             "costs", "reading", "again"}  # fmt: skip
    switch = re.search(r'<div class="switch"[^>]*>', dom).group()
    assert "hidden" not in switch  # our script ran, so the policy knows it


def test_a_foreign_script_is_stopped(run_folder, tmp_path):
    page = write(run_folder)
    page.write_text(page.read_text().replace("</body>", '<script>document.title = "taken"</script></body>'))
    dom, console = dump(page, tmp_path / "profile")
    assert "<title>taken" not in dom
    assert any("Content Security Policy" in line for line in console)


def test_a_sweep_opens_without_complaint(sweep_folder, tmp_path):
    dom, console = dump(write_sweep([sweep_folder], sweep_folder), tmp_path / "profile")
    assert console == []
    assert {"headline", "runs", "curves", "reading"} <= set(re.findall(r'<section id="(\w+)"', dom))


SORT = """<script>
const said = {}, table = document.getElementById("all-runs"), heads = [...table.tHead.rows[0].cells];
const place = (title) => heads.findIndex((head) => head.textContent.trim() === title);
const column = (title) => [...table.tBodies[0].rows].map((row) => row.cells[place(title)].firstChild.textContent);
const press = (title) => heads[place(title)].querySelector("button").click();
const told = () => document.querySelector(".tools output").textContent;
const choose = (title, value) => {
  const choice = document.querySelector(`.tools select[data-column="${place(title)}"]`);
  choice.value = value;
  choice.dispatchEvent(new Event("change"));
};
said.first = told();
press("job"); said.jobs = column("job");
press("job"); said.backwards = column("job");
press("robust"); said.robust = column("robust"); said.sorted = heads[place("robust")].getAttribute("aria-sort");
press("robust"); said.robustDown = column("robust");
choose("seed", "1"); said.seeds = column("seed"); choose("status", "refused"); said.both = told(); choose("status", "");
const search = document.querySelector(".tools input");
search.value = "MLP  failed"; search.dispatchEvent(new Event("input"));
said.found = column("status");
document.querySelector(".tools button").click(); said.cleared = told();
const more = document.querySelector("[data-more]");
said.cut = column("job").length; said.more = more.hidden;
const timed = () => ["robust", "job", "clean"].map((title) => {
  const start = performance.now();
  press(title); table.getBoundingClientRect();
  return performance.now() - start;
});
said.few = timed();
more.querySelector("button").click(); said.all = column("job").length; said.after = more.hidden;
said.many = timed();
document.title = JSON.stringify(said);
</script></body>"""


def sorted_in_a_browser(folder, profile):
    """What the table of a sweep does when its heads are pressed and its filters are set."""
    page = write_sweep([folder], folder)
    html = re.sub(r"<meta http-equiv=[^>]*>", "", page.read_text()).replace("</body>", SORT)
    page.write_text(html)
    dom, console = dump(page, profile)
    assert console == []
    return json.loads(unescape(re.search("<title>(.*?)</title>", dom).group(1)))


def number(text):
    return math.inf if text == "\u2013" else float(text.rstrip("%"))


def test_the_table_of_a_sweep_is_sorted_and_filtered(tmp_path):
    fate = {3: "refused", 103: "refused", 205: "failed", 9: "torn"}
    sweep(tmp_path / "sweep", ["softmax", "mlp"], budgets(42), range(3), fate, n=10)
    said = sorted_in_a_browser(tmp_path / "sweep", tmp_path / "profile")
    assert said["first"] == said["cleared"] == "252 of 252 rows, the first 200 shown"
    assert said["jobs"] == [str(i) for i in range(200)]  # numbers, not words
    assert said["backwards"] == [str(i) for i in range(251, 51, -1)]
    up, down = [number(v) for v in said["robust"]], [-number(v) for v in said["robustDown"]]
    assert up == sorted(up)
    assert said["sorted"] == "ascending"
    assert down == sorted(down)
    assert -math.inf not in down  # what is missing comes last either way
    assert set(said["seeds"]) == {"1"}
    assert said["both"] == "1 of 252 rows"
    assert said["found"] == ["failed"]
    assert (said["cut"], said["more"], said["all"], said["after"]) == (200, False, 252, True)


@pytest.mark.slow
def test_three_thousand_rows_are_sorted_while_one_waits(tmp_path):
    sweep(tmp_path / "sweep", ["softmax", "mlp", "cnn"], budgets(100), range(10), {7: "refused"}, n=10)
    said = sorted_in_a_browser(tmp_path / "sweep", tmp_path / "profile")
    assert said["all"] == 3000
    print({kind: [f"{t:.0f} ms" for t in said[kind]] for kind in ("few", "many")})
    assert max(said["few"]) < 3000  # with its 200 rows, on a machine that is busy with other things
    assert max(said["many"]) < 20_000  # all that were asked for
    assert statistics.median(said["few"]) < statistics.median(said["many"]) / 2


MEASURE = """<script>
const page = document.documentElement, nav = document.querySelector("nav div");
document.title = [page.scrollWidth <= page.clientWidth, nav.scrollWidth <= nav.clientWidth].join();
</script></body>"""


@pytest.mark.parametrize("width", [500, 1200])  # the least that a headless window can have, and a small screen
def test_nothing_is_cut_but_tables_that_scroll_and_say_so(run_folder, tmp_path, width):
    page = write(run_folder)
    measured = re.sub(r"<meta http-equiv=[^>]*>", "", page.read_text()).replace("</body>", MEASURE)
    page.write_text(measured)
    dom, _ = dump(page, tmp_path / "profile", width)
    assert "<title>true,true</title>" in dom
    assert (' scroll more"' in dom) == (width == 500)


@pytest.mark.parametrize("width", [500, 1200])
def test_nor_of_a_sweep(tmp_path, width):
    fate = {1: "refused", 2: "running", 3: "waiting"}
    sweep(tmp_path / "sweep", ["softmax", "mlp"], ["0.1", "0.2"], range(2), fate, n=10)
    page = write_sweep([tmp_path / "sweep"], tmp_path / "sweep")
    measured = re.sub(r"<meta http-equiv=[^>]*>", "", page.read_text()).replace("</body>", MEASURE)
    page.write_text(measured)
    dom, _ = dump(page, tmp_path / "profile", width)
    assert "<title>true,true</title>" in dom


ALIGNED = """<script>
const settings = document.querySelectorAll(".settings dd");
const lefts = [...settings].map((value) => Math.round(value.getBoundingClientRect().left));
document.title = [lefts.length, new Set(lefts).size].join();
</script></body>"""


def test_the_values_that_varied_stand_in_one_column(tmp_path):
    for number in range(2):
        more = {"train": {"decay": number, "a_parameter_with_a_name_of_some_length": number}}
        job(tmp_path / "sweep" / str(number), "mlp", "0.1", number, more=more)
    page = write_sweep([tmp_path / "sweep"], tmp_path / "sweep")
    page.write_text(re.sub(r"<meta http-equiv=[^>]*>", "", page.read_text()).replace("</body>", ALIGNED))
    dom, _ = dump(page, tmp_path / "profile")
    assert "<title>3,1</title>" in dom
