"""A network of which scores or decisions are seen, and nothing else; queries are counted and limited per sample.

The network is asked under `no_grad` for a detached copy of the images, and what comes back is a fresh tensor: no
gradient leads through. The network itself is in no attribute, only in a closure: that keeps an attack from using it by
mistake, not a program that goes looking for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.access import ACCESS, needs, suffices
from attacks.base import Logits, rows
from eval.errors import InputError

_Ask = Callable[[Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class Access:
    """What the attacks see of the networks.

    Attributes:
        kind: `weights`, everything; `scores`, logarithms of the probabilities; `labels`, the predicted class.
        queries: images that may be asked for each sample; None for any number.
    """

    kind: str = "weights"
    queries: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in ACCESS:
            raise InputError(f"access: must be one of {', '.join(reversed(ACCESS))}, got {self.kind!r}")
        if self.queries is not None and self.kind == "weights":
            raise InputError(f"queries: limits access=scores or access=labels alone, got {self.queries} with weights")
        if self.queries is not None and self.queries < 1:
            raise InputError(f"queries: must be at least 1, got {self.queries}")

    def check(self, where: str, attack: object) -> None:
        """Refuse an attack that must see more.

        Raises:
            InputError: it does.
        """
        if not suffices(self.kind, attack):
            raise InputError(
                f"{where}: must see the network's {needs(attack)}, got access={self.kind}; "
                "attack=square needs scores, attack=foolbox/hopskipjump labels"
            )

    def to(self, network: Logits, samples: int, device: torch.device) -> Logits:
        """The network as it is seen, for a batch of so many samples."""
        return network if self.kind == "weights" else BlackBox(network, self, samples, device)


def _decisions(z: Tensor) -> Tensor:
    """1 for the predicted class and 0 for the others (B, K)."""
    return torch.zeros_like(z).scatter_(1, z.argmax(1, keepdim=True), 1.0)


class BlackBox:
    """A network that tells scores (B, K) or decisions (B, K), one-hot, and no gradient.

    A sample whose queries are used up gets no answer: all its scores are NaN, which reach no goal. The network is not
    asked then, and other samples of the batch get theirs. Rows of unknown owner are refused where there is a limit.
    """

    __slots__ = ("_ask",)

    def __init__(self, network: Logits, access: Access, samples: int, device: torch.device) -> None:
        self._ask = _asking(network, access, samples, device)

    def __call__(self, x: Tensor) -> Tensor:
        """Answers (B, K) for images (B, C, H, W), one for each sample."""
        return self._ask(x, None)

    def rows(self, index: Tensor) -> Logits:
        """The same for a batch whose row i is sample `index[i]`."""
        return _Rows(self._ask, index)


class _Rows:
    """A view of a `BlackBox` for some of its rows."""

    __slots__ = ("_ask", "_index")

    def __init__(self, ask: _Ask, index: Tensor) -> None:
        self._ask, self._index = ask, index

    def __call__(self, x: Tensor) -> Tensor:
        return self._ask(x, self._index)

    def rows(self, index: Tensor) -> Logits:
        return _Rows(self._ask, self._index[index])


def _asking(network: Logits, access: Access, samples: int, device: torch.device) -> _Ask:
    """What asks the network, which nothing but this closure holds."""
    form = _decisions if access.kind == "labels" else lambda z: z.log_softmax(1)
    used = torch.zeros(samples, dtype=torch.int64, device=device)
    classes = [1]

    def answer(asked: Logits, x: Tensor) -> Tensor:
        z = asked(x)
        classes[0] = z.shape[1]
        return torch.where(z.isfinite().all(1, keepdim=True), form(z), torch.nan)

    @torch.no_grad()
    def ask(x: Tensor, index: Tensor | None) -> Tensor:
        with torch._C.DisableTorchFunctionSubclass():  # a subclass would see what the network does with it
            x = x.detach().as_subclass(Tensor).clone()
        if access.queries is None:
            return answer(network if index is None else rows(network, index), x)
        owner = torch.arange(samples, device=device) if index is None else index
        if len(owner) != len(x):
            raise ValueError(f"BlackBox: rows must name one sample per row, got {len(owner)} for {len(x)} rows")
        allowed = used[owner] + _earlier(owner) < access.queries
        used.index_add_(0, owner, allowed.long())
        if bool(allowed.all()):
            return answer(rows(network, owner), x)
        chosen = torch.nonzero(allowed)[:, 0]
        told = answer(rows(network, owner[chosen]), x[chosen]) if len(chosen) > 0 else x.new_empty(0, classes[0])
        return x.new_full((len(x), classes[0]), torch.nan).index_copy_(0, chosen, told)

    return ask


def _earlier(owner: Tensor) -> Tensor:
    """How many rows of the same owner (b,) come before each."""
    order = owner.argsort(stable=True)
    ordered = owner[order]
    place = torch.arange(len(owner), device=owner.device) - torch.searchsorted(ordered, ordered)
    return torch.empty_like(place).index_copy_(0, order, place)
