"""Occlusion: what a network says while a grey square slides over an image, and which pixels that makes important.

For every place of the square: the probability of a class, the likeliest class, and the summed activation of that
feature map of a layer which the whole image excites most. The importance of a pixel is the mean, over all squares that
cover it, of how much they take away from the logarithm of the class's probability.

Source: M. Zeiler and R. Fergus, "Visualizing and understanding convolutional networks", ECCV 2014 (arXiv 1311.2901),
section 4.2 and figure 7, (b), (d) and (e).
Departures: squares lie wholly inside the image, the last of a row at its border; the paper shows maps and names no
importance of a pixel.
Cost: a forward for each place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from models.classifier import Classifier
from models.errors import ModelError


@dataclass(frozen=True)
class Squares:
    """The places of a square.

    Attributes:
        side: of the square, in pixels.
        tops: (R,) first rows.
        lefts: (S,) first columns.
        height: of the image.
        width: of the image.
    """

    side: int
    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    height: int
    width: int

    @classmethod
    def over(cls, height: int, width: int, side: int, stride: int) -> Squares:
        """Squares every `stride` pixels, and at the far borders, so that each pixel is covered.

        Raises:
            ModelError: the square does not fit, or the stride leaves pixels out.
        """
        if not 1 <= side <= min(height, width):
            raise ModelError(f"occlusion.side: must be in 1..{min(height, width)}, the image's sides, got {side}")
        if not 1 <= stride <= side:
            raise ModelError(f"occlusion.stride: must be in 1..{side}, the side of the square, got {stride}")
        return cls(side, _starts(height, side, stride), _starts(width, side, stride), height, width)

    @property
    def shape(self) -> tuple[int, int]:
        """(R, S) of a map."""
        return len(self.tops), len(self.lefts)

    def hidden(self, x: Tensor, fill: float, start: int, stop: int) -> Tensor:
        """The image (C, H, W) with the square at the places start..stop - 1, row by row: (stop - start, C, H, W)."""
        out = x.repeat(stop - start, 1, 1, 1)
        for i, place in enumerate(range(start, stop)):
            top, left = self.tops[place // len(self.lefts)], self.lefts[place % len(self.lefts)]
            out[i, :, top : top + self.side, left : left + self.side] = fill
        return out

    def spread(self, values: Tensor) -> Tensor:
        """The mean of `values` (..., R, S) over the squares that cover each pixel: (..., H, W)."""
        total = values.new_zeros(*values.shape[:-2], self.height, self.width)
        count = values.new_zeros(self.height, self.width)
        for i, top in enumerate(self.tops):
            for j, left in enumerate(self.lefts):
                total[..., top : top + self.side, left : left + self.side] += values[..., i, j, None, None]
                count[top : top + self.side, left : left + self.side] += 1
        return total / count


def _starts(length: int, side: int, stride: int) -> tuple[int, ...]:
    last = length - side
    return (*range(0, last, stride), last)


@dataclass(frozen=True)
class Occluded:
    """What a network says of an image and of its occluded copies.

    Attributes:
        squares: where the square was.
        whole: log-probabilities (K,) of the image itself, float64.
        logs: log-probabilities (R, S, K) while it is occluded, float64.
        channel: the feature map of the layer that is watched; -1 without a layer.
        strongest: (R, S) its summed activation; empty without a layer.
    """

    squares: Squares
    whole: Tensor
    logs: Tensor
    channel: int
    strongest: Tensor

    @property
    def likeliest(self) -> Tensor:
        """The likeliest class (R, S)."""
        return self.logs.argmax(-1)

    def probability(self, label: int) -> Tensor:
        """Of a class, (R, S)."""
        return self.logs[..., label].exp()

    def drop(self, label: int) -> Tensor:
        """How much a square takes away from the log-probability of a class, (R, S)."""
        return self.whole[label] - self.logs[..., label]

    def importance(self, label: int) -> Tensor:
        """Of each pixel for a class, (H, W)."""
        return self.squares.spread(self.drop(label))


@torch.no_grad()
def occlusion(
    classifier: Classifier,
    x: Tensor,
    squares: Squares,
    fill: float,
    batch_size: int,
    layer: str | None = None,
    channel: int | None = None,
) -> Occluded:
    """Slide a square over an image.

    Args:
        classifier: the network.
        x: the image (C, H, W) in box units.
        squares: where the square goes.
        fill: its value; the middle of the box is grey.
        batch_size: copies of the image at once.
        layer: name by `named_modules` of a layer to watch; None for none.
        channel: the feature map of it to watch; None for the one that the image excites most.

    Returns:
        What the network says. It does not depend on the batch size but for rounding.

    Raises:
        ModelError: the layer was not called.
    """
    rows, columns = squares.shape
    with _Watch(classifier, layer) as watch:
        whole = _logs(classifier, x[None])[0]
        first = watch.take()[0] if layer else whole.new_empty(0)
        seen = -1 if not layer else int(first.argmax()) if channel is None else channel
        logs, strongest = [], []
        for start in range(0, rows * columns, batch_size):
            stop = min(start + batch_size, rows * columns)
            logs.append(_logs(classifier, squares.hidden(x, fill, start, stop)))
            if layer:
                strongest.append(watch.take()[:, seen])
    maps = torch.cat(strongest).view(rows, columns) if layer else whole.new_empty(0)
    return Occluded(squares, whole, torch.cat(logs).view(rows, columns, -1), seen, maps)


def _logs(classifier: Classifier, x: Tensor) -> Tensor:
    """Log-probabilities (B, K): wide, so that a sure network's do not all round to 0."""
    logits: Tensor = classifier(x)
    return (logits if logits.device.type == "mps" else logits.double()).log_softmax(1)


class _Watch:
    """Keeps what a layer returned first in the last forward pass."""

    def __init__(self, classifier: Classifier, layer: str | None) -> None:
        self._name, self._layer = classifier.name, layer
        self._part = None if layer is None else classifier.network.get_submodule(layer)
        self._hook: RemovableHandle | None = None
        self._out: Tensor | None = None

    def __enter__(self) -> Self:
        if self._part is not None:
            self._hook = self._part.register_forward_hook(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._hook is not None:
            self._hook.remove()

    def _note(self, _module: nn.Module, _inputs: object, output: Tensor) -> None:
        if self._out is None:
            self._out = output.clone()  # what comes after may change it in place

    def take(self) -> Tensor:
        """Its activations, summed over the places of a feature map: (B, U)."""
        if self._out is None:
            raise ModelError(f"layer: {self._layer} of {self._name} must take part in its forward pass, it does not")
        out, self._out = self._out, None
        flat: Tensor = out.flatten(2).sum(2) if out.ndim > 2 else out
        return flat
