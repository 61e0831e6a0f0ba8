"""What networks say of photos: the likeliest five classes of each, before there is any attack."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from rich.table import Table

from eval import device as devices
from eval.config import Plan, read
from eval.data import Data, Photo
from eval.data.classes import class_number
from eval.errors import InputError
from eval.intake import load
from eval.networks import enter
from eval.toasting import look
from eval.trial import Cohort
from models.toaster import Fitting

_MOST = 16  # images that are shown
_WHOLE = ("experiment", "study")  # with one of them data and networks are what it says


def classify(cfg: DictConfig, console: Any, overrides: Sequence[str]) -> None:
    """Print the likeliest classes of the images that a configuration names, on each of its networks.

    Args:
        cfg: the configuration.
        console: where to print.
        overrides: what the command line says. A photo is for networks that know the classes of ImageNet, unless a
            data set is chosen; and where no network is chosen it is shown to one that fits.

    Raises:
        InputError, models.errors.ModelError: bad input.
    """
    plan, chosen = fitting(read(cfg), overrides)
    device = devices.choose(plan.device)
    data = shown(plan, chosen)
    target = wanted_class(plan.config["target"], data, wanted="target" in chosen)
    samples = data.test.select(np.arange(min(len(data.test), _MOST)))
    entrants = enter(plan, [Cohort(plan.models, data.train)], samples, device, console, Path("tensorboard"))
    for entrant in entrants:
        sheet = Table(title=f"{entrant.name}: {entrant.description}")
        sheet.add_column("image", overflow="fold")
        for rank in ("first", "second", "third", "fourth", "fifth"):
            sheet.add_column(rank, overflow="fold")
        if target is not None:
            sheet.add_column(samples.classes[target], justify="right")
        for i, name in enumerate(samples.ids):
            x = samples.batch(np.array([i])).to(device)
            with torch.no_grad():
                classes, shares, wanted = look(entrant.classifier, x, target or 0)
            cells = [f"{samples.classes[k]} {p:.1%}" for k, p in zip(classes[0], shares[0], strict=True)]
            own = [] if target is None else [f"{wanted[0]:.2%}"]
            sheet.add_row(str(name), *(cells + [""] * 5)[:5], *own)
        console.print(sheet)
    if len(data.test) > _MOST:
        console.print(f"{_MOST} of {len(data.test)} images are shown.", highlight=False)


def fitting(plan: Plan, overrides: Sequence[str]) -> tuple[Plan, set[str]]:
    """The plan, with a network that fits where a photo is named and no network; and the keys that were chosen."""
    chosen = {override.partition("=")[0].lstrip("+") for override in overrides}
    if plan.config["image"] is not None and not chosen & {"model", *_WHOLE}:
        plan = replace(plan, models={"toaster": Fitting(weights=plan.config["model"]["weights"])})
    return plan, chosen


def shown(plan: Plan, chosen: Collection[str]) -> Data:
    """The data of a plan; photos in their place where some are named."""
    image, spec = plan.config["image"], plan.data
    if image is None or isinstance(spec, Photo):
        return load(plan)
    photos = Photo(name="photo", root=spec.root, path=image)
    return photos.among(load(plan)) if {"data", *_WHOLE} & set(chosen) else photos.load(plan.seed)


def wanted_class(target: str, data: Data, *, wanted: bool) -> int | None:
    """The number of a class; None if the data do not have it and nobody wanted it."""
    try:
        return class_number(str(target), data.test.classes, "target")
    except InputError:
        if wanted:
            raise
        return None
