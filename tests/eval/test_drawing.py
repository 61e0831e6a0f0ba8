"""Networks that draw random numbers, in runs."""

from __future__ import annotations

import pandas as pd
import torch
from rich.console import Console

from eval.device import drawing
from eval.records import read_records
from eval.run import run


def test_a_network_that_draws_gets_the_same_numbers_again(composed, tmp_path):
    records = []
    for name in ("once", "again"):
        cfg = composed("debug=quick", "model=planted/noise", "attack=[fgsm,pgd]")
        torch.rand(7)  # whatever was drawn before plays no part
        run(cfg, tmp_path / name, [], Console(quiet=True))
        records.append(read_records(tmp_path / name).drop(columns="seconds"))
    pd.testing.assert_frame_equal(*records)


def test_drawing_depends_on_its_labels_and_leaves_no_trace():
    cpu = torch.device("cpu")
    state = torch.random.get_rng_state()
    with drawing(cpu, 0, "a", 1):
        first = torch.rand(3)
    assert torch.equal(torch.random.get_rng_state(), state)
    with drawing(cpu, 0, "a", 1):
        assert torch.equal(torch.rand(3), first)
    for other in ((1, "a", 1), (0, "b", 1), (0, "a", 2)):
        with drawing(cpu, *other):
            assert not torch.equal(torch.rand(3), first)
