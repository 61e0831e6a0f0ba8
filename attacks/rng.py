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
_STRIDE = -0x61C8864680B583EB  # odd, so that every draw has a stream of its own


def _shift(z: Tensor, bits: int) -> Tensor:
    return (z >> bits).bitwise_and_((1 << (64 - bits)) - 1)  # int64 has no logical shift of its own


def _mix_(z: Tensor) -> Tensor:
    """Mix in place: fresh memory for each of the steps takes twice as long."""
    z.bitwise_xor_(_shift(z, 30)).mul_(_MIX1)
    z.bitwise_xor_(_shift(z, 27)).mul_(_MIX2)
    return z.bitwise_xor_(_shift(z, 31))


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

    def _bits(self, count: int) -> Tensor:
        counter = torch.arange(1, count + 1, dtype=torch.int64, device=self.keys.device) * _GOLDEN
        return _mix_(_mix(self.keys)[:, None] + counter)  # (B, count)

    def uniform(self, *shape: int) -> Tensor:
        """Uniform on [0, 1), float32 of shape (B, *shape)."""
        return _shift(self._bits(math.prod(shape)), 40).float().mul_(2.0**-24).view(len(self), *shape)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal by Box and Muller's transform, float32 of shape (B, *shape)."""
        count = math.prod(shape)
        bits = self._bits(2 * count).view(len(self), 2, count)
        u = (_shift(bits, 40).float() + 0.5) * 2.0**-24  # (0, 1): the logarithm below stays finite
        z = torch.sqrt(-2.0 * u[:, 0].log()) * torch.cos(2.0 * math.pi * u[:, 1])
        return z.view(len(self), *shape)

    def integers(self, high: int) -> Tensor:
        """One integer (B,) of [0, high) per sample, int64."""
        return _shift(self._bits(1)[:, 0], 11) % high
