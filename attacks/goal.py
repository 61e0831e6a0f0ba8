"""What an attack tries to reach. The only definition of success in the tree."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Goal:
    """Untargeted (away from `labels`) or targeted (to `targets`).

    Attributes:
        labels: true classes (B,), int64.
        targets: wanted classes (B,), int64, or None for an untargeted goal.
    """

    labels: Tensor
    targets: Tensor | None = None

    def __post_init__(self) -> None:
        if self.labels.ndim != 1 or self.labels.dtype != torch.int64:
            raise ValueError(
                f"Goal: labels must be int64 of shape (B,), got {self.labels.dtype} {tuple(self.labels.shape)}"
            )
        if self.targets is not None:
            if self.targets.shape != self.labels.shape or self.targets.dtype != torch.int64:
                raise ValueError(
                    f"Goal: targets must be int64 of shape {tuple(self.labels.shape)}, "
                    f"got {self.targets.dtype} {tuple(self.targets.shape)}"
                )
            if bool((self.targets == self.labels).any()):
                raise ValueError("Goal: a target equals the true class; choose another class for that sample")

    @property
    def classes(self) -> Tensor:
        """The class (B,) whose logit the goal speaks of: the target, or the label to get away from."""
        return self.labels if self.targets is None else self.targets

    @property
    def direction(self) -> float:
        """+1 when the logit of `classes` should rise (targeted), -1 when it should fall."""
        return -1.0 if self.targets is None else 1.0

    def reached(self, logits: Tensor) -> Tensor:
        """Whether the prediction (B,) is the wanted one: argmax differs from the label, or equals the target.

        Logits with a NaN predict nothing, and reach no goal.
        """
        hit = logits.argmax(dim=1) == self.classes
        wanted = ~hit if self.targets is None else hit
        return wanted & ~logits.isnan().any(dim=1)

    def margin(self, logits: Tensor) -> Tensor:
        """Distance (B,) in logits past the decision: positive when reached, negative when not, 0 at a tie."""
        index = self.classes[:, None]
        own = logits.gather(1, index)[:, 0]  # (B,)
        other = logits.scatter(1, index, -torch.inf).amax(dim=1)  # (B,)
        return other - own if self.targets is None else own - other

    def __getitem__(self, index: Tensor) -> Goal:
        """The goal of the rows `index` (b,), int64 or bool."""
        return Goal.unchecked(self.labels[index], None if self.targets is None else self.targets[index])

    def towards(self, classes: Tensor) -> Goal:
        """The targeted goal of reaching `classes` (B,), none of which may be the label."""
        return Goal.unchecked(self.labels, classes)

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def unchecked(cls, labels: Tensor, targets: Tensor | None) -> Goal:
        """A goal without the check, which would wait for the device."""
        goal = object.__new__(cls)
        object.__setattr__(goal, "labels", labels)
        object.__setattr__(goal, "targets", targets)
        return goal
