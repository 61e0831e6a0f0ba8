"""What a camera does by where it stands: rotation, tilt, distance and cropping, as one projective map.

    pixel at p shows what was at  M p,   M = (turn, distance and move) (tilt),   p = (u, v, 1)

Cost: one bilinear resampling for all four, which blurs once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from attacks.draws import check, signed
from attacks.rng import Rng


def warped(x: Tensor, matrix: Tensor) -> Tensor:
    """Images (B, C, H, W) whose pixel at p shows what was at `matrix` (B, 3, 3) times p, by bilinear sampling.

    Points are (u, v, 1), right and down from the centre; half the larger side is 1.
    """
    b, _, h, w = x.shape
    side = max(h, w)
    u = (2 * torch.arange(w, device=x.device, dtype=x.dtype) + 1 - w) / side
    v = (2 * torch.arange(h, device=x.device, dtype=x.dtype) + 1 - h) / side
    points = torch.stack([u.expand(h, w), v[:, None].expand(h, w), torch.ones_like(x[0, 0])], dim=-1).view(-1, 3)
    seen = points @ matrix.to(x.dtype).transpose(1, 2)  # (B, H*W, 3)
    grid = seen[..., :2] / seen[..., 2:] * x.new_tensor([side / w, side / h])
    return F.grid_sample(x, grid.view(b, h, w, 2), "bilinear", "border", align_corners=False)


@dataclass(frozen=True)
class Warp:
    """Another place of the camera, in one resampling.

    Attributes:
        rotation: greatest angle in degrees, either way.
        perspective: greatest tilt, around each axis: at p the near edge is (1 + p) / (1 - p) times as long as the far
            one.
        scale: the picture is up to so much larger or smaller.
        shift: greatest move along each axis, as a share of the larger side.
        fixed: as far as that, never less.
    """

    rotation: float = 0.0
    perspective: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    fixed: bool = False

    def __post_init__(self) -> None:
        for name, most in (("rotation", 180.0), ("perspective", 0.3), ("scale", 0.9), ("shift", 1.0)):
            check(name, getattr(self, name), most)

    def __call__(self, x: Tensor, rng: Rng) -> Tensor:
        """Images seen from elsewhere."""
        if not any((self.rotation, self.perspective, self.scale, self.shift)):
            return x
        return warped(x, self.matrix(rng))

    def matrix(self, rng: Rng) -> Tensor:
        """From where each pixel comes, (B, 3, 3), as `warped` takes it."""
        angle, far, tilt_u, tilt_v, move_u, move_v = signed(rng, 6, self.fixed).unbind(1)
        angle, far = torch.deg2rad(self.rotation * angle), 1 / (1 + self.scale * far)
        zero, one = torch.zeros_like(angle), torch.ones_like(angle)
        rows = [
            [far * angle.cos(), -far * angle.sin(), 2 * self.shift * move_u],
            [far * angle.sin(), far * angle.cos(), 2 * self.shift * move_v],
            [zero, zero, one],
        ]
        plane = torch.stack([torch.stack(row, -1) for row in rows], -2)
        tilt = [[one, zero, zero], [zero, one, zero], [self.perspective * tilt_u, self.perspective * tilt_v, one]]
        return plane @ torch.stack([torch.stack(row, -1) for row in tilt], -2)
