"""How a network is trained: hyper-parameters, the course of the learning rate, the optimiser."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from models.errors import ModelError

METHODS = ("standard", "adversarial", "finetune")
OPTIMIZERS = ("adam", "sgd")
AUGMENTS = ("none", "crop_flip")
_WARM_UP = 0.2  # share of onecycle's steps that rise
_START = 0.1  # where onecycle starts, as a share of its peak


def _onecycle(t: float) -> float:
    if t < _WARM_UP:
        return _START + (1 - _START) * t / _WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (t - _WARM_UP) / (1 - _WARM_UP)))


SCHEDULES: Mapping[str, Callable[[float], float]] = {
    "constant": lambda t: 1.0,
    "cosine": lambda t: 0.5 * (1 + math.cos(math.pi * t)),
    "onecycle": _onecycle,
    "step": lambda t: 0.1 ** ((t >= 0.5) + (t >= 0.75)),
}
"""Name -> the share of `lr` that is used after the part t of [0, 1) of all steps."""


@dataclass(frozen=True)
class TrainConfig:
    """A training recipe.

    Attributes:
        method: `standard`; `adversarial`, on perturbed images; `finetune`, from a stored network.
        epochs: passes over the training samples, at most.
        batch_size: samples a step.
        lr: greatest learning rate.
        optimizer: `adam` or `sgd` (with Nesterov's momentum where `momentum` > 0).
        momentum: of `sgd`.
        schedule: `constant`; `cosine`, down to 0; `onecycle`, a linear warm-up and then cosine; `step`, a
            tenth after half and again after three quarters of the epochs.
        weight_decay: of the optimiser, decoupled with `adam`; the paper's decay belongs to the model.
        clip: greatest L2 norm of the gradient of all weights; 0 for none.
        augment: `none`; `crop_flip`, shifts of up to an eighth of the side and mirror images.
        label_smoothing: share of the label's weight that is spread over all classes.
        val_fraction: share of the samples that is held out to choose the best epoch; 0 keeps the last epoch.
        patience: epochs without a better validation result after which training stops; 0 for never.
        adversarial_weight: weight of the loss on perturbed images; the rest of it is on clean ones.
        adversary: the attack of `adversarial`, as the run understands it; {} for none.
        base: path of the stored network that `finetune` starts from; None for the weights that the network came with.
        freeze: patterns of the names of parameters that `finetune` keeps as they are, such as `0.*`; `*` for
            everything but a new head.
        reset_head: whether `finetune` starts with a new last layer.
    """

    method: str = "standard"
    epochs: int = 10
    batch_size: int = 64
    lr: float = 1e-2
    optimizer: str = "adam"
    momentum: float = 0.9
    schedule: str = "onecycle"
    weight_decay: float = 0.0
    clip: float = 0.0
    augment: str = "none"
    label_smoothing: float = 0.0
    val_fraction: float = 0.1
    patience: int = 0
    adversarial_weight: float = 1.0
    adversary: dict[str, Any] = field(default_factory=dict)
    base: str | None = None
    freeze: list[str] = field(default_factory=list)
    reset_head: bool = True

    def __post_init__(self) -> None:
        for key, options in (
            ("method", METHODS),
            ("optimizer", OPTIMIZERS),
            ("schedule", tuple(SCHEDULES)),
            ("augment", AUGMENTS),
        ):
            if getattr(self, key) not in options:
                raise ModelError(f"train.{key}: must be one of {', '.join(options)}, got {getattr(self, key)!r}")
        for key, holds, must in (
            ("epochs", self.epochs >= 1, ">= 1"),
            ("batch_size", self.batch_size >= 1, ">= 1"),
            ("lr", self.lr > 0, "> 0"),
            ("momentum", 0 <= self.momentum < 1, "in [0, 1)"),
            ("weight_decay", self.weight_decay >= 0, ">= 0"),
            ("clip", self.clip >= 0, ">= 0 (0 for none)"),
            ("label_smoothing", 0 <= self.label_smoothing < 1, "in [0, 1)"),
            ("val_fraction", 0 <= self.val_fraction < 1, "in [0, 1)"),
            ("patience", self.patience >= 0, ">= 0 (0 for never)"),
            ("adversarial_weight", 0 < self.adversarial_weight <= 1, "in (0, 1]"),
        ):
            if not holds:
                raise ModelError(f"train.{key}: must be {must}, got {getattr(self, key)}")
        if self.patience and not self.val_fraction:
            raise ModelError("train.patience: needs train.val_fraction > 0, got 0; set patience=0 or hold some out")

    def lr_at(self, step: int, steps: int) -> float:
        """The learning rate of step `step` of `steps`."""
        return self.lr * SCHEDULES[self.schedule](step / steps)

    def make_optimizer(
        self, parameters: Sequence[nn.Parameter], paces: Sequence[float] | None = None
    ) -> torch.optim.Optimizer:
        """The optimiser of those parameters.

        Args:
            parameters: what is trained.
            paces: by what the learning rate of each is multiplied; weight decay shrinks all alike in spite of them.
        """
        trained: Any = parameters
        if paces is not None:
            alike: dict[float, list[nn.Parameter]] = {}
            for parameter, pace in zip(parameters, paces, strict=True):
                alike.setdefault(pace, []).append(parameter)
            trained = [
                {"params": some, "pace": pace, "weight_decay": self.weight_decay / pace} for pace, some in alike.items()
            ]
        if self.optimizer == "adam":
            return torch.optim.AdamW(trained, lr=self.lr, weight_decay=self.weight_decay)
        return torch.optim.SGD(
            trained,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.momentum > 0,
        )
