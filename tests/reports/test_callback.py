from __future__ import annotations

import json
import subprocess
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from hydra.core.utils import JobStatus
from omegaconf import OmegaConf

from eval.excuse import Excuse
from reports.callback import Report


def config(job="", sweep=""):
    return OmegaConf.create({"hydra": {"runtime": {"output_dir": str(job)}, "sweep": {"dir": str(sweep)}}})


def done(status=JobStatus.COMPLETED, value="complete"):
    return SimpleNamespace(status=status, return_value=value)


def test_a_job_that_completed_gets_its_report(run_folder, capsys):
    Report().on_job_end(config(run_folder), done())
    assert (run_folder / "report.html").exists()
    assert capsys.readouterr().out == f"Report: {run_folder / 'report.html'}\n"


def test_a_job_that_raised_gets_none(run_folder):
    Report().on_job_end(config(run_folder), done(JobStatus.FAILED))
    assert not (run_folder / "report.html").exists()


def test_a_job_without_records_gets_none(tmp_path):
    Report().on_job_end(config(tmp_path), done())
    assert list(tmp_path.iterdir()) == []


def test_a_job_that_was_refused_leaves_an_earlier_run_alone(run_folder):
    Report().on_job_end(config(run_folder), done(value="refused"))
    assert not (run_folder / "report.html").exists()


def test_a_sweep_gets_one_report(sweep_folder, tmp_path):
    with pytest.raises(SystemExit) as ended:
        Report().on_multirun_end(config(sweep=sweep_folder))
    assert ended.value.code == 1  # an attack of one of its jobs crashed
    assert (sweep_folder / "sweep.csv").exists()
    Report().on_multirun_end(config(sweep=tmp_path / "nothing"))


def test_a_sweep_that_was_interrupted_before_any_record_gets_its_page(tmp_path, capsys):
    (tmp_path / "multirun.yaml").write_text("hydra: {overrides: {task: ['seed=0,1']}}\n")
    Report().on_multirun_end(config(sweep=tmp_path))
    assert capsys.readouterr().out == ""
    Report().on_multirun_end(config(sweep=tmp_path), interrupted=True)
    assert capsys.readouterr().out == f"Report: {tmp_path / 'report.html'}\n"


@pytest.mark.parametrize(
    ("header", "excuses", "code"),
    [
        ("running", [], 0),
        ("complete", ["crashed"], 1),
        ("failed", ["crashed"], 1),
        ("complete", ["crashed", "refused"], 2),
        ("failed", ["refused"], 2),
        ("complete", ["?"], 1),
    ],
)
def test_a_sweep_ends_with_the_exit_status_of_its_worst_job_in_whatever_process(sweep_folder, header, excuses, code):
    about = json.loads((sweep_folder / "3" / "run.json").read_text())
    (sweep_folder / "3" / "run.json").write_text(json.dumps({**about, "status": header}))
    for number, status in enumerate(excuses, 4):
        Excuse(status, "why").write(sweep_folder / str(number))
    with pytest.raises(SystemExit) if code else nullcontext() as ended:
        Report().on_multirun_end(config(sweep=sweep_folder))
    assert ended is None or ended.value.code == code


@pytest.mark.parametrize("torn", ['{"title": ', "[]", ""])
def test_a_torn_header_in_a_sweep_is_one_line_and_no_success(sweep_folder, capsys, torn):
    (sweep_folder / "1" / "run.json").write_text(torn)
    with pytest.raises(SystemExit) as ended:
        Report().on_multirun_end(config(sweep=sweep_folder))
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"toastproof: report: {sweep_folder / '1' / 'run.json'}: ")
    assert said.err.count("\n") == 1
    assert said.out == f"Report: {sweep_folder / 'report.html'}\n"  # on the others


def test_bad_records_leave_as_an_exit_code_not_as_an_exception(run_folder, capsys):
    next((run_folder / "parts").iterdir()).write_bytes(b"torn")
    with pytest.raises(SystemExit) as caught:
        Report().on_job_end(config(run_folder), done())
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_bug_leaves_as_an_exit_code_too(run_folder, capsys, monkeypatch):
    monkeypatch.setattr("reports.build.write", lambda folder: 1 / 0)
    with pytest.raises(SystemExit) as caught:
        Report().on_job_end(config(run_folder), done())
    assert caught.value.code == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_the_callback_costs_nothing_to_import():
    code = (
        "import sys, reports.callback; print([m for m in ('pandas', 'numpy', 'jinja2', 'torch') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
