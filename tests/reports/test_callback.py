from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
from hydra.core.utils import JobStatus
from omegaconf import OmegaConf

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
