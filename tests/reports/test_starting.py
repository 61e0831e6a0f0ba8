"""What the commands that compute nothing import, and what a report of many records takes. CPU time, not the clock's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from eval.studies.readers import READERS, reader

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "torchvision", "sklearn", "scipy", "foolbox", "hydra")
TABLES = ("numpy", "pandas", "pyarrow")
_CODE = """
import importlib, json, sys, time
name, *sys.argv[1:] = sys.argv[1:]
try:
    importlib.import_module(name).main()
except SystemExit as end:
    assert not end.code, end.code
print("\\n" + json.dumps([time.process_time(), sorted(sys.modules)]))
"""


def run(name: str, *arguments: str) -> tuple[float, set[str]]:
    """CPU seconds of a command in a process of its own, and the modules that it imported."""
    told = subprocess.run(
        [sys.executable, "-c", _CODE, name, *arguments],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    seconds, modules = json.loads(told.stdout.splitlines()[-1])
    return seconds, set(modules)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("eval.__main__", ["--help"]),
        ("eval.__main__", ["experiment=transfer", "--help"]),
        ("eval.__main__", ["--version"]),
        ("reports.__main__", ["--help"]),
        ("reports.gate.__main__", ["--help"]),
    ],
)
def test_help_imports_nothing_heavy(name, arguments):
    seconds, modules = run(name, *arguments)
    assert modules.isdisjoint({*HEAVY, *TABLES})
    assert seconds < 1.5  # 0.06 alone on a machine of two years ago


def test_a_report_imports_what_its_page_needs(run_folder, tmp_path):
    _, modules = run("reports.__main__", str(run_folder), "--output", str(tmp_path))
    assert modules.isdisjoint(HEAVY)
    assert not [name for name in modules if name.startswith(("eval.studies.unit", "eval.gate", "eval.diagnosis"))]


def test_a_report_of_a_hundred_thousand_records_takes_little_more_than_its_imports(make_run, tmp_path):
    folder = make_run(tmp_path / "run", n=1076)  # 93 parts, 100,068 records
    base = "import time, pandas, pyarrow.parquet, jinja2; print(time.process_time())"
    imports, reports = [], []
    for _ in range(4):  # in turn, and the least of each: other work on the machine only ever adds to them
        told = subprocess.run([sys.executable, "-c", base], capture_output=True, text=True, check=True)
        imports.append(float(told.stdout))
        reports.append(run("reports.__main__", str(folder))[0])
    assert min(reports) < 3.1 * min(imports)  # 2.5 times; 3.6 times when each table looked for its samples by itself


def test_every_study_has_a_reader_and_none_needs_torch():
    assert all(callable(reader(study)) for study in READERS)
    code = (
        "import sys; from eval.studies.readers import READERS, reader\n"
        "for study in READERS: reader(study)\n"
        "print(sorted({'torch', 'hydra', 'sklearn'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
