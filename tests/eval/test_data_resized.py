"""The same images at another size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.data import Samples
from eval.data.resized import resized
from eval.errors import InputError


def samples(side: int = 8, n: int = 5, dtype: str = "uint8", channels: int = 1) -> Samples:
    rng = np.random.default_rng(side)
    pixels = rng.integers(0, 256, (n, channels, side, side)).astype(np.uint8)
    return Samples.of(pixels if dtype == "uint8" else (pixels / 255).astype(np.float32), [0] * n, ["a"], "x")


def images(of: Samples) -> torch.Tensor:
    return of.batch(np.arange(len(of)))


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [2, 4, 8, 16, 32])
def test_as_torch_does(side, mode, channels):
    own = samples(channels=channels)
    wanted = (
        torch.nn.functional.adaptive_avg_pool2d(images(own), side)
        if side <= 8
        else torch.nn.functional.interpolate(images(own), (side, side), mode=mode)
    )
    found = resized(own, side, mode)
    assert found.shape == (channels, side, side)
    assert images(found).dtype == torch.float32
    assert torch.allclose(images(found), wanted, atol=1e-6)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 6), st.integers(1, 4))
def test_what_was_replicated_is_averaged_back_and_distances_grow_with_the_root(side, times):
    own = samples(side)
    large = resized(own, side * times)
    back = resized(Samples.of(images(large).numpy(), own.labels, own.classes, "y"), side)
    assert torch.allclose(images(back), images(own), atol=1e-6)
    small, grown = images(own).flatten(1), images(large).flatten(1)
    assert torch.allclose(torch.cdist(grown, grown), times * torch.cdist(small, small), rtol=1e-4, atol=1e-3)


def test_ids_stay_and_fingerprints_tell_sizes_and_ways_apart():
    own = samples()
    found = [own, resized(own, 4), resized(own, 16), resized(own, 16, "bilinear")]
    assert all((f.ids == own.ids).all() for f in found)
    assert len({f.fingerprint for f in found}) == 4
    assert resized(own, 16).fingerprint == found[2].fingerprint
    assert resized(own, 8) is own


def test_some_of_them_and_floats():
    own = samples(dtype="float")
    some = np.array([3, 1])
    assert torch.equal(resized(own, 16).select(some).batch(np.arange(2)), images(resized(own, 16))[some])


@pytest.mark.parametrize(("side", "mode", "says"), [(3, "nearest", "divide 8"), (16, "cubic", "one of nearest")])
def test_what_cannot_be_is_refused(side, mode, says):
    with pytest.raises(InputError, match=says):
        resized(samples(), side, mode)


def test_images_must_be_square():
    oblong = Samples.of(np.zeros((1, 1, 4, 8), np.uint8), [0], ["a"], "x")
    with pytest.raises(InputError, match="square to be resized, got 4 x 8"):
        resized(oblong, 16)
