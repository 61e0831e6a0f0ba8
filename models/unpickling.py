"""Checkpoints of Python objects, for someone who has said that they may run code: whole modules, configurations, ...

Their classes are looked for as the user's code would find them: in the borrowed namespace of the factory first, and
what a script of theirs called `__main__` in the factory's own file.
"""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from models.errors import ModelError
from models.foreign import BORROWED, told


def unpickle(path: Path, where: str, factory: Callable[..., Any]) -> Any:
    """What a checkpoint holds, on the CPU, with modules as their state dicts. Runs whatever code is in the file.

    Raises:
        ModelError: it cannot be loaded; a class is missing, for instance.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=False, pickle_module=_pickle(factory.__module__))
    except Exception as error:  # the file's code may raise anything
        raise ModelError(
            f"{where}: must be a checkpoint whose classes can be found, got {path}: {told(error)}"
        ) from error
    return _states(content)


def _states(content: Any) -> Any:
    if isinstance(content, nn.Module):
        return content.state_dict()
    if isinstance(content, dict):
        return {key: _states(value) for key, value in content.items()}
    return content


def _pickle(home: str) -> ModuleType:
    """The module `pickle` with classes found from the module `home`."""
    space = home.partition(".")[0]

    class Unpickler(pickle.Unpickler):
        """Looks for classes where the user's code does."""

        def find_class(self, module: str, name: str) -> Any:
            """A class or function of a module."""
            if space.startswith(BORROWED):
                if module == "__main__" and hasattr(sys.modules[home], name):
                    return getattr(sys.modules[home], name)
                spec = importlib.util.find_spec(f"{space}.{module.partition('.')[0]}")
                if spec is not None and spec.loader is not None:
                    found: Any = importlib.import_module(f"{space}.{module}")
                    for part in name.split("."):
                        found = getattr(found, part)
                    return found
            return super().find_class(module, name)

    own = ModuleType("pickle", pickle.__doc__)
    own.__dict__.update(vars(pickle))
    own.__dict__["Unpickler"] = Unpickler
    own.__dict__["load"] = lambda file, **options: Unpickler(file, **options).load()
    return own
