"""Calls in place: as steps only where nothing else reads what they change."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.classifier import Classifier
from models.graph import read
from models.steps import NoBoundError


class Overwriting(nn.Module):
    """A hidden layer that is changed in place, and what reads it."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.first, self.last, self.relu = nn.Linear(16, 6), nn.Linear(6, 3), nn.ReLU(inplace=True)
        self.drop = nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x.flatten(1))
        if self.form == "dropped":  # the result is, not the change
            F.relu(h, inplace=True)
            return self.last(h)
        if self.form == "beside":
            return self.last(self.relu(h) + h)
        if self.form == "of a view":
            F.relu(h.view(-1, 2, 3), True)
            return self.last(h)
        if self.form == "seen before":
            seen = self.drop(h)
            return self.last(self.relu(h) + seen)
        if self.form == "chain":
            return self.last(self.relu(self.drop(h)))
        y = torch.tanh(h)  # residual
        y += h
        return self.last(F.relu(y, inplace=True))


def classifier(form: str) -> Classifier:
    torch.manual_seed(0)
    return Classifier(Overwriting(form), name="n", input_shape=(1, 4, 4), num_classes=3)


@pytest.mark.parametrize("form", ["dropped", "beside", "of a view", "seen before"])
def test_what_is_read_after_a_change_is_refused(form: str) -> None:
    with pytest.raises(NoBoundError, match="in place"):
        read(classifier(form))


@pytest.mark.parametrize("form", ["chain", "residual"])
def test_a_change_that_nothing_else_reads_is_a_step(form: str) -> None:
    net, x = classifier(form), torch.rand(5, 1, 4, 4)
    assert torch.allclose(read(net).forward(x.double())[-1].float(), net(x), atol=1e-6)
