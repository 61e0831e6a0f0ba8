"""Does a map know which pixels matter: delete them in its order, or insert them, and watch the class's probability.

    area = the mean height of the curve of p(class) against the share of pixels deleted or inserted

Deletion puts grey in the place of the most important pixels first: the better the map, the smaller the area. Insertion
starts with the blurred image and puts its pixels back: the better the map, the greater the area.

Source: V. Petsiuk, A. Das and K. Saenko, "RISE: Randomized input sampling for explanation of black-box models", BMVC
2018 (arXiv 1806.07421).
Departures: pixels of the same importance go in a random order, not from left to right, which alone would hide one half
of the image before the other.
Cost: per curve `steps` + 1 forwards.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.classifier import Classifier
from models.visualise import blurred

_SIGMA = 0.05  # of the blur, as a part of the image's shorter side; RISE: 5 pixels, in a kernel of 11, of 224


def order(importance: Tensor, seed: int) -> Tensor:
    """Pixels (H * W,) of a map (H, W), the most important first, those of the same importance at random."""
    flat = importance.flatten().cpu()
    mixed = torch.randperm(len(flat), generator=torch.Generator().manual_seed(seed))
    return mixed[flat[mixed].argsort(descending=True, stable=True)].to(importance.device)


def exchanged(first: Tensor, then: Tensor, ranked: Tensor, steps: int) -> Tensor:
    """From the image `first` (C, H, W) to `then` in equal shares of the pixels `ranked` (H * W,): (steps + 1, ...)."""
    count = torch.linspace(0, len(ranked), steps + 1, device=ranked.device).round()
    place = torch.empty_like(ranked).scatter_(0, ranked, torch.arange(len(ranked), device=ranked.device))
    gone = (place < count[:, None]).view(steps + 1, 1, *first.shape[1:])  # (S + 1, 1, H, W)
    return torch.where(gone, then, first)


def blur_of(x: Tensor) -> Tensor:
    """The image (C, H, W) as insertion begins."""
    return blurred(x[None], max(1.0, _SIGMA * min(x.shape[1:])))[0]


@torch.no_grad()
def probabilities(classifier: Classifier, x: Tensor, label: int, batch_size: int) -> Tensor:
    """Of a class, for images (n, C, H, W): (n,) float64."""
    parts = []
    for some in torch.split(x, batch_size):
        logits = classifier(some)
        parts.append((logits if logits.device.type == "mps" else logits.double()).softmax(1)[:, label])
    return torch.cat(parts)


def deletion(
    classifier: Classifier, x: Tensor, label: int, ranked: Tensor, fill: float, steps: int, batch_size: int
) -> Tensor:
    """The probability of a class (steps + 1,) while pixels become `fill`, in the order `ranked` (H * W,)."""
    return probabilities(classifier, exchanged(x, torch.full_like(x, fill), ranked, steps), label, batch_size)


def insertion(classifier: Classifier, x: Tensor, label: int, ranked: Tensor, steps: int, batch_size: int) -> Tensor:
    """The probability of a class (steps + 1,) while pixels come back into the blurred image."""
    return probabilities(classifier, exchanged(blur_of(x), x, ranked, steps), label, batch_size)


def area(curve: Tensor) -> Tensor:
    """Under curves (..., steps + 1) over equal steps from 0 to 1, by trapezoids: (...).

    >>> area(torch.tensor([1.0, 0.5, 0.0]))
    tensor(0.5000)
    """
    return (curve[..., 1:] + curve[..., :-1]).mean(-1) / 2


def gradient_map(classifier: Classifier, x: Tensor, labels: Tensor) -> Tensor:
    """The greatest absolute derivative over the channels of each pixel: (B, H, W), of the logits of `labels` (B,).

    Source: K. Simonyan, A. Vedaldi and A. Zisserman, "Deep inside convolutional networks", 2013 (arXiv 1312.6034).
    """
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        chosen = classifier(leaf).gather(1, labels[:, None]).sum()
    (gradient,) = torch.autograd.grad(chosen, leaf)
    return gradient.abs().amax(1)
