"""Pictures of samples, where there are some: the examples that a run kept, or the image files that it was tried on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from eval.gate.outcomes import CLEAN, Cell
from eval.gate.snapshot import Snapshot
from eval.levels import WORST
from eval.records import read_examples
from reports.images import Array, png, triptych

_LARGEST = 224  # pixels of the longer side of a file's picture
_ORDERS = {"l0": 0, "l1": 1, "l2": 2, "linf": np.inf}


@dataclass(frozen=True)
class Picture:
    """A sample as data URIs; change and adversarial image are empty where only the original is at hand.

    Attributes:
        original: the image as it is.
        change: the perturbation, `factor` times as large, around mid-grey.
        adversarial: the image with it.
        factor: see `change`.
        pixels: of the longer side of the original.
    """

    original: str
    change: str
    adversarial: str
    factor: int
    pixels: int


class Album:
    """The pictures that a run offers. Nothing is read before the first is asked for."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    @cached_property
    def _examples(self) -> dict[str, list[dict[str, Any]]]:
        """By sample: source, attack, eps_text, x and x_adv (C, H, W)."""
        found: dict[str, list[dict[str, Any]]] = {}
        if self._snapshot.run is None:
            return found
        for unit in read_examples(Path(self._snapshot.where)):
            said = {name: str(unit[name]) for name in ("source", "attack", "eps_text")}
            for sample, x, x_adv in zip(unit["sample"], unit["x"], unit["x_adv"], strict=True):
                found.setdefault(str(sample), []).append({**said, "x": x, "x_adv": x_adv})
        return found

    def kept(self, sample: str) -> bool:
        """Whether the run kept an example of it."""
        return sample in self._examples

    def find(self, cell: Cell, sample: str, attack: str = "") -> Picture | None:
        """The picture of a sample in a cell: with its perturbation if the run kept it, else the original alone.

        In the worst case that of `attack` is preferred.
        """
        kept = self._examples.get(sample, [])
        if cell.attack != CLEAN and (matching := [e for e in kept if self._fits(cell, e)]):
            best = max(matching, key=lambda e: (e["attack"] == attack, e["eps_text"] in (cell.eps, "min")))
            return self._three(best)
        if kept:
            return _original(kept[0]["x"], self._box)
        return self._file(sample)

    def _fits(self, cell: Cell, example: dict[str, Any]) -> bool:
        """Whether it was made for the cell: the eps may be a smaller one, and the search one for the smallest."""
        if example["source"] != cell.model or (cell.attack != WORST and example["attack"] != cell.attack):
            return False
        levels = dict(self._snapshot.levels)
        if example["eps_text"] == "min":
            norm = self._snapshot.question["threat"]["norm"]
            delta = np.asarray(example["x_adv"] - example["x"], dtype=np.float64).ravel()
            return bool(np.linalg.norm(delta, _ORDERS[norm]) <= levels[cell.eps] * (1 + 1e-4))
        return levels.get(example["eps_text"], math.inf) <= levels[cell.eps]

    def _three(self, example: dict[str, Any]) -> Picture:
        x = example["x"]
        return Picture(*triptych(x, example["x_adv"], self._box), max(x.shape[1:]))

    @property
    def _box(self) -> tuple[float, float]:
        run = self._snapshot.run
        low, high = (run.data.get("box") if run else None) or (0.0, 1.0)
        return float(low), float(high)

    def _file(self, sample: str) -> Picture | None:
        """The image file of a sample of `data=images`, as it is today; None where it cannot be read."""
        run = self._snapshot.run
        data: dict[str, Any] = (run.config.get("data") if run else None) or {}
        if data.get("_target_") != "eval.data.Images" or not data.get("root"):
            return None
        root = Path(str(data["root"])).expanduser().resolve()
        path = (root / sample).resolve()
        if not path.is_relative_to(root) or not path.is_file():
            return None
        try:
            with Image.open(path) as image:
                plain = ImageOps.exif_transpose(image).convert("RGB")
                plain.thumbnail((_LARGEST, _LARGEST))
        except Exception:  # decoders raise whatever a damaged file makes them stumble over; the page says it has none
            return None
        pixels = np.asarray(plain, dtype=np.float32).transpose(2, 0, 1) / 255
        return _original(pixels, (0.0, 1.0))


def _original(x: Array, box: tuple[float, float]) -> Picture:
    return Picture(png((x - box[0]) / (box[1] - box[0])), "", "", 1, max(x.shape[1:]))
