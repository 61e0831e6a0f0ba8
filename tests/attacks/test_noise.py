"""Gaussian noise of one size: in the box, or as Szegedy et al. add it."""

from __future__ import annotations

import pytest
import torch

from attacks.goal import Goal
from attacks.noise import GaussianNoise
from attacks.rng import Rng
from attacks.threat import unlimited


def noisy(noise: GaussianNoise, x: torch.Tensor, first: int = 0) -> torch.Tensor:
    labels = torch.zeros(len(x), dtype=torch.int64)
    rng = Rng.of(0, ["noise"], map(str, range(first, first + len(x))), torch.device("cpu"))
    return noise(lambda batch: batch.flatten(1)[:, :2], x, Goal(labels), unlimited("l2"), rng=rng)


@pytest.mark.parametrize("rms", [0.05, 0.3])
def test_clipped_noise_stays_in_the_box_and_has_its_size_there(rms: float) -> None:
    x = torch.rand(4, 1, 20, 20).round()  # all pixels at a bound
    z = noisy(GaussianNoise(rms), x)
    assert ((z >= 0) & (z <= 1)).all()
    torch.testing.assert_close((z - x).square().mean((1, 2, 3)).sqrt(), torch.full((4,), rms), rtol=0.02, atol=0)


def test_unclipped_noise_is_normal_with_its_size_as_deviation() -> None:
    x = torch.zeros(20, 1, 40, 40)
    z = noisy(GaussianNoise(0.3, clip=False), x)
    assert z.std().item() == pytest.approx(0.3, rel=0.02)
    assert z.mean().item() == pytest.approx(0.0, abs=0.01)
    assert (z.abs() < 0.3).float().mean().item() == pytest.approx(0.6827, abs=0.01)
    assert z.min() < 0


@pytest.mark.parametrize("clip", [True, False])
def test_a_sample_has_the_same_noise_in_any_batch(clip: bool) -> None:
    x = torch.rand(6, 1, 5, 5)
    noise = GaussianNoise(0.1, clip)
    torch.testing.assert_close(noisy(noise, x)[4:], noisy(noise, x[4:], 4))


@pytest.mark.parametrize("rms", [0.0, 1.0, -0.1])
def test_a_size_outside_0_1_is_refused(rms: float) -> None:
    with pytest.raises(ValueError, match=r"rms: must be in \(0, 1\)"):
        GaussianNoise(rms)
