"""One random stream per sample, so that a result depends on no other sample of the batch.

A counter-based generator: element j of a sample's draw is a hash of (the sample's key, j). There is no state to
advance; a fresh draw needs a fresh label, given to `fold`. Integer arithmetic alone makes the bits, so they are the
same on every device.

Source: SplitMix64, Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MIX1 = _signed(0xBF58476D1CE4E5B9)
_MIX2 = _signed(0x94D049BB133111EB)
_UPPER = 24  # bits of a draw that a float32 holds
_PART = 1 << 16  # draws that are mixed at once on a CPU, so that they stay in its cache: half the time of all at once
_STRIDE = -0x61C8864680B583EB  # odd, so that every draw has a stream of its own


def _shift(z: Tensor, bits: int) -> Tensor:
    return (z >> bits).bitwise_and_((1 << (64 - bits)) - 1)  # int64 has no logical shift of its own


def _mix_(z: Tensor) -> Tensor:
    """Mix in place: fresh memory for each of the steps takes twice as long."""
    return _nearly_mix_(z).bitwise_xor_(_shift(z, 31))


def _nearly_mix_(z: Tensor) -> Tensor:
    """All of a mix but its last step."""
    z.bitwise_xor_(_shift(z, 30)).mul_(_MIX1)
    return z.bitwise_xor_(_shift(z, 27)).mul_(_MIX2)


def _mix(z: Tensor) -> Tensor:
    return _mix_(z.clone())


@dataclass(frozen=True)
class Rng:
    """A stream for each of B samples.

    Attributes:
        keys: (B,) int64.
    """

    keys: Tensor

    @classmethod
    def of(cls, seed: int, labels: Iterable[str], samples: Iterable[str], device: torch.device | str = "cpu") -> Rng:
        """Streams named by a seed, any labels (an attack's name, say) and the samples' ids."""
        prefix = "\x1f".join([str(seed), *labels])
        keys = [
            int.from_bytes(hashlib.blake2b(f"{prefix}\x1e{s}".encode(), digest_size=8).digest(), "little", signed=True)
            for s in samples
        ]
        return cls(torch.tensor(keys, dtype=torch.int64, device=device))

    def fold(self, *labels: int) -> Rng:
        """Streams independent of these and of those of other labels."""
        keys = self.keys
        for label in labels:
            keys = _mix(keys + _signed((0xD1342543DE82EF95 * (label + 1)) % (1 << 64)))
        return Rng(keys)

    def drawn(self, counts: Tensor) -> Rng:
        """Streams for one draw more of each sample, after `counts` (B,) of them, int64."""
        return Rng(self.keys + counts * _STRIDE)

    def __getitem__(self, index: Tensor) -> Rng:
        """The streams of the rows `index` (b,), int64 or bool."""
        return Rng(self.keys[index])

    def __len__(self) -> int:
        return len(self.keys)

    def _seeds(self, count: int) -> tuple[Tensor, Tensor]:
        """What is mixed to the draws: one part for each sample (B, 1), one for each draw (count,)."""
        counter = torch.arange(1, count + 1, dtype=torch.int64, device=self.keys.device) * _GOLDEN
        return _mix(self.keys)[:, None], counter

    def _upper(self, count: int) -> Tensor:
        """The upper bits of each draw, whole numbers in float32 (B, count)."""
        keys, counter = self._seeds(count)
        found = torch.empty(len(self), count, dtype=torch.float32, device=keys.device)
        rows = max(_PART // max(count, 1), 1) if keys.device.type == "cpu" else max(len(self), 1)
        for first in range(0, len(self), rows):
            z = _nearly_mix_(keys[first : first + rows] + counter)  # the last step of a mix leaves the upper bits alone
            found[first : first + rows] = _shift(z, 64 - _UPPER)
        return found

    def uniform(self, *shape: int) -> Tensor:
        """Uniform on [0, 1), float32 of shape (B, *shape)."""
        return self._upper(math.prod(shape)).mul_(2.0**-_UPPER).view(len(self), *shape)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal by Box and Muller's transform, float32 of shape (B, *shape)."""
        count = math.prod(shape)
        upper = self._upper(2 * count).view(len(self), 2, count)
        u = (upper + 0.5) * 2.0**-_UPPER  # (0, 1): the logarithm below stays finite
        z = torch.sqrt(-2.0 * u[:, 0].log()) * torch.cos(2.0 * math.pi * u[:, 1])
        return z.view(len(self), *shape)

    def integers(self, high: int) -> Tensor:
        """One integer (B,) of [0, high) per sample, int64."""
        keys, counter = self._seeds(1)
        return _shift(_mix_(keys + counter)[:, 0], 11) % high
