"""One line for what is refused, tracebacks for who asks for them, and no trace of either in the process that asked."""

from __future__ import annotations

import os

import pytest

from eval.errors import InputError
from models.errors import ModelError
from models.fused import Fused

REFUSED = ["debug=quick", "model=[softmax]", "attack=[fgsm]", "threat.eps=8"]


@pytest.mark.parametrize("asked", [None, "0"])
def test_the_command_leaves_the_environment_as_it_was(command, monkeypatch, asked):
    if asked is not None:
        monkeypatch.setenv("HYDRA_FULL_ERROR", asked)
    before = dict(os.environ)
    for _ in range(2):
        assert command(REFUSED).code == 2
    assert dict(os.environ) == before


@pytest.mark.parametrize("asked", ["HYDRA_FULL_ERROR", "TOASTPROOF_TRACEBACK"])
def test_so_it_does_where_tracebacks_are_asked_for(command, monkeypatch, asked):
    monkeypatch.setenv(asked, "1")
    before = dict(os.environ)
    with pytest.raises(InputError):
        command(REFUSED)
    assert dict(os.environ) == before


FAILS = """
from torch import nn
class Late(nn.Module):
    asked = 0
    def forward(self, x):
        self.asked += 1
        if self.asked > 8: raise ValueError("no more")
        return 10 * x.flatten(1)[:, :10]
def late(): return Late()
"""
LATE = ["debug=quick", "model=factory", "model.path=nets.py:late", "attack=[pgd]", "run.dir=out"]


@pytest.mark.parametrize("asked", [None, "HYDRA_FULL_ERROR"])
def test_a_network_that_fails_in_an_attack_is_told_in_one_line_and_traced_for_who_asks(
    command, tmp_path, monkeypatch, capsys, asked
):
    (tmp_path / "nets.py").write_text(FAILS)
    told = "attack.pgd on late failed on 7 samples: ValueError: no more (at nets.py:7)"
    if asked is None:
        done = command(LATE)
        assert done.code == 2
        refusal = "toastproof: model late: forward must not fail, got ValueError: no more (at nets.py:7)"
        assert done.err.splitlines() == [told, refusal]
        return
    monkeypatch.setenv(asked, "1")
    with pytest.raises(ModelError):
        command(LATE)
    assert f"{told}\nTraceback (most recent call last):\n" in capsys.readouterr().err


def test_a_network_in_one_piece_that_fails_is_told_in_one_line(command, monkeypatch):
    vjp, asked = Fused.vjp, []

    def fails(self, x):
        asked.append(1)
        if len(asked) > 2:  # after it was tried
            raise ValueError("no more")
        return vjp(self, x)

    monkeypatch.setattr(Fused, "vjp", fails)
    done = command([*REFUSED[:-1], "run.dir=out"])
    assert done.code == 1
    assert done.err.startswith("attack.fgsm on softmax failed on 29 samples: ValueError: no more")
    assert "Traceback" not in done.err


def test_a_crash_of_an_attack_itself_is_traced(command, monkeypatch):
    def crash(self, logits, *rest, **keywords):
        raise ValueError("no kernel for this")

    monkeypatch.setattr("attacks.fgsm.FGSM.__call__", crash)
    done = command([*REFUSED[:-1], "run.dir=out"])
    assert done.code == 1
    first, second, *_ = done.err.splitlines()
    assert first.startswith("attack.fgsm on softmax failed on 29 samples: ValueError: no kernel for this")
    assert second == "Traceback (most recent call last):"
