"""The course of a fit: what is told while it runs, and what is kept of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

Log = Callable[[str, float, int], None]
"""(tag, value, epoch): takes a scalar."""


@dataclass(frozen=True)
class Progress:
    """Where a fit is: `batch` of `batches` in `epoch` of `epochs`, with the running mean of this epoch."""

    epoch: int
    epochs: int
    batch: int
    batches: int
    loss: float
    accuracy: float
    val_accuracy: float | None


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave. The validation results are on perturbed images where training is; None without any."""

    epoch: int
    loss: float
    accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    lr: float
    seconds: float

    @property
    def merit(self) -> tuple[float, float]:
        """What is compared to choose the best epoch; the same for all without validation, so that the last is kept."""
        return (self.val_accuracy or 0.0, -(self.val_loss or 0.0))

    def tell(self, log: Log) -> None:
        """Give `log` all numbers there are."""
        for tag, value in asdict(self).items():
            if tag != "epoch" and value is not None:
                log(f"train/{tag}", value, self.epoch)


@dataclass
class History:
    """The course of a fit.

    Attributes:
        epochs: in order.
        best: index of the epoch whose weights were kept.
        stopped: whether `patience` ended it.
        samples: number of samples trained on.
        held_out: number of samples validated on.
    """

    epochs: list[Epoch] = field(default_factory=list)
    best: int = -1
    stopped: bool = False
    samples: int = 0
    held_out: int = 0

    @property
    def seconds(self) -> float:
        """Time spent in all epochs."""
        return sum(epoch.seconds for epoch in self.epochs)

    def to_json(self) -> str:
        """As text that `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> History:
        """The history that `to_json` wrote."""
        content = json.loads(text)
        return cls(**{**content, "epochs": [Epoch(**epoch) for epoch in content["epochs"]]})
