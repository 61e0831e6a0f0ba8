from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path

import pytest

from eval import __version__
from reports.__main__ import main


def test_one_run_is_rebuilt_in_its_folder(run_folder, capsys):
    main([str(run_folder), "--records-csv"])
    assert capsys.readouterr().out.strip() == str(run_folder / "report.html")
    assert (run_folder / "records.csv").exists()


def test_several_runs_give_one_report_in_a_folder_of_its_own_here(sweep_folder, tmp_path, capsys, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    main([str(sweep_folder / "0")])
    capsys.readouterr()
    main([str(sweep_folder / "0"), str(sweep_folder / "1")])
    assert capsys.readouterr().out.strip() == str(Path("comparison", "report.html"))
    page = (here / "comparison" / "report.html").read_text()
    assert "2 runs" in page
    assert [p.name for p in here.iterdir()] == ["comparison"]
    assert not (sweep_folder / "report.html").exists()
    link = re.search(r'href="([^"]+report\.html)"', page).group(1)
    assert (here / "comparison" / link).resolve() == (sweep_folder / "0" / "report.html").resolve()


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"toastproof-report {__version__}\n"


def test_help_says_where_a_comparison_goes(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "./comparison" in capsys.readouterr().out


def test_output_goes_where_it_is_wanted(sweep_folder, tmp_path):
    main([str(sweep_folder), "--output", str(tmp_path / "new" / "place")])
    assert (tmp_path / "new" / "place" / "sweep.csv").exists()
    assert not (sweep_folder / "report.html").exists()


@pytest.mark.parametrize("what", ["missing", "empty", "file", "broken"])
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, capsys, what):
    path = tmp_path / "run"
    if what == "empty":
        path.mkdir()
    elif what == "file":
        path.write_text("no run")
    elif what == "broken":
        path.mkdir()
        (path / "run.json").write_text('{"schema": 1, "tit')
    with pytest.raises(SystemExit) as caught:
        main([str(path)])
    assert caught.value.code == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("toastproof-report: ")
    assert told.err.count("\n") == 1
    assert not (path / "report.html").exists()


def test_records_of_several_runs_are_refused(sweep_folder, capsys):
    with pytest.raises(SystemExit) as caught:
        main([str(sweep_folder), "--records-csv"])
    assert caught.value.code == 2
    assert not (sweep_folder / "report.html").exists()


def test_an_output_that_cannot_be_written_is_one_line(run_folder, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as caught:
        main([str(run_folder), "--output", str(tmp_path / "file")])
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        f"toastproof-report: {tmp_path / 'file'}: must be a folder that can be written, but is not (Not a directory); "
        "name another by --output\n"
    )


@pytest.mark.parametrize("job", [True, False])
def test_of_a_folder_that_may_only_be_read_a_page_is_written_elsewhere(
    sweep_folder, tmp_path, capsys, monkeypatch, job
):
    """The right to write in it is taken from root too, who has all."""
    real, folder = os.open, sweep_folder / "0" if job else sweep_folder
    (sweep_folder / "0" / ".lock").touch(0o444)

    def may_read(path, flags, *rest, **keywords):
        if flags & (os.O_WRONLY | os.O_RDWR) and Path(os.fsdecode(path)).is_relative_to(sweep_folder):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(path, flags, *rest, **keywords)

    monkeypatch.setattr(os, "open", may_read)
    with pytest.raises(SystemExit) as caught:
        main([str(folder)])
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        f"toastproof-report: {folder}: must be a folder that can be written, but is not (Permission denied); "
        "name another by --output\n"
    )
    main([str(folder), "--output", str(tmp_path / "page")])
    assert capsys.readouterr().out == f"{tmp_path / 'page' / 'report.html'}\n"


@pytest.mark.skipif(os.name != "posix", reason="symbolic links")
def test_a_run_behind_a_link(run_folder, tmp_path):
    (tmp_path / "link").symlink_to(run_folder)
    main([str(tmp_path / "link")])
    assert (run_folder / "report.html").exists()
    shutil.rmtree(run_folder)
