"""Noise at the corners of the ball; Gaussian noise of one size, in the box or as Szegedy et al. add it."""

from __future__ import annotations

import math

import pytest
import torch

from attacks.goal import Goal
from attacks.noise import GaussianNoise, Noise
from attacks.rng import Rng
from attacks.threat import ThreatModel, unlimited


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


@pytest.mark.parametrize("box", [(0.0, 1.0), (-math.inf, math.inf)])
def test_sign_noise_moves_each_pixel_up_or_down_by_eps_as_far_as_the_box_allows(box: tuple[float, float]) -> None:
    x = torch.full((8, 1, 30, 30), 0.5)
    rng = Rng.of(0, ["noise"], map(str, range(8)), torch.device("cpu"))
    labels = torch.zeros(8, dtype=torch.int64)
    z = Noise("sign")(lambda b: b.flatten(1), x, Goal(labels), ThreatModel("linf", 0.75, box), rng=rng)
    assert torch.equal((z - 0.5).abs(), torch.full_like(x, 0.5 if box[0] == 0 else 0.75))
    assert (z > 0.5).float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert not torch.equal(z[0], z[1])


def test_sign_noise_knows_the_corners_of_one_ball_alone() -> None:
    assert Noise("sign").norms == {"linf"}
    with pytest.raises(ValueError, match="kind: must be one of uniform, gaussian, sign, got 'salt'"):
        Noise("salt")
