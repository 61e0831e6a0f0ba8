from __future__ import annotations

import os
import shutil

import pytest

from reports.__main__ import main


def test_one_run_is_rebuilt_in_its_folder(run_folder, capsys):
    main([str(run_folder), "--records-csv"])
    assert capsys.readouterr().out.strip() == str(run_folder / "report.html")
    assert (run_folder / "records.csv").exists()


def test_several_runs_give_one_report_in_their_parent(sweep_folder, capsys):
    main([str(sweep_folder / "0"), str(sweep_folder / "1")])
    assert capsys.readouterr().out.strip() == str(sweep_folder / "report.html")
    assert "2 runs" in (sweep_folder / "report.html").read_text()


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
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.skipif(os.name != "posix", reason="symbolic links")
def test_a_run_behind_a_link(run_folder, tmp_path):
    (tmp_path / "link").symlink_to(run_folder)
    main([str(tmp_path / "link")])
    assert (run_folder / "report.html").exists()
    shutil.rmtree(run_folder)
