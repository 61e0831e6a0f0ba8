"""DeepFool: to the nearest boundary as if the network were linear, again and again until it is crossed.

    k* = argmin_k |f_k| / |w_k|,   f_k = z_k - z_label,  w_k = grad f_k,   r <- r + (|f_k*| / |w_k*|) w_k* / |w_k*|

and the image is looked at again at x + (1 + overshoot) r.

Source: Moosavi-Dezfooli, Fawzi and Frossard, "DeepFool: a simple and accurate method to fool deep neural networks",
CVPR 2016 (arXiv 1511.04599), algorithm 2, with the classes and the overshoot of the authors' program.
Departures: none that matters; as there, nothing is clipped to a box. For the nearest point of a box use `attacks.fab`
or `attacks.lbfgs`.
Cost: an iteration takes one forward and, of those not fooled yet, one forward and backward a class.
"""

from __future__ import annotations

import torch
from torch import Tensor

from attacks.base import Logits
from attacks.losses import lead

_BEYOND = 1e-4  # added to the distance of a boundary, as in the authors' program
_TINY = 1e-12


def deepfool(
    logits: Logits, x: Tensor, *, classes: int = 10, iterations: int = 10, overshoot: float = 0.02
) -> tuple[Tensor, Tensor]:
    """Small L2 perturbations that change the predictions.

    Args:
        logits: the network.
        x: images (B, C, H, W).
        classes: likeliest classes looked at, the predicted one among them.
        iterations: at most.
        overshoot: part of the way gone beyond the boundary.

    Returns:
        Perturbations (B, C, H, W), and whether they change the prediction (B,).
    """
    with torch.no_grad():
        z = logits(x)
    label = z.argmax(1)
    others = z.scatter(1, label[:, None], -torch.inf).argsort(dim=1, descending=True, stable=True)
    others = others[:, : min(classes, z.shape[1]) - 1]  # (B, k)
    r = torch.zeros_like(x)
    left = torch.arange(len(x), device=x.device)
    for iteration in range(iterations + 1):
        with torch.no_grad():
            if iteration > 0:
                z = logits(x[left] + (1 + overshoot) * r[left])
        left = left[z.argmax(1) == label[left]]
        if len(left) == 0 or iteration == iterations:
            break
        r[left] += _shortest(logits, x[left] + (1 + overshoot) * r[left], label[left], others[left])
    fooled = torch.ones_like(label, dtype=torch.bool)
    fooled[left] = False
    return (1 + overshoot) * r, fooled


def _shortest(logits: Logits, x: Tensor, label: Tensor, others: Tensor) -> Tensor:
    """The step (b, C, H, W) to the nearest of the linearised boundaries with the classes `others` (b, k)."""
    k = others.shape[1]
    with torch.enable_grad():
        points = x.detach().repeat_interleave(k, 0).requires_grad_()
        out = logits(points)
    f, seed = lead(out.detach(), others.flatten(), label.repeat_interleave(k))
    (w,) = torch.autograd.grad(out, points, seed, materialize_grads=True)
    flat = w.flatten(1)
    size = flat.norm(dim=1)
    far = torch.where(size > _TINY, f.abs() / size, torch.inf).view(-1, k)  # (b, k)
    nearest = far.argmin(1)
    row = torch.arange(len(x), device=x.device) * k + nearest
    length = torch.where(far[row // k, nearest].isfinite(), far[row // k, nearest] + _BEYOND, 0.0)
    step: Tensor = flat[row] * (length / size[row].clamp(min=_TINY))[:, None]
    return step.view_as(x)
