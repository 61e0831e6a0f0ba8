"""Norms of the gradient by the image: of the cross-entropy, and of the lead of the likeliest other class.

What a small perturbation can do is up to the dual norm of the gradient: L1 for Linf, L2 for L2. A network with He's
initial weights has a gradient of which each of d pixels has a part of the order d^-1/2, so that the L2 norm does not
depend on d, and the L1 norm grows with its root.

Source: C.-J. Simon-Gabriel, Y. Ollivier, L. Bottou, B. Schoelkopf and D. Lopez-Paz, "First-order adversarial
vulnerability of neural networks and input dimension", ICML 2019 (arXiv 1802.01421).
Cost: two forwards and two backwards an image.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from attacks.losses import lead, logits_and_gradient, loss_named
from eval.data import Samples
from eval.dimension.boundary import batches
from eval.trial import Arrays
from models.classifier import Classifier

GRADIENTS = "gradients"
"""Name of the probe in a run's folder."""


@dataclass(frozen=True)
class Gradients:
    """Measures gradients."""

    def __call__(
        self, classifier: Classifier, samples: Samples, batch_size: int, device: torch.device, seed: int
    ) -> Arrays:
        """Norms of the gradients at the samples.

        Returns:
            `loss` (n, 2), L1 and L2 norm of the gradient of the cross-entropy; `lead` (n, 2), of the difference of the
            logits of the likeliest other class and the label; `right` (n,), whether the sample is classified rightly.
        """
        found: dict[str, list[torch.Tensor]] = {"loss": [], "lead": [], "right": []}
        for x, goal, _ in batches(samples, batch_size, device):
            logits, gradient = logits_and_gradient(classifier, x, loss_named("ce"), goal)
            rival = logits.scatter(1, goal.labels[:, None], -torch.inf).argmax(1)
            with torch.enable_grad():
                leaf = x.detach().requires_grad_()
                ahead, _ = lead(classifier(leaf), rival, goal.labels)
            (slope,) = torch.autograd.grad(ahead.sum(), leaf)
            for name, values in (("loss", gradient), ("lead", slope)):
                flat = values.flatten(1).double()
                found[name].append(torch.stack([flat.abs().sum(1), flat.norm(dim=1)], 1))
            found["right"].append(~goal.reached(logits))
        return {name: torch.cat(values).cpu().numpy() for name, values in found.items()}
