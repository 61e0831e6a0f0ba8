"""Does the toaster fool other networks: the experiment, with two small networks and photos of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from eval.run import run
from reports.build import write

VARIANTS = {"ifgsm", "mi", "di", "ti", "mi_di_ti"}
NETS = """
import torch
from torch import nn

def net(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 5, padding=2), nn.Tanh(), nn.AvgPool2d(8), nn.Flatten(), nn.Linear(64, 1000))

def one():
    return net(0)

def two():
    return net(1)
"""


@pytest.fixture
def overrides(tmp_path: Path) -> list[str]:
    rng = np.random.default_rng(0)
    for name in "ab":
        Image.fromarray(rng.integers(0, 255, (40, 60, 3), np.uint8)).save(tmp_path / f"{name}.png")
    nets = tmp_path / "nets.py"
    nets.write_text(NETS)
    return [
        "experiment=cat_to_toaster/transfer", "model=factory", f"model.path=[{nets}:one,{nets}:two]",
        f"image=[{tmp_path}/a.png,{tmp_path}/b.png]", "data.size=32",
    ]  # fmt: skip


@pytest.mark.parametrize("goal", ["toaster", "untargeted"])
def test_every_variant_is_judged_on_the_other_network_at_both_budgets(composed, tmp_path, overrides, goal):
    folder = tmp_path / "run"
    folder.mkdir()
    about = run(composed(*overrides, f"goal={goal}"), folder, [], Console(quiet=True))
    write(folder)
    table = pd.read_csv(folder / "transfer.csv")
    other = table[table["source"] != table["target"]]

    assert about.status == "complete"
    assert set(other["attack"]) == VARIANTS
    assert set(other["eps_text"]) == {"8/255", "16/255"}
    assert len(other) == 2 * 2 * len(VARIANTS)
    assert (other["noise_n"] == 2).all()
    assert (other["targeted_n"] == (2 if goal == "toaster" else 0)).all()
    assert about.goal == goal
