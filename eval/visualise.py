"""What excites the units of a layer, and what a network looks at in a photo: pictures, and tables in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from rich.table import Table
from torch import Tensor

from eval import device as devices
from eval.classify import fitting, shown, wanted_class
from eval.config import Plan, read
from eval.data import Data, Samples, limited
from eval.inside.layer import at_once, chosen, table, units_of
from eval.inside.mapped import Square
from eval.inside.page import write_page
from eval.networks import Entrant, enter
from eval.progress import Bar
from eval.trial import Cohort
from models.classifier import Classifier
from models.features import Layer, layers
from models.occlusion import Occluded, occlusion
from models.spec import build
from models.visualise import Ascent, excitation, stimuli

_UNITS, _OF_PHOTO = 16, 4  # units that are shown where none is named; of a photo those that it excites most
_REAL, _TOP = 2000, 8  # images among which the best are looked for; how many of them are shown
_PHOTOS = 8
_BATCH = 32  # images at once, unless it is said


def visualise(cfg: DictConfig, folder: Path, console: Any, overrides: Sequence[str]) -> None:
    """Show a layer's units, or what networks look at in photos.

    Without a layer and a photo the layers are listed, and no network is trained. With a layer, for each unit the image
    that excites it most stands beside the samples that do: `visualise.png`. With a photo, what a grey square takes away
    from a class while it slides over it: `occlusion.png`. Of several networks each has a file with its name.

    Args:
        cfg: the configuration.
        folder: of the files.
        console: where to print.
        overrides: what the command line says.

    Raises:
        InputError, models.errors.ModelError: bad input.
    """
    plan, keys = fitting(read(cfg), overrides)
    device = devices.choose(plan.device)
    data = shown(plan, keys)
    wanted, photo = plan.config["model"]["layer"], plan.config["image"] is not None
    known = _layers(plan, data, wanted)
    if wanted is None and not photo:
        for name, found in known.items():
            console.print(_listing(name, found))
        first = next(found for found in known.values())
        such = next((one.alias for one in reversed(first) if one.alias.startswith("conv")), None)
        such = such or next((one.alias for one in first if one.alias), first[0].name)
        console.print(f"Choose one with layer=..., such as layer={such}", highlight=False)
        return
    target = wanted_class(plan.config["target"], data, wanted="target" in keys) if "target" in keys else None
    samples = data.test if not photo else data.test.select(np.arange(min(_PHOTOS, len(data.test))))
    samples = limited(samples, min(_REAL, len(samples)), plan.seed, "data.limit")
    entrants = enter(plan, [Cohort(plan.models, data.train)], samples, device, console, folder / "tensorboard")
    for entrant in entrants:
        ending = f"-{entrant.name}.png" if len(entrants) > 1 else ".png"
        if photo:
            _look(plan, entrant.classifier, samples, target, folder / f"occlusion{ending}", device, console)
        if wanted is not None:
            _show(plan, entrant, samples, photo, folder / f"visualise{ending}", device, console)


def _layers(plan: Plan, data: Data, wanted: str | None) -> dict[str, list[Layer]]:
    """The layers of all networks as they are built; refuses a layer or a unit that is not there, and none at all."""
    x, found = data.test.batch(np.arange(1)), {}
    for node, spec in plan.models.items():
        networks = build(spec, node, data.test.shape, len(data.test.classes), seed=plan.seed)
        for name, network in networks.items():
            bare = network.classifier(name, data.test.shape)
            found[name] = layers(bare, x)
            if wanted is not None or plan.config["unit"] is not None or not found[name]:
                units_of(chosen(bare, x, wanted), plan.config["unit"], _UNITS)
    return found


def _listing(name: str, known: list[Layer]) -> Table:
    sheet = Table(title=f"Layers of {name}")
    for head in ("layer", "module", "kind", "shape"):
        sheet.add_column(head, overflow="fold")
    for row in table(known):
        sheet.add_row(*row)
    return sheet


def _show(
    plan: Plan, entrant: Entrant, samples: Samples, photo: bool, path: Path, device: torch.device, console: Any
) -> None:
    """The images of units beside the samples that excite them most."""
    classifier = entrant.classifier
    layer = chosen(classifier, samples.batch(np.arange(1)).to(device), plan.config["model"]["layer"])
    real = _excited(classifier, layer.name, samples, at_once(classifier, (plan.batch_size or _BATCH)), device)
    units = units_of(layer, plan.config["unit"], _UNITS)
    if photo and plan.config["unit"] is None:
        units = real.amax(0).argsort(descending=True, stable=True)[:_OF_PHOTO].tolist()
    ascent = Ascent()
    ascent = replace(ascent, steps=min(ascent.steps, plan.debug.attack.get("steps", ascent.steps)))
    shown = f"{len(units)} of {layer.units} units of {layer.alias or layer.name}"
    sheet = Table(title=f"{entrant.name}: {shown}, {len(samples)} images")
    for head in ("unit", "image made", "best image", "median image", "the best image is", "class"):
        sheet.add_column(head, overflow="fold", justify="right" if "image" in head[-5:] else "left")
    made: list[Tensor] = []
    with Bar(console, "Making images", len(units)) as bar:
        for unit in units:
            bar.say(f"unit {unit}")
            made += stimuli(classifier, layer.name, [unit], ascent, plan.seed, (plan.batch_size or _BATCH), device)
            bar.advance(1)
    rows = []
    for unit, x in zip(units, made, strict=True):
        with torch.no_grad():
            own = float(excitation(classifier, layer.name, x)[0, unit])
        top = real[:, unit].argsort(descending=True, stable=True)[:_TOP].numpy()
        values = [f"{value:.3g}" for value in (own, float(real[:, unit].max()), float(real[:, unit].median()))]
        label = samples.classes[samples.labels[top[0]]]
        sheet.add_row(str(unit), *values, str(samples.ids[top[0]]), "" if photo else label)
        best = samples.batch(top)
        rows.append((f"unit {unit}", [_unit_box(one, classifier) for one in (x[0].cpu(), *best)]))
    console.print(sheet)
    write_page(path, rows, ("image made", "best images"))
    console.print(f"Pictures: {path}", highlight=False, soft_wrap=True)


def _unit_box(x: Tensor, classifier: Classifier) -> Any:
    low, high = classifier.bounds
    return ((x - low) / (high - low)).numpy()


@torch.no_grad()
def _excited(classifier: Classifier, layer: str, samples: Samples, batch_size: int, device: torch.device) -> Tensor:
    """What all samples excite, (n, U), on the CPU."""
    parts = []
    for start in range(0, len(samples), batch_size):
        x = samples.batch(np.arange(start, min(start + batch_size, len(samples)))).to(device)
        parts.append(excitation(classifier, layer, x).cpu())
    return torch.cat(parts)


def _look(
    plan: Plan,
    classifier: Classifier,
    samples: Samples,
    target: int | None,
    path: Path,
    device: torch.device,
    console: Any,
) -> None:
    """Occlusion maps of photos: of a class, or of what the network sees in each."""
    first = samples.batch(np.arange(1)).to(device)
    layer = chosen(classifier, first, plan.config["model"]["layer"])
    square = Square()
    places, fill = square.over(*samples.shape[1:]), square.value(classifier.bounds)
    sheet = Table(title=f"{classifier.name}: a grey square of {places.side} pixels slides over the image")
    heads = (
        "image",
        "class",
        "probability",
        "least",
        "at",
        "other classes seen",
        f"map of {layer.alias or layer.name}",
    )
    for head in heads:
        sheet.add_column(head, overflow="fold")
    rows, size = [], at_once(classifier, (plan.batch_size or _BATCH))
    with Bar(console, "Occluding", len(samples)) as bar:
        for i, name in enumerate(map(str, samples.ids)):
            bar.say(name)
            x = samples.batch(np.array([i])).to(device)[0]
            seen = occlusion(classifier, x, places, fill, size, layer.name, plan.config["unit"])
            label = int(seen.whole.argmax()) if target is None else target
            sheet.add_row(name, samples.classes[label], *_told(seen, label, samples))
            grey = [_heat(values) for values in (seen.importance(label), places.spread(-seen.strongest))]
            changed = places.spread((seen.likeliest != seen.whole.argmax()).double())
            rows.append((name, [_unit_box(x.cpu(), classifier), *grey, changed.cpu().numpy()[None]]))
            bar.advance(1)
    console.print(sheet)
    write_page(path, rows, ("image", "class depends on", "map depends on", "another class if hidden"))
    console.print(f"Pictures: {path}", highlight=False, soft_wrap=True)


def _told(seen: Occluded, label: int, samples: Samples) -> tuple[str, ...]:
    """Probability as it is, the least one and where the square is then, what else is seen, and the feature map."""
    p = seen.probability(label)
    row, column = divmod(int(p.argmin()), p.shape[1])
    others = seen.likeliest[seen.likeliest != seen.whole.argmax()]
    classes, counts = torch.unique(others, return_counts=True)
    most = classes[counts.argsort(descending=True)][:2].tolist()
    share = f"{len(others) / p.numel():.0%}: {', '.join(samples.classes[k] for k in most)}" if len(others) else "none"
    at = f"{seen.squares.tops[row]}, {seen.squares.lefts[column]}"
    return f"{float(seen.whole[label].exp()):.1%}", f"{float(p.min()):.1%}", at, share, str(seen.channel)


def _heat(values: Tensor) -> Any:
    """A map (H, W) as a picture: least black, greatest white."""
    low, high = values.min(), values.max()
    return ((values - low) / (high - low) if high > low else torch.full_like(values, 0.5)).cpu().numpy()[None]
