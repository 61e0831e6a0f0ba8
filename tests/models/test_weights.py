from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from models.errors import ModelError
from models.weights import fingerprint, load_state, read_state, replace


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def same(module: nn.Module, state: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, state[key]) for key, value in module.state_dict().items())


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module.", "model."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "model_state_dict"])
def test_wrappers_and_prefixes_are_understood(tmp_path: Path, prefix: str, wrapper: str | None) -> None:
    state = net().state_dict()
    content: dict[str, Any] = {prefix + key: value for key, value in state.items()}
    torch.save({wrapper: content, "epoch": 3, "optimizer": {"lr": 0.1}} if wrapper else content, tmp_path / "w.pt")
    module = net()
    load_state(module, read_state(tmp_path / "w.pt", "weights"), "weights")
    assert same(module, state)


def test_safetensors_are_understood(tmp_path: Path) -> None:
    state = net().state_dict()
    save_file(state, tmp_path / "w.anything")
    assert same(net_with(tmp_path / "w.anything"), state)


def net_with(path: Path) -> nn.Module:
    module = net()
    load_state(module, read_state(path, "weights"), "weights")
    return module


def test_the_old_format_of_torch_is_understood(tmp_path: Path) -> None:
    state = net().state_dict()
    torch.save(state, tmp_path / "w.pt", _use_new_zipfile_serialization=False)
    assert same(net_with(tmp_path / "w.pt"), state)


def test_a_network_whose_names_begin_like_a_prefix_is_loaded(tmp_path: Path) -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.Linear(2, 2)

    source, target = Outer(), Outer()
    load_state(target, source.state_dict(), "weights")
    assert same(target, source.state_dict())


@pytest.mark.parametrize("kind", ["pt", "old", "safetensors"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_a_truncated_file_is_one_clear_line(tmp_path: Path, kind: str, share: float) -> None:
    path = tmp_path / "w"
    state = nn.Linear(40, 40).state_dict()
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "pt")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ModelError, match=r"cut short|damaged") as caught:
        read_state(path, "weights")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty file"),
        (b"\n<!DOCTYPE html><html>404</html>", "HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        (b"hello, hello, hello", "unknown kind"),
        (b"PK\x03\x04 nothing else", "cut short"),
    ],
)
def test_what_is_no_checkpoint_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(ModelError, match=says):
        read_state(tmp_path / "w.pt", "weights")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        read_state(tmp_path / "w.pt", "weights")


def test_a_pickled_module_is_refused_without_running_it(tmp_path: Path) -> None:
    torch.save(net(), tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"state_dict\(\) instead") as caught:
        read_state(tmp_path / "w.pt", "weights")
    assert "\n" not in str(caught.value)


def test_a_checkpoint_without_tensors_is_named(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"state dict .* with keys epoch"):
        read_state(tmp_path / "w.pt", "weights")


def test_another_architecture_is_told_by_its_first_names() -> None:
    other = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(4, 2), nn.Linear(2, 2))
    with pytest.raises(ModelError) as caught:
        load_state(net(), other.state_dict(), "weights")
    message = str(caught.value)
    assert "lacks 1.weight, 1.bias, 1.running_mean and 2 more" in message
    assert "has 3.weight, 3.bias, which the network does not" in message
    assert "0.weight (5, 3) where the network has (4, 3)" in message


def test_a_kept_layer_is_not_loaded() -> None:
    source, target = net(), net()
    before = target[2].weight.detach().clone()
    load_state(target, source.state_dict(), "weights", keep="2")
    assert torch.equal(target[2].weight, before)
    assert torch.equal(target[0].weight, source[0].weight)


def test_the_fingerprint_sees_every_value_and_name() -> None:
    module = net()
    first = fingerprint(module)
    assert first == fingerprint(module.eval().requires_grad_(False))
    with torch.no_grad():
        module[1].running_mean[0] += 1e-7  # type: ignore[index, operator]
    assert fingerprint(module) != first
    a, b = nn.Linear(2, 3, bias=False), nn.Linear(3, 2, bias=False)
    b.weight.data = a.weight.data.reshape(2, 3)
    assert fingerprint(a) != fingerprint(b)


def test_the_fingerprint_does_not_see_the_memory_format() -> None:
    module = nn.Conv2d(3, 4, 3)
    assert fingerprint(module) == fingerprint(module.to(memory_format=torch.channels_last))  # type: ignore[call-overload]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "w"
    path.write_text("old")

    def fail(beside: Path) -> None:
        beside.write_text("new, but torn")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        replace(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
