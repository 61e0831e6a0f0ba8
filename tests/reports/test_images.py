from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from reports.images import magnification, png, triptych


def pixels(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


@settings(deadline=None)
@given(st.floats(1e-6, 0.5))
def test_a_magnified_change_is_visible_and_not_clipped(size):
    factor = magnification(np.array([size, -size / 2]))
    assert factor * size <= 0.5
    assert factor == 1000 or factor * size > 0.24


def test_a_picture_keeps_its_levels():
    levels = np.arange(192, dtype=np.uint8).reshape(3, 8, 8)
    assert (pixels(png(levels / 255)) == levels.transpose(1, 2, 0)).all()
    assert (pixels(png(levels[:1] / 255)) == levels[0]).all()


def test_the_box_becomes_black_and_white():
    x = np.array([[[-1.0, 1.0]]])
    before, change, after, factor = triptych(x, np.array([[[-0.9, 1.0]]]), (-1.0, 1.0))
    assert pixels(before).tolist() == [[0, 255]]
    assert factor == 10
    assert pixels(change).tolist() == [[255, 128]]
    assert pixels(after)[0, 0] == 13


@pytest.mark.parametrize(("shape", "size"), [((1, 28, 28), 28), ((3, 500, 300), 167), ((3, 224, 224), 224)])
def test_large_pictures_shrink(shape, size):
    assert max(pixels(png(np.zeros(shape))).shape) == size
