"""What is judged beside a perturbation: noise of its size, and the perturbation at another size."""

from __future__ import annotations

import pytest
import torch

from attacks.norms import rms
from attacks.rng import Rng
from eval.derived import Amplified, SameSizeNoise

BOX = (0.0, 1.0)


def images(n: int = 5) -> tuple[torch.Tensor, torch.Tensor, Rng]:
    generator = torch.Generator().manual_seed(0)
    x = 0.3 + 0.4 * torch.rand(n, 1, 28, 28, generator=generator)
    x_adv = (x + 0.02 * torch.randn(x.shape, generator=generator)).clamp(0, 1)
    return x, x_adv, Rng.of(0, ["derived"], map(str, range(n)))


def sizes(x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return rms((other - x).flatten(1))


def test_amplified_is_the_same_direction_at_the_wanted_root_mean_square():
    x, x_adv, rng = images()
    further = Amplified(0.06)(x, x_adv, rng, BOX)

    assert sizes(x, further).numpy() == pytest.approx(0.06, rel=1e-4)
    a, b = (further - x).flatten(1), (x_adv - x).flatten(1)
    assert torch.cosine_similarity(a, b).min() > 1 - 1e-5


def test_the_divisor_is_the_root_mean_square_and_not_the_norm_that_the_paper_prints():
    """x + 0.1 (x' - x) / ||x' - x||_2 is sqrt(784) = 28 times too small, and no magnification at all."""
    x, x_adv, rng = images()
    printed = x + 0.1 * (x_adv - x) / (x_adv - x).flatten(1).norm(dim=1).view(-1, 1, 1, 1)

    assert sizes(x, printed).numpy() == pytest.approx(0.1 / 28, rel=1e-3)
    assert sizes(x, printed).max() < sizes(x, x_adv).min()
    assert (sizes(x, Amplified(0.1)(x, x_adv, rng, BOX)) / sizes(x, printed)).numpy() == pytest.approx(28, rel=0.02)


def test_the_box_cuts_off_and_what_was_not_moved_stays():
    x, x_adv, rng = images()
    x_adv[0] = x[0]
    further = Amplified(0.9)(x, x_adv, rng, BOX)

    assert torch.equal(further[0], x[0])
    assert further.min() >= 0
    assert further.max() <= 1
    assert (sizes(x, further)[1:] < 0.9).all()
    assert (sizes(x, further)[1:] > 0.3).all()


def test_noise_has_the_size_of_each_perturbation():
    x, x_adv, rng = images()
    x_adv[1] = x[1]
    noisy = SameSizeNoise()(x, x_adv, rng, BOX)

    assert sizes(x, noisy).numpy() == pytest.approx(sizes(x, x_adv).numpy(), rel=0.01)
    assert torch.equal(noisy[1], x[1])
    alike = torch.cosine_similarity((noisy - x).flatten(1), (x_adv - x).flatten(1))
    assert alike[[0, 2, 3, 4]].abs().max() < 0.2
