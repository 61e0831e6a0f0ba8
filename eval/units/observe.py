"""What a layer says of images: its responses, how they vary, and the network with one direction of it taken out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eval.data import Samples
from eval.data.subset import stratified
from eval.errors import InputError
from eval.units.bases import Array
from models.classifier import Classifier
from models.features import Layer, activations, find_layer, layers, responses

AT = ("mean", "max")
MOST_UNITS = 4096
_PASSED = ("Flatten", "Identity", "Dropout", "Dropout2d", "Dropout1d", "AlphaDropout", "Sequential")


def chosen_layer(classifier: Classifier, x: Tensor, wanted: str | None) -> Layer:
    """The layer of that name, or the last hidden one: what enters the last module that has weights.

    Args:
        classifier: whose layer it is.
        x: images (B, C, H, W) to be sent through it.
        wanted: name or alias; None for the last hidden layer.

    Raises:
        models.errors.ModelError: there is no layer of that name.
        InputError: it has no hidden layer, or too many units.
    """
    layer = _last_hidden(classifier, x) if wanted is None else find_layer(classifier, x, wanted)
    if not 2 <= layer.units <= MOST_UNITS:
        others = [other.alias for other in layers(classifier, x) if other.alias and 2 <= other.units <= MOST_UNITS]
        raise InputError(
            f"layer: must have 2 to {MOST_UNITS} units in {classifier.name}, {layer.alias or layer.name} has "
            f"{layer.units}; choose another" + (f", such as layer={others[0]}" if others else "")
        )
    return layer


def _last_hidden(classifier: Classifier, x: Tensor) -> Layer:
    known = layers(classifier, x)
    module = classifier.network
    weighted = [
        i
        for i, layer in enumerate(known)
        if any(True for _ in module.get_submodule(layer.name).parameters(recurse=False))
    ]
    hidden = [layer for layer in known[: weighted[-1] if weighted else 0] if layer.kind not in _PASSED]
    if not hidden:
        raise InputError(
            f"layer: {classifier.name} has no hidden layer; choose a network that has one, such as model=cnn, or name "
            "a layer, layer=fc1"
        )
    return hidden[-1]


def halves(samples: Samples, seed: int) -> Array:
    """Which samples (n,) features are known by and thresholds chosen on; what is told is measured on the others.

    Raises:
        InputError: there are fewer than two of each.
    """
    if len(samples) < 4:
        raise InputError(f"data: must have at least 4 test samples for this study, got {len(samples)}")
    return stratified(samples.labels, 0.5, seed)


@torch.no_grad()
def respond(
    classifier: Classifier, layer: str, at: str, samples: Samples, batch_size: int, device: torch.device
) -> Array:
    """The responses (n, U) of a layer's units to all samples, float32."""
    return np.concatenate(
        [responses(classifier, layer, x, at=at).float().cpu().numpy() for x in batched(samples, batch_size, device)]
    )


def batched(samples: Samples, batch_size: int, device: torch.device) -> Iterator[Tensor]:
    """The images of all samples, some (B, C, H, W) at a time."""
    for start in range(0, len(samples), batch_size):
        yield samples.batch(np.arange(start, min(start + batch_size, len(samples)))).to(device)


def _places(out: Tensor) -> Tensor:
    """Activations (B, U, ...) as vectors (B * places, U)."""
    return out.flatten(2).transpose(1, 2).flatten(0, 1) if out.ndim > 2 else out


@torch.no_grad()
def spread(
    classifier: Classifier, layer: str, samples: Samples, batch_size: int, device: torch.device
) -> tuple[Array, Array]:
    """Mean (U,) and covariance (U, U) of the activations, over images and places."""
    count, total, outer = 0, torch.zeros(()), torch.zeros(())
    for x in batched(samples, batch_size, device):
        flat = _places(activations(classifier, layer, x)).double().cpu()
        count, total, outer = count + len(flat), total + flat.sum(0), outer + flat.T @ flat
    mean = total / count
    return mean.numpy(), (outer / count - torch.outer(mean, mean)).numpy()


@contextmanager
def without(classifier: Classifier, layer: str, v: Tensor, mean: Tensor) -> Iterator[None]:
    """Within it the layer's activations a (B, U, ...) lack a direction: a - <a - mean, v> v, at every place.

    Only the layer's first call counts, as everywhere.

    Args:
        classifier: whose layer it is.
        layer: its name by `named_modules`.
        v: (U,) of length 1.
        mean: (U,) activations, so that what the direction says on the average stays.
    """
    part = classifier.network.get_submodule(layer)

    def project(_module: Any, _inputs: Any, out: Tensor) -> Tensor:
        shape = [1, -1] + [1] * (out.ndim - 2)
        w, m = v.to(out).view(shape), mean.to(out).view(shape)
        return out - ((out - m) * w).sum(1, keepdim=True) * w

    hook = part.register_forward_hook(project)
    try:
        yield
    finally:
        hook.remove()
