"""Mistakes on a command line are told in one line."""

from __future__ import annotations

import argparse

import pytest

from reports.__main__ import main as report
from reports.arguments import share
from reports.gate.__main__ import main as gate


@pytest.mark.parametrize(
    ("main", "arguments", "says"),
    [
        (gate, [], "toastproof-gate: the following arguments are required: command"),
        (gate, ["check", "RUN"], "toastproof-gate check: the following arguments are required: --baseline"),
        (gate, ["check", "RUN", "--baseline", "b", "--floor", "much"], "argument --floor: must be a share such as 0.3"),
        (report, [], "toastproof-report: the following arguments are required: RUN"),
        (report, ["RUN", "--csv"], "toastproof-report: unrecognized arguments: --csv"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(capsys, main, arguments, says):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    said = capsys.readouterr()
    assert left.value.code == 2
    assert says in said.err
    assert said.err.count("\n") == 1
    assert said.err.endswith("--help shows what is allowed\n")
    assert not said.out


@pytest.mark.parametrize(("text", "value"), [("0.3", 0.3), ("30%", 0.3), ("0", 0.0), ("0.5%", 0.005)])
def test_a_share_is_a_number_or_in_percent(text, value):
    assert share(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "%", "a third"])
def test_what_is_no_share_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"must be a share such as 0\.3 or 30%, got"):
        share(text)
