"""A user's own networks: `path/to/file.py:factory`, with or without a file of weights."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from models.errors import ModelError
from models.foreign import import_factory, sources, told
from models.spec import Network, listed, normalisation
from models.unpickling import unpickle
from models.weights import digest_file, load_state, read_state, state_in


@dataclass(frozen=True)
class Factory:
    """Networks that functions of the user return.

    A function takes no arguments, or any of the keyword arguments `input_shape` (C, H, W) and `num_classes`. What it
    returns is used as it is unless there are `weights`, or it is to be trained here.

    Attributes:
        path: `path/to/file.py:factory` or `package.module:factory`, or a list of them.
        weights: safetensors or a checkpoint of tensors alone, or a list with one for each path; None where a
            function loads its own.
        train: whether to train the networks here.
        mean: the networks take (pixel - mean) / std: one value, or one a channel.
        std: see `mean`.
        bounds: least and greatest value of a pixel as the networks, `mean` and `std` have it: 0 and 255 for networks
            that take 8-bit pixels. Attacks speak of pixels in [0, 1] all the same.
        unpickle: whether to load a checkpoint that holds Python objects, which runs whatever code is in it.
    """

    path: Any
    weights: Any = None
    train: bool = False
    mean: list[float] = field(default_factory=lambda: [0.0])
    std: list[float] = field(default_factory=lambda: [1.0])
    bounds: list[float] = field(default_factory=lambda: [0.0, 1.0])
    unpickle: bool = False

    @property
    def names_itself(self) -> bool:
        """Whether its networks may have names of their own: those of the functions."""
        return True

    @property
    def ready(self) -> bool:
        """Whether the networks come with their weights: all do that are not to be trained here."""
        return not self.train

    def build(self, name: str, input_shape: tuple[int, int, int], num_classes: int) -> dict[str, Network]:
        """A network for each path: called `name` if there is one and it has a name of its own, else as its function.

        Raises:
            ModelError: a path or a file of weights is wrong, or a function fails or does not return a module.
        """
        paths = [str(path) for path in listed(self.path)]
        if not paths:
            raise ModelError("model.path: must be path/to/file.py:factory, got nothing; write model.path=net.py:make")
        weights = [None if file is None else Path(file).expanduser() for file in listed(self.weights)]
        weights = weights or [None] * len(paths)
        if len(weights) != len(paths):
            raise ModelError(f"model.weights: must be one file for each of {len(paths)} paths, got {len(weights)}")
        norm = normalisation("model.factory", self.mean, self.std, input_shape[0], self.bounds)
        networks: dict[str, Network] = {}
        for path, file in zip(paths, weights, strict=True):
            if path.endswith(".pt2"):
                raise ModelError(f"model.path: {path} is a graph of torch.export; write model=exported")
            factory, function, source = import_factory(path, "model.path")
            module = _call(factory, path, input_shape, num_classes)
            if file is not None:
                load_state(module, self._state(file, factory), f"model.weights: {file}")
            own = function if name == "factory" or len(paths) > 1 else name
            if own in networks:
                raise ModelError(f"model.path: the functions must have different names, got {own} twice")
            used: list[Path | None] = [*sources(factory), file] if sources(factory) else [source, file]
            networks[own] = Network(
                module,
                num_classes,
                f"{function} of {source.name if source else path}",
                *norm,
                ready=not self.train,
                origin=" ".join(digest_file(f) for f in used if f is not None),
            )
        return networks

    def _state(self, file: Path, factory: Callable[..., Any]) -> dict[str, Tensor]:
        """The weights in a file."""
        if not self.unpickle:
            return read_state(file, "model.weights")
        return state_in(unpickle(file, "model.weights", factory), file, "model.weights")


def _call(factory: Callable[..., Any], path: str, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Call a factory with those of our arguments that it names."""
    offered: dict[str, Any] = {"input_shape": input_shape, "num_classes": num_classes}
    parameters: Mapping[str, inspect.Parameter] = {}
    with suppress(TypeError, ValueError):  # a callable written in C does not say
        parameters = inspect.signature(factory).parameters
    unknown = [
        p.name
        for p in parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.name not in offered
    ]
    if unknown:
        raise ModelError(
            f"model.path: {path} must need no arguments but input_shape and num_classes, got {', '.join(unknown)}; "
            "write a function without them around it"
        )
    try:
        module = factory(**{key: value for key, value in offered.items() if key in parameters})
    except Exception as error:
        raise ModelError(f"model.path: {path} must return a network, got {told(error)}") from error
    if not isinstance(module, nn.Module):
        raise ModelError(f"model.path: {path} must return a torch.nn.Module, got {type(module).__name__}")
    return module
