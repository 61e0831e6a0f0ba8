"""The command that says what a larger evaluation will take."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from eval.costs import main, spoken
from eval.forecast import predict
from eval.spent import read
from tests.benchmarks.made_parts import part
from tests.eval.test_spent import header, made

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    about = header(wall_seconds={"models": 4.0, "attacks": 50.0})
    rng = np.random.default_rng(0)
    parts = [(str(start), part(start, rng.uniform(0.5, 1.5, 10), passes=(60, 40))) for start in range(0, 40, 10)]
    return made(tmp_path / "run", about, *parts)


def test_it_prints_what_was_taken_and_what_will_be(folder, capsys):
    main([str(folder), "--samples", "50_000", "--models", "10", "--workers", "1,8,1000", "--shard", "512"])
    lines = capsys.readouterr().out.splitlines()
    costs = read(folder)
    cell = costs.cells[0]
    low, high = cell.interval(cell.seconds)
    assert lines[1].split() == [
        "net", "standard", "8/255", "4", "40", f"{cell.mean(cell.seconds):.3g}", f"({low:.3g}", "to", f"{high:.3g})",
        "100", "(100", "to", "100)",
    ]  # fmt: skip
    job = costs.on(10).job(50_000)
    assert job.work == pytest.approx(50_000 * 10 * 50 / 40)
    assert lines[4].startswith(f"50,000 samples x 10 networks: 980 parts of 512, {spoken(job.work)} of work (95%: ")
    for line, workers in zip(lines[6:9], (1, 8, 1000), strict=True):
        found = predict(job, workers, 512)
        assert line.split()[0] == f"{workers:,}"
        assert f"{spoken(found.wall)} " in line
        assert f"{found.busy:.0%}" in line
    assert "1,000 workers would be busy" in lines[9]
    assert "measured in parts of 10, foreseen in parts of 512" in lines[10]


def test_without_options_it_foresees_the_run_itself(folder, capsys):
    main([str(folder)])
    out = capsys.readouterr().out
    assert "40 samples x 1 network: 4 parts of 10" in out
    assert "measured in parts" not in out
    assert [line.split()[0] for line in out.splitlines()[6:12]] == ["1", "2", "4", "8", "16", "64"]


def test_passes_a_second_take_the_place_of_the_clock(folder, capsys):
    main([str(folder), "--passes-per-second", "100", "--samples", "3600", "--workers", "1", "--shard", "100"])
    out = capsys.readouterr().out
    assert "with 100 passes a second, as given" in out
    assert "1.0 h of work (95%: 1.0 h to 1.0 h)" in out  # 100 passes and two judgements of two a sample
    assert "measured in parts" not in out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nowhere"], "nowhere: must be the folder of a run, but holds no run.json"),
        (["RUN", "--workers", "0"], "argument --workers: must be a whole number of at least 1, got '0'"),
        (["RUN", "--workers", "4,many"], "argument --workers: must be a whole number of at least 1, got 'many'"),
        (["RUN", "--samples", "1e3"], "argument --samples: must be a whole number of at least 1, got '1e3'"),
        (["RUN", "--start", "nan"], "argument --start: must be a number of at least 0, got 'nan'"),
        (["RUN", "--passes-per-second", "0"], "argument --passes-per-second: must be a number of at least"),
        ([], "the following arguments are required: RUN"),
    ],
)
def test_mistakes_are_told_in_one_line(folder, capsys, arguments, line):
    with pytest.raises(SystemExit) as stop:
        main([str(folder) if argument == "RUN" else argument for argument in arguments])
    said = capsys.readouterr()
    assert stop.value.code == 2
    assert said.out == ""
    assert said.err.startswith(f"costs: {line}")
    assert said.err.count("\n") == 1


def test_it_starts_without_torch_and_pandas(folder):
    code = (
        "import sys; from eval.costs import main; main([sys.argv[1]]); "
        "found = {'torch', 'pandas', 'attacks', 'models'} & set(sys.modules); assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def test_times_are_in_the_unit_that_suits_them():
    told = {
        0.0123: "0.012 s",
        42: "42 s",
        119: "119 s",
        120: "2.0 min",
        3599: "60.0 min",
        3600: "1.0 h",
        172_800: "2.0 days",
    }
    assert {seconds: spoken(seconds) for seconds in told} == told
