"""Writing a network as a file of `torch.export` that takes pixels in [0, 1], and trying the file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from eval import device as devices
from eval.config import read
from eval.errors import InputError
from eval.intake import load
from eval.networks import enter
from eval.trial import Cohort
from models.export import export


def export_network(cfg: DictConfig, console: Any) -> None:
    """Write the network of a configuration to `model.export`, trained first if it needs that.

    Args:
        cfg: the configuration.
        console: where to print.

    Raises:
        InputError, models.errors.ModelError: bad input.
    """
    plan = replace(read(cfg), fold=False)  # the very network, not one that is the same up to rounding
    file = plan.config["model"]["export"]
    if not file:
        raise InputError("model.export: must be the file to write, got nothing; write model.export=net.pt2")
    path = Path(file).expanduser()
    if path.suffix != ".pt2":
        raise InputError(f"model.export: must end with .pt2, got {file}")
    device = devices.choose(plan.device)
    data = load(plan)
    entrants = enter(plan, [Cohort(plan.models, data.train)], data.test, device, console, Path("tensorboard"))
    if len(entrants) != 1:
        raise InputError(f"task=export: writes one network, got {', '.join(e.name for e in entrants)}")
    for line in entrants[0].warnings:
        console.print(f"[yellow]{line}", highlight=False, soft_wrap=True)
    tried = export(entrants[0].classifier, entrants[0].classifier.input_shape, path)
    console.print(f"{path}: {entrants[0].description}; {tried}", highlight=False, soft_wrap=True)
