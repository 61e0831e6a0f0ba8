from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from models.archive import read_program
from models.errors import ModelError
from models.exported import Exported
from models.spec import build

ROOT = "net"
MODEL, WEIGHTS = f"{ROOT}/models/model.json", f"{ROOT}/data/weights/model_weights_config.json"
CONSTANTS = f"{ROOT}/data/constants/model_constants_config.json"
SAMPLES = f"{ROOT}/data/sample_inputs/model.pt"


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / f"{ROOT}.pt2"
    batch = {0: torch.export.Dim("batch")}
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval()
    torch.export.save(torch.export.export(net, (torch.rand(2, 3, 2, 2),), dynamic_shapes=(batch,)), path)
    return path


def crafted(source: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """A copy of a file with its entries changed."""
    with zipfile.ZipFile(source) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return target


def saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def edit(entries: dict[str, bytes], name: str, change: Callable[[Any], None]) -> None:
    content = json.loads(entries[name])
    change(content)
    entries[name] = json.dumps(content).encode()


def call(entries: dict[str, bytes], command: str) -> None:
    """Let the first node call a function of Python by its name."""

    def change(content: Any) -> None:
        node = content["graph_module"]["graph"]["nodes"][0]
        node["target"] = "torch.os.system"
        node["inputs"] = [{"name": "", "arg": {"as_string": command}, "kind": 1}]

    edit(entries, MODEL, change)


def tensor_from_file(entries: dict[str, bytes], marker: Path) -> None:
    """Let the first node map a file into memory, which makes it."""

    def change(content: Any) -> None:
        node = content["graph_module"]["graph"]["nodes"][0]
        node["target"] = "torch.ops.aten.from_file.default"
        given = {"filename": {"as_string": str(marker)}, "shared": {"as_bool": True}, "size": {"as_int": 24}}
        node["inputs"] = [{"name": name, "arg": arg, "kind": 1} for name, arg in given.items()]

    edit(entries, MODEL, change)


def expression(entries: dict[str, bytes], command: str) -> None:
    """Let the size of the batch be an expression that does something when it is evaluated."""

    def change(content: Any) -> None:
        for about in content["graph_module"]["graph"]["tensor_values"].values():
            for size in about["sizes"]:
                if "as_expr" in size:
                    size["as_expr"]["expr_str"] = f"__import__('os').system({command!r})"

    edit(entries, MODEL, change)


def guard(entries: dict[str, bytes], command: str) -> None:
    def change(content: Any) -> None:
        content["guards_code"] = [f"__import__('os').system({command!r}) == 0"]

    edit(entries, MODEL, change)


def constant(entries: dict[str, bytes], place: str, marker: Path) -> None:
    entries[f"{ROOT}/data/constants/{place}"] = pickle.dumps(Evil(marker))
    about = {"path_name": place, "is_param": False, "use_pickle": True, "tensor_meta": None}
    edit(entries, CONSTANTS, lambda content: content["config"].update(c=about))


def weight(entries: dict[str, bytes], marker: Path) -> None:
    entries[f"{ROOT}/data/weights/weight_9"] = saved(Evil(marker))

    def change(content: Any) -> None:
        content["config"]["1.bias"] |= {"path_name": "weight_9", "use_pickle": True}

    edit(entries, WEIGHTS, change)


def old_layout(entries: dict[str, bytes], marker: Path) -> None:
    graph = entries[MODEL]
    entries.clear()
    entries |= {"version": b"8.2", "serialized_exported_program.json": graph, "serialized_constants.pt": b""}
    entries |= {"serialized_state_dict.pt": saved({"1.weight": Evil(marker)}), "serialized_example_inputs.pt": b""}


def library(entries: dict[str, bytes], marker: Path) -> None:
    entries[f"{ROOT}/data/aotinductor/model/a.so"] = b"\x7fELF"


CRAFTED: dict[str, tuple[Callable[[dict[str, bytes], Path], None], str]] = {
    "opaque constant": (lambda e, m: constant(e, "opaque_obj_0", m), "with opaque constants"),
    "custom object": (lambda e, m: constant(e, "custom_obj_0", m), "with custom objects"),
    "pickled constant": (lambda e, m: constant(e, "tensor_0", m), "with pickled objects"),
    "pickled weight": (weight, "with pickled objects"),
    "older layout": (old_layout, "with pickled objects"),
    "compiled library": (library, "with a compiled library"),
    "function by name": (lambda e, m: call(e, f"touch {m}"), "operators on tensors, got torch.os.system"),
    "operator on a file": (tensor_from_file, "operators on tensors, got torch.ops.aten.from_file.default"),
}


@pytest.mark.parametrize("kind", CRAFTED)
def test_a_crafted_file_is_refused_and_runs_no_code(tmp_path: Path, exported: Path, kind: str) -> None:
    change, says = CRAFTED[kind]
    marker = tmp_path / "ran"
    path = crafted(exported, tmp_path / "net.pt2", lambda entries: change(entries, marker))
    with pytest.raises(ModelError) as caught:
        build(Exported(str(path)), "exported", (3, 2, 2), 3, seed=0)["net"].module(torch.rand(2, 3, 2, 2))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not marker.exists()


@pytest.mark.parametrize(
    "change", [expression, guard, lambda e, c: e.update({SAMPLES: saved(Evil(Path(c.split()[1])))})]
)
def test_what_is_not_needed_is_never_looked_at(
    tmp_path: Path, exported: Path, change: Callable[[dict[str, bytes], str], None]
) -> None:
    marker, x = tmp_path / "ran", torch.rand(5, 3, 2, 2)
    path = crafted(exported, tmp_path / "net.pt2", lambda entries: change(entries, f"touch {marker}"))
    logits = [build(Exported(str(p)), "exported", (3, 2, 2), 3, seed=0)["net"].module(x) for p in (path, exported)]
    assert torch.equal(*logits)
    assert not marker.exists()


def test_the_payloads_of_these_tests_would_run(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Evil(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_one_clear_line(tmp_path: Path, exported: Path, share: float) -> None:
    path = tmp_path / "net.pt2"
    path.write_bytes(exported.read_bytes()[: int(share * exported.stat().st_size)])
    with pytest.raises(ModelError, match=r"cut short") as caught:
        read_program(path, "model.path")
    assert "\n" not in str(caught.value)


def test_a_checkpoint_is_no_graph(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "net.pt2")
    with pytest.raises(ModelError, match=r"unknown layout: it holds 0 graphs"):
        read_program(tmp_path / "net.pt2", "model.path")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        read_program(tmp_path / "net.pt2", "model.path")


@pytest.mark.parametrize("name", [MODEL, WEIGHTS])
def test_json_that_says_something_else_is_one_clear_line(tmp_path: Path, exported: Path, name: str) -> None:
    for content in (b"{}", b"[]", b"[" * 100_000, b"\xff"):
        path = crafted(exported, tmp_path / "net.pt2", lambda e, content=content: e.update({name: content}))  # type: ignore[misc]
        with pytest.raises(ModelError) as caught:
            build(Exported(str(path)), "exported", (3, 2, 2), 3, seed=0)
        assert "\n" not in str(caught.value)


def test_a_weight_beyond_its_bytes_is_refused(tmp_path: Path, exported: Path) -> None:
    def change(content: Any) -> None:
        content["config"]["1.weight"]["tensor_meta"]["sizes"] = [{"as_int": 1000}, {"as_int": 1000}]

    path = crafted(exported, tmp_path / "net.pt2", lambda entries: edit(entries, WEIGHTS, change))
    with pytest.raises(ModelError, match="damaged"):
        read_program(path, "model.path")


def test_weights_can_be_left_out(exported: Path) -> None:
    assert not read_program(exported, "model.path", tensors=False).tensors
    assert set(read_program(exported, "model.path").tensors) == {"1.weight", "1.bias"}
