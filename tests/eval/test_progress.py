from __future__ import annotations

import io
import time

import pytest
import torch
from rich.console import Console

from eval import progress
from eval.meter import Meter
from eval.progress import Bar


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(progress, "_EVERY", 0.05)
    monkeypatch.setattr(progress, "_BEAT", 0.01)


def wait_for(text, out):
    end = time.monotonic() + 5
    while text not in out.getvalue() and time.monotonic() < end:
        time.sleep(0.01)
    assert text in out.getvalue()


def test_a_long_step_gives_signs_of_life_in_a_log(quick):
    out = io.StringIO()
    with Bar(Console(file=out, force_terminal=False), "Attacking", 10) as bar:
        bar.say("net: article")
        meter = Meter(lambda x: x, 2, torch.device("cpu"), bar.pulse)
        for _ in range(1200):
            meter(torch.zeros(2, 3))
        wait_for("s so far, net: article, 1,200 passes", out)
        bar.advance(5)
        wait_for("50%, 0 s left, net: article, 1,200 passes", out)
        bar.say("net: pgd")
        wait_for("left, net: pgd\n", out)


def test_a_long_step_gives_signs_of_life_on_a_terminal(quick):
    out = io.StringIO()
    with Bar(Console(file=out, force_terminal=True, width=120), "Measuring", 1) as bar:
        bar.say("net: rays")
        bar.pulse()
        wait_for("net: rays, 1 passes", out)


def test_nothing_goes_on_after_it(quick):
    out = io.StringIO()
    bar = Bar(Console(file=out), "Attacking", 10)
    with bar:
        bar.say("net: pgd")
    said = out.getvalue()
    time.sleep(0.1)
    assert out.getvalue() == said
