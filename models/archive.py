"""What is in a file of `torch.export` (`.pt2`), read so that nothing in it is run.

Such a file is a zip archive: the graph as JSON, tensors as raw bytes or as checkpoints, and whatever else somebody put
there. `torch.export.load` unpickles parts of it, opens libraries that lie in it, evaluates expressions and calls
functions by name, which a crafted file makes use of, even where weights alone may be loaded. Here the JSON is parsed,
tensors are made of bytes, checkpoints are read with `weights_only`, and the rest is refused or never opened.

Source: torch/export/pt2_archive and torch/_export/serde of PyTorch 2.4 to 2.15, for the layout.
"""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.errors import ModelError

_OLD = "serialized_exported_program.json"  # up to torch 2.7
_STATES = ("serialized_state_dict.pt", "serialized_constants.pt")
_DTYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16,
    7: torch.float32, 8: torch.float64, 9: torch.complex32, 10: torch.complex64, 11: torch.complex128,
    12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
_CODE = {
    "aotinductor/": "a compiled library",
    "constants/opaque_obj_": "opaque constants",
    "constants/custom_obj_": "custom objects",
}
"""Where a file keeps what is code, or may be."""
_PICKLED = "pickled objects"
MALFORMED = (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError, RecursionError, EOFError)
"""What it raises to read a file that says something else than it should."""


@dataclass(frozen=True)
class Program:
    """A graph as its file has it.

    Attributes:
        graph: inputs, nodes and outputs, as JSON knows them.
        signature: what each input and each output stands for.
        tensors: parameters, buffers and constants by their names.
    """

    graph: Mapping[str, Any]
    signature: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


def dtype_of(number: int) -> torch.dtype:
    """The type of a tensor that a file has under a number.

    Raises:
        ValueError: there is no such number.
    """
    if number not in _DTYPES:
        raise ValueError(f"no type of tensors has the number {number}")
    return _DTYPES[number]


def read_program(path: Path, where: str, *, tensors: bool = True) -> Program:
    """The graph and, unless only that is wanted, the tensors in a file, on the CPU.

    Args:
        path: of the file.
        where: the key that names it, for messages.
        tensors: whether to read them.

    Raises:
        ModelError: there is no such file, it is damaged or no exported graph, or it holds what may be code.
    """
    must = f"{where}: must be a graph of torch.export (.pt2)"
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            _refuse_code(archive, path, where)
            try:
                return _old(archive, tensors) if _OLD in names else _new(archive, names, tensors)
            except pickle.UnpicklingError as error:
                raise _code(path, where, _PICKLED) from error
    except OSError as error:
        raise ModelError(f"{must}, got {path}: {error.strerror or error}") from None
    except zipfile.BadZipFile:
        raise ModelError(f"{must}, got {path}, which is another kind of file or cut short") from None
    except ModelError:
        raise
    except MALFORMED as error:
        first = str(error).partition("\n")[0]
        raise ModelError(f"{must}, got {path}, which is damaged or of an unknown layout: {first}") from None


def _code(path: Path, where: str, what: str) -> ModelError:
    return ModelError(
        f"{where}: must be a graph of torch.export made of tensors and operators alone, got {path} with {what}, "
        "which can run code when it is loaded; bring the network as model=factory instead"
    )


def _refuse_code(archive: zipfile.ZipFile, path: Path, where: str) -> None:
    for entry in archive.infolist():
        for place, what in _CODE.items():
            if place in entry.filename:
                raise _code(path, where, what)
        if entry.compress_type != zipfile.ZIP_STORED:  # torch compresses nothing; this may be huge
            raise ValueError(f"{entry.filename} is compressed")


def _old(archive: zipfile.ZipFile, wanted: bool) -> Program:
    """The layout with a checkpoint of the weights and one of the constants."""
    tensors: dict[str, Tensor] = {}
    for name in _STATES if wanted else ():
        tensors |= _checkpoint(archive.read(name))
    return _program(archive.read(_OLD), tensors)


def _new(archive: zipfile.ZipFile, names: list[str], wanted: bool) -> Program:
    """The layout with a folder of the models and folders of raw tensors, all below one folder of any name."""
    models = [name for name in names if name.endswith(".json") and name.split("/")[1:-1] == ["models"]]
    if len(models) != 1:
        raise ValueError(
            f"it holds {len(models)} graphs; is it cut short, or a checkpoint, for model=factory model.weights=FILE?"
        )
    root, _, file = models[0].partition("/models/")
    name = file.removesuffix(".json")
    tensors: dict[str, Tensor] = {}
    for kind in ("weights", "constants") if wanted else ():
        place = f"{root}/data/{kind}"
        if f"{place}/{name}.pt" in names:
            tensors |= _checkpoint(archive.read(f"{place}/{name}.pt"))
            continue
        content = json.loads(archive.read(f"{place}/{name}_{kind}_config.json"))["config"]
        for own, entry in content.items():
            if entry["use_pickle"]:
                raise pickle.UnpicklingError(own)
            tensors[own] = _tensor(archive.read(f"{place}/{entry['path_name']}"), entry["tensor_meta"])
    return _program(archive.read(models[0]), tensors)


def _checkpoint(content: bytes) -> dict[str, Tensor]:
    """The tensors of a checkpoint, which may be empty."""
    if not content:
        return {}
    found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise pickle.UnpicklingError("other objects than tensors")
    return {str(key): value.detach() for key, value in found.items()}


def _tensor(content: bytes, about: Mapping[str, Any]) -> Tensor:
    """A tensor of its bytes."""
    shape, strides = ([int(n["as_int"]) for n in about[key]] for key in ("sizes", "strides"))
    dtype = dtype_of(about["dtype"])
    if not content:
        return torch.zeros(shape, dtype=dtype)
    flat = torch.frombuffer(bytearray(content), dtype=dtype)
    return flat.as_strided(shape, strides, int(about["storage_offset"]["as_int"])).clone()


def _program(content: bytes, tensors: dict[str, Tensor]) -> Program:
    module = json.loads(content)["graph_module"]
    return Program(module["graph"], module["signature"], tensors)
