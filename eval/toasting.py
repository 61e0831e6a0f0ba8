"""One image becomes another thing: a search watched step by step, and its result looked at from all sides."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attacks.base import Logits
from attacks.goal import Goal
from attacks.threat import quantize, widest
from eval.album import ORIGINAL, Album
from eval.data import Samples
from eval.device import synchronize
from eval.meter import Meter
from models.classifier import Classifier

TOP = 5
STAGES = ("before", "after", "saved", "truncated")
"""The image, the result in float, as it was read back from the file, and after the truncation of the article's code."""
WAY = 11  # pictures on the way from the image to the result

Array = np.ndarray[Any, Any]


@dataclass
class Toasting:
    """Watches searches for a change that makes each of a few images a wanted class.

    Attributes:
        album: where the images and the results are written and read back; None for nowhere: the results are rounded.
        network: name of the one that is searched.
        search: name of the attack.
    """

    album: Album | None = None
    network: str = ""
    search: str = ""
    _found: dict[str, list[Array]] = field(default_factory=lambda: defaultdict(list))
    _traces: list[Array] = field(default_factory=list)
    _watch: _Watch | None = None

    def begin(self, meter: Meter, x: Tensor, goal: Goal) -> Logits:
        """The network, watched, for the images `x` (B, C, H, W) and a goal with targets."""
        self._watch = _Watch(meter, goal)
        return self._watch

    def end(self, classifier: Classifier, x_adv: Tensor, samples: Samples) -> None:
        """Look at the candidates `x_adv` (B, C, H, W): their classes, those of their files and on the way."""
        watch = self._watch
        assert watch is not None
        seen = watch.end()
        first = len(self._found["sample"])
        self._traces.append(np.column_stack([seen[:, 0] + first, seen[:, 1:]]))
        box = classifier.bounds
        for i in range(len(samples)):
            x = samples.batch(np.array([i])).to(x_adv.device)
            self._look(classifier, x, x_adv[i : i + 1], int(watch.targets[i]), box, str(samples.ids[i]))
        self._found["sample"] += [np.array(str(name)) for name in samples.ids]
        self._found["label"] += list(samples.labels)

    def arrays(self) -> dict[str, Array]:
        """What became of n images.

        Returns:
            `sample` (n,) ids, `label` and `target` (n,); `x`, `x_adv` (n, C, H, W) in box units; `picture` (n,), names
            of the files of the results, empty for none; `linf_8bit` (n,), the size of what was read back; `classes` and
            `shares` (n, 4, 5), the likeliest classes at each of `STAGES` and their probabilities; `wanted` (n, 4),
            those of the target; `way_classes`, `way_shares` (n, 11, 5) and `way_wanted` (n, 11), the same on the way
            from the image to what was read back; `trace` (t, 4): image, gradient steps so far, seconds so far,
            probability of the target. Nothing if no image was searched for.
        """
        if not self._traces:
            return {}
        return {key: np.stack(values) for key, values in self._found.items()} | {"trace": np.concatenate(self._traces)}

    def _look(
        self, classifier: Classifier, x: Tensor, x_adv: Tensor, target: int, box: tuple[float, float], sample: str
    ) -> None:
        picture, saved = self._saved(x, x_adv, box, sample)
        stages = torch.cat([x, x_adv, saved, truncate(x_adv, box)])
        t = torch.linspace(0, 1, WAY, device=x.device, dtype=x.dtype).view(-1, 1, 1, 1)[:-1]
        for before, images in (("", stages), ("way_", torch.cat([x + t * (x_adv - x), saved]))):
            classes, shares, wanted = look(classifier, images, target)
            self._found[f"{before}classes"].append(classes)
            self._found[f"{before}shares"].append(shares)
            self._found[f"{before}wanted"].append(wanted)
        self._found["target"].append(np.array(target))
        self._found["x"].append(x[0].cpu().numpy())
        self._found["x_adv"].append(x_adv[0].cpu().numpy())
        self._found["picture"].append(np.array(picture))
        self._found["linf_8bit"].append(np.array(float((widest(saved) - widest(x)).abs().max())))

    def _saved(self, x: Tensor, x_adv: Tensor, box: tuple[float, float], sample: str) -> tuple[str, Tensor]:
        """The name of the file of `x_adv` (1, C, H, W), and what is read back from it; rounded if there is none."""
        if self.album is None:
            return "", quantize(x_adv, box)
        key = (sample, self.network, self.search)
        self.album.keep((sample, ORIGINAL), x[0].cpu().numpy(), box)
        seen = self.album.keep(key, x_adv[0].cpu().numpy(), box)
        if seen is None:
            return "", quantize(x_adv, box)
        return self.album.names[key], torch.from_numpy(seen)[None].to(x_adv)


def look(classifier: Classifier, images: Tensor, target: int) -> tuple[Array, Array, Array]:
    """The likeliest classes (B, 5) of images (B, C, H, W), their probabilities (B, 5), and those of the target (B,)."""
    with torch.no_grad():
        shares = torch.cat([classifier(image[None]) for image in images]).softmax(1)
    top = shares.topk(min(TOP, shares.shape[1]), dim=1)
    return top.indices.cpu().numpy(), top.values.cpu().numpy(), shares[:, target].cpu().numpy()


def truncate(x: Tensor, box: tuple[float, float]) -> Tensor:
    """The image as the article's code saves it: cut to 8 bits, not rounded."""
    low, width = box[0], box[1] - box[0]
    return ((x - low) * (255.0 / width) + 1e-3).floor() * (width / 255.0) + low  # whole levels stay what they are


class _Watch:
    """A network that notes the probability of the target of each image, whenever it is asked."""

    def __init__(self, meter: Meter, goal: Goal) -> None:
        if goal.targets is None:
            raise ValueError("goal: must be a class that the picture is to become, got untargeted; set target=")
        self.targets = goal.targets
        self._meter, self._everyone = meter, torch.arange(len(goal), device=goal.targets.device)
        self._steps = torch.zeros_like(self._everyone)
        self._notes: list[tuple[Tensor, Tensor, float, Tensor]] = []
        synchronize(goal.targets.device)
        self._start = time.perf_counter()

    def __call__(self, x: Tensor) -> Tensor:
        return self._note(self._meter(x), self._everyone)

    def rows(self, index: Tensor) -> Logits:
        """The same for the images `index`."""
        return _Part(self, index)

    def part(self, x: Tensor, index: Tensor) -> Tensor:
        """Logits for a batch whose row i is image `index[i]`."""
        return self._note(self._meter.rows(index)(x), index)

    def _note(self, logits: Tensor, index: Tensor) -> Tensor:
        if len(logits) == len(index):
            p = logits.detach().softmax(1).gather(1, self.targets[index][:, None])[:, 0]
            # read at the end: nothing here waits for the device
            self._notes.append((index, self._steps[index], time.perf_counter() - self._start, p))
            self._steps[index] += int(logits.requires_grad)
        return logits

    def end(self) -> Array:
        """Rows of image, gradient steps so far, seconds so far, probability of the target."""
        rows = [
            np.column_stack([index.cpu(), steps.cpu(), np.full(len(index), seconds), p.cpu()])
            for index, steps, seconds, p in self._notes
        ]
        return np.concatenate(rows) if rows else np.zeros((0, 4))


class _Part:
    """A view of a `_Watch` for some of its images."""

    def __init__(self, watch: _Watch, index: Tensor) -> None:
        self._watch, self._index = watch, index

    def __call__(self, x: Tensor) -> Tensor:
        return self._watch.part(x, self._index)

    def rows(self, index: Tensor) -> Logits:
        return _Part(self._watch, self._index[index])
