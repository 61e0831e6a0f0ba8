"""One line for what is refused, tracebacks for who asks for them, and no trace of either in the process that asked."""

from __future__ import annotations

import os

import pytest

from eval.errors import InputError

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
