"""Fingerprints of edges: where eight small filters respond, compared with the mean fingerprint of each class.

    r_f = x correlated with filter f                       3x3 filters: four straight edges, four diagonal ones
    p_f = greatest of r_f in each cell of a 4x4 grid       cells of 7x7 pixels for an image of 28x28
    z_k = - sum_f w_f |p_f - t_kf|^2                       t_k the mean p of the training images of class k, w_f = 1

No weight of it is learnt by gradients unless `learn` says so: filters are written down, and templates are class means.
It has gradients by the image all the same, and is attacked like any other network.

Source: the introduction to convolutions of the first lessons of fast.ai's "Practical deep learning for coders", 2016,
which tells eights from ones by it, and asks for filters that are learnt.
Departures: any number of classes; logits in place of a decision; a grid of 4x4 cells for images of any size, whose
windows begin at floor(i H / 4) and end at ceil((i + 1) H / 4): 7 pixels of 28, 2 of 8, 8 of 32, with an overlap where 4
does not divide the side; colours are averaged. There the templates are standardised and what is compared with them is
not (`standardise: templates`), which looks like an error. It changes no decision: the numbers of a standardised
template have the sum 0 and the same sum of squares for every class, so that the nearest is the one with the greatest
p . t, whatever p is multiplied by or added to. Here both are standardised (`both`), which makes logits comparable.
Cost: 8 correlations an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.errors import ModelError
from models.logistic import NEVER
from models.source import Source
from models.spec import Network

TOP = ((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
CORNER = ((0.0, 0.0, 1.0), (0.0, 1.0, -1.5), (1.0, -1.5, 0.0))
FILTERS = ("edges", "straight", "diagonal", "pixel", "random")
LEARN = ("filters", "weights", "templates")
STANDARDISE = ("both", "templates", "none")
_BATCH = 1024  # images whose fingerprints are averaged at once
_TINY = 1e-12


def turned(rows: Sequence[Sequence[float]]) -> Tensor:
    """A filter and its turns by 90, 180 and 270 degrees, anticlockwise: (4, 3, 3)."""
    first = torch.tensor(rows)
    return torch.stack([first.rot90(turn) for turn in range(4)])


def drawn_by_hand(name: str) -> Tensor:
    """The filters (F, 3, 3) of that name: `edges`, `straight`, `diagonal`, or `pixel`, the image itself."""
    if name == "pixel":
        return torch.zeros(1, 3, 3).index_put_((torch.tensor(0), torch.tensor(1), torch.tensor(1)), torch.tensor(1.0))
    parts = {"straight": TOP, "diagonal": CORNER}
    return torch.cat([turned(rows) for key, rows in parts.items() if name in (key, "edges")])


def standardised(p: Tensor) -> Tensor:
    """Fingerprints (N, F, P, P), each less its mean and divided by its standard deviation over all its numbers."""
    centred = p - p.mean((1, 2, 3), keepdim=True)
    return centred / centred.square().mean((1, 2, 3), keepdim=True).clamp(min=_TINY).sqrt()


class Fingerprints(nn.Module):
    """Images (B, C, H, W) -> logits (B, K).

    Attributes:
        filters: (F, 3, 3).
        logs: logarithms (F,) of the weights of the filters.
        templates: (n, F, P, P), of the n classes that are known.
        known: positions (n,) of these classes.
    """

    filters: Tensor
    logs: Tensor
    templates: Tensor
    known: Tensor

    def __init__(
        self, filters: Tensor, known: Sequence[int], num_classes: int, places: int, standardise: str, learn: Any
    ) -> None:
        super().__init__()
        templates = torch.randn(len(known), len(filters), places, places)
        for name, value in (("filters", filters), ("logs", torch.zeros(len(filters))), ("templates", templates)):
            if name.replace("logs", "weights") in learn:
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)
        self.register_buffer("known", torch.tensor(list(known)), persistent=False)
        self.num_classes, self.places, self.standardise = num_classes, places, standardise

    def raw(self, x: Tensor) -> Tensor:
        """The fingerprints (B, F, P, P) of images, as they are: the border is continued by its own pixels."""
        grey = F.pad(x.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
        return F.adaptive_max_pool2d(F.conv2d(grey, self.filters[:, None]), self.places)

    def forward(self, x: Tensor) -> Tensor:
        """Logits; of classes that have no template, `models.logistic.NEVER`."""
        p = self.raw(x)
        if self.standardise == "both":
            p = standardised(p)
        squares = (p[:, None] - self.templates).square().sum((3, 4))  # (B, n, F)
        near = -(squares @ self.logs.exp())
        if len(self.known) == self.num_classes:
            return near
        return near.new_full((len(x), self.num_classes), NEVER).index_copy(1, self.known, near)

    @torch.no_grad()
    def estimate(self, source: Source, index: np.ndarray[Any, Any], device: torch.device) -> None:
        """Make the mean fingerprint of the samples `index` (n,) of each class its template.

        Raises:
            ModelError: a class has no sample.
        """
        labels = np.asarray(source.labels)[index]
        total = torch.zeros_like(self.templates, dtype=torch.float64)
        counts = torch.zeros(len(self.known), dtype=torch.float64, device=device)
        for start in range(0, len(index), _BATCH):
            part = slice(start, start + _BATCH)
            y = torch.from_numpy(labels[part].copy()).to(device)
            own = (y[:, None] == self.known).double()  # (b, n)
            p = self.raw(source.batch(index[part]).to(device)).double()
            total += torch.einsum("bn,bfpq->nfpq", own, p)
            counts += own.sum(0)
        if bool((counts == 0).any()):
            missing = self.known[counts == 0].tolist()
            raise ModelError(f"Fingerprint: must have training samples of each class, got none of {missing}")
        means = (total / counts.view(-1, 1, 1, 1)).float()
        self.templates.copy_(means if self.standardise == "none" else standardised(means))

    def extra_repr(self) -> str:
        """What the fields do not show."""
        count = len(self.filters)
        return f"{count} filters, {self.places}x{self.places} cells, standardise={self.standardise}"


@dataclass(frozen=True)
class Fingerprint:
    """The nearest mean fingerprint.

    Attributes:
        filters: `edges`, four straight and four diagonal ones; `straight`; `diagonal`; `random`, drawn by the seed;
            `pixel`, which with as many `places` as pixels makes it the nearest mean image.
        count: of random filters.
        places: cells of the grid, along each side.
        standardise: `both`, fingerprints and templates; `templates` alone, as the lesson does; `none`.
        learn: what gradients change after it was estimated: `filters`, `weights` (one a filter), `templates`.
        classes: positions of those that have a template; empty for all.
    """

    filters: str = "edges"
    count: int = 8
    places: int = 4
    standardise: str = "both"
    learn: list[str] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        for key, options in (("filters", FILTERS), ("standardise", STANDARDISE)):
            if getattr(self, key) not in options:
                raise ModelError(f"Fingerprint.{key}: must be one of {', '.join(options)}, got {getattr(self, key)!r}")
        for key in ("count", "places"):
            if getattr(self, key) < 1:
                raise ModelError(f"Fingerprint.{key}: must be >= 1, got {getattr(self, key)}")
        if not set(self.learn) <= set(LEARN):
            raise ModelError(f"Fingerprint.learn: must be some of {', '.join(LEARN)}, got {list(self.learn)}")
        if self.classes and (len(set(self.classes)) != len(self.classes) or len(self.classes) < 2):
            raise ModelError(f"Fingerprint.classes: must be two or more positions, each once, got {list(self.classes)}")

    def build(self, name: str, input_shape: tuple[int, int, int], num_classes: int) -> dict[str, Network]:
        """One network."""
        if self.classes and not all(0 <= place < num_classes for place in self.classes):
            raise ModelError(f"Fingerprint.classes: must be in 0..{num_classes - 1}, got {list(self.classes)}")
        if min(input_shape[1:]) < self.places:
            raise ModelError(
                f"Fingerprint.places: must be at most {min(input_shape[1:])}, the pixels a side, got {self.places}"
            )
        filters = torch.randn(self.count, 3, 3) if self.filters == "random" else drawn_by_hand(self.filters)
        known = list(self.classes) or list(range(num_classes))
        module = Fingerprints(filters, known, num_classes, self.places, self.standardise, self.learn)
        kind = {"edges": "edge", "pixel": "pixel"}.get(self.filters, self.filters)
        text = f"nearest mean fingerprint of {len(filters)} {kind} filters" if kind != "pixel" else "nearest mean image"
        if self.learn:
            text += f", {' and '.join(self.learn)} learnt"
        return {name: Network(module, num_classes, text, estimate=module.estimate)}
