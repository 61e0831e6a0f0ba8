"""What a perturbation search costs: forwards and backwards of the network, per sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attacks.base import Logits, Pull, Recording, State, Step, differentiated, exact, record, stand_in


class Meter:
    """A network that counts how often each of B samples goes through it, forwards and backwards.

    A call on all B rows counts one for each. When an attack says (by `attacks.base.rows`) which samples the rows of
    a smaller batch belong to, those are charged; rows of unknown owner are shared out evenly.

    It tells `pulse`, if it has one, of every call: somebody who wants to see that a search goes on.

    Attributes:
        forwards, backwards: from calls whose rows have known owners.
        shared: rows of unknown owner that went forwards and backwards, to be shared out over all samples.
    """

    def __init__(
        self, network: Logits, samples: int, device: torch.device, pulse: Callable[[], None] | None = None
    ) -> None:
        self._counts = [torch.zeros(samples, dtype=torch.int64, device=device) for _ in range(2)]
        self._late = [_Late(), _Late()]
        self.shared = [0, 0]
        self._network, self._pulse = network, pulse

    @property
    def forwards(self) -> Tensor:
        """Of each sample, (B,) int64."""
        return self._counted(0)

    @property
    def backwards(self) -> Tensor:
        """Of each sample, (B,) int64."""
        return self._counted(1)

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W)."""
        return self.run(x, None)

    def rows(self, index: Tensor) -> Logits:
        """The same network for a batch whose row i is sample `index[i]`."""
        return _Rows(self, index, self._network)

    def through(self, network: Logits) -> Logits:
        """Another form of the network for the same batch, each row of which is counted as one of the network's."""
        return _Rows(self, None, network)

    def stand_in(self) -> Logits | None:
        """The stand-in that the network offers, if any: a forward and a backward of it cost what the network's do."""
        other = stand_in(self._network)
        return None if other is None else _Rows(self, None, other)

    @property
    def offers_vjp(self) -> bool:
        """Whether the network has its gradient at hand."""
        return differentiated(self._network) is not None

    def vjp(self, x: Tensor) -> tuple[Tensor, Pull]:
        """Logits of `x` and the way back, where the network has it at hand; counted as they are used."""
        return self.both(x, None, self._network)

    def exact(self) -> Logits | None:
        """The network as it is, where this one's answers are rounded; counted with it."""
        return _exact(self, None, self._network)

    def record(self, step: Step, state: State) -> Recording | None:
        """The step as a recording, where the network offers one: each replay is a forward and a backward of all."""
        return _recorded(self, None, self._network, step, state)

    def replayed(self, index: Tensor | None, rows: int) -> None:
        """Count a step that was replayed, of the samples `index` (b,), or of all."""
        for way in (0, 1):
            self._charge(way, index, rows)
        if self._pulse is not None:
            self._pulse()

    def both(self, x: Tensor, index: Tensor | None, network: Logits) -> tuple[Tensor, Pull]:
        """Logits of `x` and the way back, of a form of the network that has it; charged to the samples `index` (b,)."""
        found = differentiated(network)
        assert found is not None
        self._asked(x, index)
        logits, pull = found.vjp(x)

        def counted(cotangent: Tensor) -> Tensor:
            self._charge(1, index, len(x))
            return pull(cotangent)

        return logits, counted

    def run(self, x: Tensor, index: Tensor | None, network: Logits | None = None) -> Tensor:
        """Logits of `x`, charged to the samples `index` (b,), or to all; of a stand-in where that is the `network`."""
        self._asked(x, index)
        out = (network or self._network)(x)
        if out.requires_grad:
            count = len(x)
            out.register_hook(lambda _: self._charge(1, index, count))  # type: ignore[no-untyped-call]
        return out

    def _asked(self, x: Tensor, index: Tensor | None) -> None:
        """Count a forward of `x`, and tell of it."""
        if index is not None and len(index) != len(x):
            raise ValueError(f"Meter: rows must name one sample per row, got {len(index)} for {len(x)} rows")
        self._charge(0, index, len(x))
        if self._pulse is not None:
            self._pulse()

    def counted(self) -> tuple[Tensor, Tensor, list[int]]:
        """All counts as they are, for `recall`."""
        return self.forwards.clone(), self.backwards.clone(), list(self.shared)

    def recall(self, counted: tuple[Tensor, Tensor, list[int]]) -> None:
        """Forget what was counted since then: a search that was given up, and will be made again."""
        forwards, backwards, self.shared = counted
        self._counts, self._late = [forwards, backwards], [_Late(), _Late()]

    def _charge(self, way: int, index: Tensor | None, rows: int) -> None:
        if index is None and rows != len(self._counts[way]):
            self.shared[way] += rows
            return
        if not self._late[way].same(index):
            self._counted(way)
            self._late[way] = _Late.of(index)
        self._late[way].times += 1

    def _counted(self, way: int) -> Tensor:
        """The counts, with those that were put off."""
        counts, late = self._counts[way], self._late[way]
        if late.times and late.index is None:
            counts += late.times
        elif late.times and late.index is not None:
            counts.index_add_(0, late.index, torch.full_like(late.index, late.times))
        late.times = 0
        return counts

    def per_sample(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Forwards and backwards of each sample, (B,) float64 each, with those of unknown owner shared out."""
        n = max(len(self.forwards), 1)
        return (
            self.forwards.cpu().numpy() + self.shared[0] / n,
            self.backwards.cpu().numpy() + self.shared[1] / n,
        )


@dataclass
class _Late:
    """What is counted later, at once: a loop asks of the same rows again and again.

    Attributes:
        asked: whose rows; None for all.
        version: of `asked`, which somebody might write to.
        index: `asked` as it was.
        times: how often they went.
    """

    asked: Tensor | None = None
    version: int = 0
    index: Tensor | None = None
    times: int = 0

    @classmethod
    def of(cls, asked: Tensor | None) -> _Late:
        return cls() if asked is None else cls(asked, asked._version, asked.clone())

    def same(self, asked: Tensor | None) -> bool:
        return asked is self.asked and (asked is None or asked._version == self.version)


class _Rows:
    """A view of a `Meter` for some of its rows, or for all, of its network or of another form of it."""

    def __init__(self, meter: Meter, index: Tensor | None, network: Logits) -> None:
        self._meter = meter
        self._index = index
        self._network = network

    def __call__(self, x: Tensor) -> Tensor:
        return self._meter.run(x, self._index, self._network)

    def rows(self, index: Tensor) -> Logits:
        return _Rows(self._meter, index if self._index is None else self._index[index], self._network)

    def stand_in(self) -> Logits | None:
        other = stand_in(self._network)
        return None if other is None else _Rows(self._meter, self._index, other)

    @property
    def offers_vjp(self) -> bool:
        return differentiated(self._network) is not None

    def vjp(self, x: Tensor) -> tuple[Tensor, Pull]:
        return self._meter.both(x, self._index, self._network)

    def exact(self) -> Logits | None:
        return _exact(self._meter, self._index, self._network)

    def record(self, step: Step, state: State) -> Recording | None:
        return _recorded(self._meter, self._index, self._network, step, state)


class _Charged:
    """A recording whose replays are counted."""

    def __init__(self, found: Recording, meter: Meter, index: Tensor | None) -> None:
        self.state = found.state
        self._found, self._meter, self._index = found, meter, index
        self._rows = next(len(tensor) for tensor in self.state.values() if tensor.ndim)

    def replay(self) -> None:
        self._meter.replayed(self._index, self._rows)
        self._found.replay()


def _recorded(meter: Meter, index: Tensor | None, network: Logits, step: Step, state: State) -> Recording | None:
    found = record(network, step, state)
    return None if found is None else _Charged(found, meter, index)


def _exact(meter: Meter, index: Tensor | None, network: Logits) -> Logits | None:
    other = exact(network)
    return None if other is network else _Rows(meter, index, other)
