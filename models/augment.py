"""Random shifts and mirror images for training."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def crop_flip(x: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each image (B, C, H, W) by up to an eighth of its side, filling with 0, and mirror half of them.

    The draws come from `generator` (on the CPU), so that they are the same on every device.
    """
    count, channels, height, width = x.shape
    pad_h, pad_w = max(1, height // 8), max(1, width // 8)
    top = torch.randint(2 * pad_h + 1, (count, 1), generator=generator)
    left = torch.randint(2 * pad_w + 1, (count, 1), generator=generator)
    flip = torch.rand(count, 1, generator=generator) < 0.5
    columns = torch.arange(width).expand(count, width)
    rows = (torch.arange(height) + top).to(x.device)  # (B, H)
    columns = (torch.where(flip, width - 1 - columns, columns) + left).to(x.device)  # (B, W)
    padded = F.pad(x, (pad_w, pad_w, pad_h, pad_h))
    sample = torch.arange(count, device=x.device)[:, None, None, None]
    channel = torch.arange(channels, device=x.device)[None, :, None, None]
    return padded[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]
