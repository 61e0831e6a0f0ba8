"""Nothing that comes from outside becomes markup: every text of a header, a record and an excuse, on every page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eval.excuse import Excuse
from eval.records import Run
from reports.build import write, write_sweep
from tests.reports.poison import EVIL, Elements, harmless, poisoned


@pytest.fixture
def make_evil(make_run):
    def make(folder: Path, **options: Any) -> Path:
        given = {"models": (f"m{EVIL}", "n"), "attacks": (f"a{EVIL}", "lbfgs"), "n": 20, "warnings": ["w"]}
        groups = [f"g{i % 2}{EVIL}" for i in range(20)]
        return poisoned(make_run(folder, **given, groups=groups, **options))

    return make


def test_the_page_of_a_run(tmp_path, make_evil):
    folder = make_evil(tmp_path / "run")
    assert harmless(write(folder).read_text())
    figures = [path.read_text() for path in (folder / "figures").iterdir()]
    assert figures
    assert not any("evil" in Elements(figure).tags for figure in figures)


def test_the_page_of_a_run_that_failed(tmp_path, make_evil):
    assert harmless(write(make_evil(tmp_path / "run", status="failed", crash=(f"a{EVIL}",))).read_text())


def test_the_page_of_a_sweep_and_of_runs_that_are_compared(tmp_path, make_evil):
    for job in range(2):
        folder = make_evil(tmp_path / "sweep" / str(job), seed=job, config={f"k{EVIL}": job, "seed": job})
        run = Run.read(folder)
        run.overrides = [f"seed={job}{EVIL}"]
        run.write(folder)
    Excuse("refused", f"e{EVIL}", (f"seed=2{EVIL}",)).write(tmp_path / "sweep" / "2")
    Excuse("crashed", f"e{EVIL}", (f"seed=3{EVIL}",)).write(tmp_path / "sweep" / f"3{EVIL.replace('/', '')}")
    page = write_sweep([tmp_path / "sweep"], tmp_path / "sweep").read_text()
    assert harmless(page, "0/run.json", "1/run.json")


def test_the_check_of_these_tests_sees_what_is_not_escaped(tmp_path, make_evil, monkeypatch):
    page = write(make_evil(tmp_path / "run")).read_text()
    assert not harmless(page.replace("&lt;evil", "<evil", 1))
    assert not harmless(page + "<img src=x onerror=alert(1)>")
    assert not harmless(page + "<script>alert(1)</script>")
