"""What is said to have varied in a sweep, of jobs that have a configuration and of those that have none."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pandas as pd
import pytest

from eval.excuse import Excuse
from reports.build import write_sweep
from reports.sweep import read
from reports.sweep_jobs import Job
from reports.sweep_settings import of_jobs
from tests.reports.swept import job


def paths(folder, number, name, **more):
    """A job of a sweep over networks from a file: what was asked for is in its configuration twice."""
    path, asked = f"nets.py:{name}", (f"model.path=nets.py\\:{name}",)
    if more:
        Excuse(overrides=asked, **more).write(folder / str(number))
    else:
        node = {"path": path, "factory": {"path": path}}
        job(folder / str(number), name, "0.1", 0, more={"model": node}, overrides=asked)


@pytest.mark.parametrize("whole", [False, True])
def test_what_varied_is_told_once_and_in_one_spelling(tmp_path, whole):
    for number, name in enumerate("ab"):
        paths(tmp_path, number, name)
    if whole:
        paths(tmp_path, 2, "c")
    else:
        paths(tmp_path, 2, "c", status="refused", error="model c: must take images")
    page = write_sweep([tmp_path], tmp_path).read_text()
    assert "<dt>model.path</dt><dd>nets.py:a, nets.py:b, nets.py:c</dd>" in page
    table = pd.read_csv(tmp_path / "sweep.csv", dtype=str)
    assert [c for c in table.columns if c.startswith("config.")] == ["config.model.path"]
    assert table["config.model.path"].tolist() == ["nets.py:a", "nets.py:b", "nets.py:c"]
    assert [c.title for c in read([tmp_path], tmp_path).charts] == ["Robust accuracy by model.path"]


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("train.lr=1e-3", "train.lr", "0.001"),
        ("+train.fast=True", "train.fast", "true"),
        ("threat.eps='0.10'", "threat.eps", "0.10"),
        ("data.path=a=b", "data.path", "a=b"),
        ("attack=[fgsm,pgd]", "attack", "fgsm, pgd"),
        ("data.mean=[0.5, 0.5]", "data.mean", "[0.5, 0.5]"),
    ],
)
def test_a_value_of_the_command_line_reads_like_that_of_a_configuration(override, key, value):
    first, second = ({"train": {}, "threat": {}, "data": {}, "attack": {}} for _ in range(2))
    group, _, name = key.partition(".")
    for node, other in ((first, 1), (second, 2)):
        node[group] = {name: other} if name else {f"attack{other}": {}}
    runs = [Mock(config=first), Mock(config=second)]
    jobs = [Job(str(i), Path(str(i)), run) for i, run in enumerate(runs)]
    settings = of_jobs([*jobs, Job("2", Path("2"), overrides=(override,))])
    assert settings[key][2] == value
