"""Starting from a stored network: its weights loaded, a new last layer, chosen parameters frozen."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import nn

from models.errors import ModelError
from models.recipe import TrainConfig
from models.spec import Network, derive
from models.weights import load_state, read_state


def head_name(module: nn.Module) -> str:
    """Name of the last layer: the last linear or convolutional one.

    Raises:
        ModelError: there is none.
    """
    layers: list[str] = [name for name, m in module.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    if not layers:
        raise ModelError("train=finetune: the network must have a linear or convolutional last layer, got none")
    return layers[-1]


def prepare(network: Network, config: TrainConfig, seed: int) -> None:
    """Load `config.base`, but for a head that is to be new, and freeze what `config.freeze` names.

    Raises:
        ModelError: there is nothing to start from, the base is of another architecture, or a pattern names no
            parameter.
    """
    if config.base is None and not network.origin:
        raise ModelError(
            "train.base: must be the path of a stored network for a network without weights of its own, got none"
        )
    module = network.module
    head = head_name(module)
    kept = head if config.reset_head else None
    if config.base is not None:
        load_state(module, read_state(Path(config.base).expanduser(), "train.base"), "train.base", keep=kept)
    if config.reset_head:
        _reset(module.get_submodule(head), seed)
    freeze(module, config.freeze, keep=kept)


def _reset(layer: nn.Module, seed: int) -> None:
    if isinstance(layer, nn.Linear | nn.Conv2d):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derive(seed, "head"))
            layer.reset_parameters()


def freeze(module: nn.Module, patterns: Sequence[str], keep: str | None) -> None:
    """Exclude the parameters that a pattern names from training, but for those of the layer `keep`.

    Raises:
        ModelError: a pattern names none, or nothing is left to train.
    """
    names = [name for name, _ in module.named_parameters()]
    for pattern in patterns:
        matched = [name for name in names if fnmatchcase(name, pattern)]
        if not matched:
            known = ", ".join(dict.fromkeys(name.rpartition(".")[0] for name in names))
            raise ModelError(f"train.freeze: {pattern!r} must match a parameter's name; the layers are {known}")
        for name in matched:
            if keep is None or not name.startswith(f"{keep}."):
                module.get_parameter(name).requires_grad_(False)
    if not any(p.requires_grad for p in module.parameters()):
        raise ModelError(f"train.freeze: must leave something to train, got {list(patterns)}")
