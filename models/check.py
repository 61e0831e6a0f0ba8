"""Whether a network can be attacked at all: errors for what makes results meaningless, warnings for the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from models.classifier import Classifier
from models.errors import ModelError
from models.foreign import told

_TOLERANCE = 1e-4
_NAMED = 3  # layers that a warning names


def check(classifier: Classifier, x: Tensor, labels: Tensor | np.ndarray[Any, Any] | None = None) -> list[str]:
    """Try a network on a few images.

    Args:
        classifier: the network.
        x: two or more images (B, C, H, W) in box units, on its device.
        labels: all labels of the data, any number of them.

    Returns:
        Warnings, one line each.

    Raises:
        ModelError: pixels outside the bounds, an output that is not (B, K) logits of the data's classes, a
            non-finite logit, a batch size that is fixed, or a backward that fails.
    """
    name, classes = f"model {classifier.name}", classifier.num_classes
    _check_pixels(classifier, x)
    with torch.no_grad():
        logits = _run(classifier, x)
    if logits.ndim != 2 or len(logits) != len(x):
        raise ModelError(f"{name}: output must be (B, K) = ({len(x)}, {classes}), got {tuple(logits.shape)}")
    if logits.shape[1] != classes:
        raise ModelError(
            f"{name}: output must have one column for each of {classes} classes, got {logits.shape[1]}; "
            f"take a network for these data, or train a new last layer with train=finetune{_numbered(logits, classes)}"
        )
    if labels is not None and len(labels) and not (int(labels.min()) >= 0 and int(labels.max()) < classes):
        raise ModelError(f"{name}: labels must be in 0..{classes - 1}, got {int(labels.min())}..{int(labels.max())}")
    if not bool(torch.isfinite(logits).all()):
        raise ModelError(
            f"{name}: logits must be finite, got {_first_bad(logits)}; check its weights and normalisation"
        )
    warnings = _check_mode(classifier) or _check_rows(classifier, x, logits)
    warnings += _check_gradient(classifier, x)
    inside = bool(((logits >= 0) & (logits <= 1)).all())
    if inside and bool(((logits.sum(1) - 1).abs() < _TOLERANCE).all()):
        warnings.append(
            f"{name}: outputs look like probabilities (each row in [0, 1], sum 1), but attacks need logits, and "
            "their gradients vanish through a softmax; return the values before it"
        )
    return warnings


def _check_pixels(classifier: Classifier, x: Tensor) -> None:
    low, high = classifier.bounds
    least, most = float(x.min()), float(x.max())
    if not (low <= least and most <= high):
        remedy = "; divide 8-bit pixels by 255" if most > 1 >= high else ""
        raise ModelError(
            f"model {classifier.name}: pixels must be in [{low:g}, {high:g}], got {least:g}..{most:g}{remedy}"
        )


def _run(classifier: Classifier, x: Tensor, forward: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    try:
        logits = (forward or classifier)(x)
    except Exception as error:  # the forward pass is the user's code, which may raise anything
        raise ModelError(
            f"model {classifier.name}: must take float images {tuple(x.shape)}, got {told(error)}"
        ) from error
    if not isinstance(logits, Tensor):
        raise ModelError(f"model {classifier.name}: output must be a tensor (B, K), got {type(logits).__name__}")
    return logits.clone()  # a network may answer in memory that it answers in again


def _numbered(logits: Tensor, classes: int) -> str:
    """The remedy where the data may have some of the network's classes alone."""
    columns = logits.shape[1]
    if columns < classes:
        return ""
    return f", or write data.num_classes={columns} for folders (or arrays) named by class number"


def _check_mode(classifier: Classifier) -> list[str]:
    """Layers that are in training mode once the network has run, although it was put into evaluation mode."""
    kinds = (_DropoutNd, _BatchNorm)
    layers = [name.removeprefix("network.") for name, m in classifier.named_modules() if m.training and _acts(m, kinds)]
    if not layers:
        return []
    named = ", ".join(layers[:_NAMED]) + (f" and {len(layers) - _NAMED} more" if len(layers) > _NAMED else "")
    return [
        f"model {classifier.name}: {named} must be in evaluation mode, got training mode after eval(), so that results "
        "depend on the batch or on chance; does its forward call train(), or does it override eval()?"
    ]


def _acts(module: nn.Module, kinds: tuple[type[nn.Module], ...]) -> bool:
    return isinstance(module, kinds) and getattr(module, "p", 1.0) > 0


def _first_bad(logits: Tensor) -> str:
    row, column = (~torch.isfinite(logits)).nonzero()[0].tolist()
    return f"{logits[row, column].item()} for image {row}, class {column}"


def _check_rows(classifier: Classifier, x: Tensor, logits: Tensor) -> list[str]:
    """The network on one image alone: it must accept it, and should say the same as in a batch."""
    try:
        with torch.no_grad():
            alone = _run(classifier, x[:1])
    except ModelError as error:
        raise ModelError(f"{error} (a batch of {len(x)} works: the batch size must not be fixed)") from error
    if alone.shape != (1, classifier.num_classes):
        raise ModelError(
            f"model {classifier.name}: output for 1 image must be (1, {classifier.num_classes}), "
            f"got {tuple(alone.shape)}; the batch size must not be fixed"
        )
    scale = float(logits.abs().max()) + 1.0
    if float((alone - logits[:1]).abs().max()) > 1e-3 * scale:
        return [
            f"model {classifier.name}: an image's logits depend on the rest of its batch or on chance (batch norm in "
            "training mode, dropout, noise?), so that results will not repeat"
        ]
    return []


def gradient(classifier: Classifier, x: Tensor) -> Tensor | None:
    """Gradient (B, C, H, W) of a weighted sum of the logits, by autograd alone; None where none reaches the pixels.

    Raises:
        ModelError: forward or backward fails.
    """
    name = f"model {classifier.name}"
    with torch.enable_grad():
        probe = x.detach().clone().requires_grad_(True)
        output = _run(classifier, probe, classifier.bare)
        if not output.requires_grad:
            return None
        weights = torch.linspace(1.0, 2.0, output.shape[1], device=output.device, dtype=output.dtype)
        try:
            return torch.autograd.grad((output * weights).sum(), probe, allow_unused=True)[0]
        except RuntimeError as error:
            raise ModelError(f"{name}: a gradient must reach the pixels, got {told(error)}") from error


def _check_gradient(classifier: Classifier, x: Tensor) -> list[str]:
    name = f"model {classifier.name}"
    found = gradient(classifier, x)
    if found is None:
        return [
            f"{name}: no gradient reaches the pixels (no_grad, detach, numpy or argmax in its forward?); it is taken "
            "as zero, so that attacks that follow it find nothing; attack=square needs none, attack=bpda follows that "
            "of a method differentiable(x) of the network"
        ]
    if not bool(torch.isfinite(found).all()):
        return [f"{name}: gradients with respect to the pixels are not finite: attacks that use them will be weak"]
    if bool((found == 0).all()):
        return [f"{name}: gradients with respect to the pixels are all zero: attacks that use them will be weak"]
    return []
