"""The page in a real browser: its own policy lets its script run, and nothing complains."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from reports.build import write, write_sweep

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
