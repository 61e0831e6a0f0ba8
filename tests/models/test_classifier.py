from __future__ import annotations

import pytest
import torch
from torch import nn

from models.classifier import Classifier


class Cast(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x):
        return x.flatten(1)[:, :3].to(self.dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("images", [torch.float32, torch.float64])
def test_logits_are_of_the_images_dtype_and_gradients_pass(dtype, images):
    x = torch.rand(4, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=images).requires_grad_()
    classifier = Classifier(Cast(dtype), name="m", input_shape=(1, 2, 2), num_classes=3)
    logits = classifier(x)
    assert logits.dtype == images
    (gradient,) = torch.autograd.grad(logits.sum(), x)
    assert gradient.flatten(1).tolist() == [[1.0, 1.0, 1.0, 0.0]] * 4


def test_logits_of_the_images_dtype_are_left_alone():
    x = torch.rand(4, 1, 2, 2)
    body = Cast(torch.float32)
    assert torch.equal(Classifier(body, name="m", input_shape=(1, 2, 2), num_classes=3)(x), body(x))
