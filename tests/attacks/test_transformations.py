"""Random transformations: nothing at strength 0, torchvision's results at a given parameter, streams of their own."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as reference

from attacks.rng import Rng
from attacks.transformations import (
    JPEG,
    NAMED,
    Blur,
    Brightness,
    Colour,
    Composed,
    Contrast,
    Noise,
    blurred,
    named,
    print_and_photograph,
)
from attacks.warp import Warp, warped

STRONG = {
    "brightness": 0.3, "contrast": 0.3, "colour": 0.2, "blur": 0.03, "noise": 0.1, "jpeg": 0.5, "rotation": 15.0,
    "perspective": 0.1, "scale": 0.2, "shift": 0.1, "print_and_photograph": 1.0,
}  # fmt: skip
SMOOTH = [name for name in STRONG if name not in ("jpeg", "print_and_photograph")]


def pictures(n: int = 4, channels: int = 3, height: int = 24, width: int = 32) -> torch.Tensor:
    """Smooth colour pictures with values in 0.3..0.7."""
    coarse = torch.rand(n, channels, 4, 4, generator=torch.Generator().manual_seed(0))
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    return 0.5 + 0.2 * (2 * fine.clamp(0, 1) - 1)


def streams(n: int = 4, label: str = "t") -> Rng:
    return Rng.of(0, [label], map(str, range(n)))


def test_every_transformation_has_a_strength_here():
    assert set(STRONG) == set(NAMED)


@pytest.mark.parametrize("name", STRONG)
def test_at_strength_zero_an_image_stays_as_it_is(name):
    x = pictures()
    if name == "print_and_photograph":
        assert torch.allclose(print_and_photograph(0.0)(x, streams()), x, atol=1e-6)
    else:
        assert torch.allclose(named(name, 0.0)(x, streams()), x, atol=1e-6)


@pytest.mark.parametrize("name", STRONG)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_box_is_kept_and_something_happens(name, channels):
    x = torch.rand(4, channels, 20, 20, generator=torch.Generator().manual_seed(1))
    x = (2 * x - 0.5).clamp(0, 1)  # half of the pixels are black or white
    y = named(name, STRONG[name])(x, streams())
    assert y.shape == x.shape
    assert y.min() >= 0
    assert y.max() <= 1
    assert ((y - x).abs().flatten(1).amax(1) > 1e-3).sum() >= 3


@pytest.mark.parametrize("name", STRONG)
def test_what_happens_to_an_image_depends_on_no_other(name):
    x, transformation = pictures(6), named(name, STRONG[name])
    together = transformation(x, streams(6))
    some = torch.tensor([4, 1])
    assert torch.allclose(transformation(x[some], streams(6)[some]), together[some], atol=1e-5)


@pytest.mark.parametrize("name", STRONG)
def test_other_streams_give_another_image_and_the_same_ones_the_same(name):
    x, transformation = pictures(), named(name, STRONG[name])
    assert torch.equal(transformation(x, streams()), transformation(x, streams()))
    assert not torch.allclose(transformation(x, streams()), transformation(x, streams(label="u")), atol=1e-4)


@pytest.mark.parametrize("name", SMOOTH)
def test_the_gradient_is_that_of_finite_differences(name):
    x, transformation = pictures(2, height=8, width=10).double(), named(name, STRONG[name] / 2)
    weights = torch.rand(x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    towards = torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def value(point: torch.Tensor) -> torch.Tensor:
        return (transformation(point, streams(2)) * weights).sum()

    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(leaf), leaf)
    numeric = (value(x + 1e-4 * towards) - value(x - 1e-4 * towards)) / 2e-4
    assert (gradient * towards).sum().item() == pytest.approx(numeric.item(), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", STRONG)
def test_black_pixels_have_a_gradient_too(name):
    """The background of a digit: with the true derivative of what cuts off at black, no attack would move it."""
    x = torch.zeros(3, 1, 12, 12, requires_grad=True)
    named(name, STRONG[name])(x, streams(3)).sum().backward()
    assert (x.grad.flatten(1).sum(1) > 10).all()


def test_jpeg_is_the_codec_and_backwards_the_identity():
    x = pictures(1)
    leaf = x.clone().requires_grad_()
    y = JPEG(0.6, fixed=True)(leaf, streams(1))
    file = io.BytesIO()
    pixels = (x[0].permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(pixels).save(file, "JPEG", quality=40)
    back = torch.from_numpy(np.asarray(Image.open(file)).copy()).permute(2, 0, 1) / 255
    assert torch.allclose(y[0], back, atol=1e-6)
    (gradient,) = torch.autograd.grad((y * 3).sum(), leaf)
    assert torch.equal(gradient, torch.full_like(x, 3))


def given(sign: float, transformation: type, strength: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A picture before and after, of a fixed strength whose sign came out so."""
    x = pictures(1)
    for label in map(str, range(30)):
        y = transformation(strength, fixed=True)(x, streams(1, label))
        if (y - x).mean() * sign > 0 or (transformation is Contrast and (y.std() - x.std()) * sign > 0):
            return x, y
    raise AssertionError("never that sign")


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_brightness_is_that_of_torchvision(sign):
    x, y = given(sign, Brightness, 0.2)
    assert torch.allclose(y, reference.adjust_brightness(x, 1 + sign * 0.2), atol=1e-6)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_contrast_is_that_of_torchvision(sign):
    x, y = given(sign, Contrast, 0.2)
    expected = [reference.adjust_contrast(x, 1 + s * 0.2) for s in (-1.0, 1.0)]
    assert min((y - e).abs().max() for e in expected) < 1e-4


def test_a_blur_is_that_of_torchvision_away_from_the_edge():
    x = pictures(2, height=40, width=40)
    y = blurred(x, torch.tensor([1.2, 0.5]), 6)
    for i, sigma in enumerate((1.2, 0.5)):
        expected = reference.gaussian_blur(x[i], [13, 13], [sigma, sigma])
        assert torch.allclose(y[i, :, 6:-6, 6:-6], expected[:, 6:-6, 6:-6], atol=1e-5)


@pytest.mark.parametrize("degrees", [-20.0, 20.0])
def test_a_rotation_is_that_of_torchvision_away_from_the_edge(degrees):
    x, angle = pictures(1, height=40, width=40), math.radians(degrees)
    turn = torch.tensor([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1.0]])
    expected = reference.rotate(x, degrees, interpolation=reference.InterpolationMode.BILINEAR)
    assert torch.allclose(warped(x, turn[None])[..., 9:-9, 9:-9], expected[..., 9:-9, 9:-9], atol=1e-5)


def test_a_tilt_moves_corners_as_torchvision_is_told_to():
    x, tilt = pictures(1, height=40, width=40), 0.1
    matrix = torch.tensor([[1.0, 0, 0], [0, 1, 0], [tilt, 0, 1]])
    corners = [[0.5, 0.5], [39.5, 0.5], [39.5, 39.5], [0.5, 39.5]]  # torchvision counts pixels from their edges
    seen = []
    for column, row in corners:  # where each corner of the new picture looks at in the old one
        point = matrix @ torch.tensor([column / 20 - 1, row / 20 - 1, 1.0])
        seen.append([(v / point[2]).item() * 20 + 20 for v in point[:2]])
    expected = reference.perspective(x, seen, corners, interpolation=reference.InterpolationMode.BILINEAR)
    inside = (..., slice(5, -5), slice(5, -5))
    assert torch.allclose(warped(x, matrix[None])[inside], expected[inside], atol=2e-4)
    assert not torch.allclose(x[inside], expected[inside], atol=2e-2)


@pytest.mark.parametrize(
    ("transformation", "strength"), [(Brightness, 0.2), (Contrast, 0.2), (Colour, 0.1), (Noise, 0.05), (Blur, 0.02)]
)
def test_a_fixed_strength_is_the_limit_of_the_others(transformation, strength):
    x = pictures(64)
    change = [
        (transformation(strength, fixed=fixed)(x, streams(64)) - x).flatten(1).norm(dim=1) for fixed in (True, False)
    ]
    assert (change[1] <= change[0] * 1.3).all()
    assert change[1].mean() < 0.75 * change[0].mean()


def test_noise_has_its_standard_deviation():
    x = torch.full((3, 3, 40, 41), 0.5)
    y = Noise(0.05, fixed=True)(x, streams(3))
    assert (y - x).std().item() == pytest.approx(0.05, rel=0.03)
    assert abs((y - x).mean().item()) < 2e-3
    kurtosis = ((y - x) / 0.05).pow(4).mean().item()
    assert kurtosis == pytest.approx(3.0, abs=0.25)


def test_a_composition_is_one_after_the_other():
    x, steps = pictures(), (Warp(rotation=10.0), Noise(0.02))
    one = steps[1](steps[0](x, streams().fold(0)), streams().fold(1))
    assert torch.equal(Composed(steps)(x, streams()), one)


@pytest.mark.parametrize(
    ("name", "strength", "says"),
    [
        ("solarize", 1.0, "transformations: must be of brightness"),
        ("blur", -1.0, r"blur: must be in \[0, 0.1\], got -1"),
        ("jpeg", 1.0, r"jpeg: must be in \[0, 0.99\], got 1"),
        ("perspective", float("nan"), "perspective: must be in"),
    ],
)
def test_bad_names_and_strengths_are_refused(name, strength, says):
    with pytest.raises(ValueError, match=says):
        named(name, strength)
