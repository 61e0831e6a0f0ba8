from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from models.errors import ModelError
from models.network import Factory
from models.spec import build
from models.weights import fingerprint, read_state

CODE = """
from torch import nn
from models.blocks import Net

class Config: depth = 3
def make(): return Net()
"""
BLOCKS = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self): super().__init__(nn.Flatten(), nn.Linear(64, 3))
"""


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "blocks.py").write_text(BLOCKS)
    (tmp_path / "net.py").write_text(CODE)
    return tmp_path


def built(project: Path, **fields: Any) -> nn.Module:
    spec = Factory(f"{project}/net.py:make", str(project / "w.pt"), **fields)
    return build(spec, "factory", (1, 8, 8), 3, seed=0)["make"].module


def whole(project: Path, home: str) -> nn.Module:
    """A checkpoint of a whole module and its configuration, as a script of the user's would save it."""
    module: nn.Module = build(Factory(f"{project}/net.py:make"), "factory", (1, 8, 8), 3, seed=1)["make"].module
    kind = type(module)
    before, kind.__module__ = kind.__module__, home
    net: Any = __import__("sys")
    name = home.partition(".")[0]
    own = type(net)(home)
    own.Net = kind
    saved = {key: net.modules.get(key) for key in (home, name)}
    net.modules[home] = own
    try:
        torch.save({"model": module, "epoch": 3}, project / "w.pt")
    finally:
        kind.__module__ = before
        net.modules.update({key: value for key, value in saved.items() if value is not None})
        if saved[home] is None:
            del net.modules[home]
    return module


def test_a_whole_module_is_refused_unless_asked_for(project: Path) -> None:
    whole(project, "models.blocks")
    with pytest.raises(ModelError, match=r"if you trust the file as you trust code, write model\.unpickle=true"):
        built(project)


@pytest.mark.parametrize("home", ["models.blocks", "__main__"])
def test_its_classes_are_found_where_the_users_code_finds_them(project: Path, home: str) -> None:
    module = whole(project, home)
    assert fingerprint(built(project, unpickle=True)) == fingerprint(module)


def test_a_class_that_is_nowhere_is_one_clear_line(project: Path) -> None:
    whole(project, "nowhere")
    with pytest.raises(ModelError, match=r"whose classes can be found, got .*No module named 'nowhere'") as caught:
        built(project, unpickle=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("old", [False, True])
def test_a_crafted_checkpoint_runs_no_code(tmp_path: Path, old: bool) -> None:
    torch.save({"w": Evil(tmp_path / "ran")}, tmp_path / "w.pt", _use_new_zipfile_serialization=not old)
    with pytest.raises(ModelError, match="holds Python objects"):
        read_state(tmp_path / "w.pt", "model.weights")
    assert not (tmp_path / "ran").exists()


def test_a_pickle_that_is_called_safetensors_runs_no_code(tmp_path: Path) -> None:
    torch.save({"w": Evil(tmp_path / "ran")}, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="holds Python objects"):
        read_state(tmp_path / "w.safetensors", "model.weights")
    header = b'{"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[9],"data_offsets":[0,4]}}'
    (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 4)
    with pytest.raises(ModelError, match="damaged or cut short"):
        read_state(tmp_path / "w.safetensors", "model.weights")
    assert not (tmp_path / "ran").exists()


def test_unpickling_does_run_code_which_is_why_it_has_to_be_asked_for(project: Path) -> None:
    torch.save({"w": Evil(project / "ran")}, project / "w.pt")
    with pytest.raises(ModelError):
        built(project, unpickle=True)
    assert (project / "ran").exists()
