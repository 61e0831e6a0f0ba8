from __future__ import annotations

import sys
from pathlib import Path

import pytest

from models.errors import ModelError
from models.tensorboard import tensorboard


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scalars_are_written(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with tensorboard(tmp_path) as log:
        log("train/loss", 0.5, 0)
        log("train/loss", 0.25, 1)
    events = accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(0, 0.5), (1, 0.25)]


def test_the_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ModelError, match=r"toastproof\[tensorboard\]"), tensorboard(tmp_path):
        pass
