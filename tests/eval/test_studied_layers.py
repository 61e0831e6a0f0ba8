"""A layer or a unit that there is not is told before anything is trained or written."""

from __future__ import annotations

import pytest
from rich.console import Console

from eval.errors import InputError
from eval.run import run
from models.errors import ModelError


@pytest.mark.parametrize("study", ["units", "inside"])
@pytest.mark.parametrize(
    ("layer", "says"),
    [
        ("layer=conv9", "layer: must name a layer of cnn, got 'conv9'; did you mean"),
        ("unit=999", "unit: must be "),
    ],
)
def test_it_is_told_first(composed, tmp_path, monkeypatch, study, layer, says):
    def trained(*_, **__):
        raise AssertionError("a network was trained")

    monkeypatch.setattr("eval.networks.load_or_fit", trained)
    with pytest.raises((InputError, ModelError), match=says):
        run(composed(f"experiment=intriguing/{study}", "model=cnn", layer), tmp_path, [], Console(quiet=True))
    assert list(tmp_path.iterdir()) == []
