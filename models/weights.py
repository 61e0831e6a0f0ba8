"""Reading weights that a user brought, fitting them to a module, and writing files in one step."""

from __future__ import annotations

import hashlib
import os
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from models.errors import ModelError

_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights")
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")
_HEADER = 100_000_000  # bytes, the most that a safetensors header may have
_NAMED = 3  # keys that an error message names


def replace(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a file beside `path` and put it in its place in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def fingerprint(module: nn.Module) -> str:
    """SHA-256 over the names, types, shapes and values of all parameters and buffers, in hex."""
    digest = hashlib.sha256()
    tensors = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    for name, tensor in sorted(tensors, key=lambda item: item[0]):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name}\x1f{values.dtype}\x1f{tuple(values.shape)}\x1e".encode())
        digest.update(values.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _kind(path: Path) -> str:
    """What a file's first bytes say that it is."""
    with path.open("rb") as file:
        head = file.read(512)
    text = head.lstrip().lower()
    signs = (
        (not head, "an empty file"),
        (text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")), "an HTML page, perhaps of a failed download"),
        (text.startswith(b"version https://git-lfs"), "a Git LFS pointer; fetch the file with `git lfs pull`"),
        (head.startswith(b"PK"), "zip"),
        (head[8:9] == b"{" and int.from_bytes(head[:8], "little") < _HEADER, "safetensors"),
        (head.startswith(b"\x80"), "pickle"),
    )
    return next((kind for sign, kind in signs if sign), "a file of an unknown kind")


def read_checkpoint(path: Path, where: str) -> Any:
    """Whatever a safetensors file or a weights-only checkpoint holds, on the CPU. No code in it is run.

    Raises:
        ModelError: there is no such file, it is damaged, or it is none of these.
    """
    must = f"{where}: must be a safetensors file or a checkpoint of tensors alone"
    try:
        kind = _kind(path)
    except OSError as error:
        raise ModelError(f"{must}, got {path}: {error.strerror or error}") from None
    if kind == "zip" and not zipfile.is_zipfile(path):
        raise ModelError(f"{must}, got {path}, which is cut short ({path.stat().st_size} bytes); copy it again")
    try:
        if kind == "safetensors":
            return load_safetensors(path.read_bytes())
        if kind in ("zip", "pickle"):
            with path.open("rb") as file:  # what it is called does not matter
                return torch.load(file, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise ModelError(f"{must}, got {path}, which is damaged or cut short: {error}; copy it again") from None
    except pickle.UnpicklingError as error:
        first = str(error).partition("\n")[0].partition(". ")[0]
        raise ModelError(
            f"{must}, got {path}, which holds Python objects or is damaged: {first}; "
            "save the module's state_dict() instead, or, if you trust the file as you trust code, write "
            "model.unpickle=true with model=factory"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        first = str(error).partition("\n")[0]
        raise ModelError(f"{must}, got {path}, which is damaged or cut short: {first}; copy it again") from None
    raise ModelError(f"{must}, got {path}, which is {kind}")


def read_state(path: Path, where: str) -> dict[str, Tensor]:
    """The state dict in a file, taken out of the wrappers that training scripts put around it.

    Raises:
        ModelError: as `read_checkpoint`, or it holds no state dict.
    """
    return state_in(read_checkpoint(path, where), path, where)


def state_in(content: Any, path: Path, where: str) -> dict[str, Tensor]:
    """The state dict in what the file `path` holds.

    Raises:
        ModelError: there is none.
    """
    while isinstance(content, Mapping):
        if content and all(isinstance(value, Tensor) for value in content.values()):
            return dict(content)
        inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
            if tensors and not any(isinstance(value, Mapping) for value in content.values()):
                return tensors  # a state dict with extra state beside its tensors
            break
        content = inner
    found = f"keys {', '.join(map(str, list(content)[:_NAMED]))}" if isinstance(content, Mapping) else type(content)
    raise ModelError(f"{where}: must hold a state dict (names -> tensors), got {path} with {found}")


def _without(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items()}


def load_state(module: nn.Module, state: Mapping[str, Tensor], where: str, *, keep: str | None = None) -> None:
    """Load a state dict, whatever prefix a wrapper such as DataParallel has put before its names.

    The layer `keep`, if any, stays as it is.

    Raises:
        ModelError: it is of another architecture; the first names that do not fit are named.
    """
    own = module.state_dict()
    fitting = dict(state)
    stripped = True
    while stripped and fitting.keys() != own.keys():
        stripped = False
        for prefix in _PREFIXES:
            if fitting and all(key.startswith(prefix) for key in fitting):
                fitting, stripped = _without(fitting, prefix), True
    if fitting.keys().isdisjoint(own):  # nothing fits without the prefix: name the file's own keys
        fitting = dict(state)
    if keep is not None:
        fitting = {key: value for key, value in fitting.items() if not key.startswith(f"{keep}.")}
        fitting |= {key: value for key, value in own.items() if key.startswith(f"{keep}.")}
    problems = []
    if missing := [key for key in own if key not in fitting]:
        problems.append(f"lacks {_name(missing)}")
    if unexpected := [key for key in fitting if key not in own]:
        problems.append(f"has {_name(unexpected)}, which the network does not")
    if shapes := [
        f"{key} {tuple(fitting[key].shape)} where the network has {tuple(own[key].shape)}"
        for key in own
        if key in fitting and fitting[key].shape != own[key].shape
    ]:
        problems.append(f"has {_name(shapes)}")
    if problems:
        raise ModelError(f"{where}: weights must be of the network's architecture, but the file {'; '.join(problems)}")
    module.load_state_dict(fitting)


def _name(keys: list[str]) -> str:
    rest = len(keys) - _NAMED
    return ", ".join(keys[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
