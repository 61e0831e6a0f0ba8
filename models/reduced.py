"""A network that is searched in 16 bits and asked in 32.

Where a gradient is wanted, forward and backward run in bfloat16, which processors with instructions for it do faster;
where none is wanted, as when a candidate is judged, the network itself answers. So a search that asks again without a
gradient before it lets a sample go (as `attacks.best` does) lets none go for a rounding of 16 bits.

bfloat16 has 8 bits of mantissa: its logits are right to some 0.4%, its gradients point about the same way. That is
enough for steps of signs and of unit length, and not for a search along the decision boundary, nor to compare margins.

Source: Micikevicius et al., "Mixed precision training", ICLR 2018 (arXiv 1710.03740), for what 16 bits suffice for, and
for answers in 32. What it gains on a network is what `experiment=benchmark` measures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from models.captured import State, Step
from models.classifier import Classifier
from models.fused import Fused
from models.graphed import Graphed, Steps
from models.quick import Quick


class Reduced(nn.Module):
    """A classifier that gives its gradients in bfloat16 and its answers as it is.

    Attributes:
        whole: the classifier, or a form of it that answers the same.
        quick: the same in bfloat16.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.whole: nn.Module = classifier
        self.quick: nn.Module = Quick(classifier)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W) in box units, of the images' dtype."""
        network = self.quick if torch.is_grad_enabled() and x.requires_grad else self.whole
        answer: Tensor = network(x)
        return answer

    def record(self, step: Step, state: State) -> Steps | None:
        """A step that follows the rounded gradients, where these are replayed."""
        return self.quick.record(step, state) if isinstance(self.quick, Graphed) else None

    @property
    def offers_vjp(self) -> bool:
        """Whether `vjp` may be asked."""
        return isinstance(self.quick, Fused)

    def vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Logits (B, K) of images (B, C, H, W), and from cotangents (B, K) to gradients, both rounded, in one piece."""
        assert isinstance(self.quick, Fused)
        return self.quick.vjp(x)

    def exact(self) -> nn.Module:
        """The network as it is, gradients included."""
        return self.whole


def native(device: torch.device) -> bool:
    """Whether the device computes in bfloat16, instead of emulating it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    cpu: Any = torch.cpu  # where a version of torch has no such question, the answer is no
    return bool(getattr(cpu, "_is_avx512_bf16_supported", lambda: False)())


def agrees(classifier: Classifier, reduced: Reduced, x: Tensor) -> bool:
    """Whether a search may be made in 16 bits: finite logits and gradients, and the same predictions but for near ties.

    Args:
        classifier: the network.
        reduced: the same in 16 bits.
        x: images (B, C, H, W) on which both are tried.
    """
    leaf = x.detach().requires_grad_()
    with torch.enable_grad():
        try:
            quick = reduced(leaf)
            (gradient,) = torch.autograd.grad(quick.sum(), leaf)
        except RuntimeError:  # an operation without a form in 16 bits, or constants in 32 inside the network
            return False
    with torch.no_grad():
        exact = classifier(x)
    if not (bool(quick.isfinite().all()) and bool(gradient.isfinite().all()) and bool(gradient.any())):
        return False
    top = exact.topk(2, dim=1).values
    clear = (top[:, 0] - top[:, 1]) > 0.05 * (exact.amax(1) - exact.amin(1))
    return bool((quick.argmax(1) == exact.argmax(1))[clear].all())
