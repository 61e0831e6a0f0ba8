"""Rows of pictures as one PNG file, each row with its name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from eval.records import replace

Array = np.ndarray[Any, Any]
_LEAST, _GAP, _HEAD, _CHAR = (
    96,
    4,
    16,
    7,
)  # pixels: least side of a picture, between them, of the line above, of a letter
_LETTERS = 24  # of a row's name


def write_page(path: Path, rows: Sequence[tuple[str, Sequence[Array]]], heads: Sequence[str]) -> None:
    """Write rows of pictures, in one step; small ones are enlarged, each pixel to a square.

    Args:
        path: of the file.
        rows: name and pictures (C, H, W) with values in 0..1, 1 or 3 channels, all of one size.
        heads: what stands above the first pictures of a row.
    """
    height, width = rows[0][1][0].shape[1:]
    times = max(1, -(-_LEAST // min(height, width)))
    height, width = height * times, width * times
    margin = _GAP + _CHAR * min(_LETTERS, max(len(name) for name, _ in rows))
    across = max(len(pictures) for _, pictures in rows)
    page = Image.new("RGB", (margin + across * (width + _GAP), _HEAD + len(rows) * (height + _GAP)), "white")
    draw = ImageDraw.Draw(page)
    for j, head in enumerate(heads):
        draw.text((margin + j * (width + _GAP), 2), head[: max(1, width // _CHAR)], "black")
    for i, (name, pictures) in enumerate(rows):
        top = _HEAD + i * (height + _GAP)
        draw.text((_GAP // 2, top + height // 2), name[:_LETTERS], "black")
        for j, picture in enumerate(pictures):
            page.paste(_image(picture, times), (margin + j * (width + _GAP), top))
    replace(path, lambda beside: page.save(beside, format="PNG"))


def _image(picture: Array, times: int) -> Image.Image:
    pixels = np.round(np.clip(picture, 0.0, 1.0) * 255.0).astype(np.uint8)
    pixels = pixels.repeat(times, axis=1).repeat(times, axis=2)
    if len(pixels) not in (1, 3):
        pixels = pixels.mean(axis=0, keepdims=True).astype(np.uint8)
    return Image.fromarray(np.broadcast_to(pixels, (3, *pixels.shape[1:])).transpose(1, 2, 0).copy())
