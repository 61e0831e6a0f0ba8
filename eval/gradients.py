"""The gradients of a network beside central differences: of every attack loss, and of every layer by its input.

Images and directions are checked in float64 (`eval.gradcheck`), in which the network is copied. A layer is asked what
it was asked on the way of an image, along directions in which its input moves when the image does, and along random
ones; its output is weighted by random numbers. As a control, the same network gets a wrong backward in its middle: off
by one in a thousand, and is checked like the other. Beside them stands what the gradient loses in float32, in which
attacks follow it.

Source: see `eval.gradcheck`.
Cost: a sample and direction, 1 + 4 forwards for each step that is tried; of layers the same, of each level of modules.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attacks.goal import Goal
from attacks.losses import LOSSES, logits_and_gradient
from eval.data import Samples, in_turn
from eval.errors import InputError
from eval.gradcheck import Checked, check, directions, gradients_of
from eval.spectra import doubled_copy
from eval.trial import Arrays
from models.classifier import Classifier
from models.spec import derive

OFF = 1e-3
"""By how much the planted backward is wrong, relative to the gradient."""

_TANGENT = 1e-6  # how far an image moves for the direction in which a layer's input does


class Off(torch.autograd.Function):
    """The identity, whose backward is wrong by `OFF`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """As it came."""
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """A little too large."""
        return gradients[0] * (1 + OFF)


@dataclass(frozen=True)
class Gradients:
    """Checks networks.

    Attributes:
        random: directions of each image.
        noise: standard deviation of what is added to each image.
        coordinates: single pixels of each image.
        layer_images: images, balanced by class, on which the layers are checked; 0: no layers.
    """

    random: int = 4
    coordinates: int = 4
    layer_images: int = 2
    noise: float = 1e-3

    def __post_init__(self) -> None:
        if self.random < 1:
            raise InputError(f"random: must be at least 1, got {self.random}")
        for key in ("coordinates", "layer_images", "noise"):
            if getattr(self, key) < 0:
                raise InputError(f"{key}: must be at least 0, got {getattr(self, key):g}")

    def __call__(
        self, classifier: Classifier, samples: Samples, batch_size: int, device: torch.device, seed: int
    ) -> Arrays:
        """What was found.

        Returns:
            `loss` (M,), texts; `error`, `kink` and `flat` (n, J, M) along J directions; `single` (n, M), the relative
            difference of the gradient in float32, infinite where that is no number and where it alone is not 0, NaN
            where both are 0 and where that in float64 is no number; `zero` (n, M), whether it is 0 there; `layer`,
            `kind` (L,), texts; `layer_error` (L, directions), `layer_kink`, kinks and flat ones alike, and
            `layer_asked`, false where a layer has fewer directions than others; `parent` (L,), the number of the module
            that holds it, or -1; of the one with a wrong backward `planted` (), where, and the same arrays, their names
            after `planted_`.
        """
        doubled = doubled_copy(classifier, device)
        losses = [f"{name}, {goal}" for goal in ("untargeted", "targeted") for name in LOSSES]
        found = self._losses(doubled, samples, batch_size, device, seed)
        single, zero = _single(classifier, doubled, samples, batch_size, device)
        layers = self._layers(doubled, samples, device, seed)
        wrong, where = _planted(doubled)
        planted = self._losses(wrong, samples, batch_size, device, seed) if wrong is not None else None
        there = self._layers(wrong, samples, device, seed) if wrong is not None else None
        return {
            "loss": np.array(losses),
            "error": found.error.numpy(),
            "kink": found.kink.numpy(),
            "flat": found.flat.numpy(),
            "single": single,
            "zero": zero,
            **layers,
            "planted": np.array(where),
            **({} if planted is None else {f"planted_{k}": getattr(planted, k).numpy() for k in _TOLD}),
            **({} if there is None else {f"planted_{k}": there[k] for k in _OF_LAYERS}),
        }

    def _losses(
        self, doubled: Classifier, samples: Samples, batch_size: int, device: torch.device, seed: int
    ) -> Checked:
        """(n, J, M) each."""
        parts = []
        for start in range(0, len(samples), batch_size):
            index = np.arange(start, min(start + batch_size, len(samples)))
            drawn = [_drawn(seed, str(samples.ids[i])) for i in index]
            x = self._moved(samples, index, drawn, device)
            goals = _goals(samples, index, device)
            gradients = torch.stack(
                [logits_and_gradient(doubled, x, loss, goal)[1] for goal in goals for loss in LOSSES.values()]
            )
            ways = torch.stack([directions(x.shape[1:], g, self.random, self.coordinates) for g in drawn]).to(device)

            def values(at: Tensor, goals: tuple[Goal, Goal] = goals) -> Tensor:
                logits = doubled(at)
                return torch.stack([loss.value(logits, goal) for goal in goals for loss in LOSSES.values()], 1)

            with torch.no_grad():
                terms = doubled(x).abs().amax(1, keepdim=True)  # (B, 1)
            checked = [check(values, x, ways[:, j], gradients, terms=terms) for j in range(ways.shape[1])]
            parts.append(_stacked(checked, 1))
        return _joined(parts)

    def _moved(self, samples: Samples, index: np.ndarray, drawn: list[torch.Generator], device: torch.device) -> Tensor:
        """Images (B, C, H, W) in float64 with noise, so that pixels of one value do not tie in max-pools."""
        x = samples.batch(index).double()
        noise = torch.stack([torch.randn(x.shape[1:], generator=g, dtype=torch.float64) for g in drawn])
        return (x + self.noise * noise).to(device)

    def _layers(self, doubled: Classifier, samples: Samples, device: torch.device, seed: int) -> Arrays:
        """Every module that takes one tensor and returns one, in the order of `named_modules`."""
        names = [name for name, _ in doubled.network.named_modules() if name]
        found: dict[str, list[tuple[Tensor, Tensor]]] = {}
        for i in in_turn(samples.labels, seed)[: self.layer_images]:
            g = _drawn(seed, "layers", str(samples.ids[i]))
            x = self._moved(samples, np.arange(i, i + 1), [g], device)
            moved = x + _TANGENT * directions(x.shape[1:], g, 1, 0).to(device)
            before, after = _inputs(doubled, x), _inputs(doubled, moved)
            for name in (n for n in names if n in before and n in after):
                checked = _ask(doubled.network.get_submodule(name), before[name], after[name] - before[name], g)
                if checked is not None:
                    apart = (checked.kink | checked.flat).flatten()
                    found.setdefault(name, []).append((checked.error.flatten(), apart))
        kept = [name for name in names if name in found]
        holders = [max((p for p in kept if name.startswith(p + ".")), key=len, default="") for name in kept]
        kinds = [type(doubled.network.get_submodule(name)).__name__ for name in kept]
        width = max((sum(len(e) for e, _ in parts) for parts in found.values()), default=0)
        error = np.zeros((len(kept), width))
        kink, asked = (np.zeros((len(kept), width), dtype=bool) for _ in range(2))
        for row, name in enumerate(kept):
            values = torch.cat([e for e, _ in found[name]])
            error[row, : len(values)] = values.cpu().numpy()
            kink[row, : len(values)] = torch.cat([k for _, k in found[name]]).cpu().numpy()
            asked[row, : len(values)] = True
        return {
            "layer": np.array(kept, dtype=str) if kept else np.zeros(0, "<U1"),
            "kind": np.array(kinds, dtype=str) if kept else np.zeros(0, "<U1"),
            "parent": np.array([kept.index(h) if h else -1 for h in holders], dtype=np.int64),
            "layer_error": error,
            "layer_kink": kink,
            "layer_asked": asked,
        }


_TOLD = ("error", "kink", "flat")
_OF_LAYERS = ("layer_error", "layer_kink", "layer_asked")


def _drawn(seed: int, *labels: str) -> torch.Generator:
    return torch.Generator().manual_seed(derive(seed, "gradients", *labels))


def _goals(samples: Samples, index: np.ndarray, device: torch.device) -> tuple[Goal, Goal]:
    """Away from the label, and towards the class after it."""
    labels = torch.tensor(samples.labels[index], device=device)
    return Goal(labels), Goal(labels, (labels + 1) % len(samples.classes))


def _stacked(parts: list[Checked], axis: int) -> Checked:
    return Checked(*(torch.stack([getattr(p, k) for p in parts], axis).cpu() for k in Checked.__annotations__))


def _joined(parts: list[Checked]) -> Checked:
    return Checked(*(torch.cat([getattr(p, k) for p in parts]) for k in Checked.__annotations__))


def _single(
    classifier: Classifier, doubled: Classifier, samples: Samples, batch_size: int, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """How far (n, M) the gradients of the network as it is are from those in float64, and where they are 0."""
    apart, nothing = [], []
    for start in range(0, len(samples), batch_size):
        index = np.arange(start, min(start + batch_size, len(samples)))
        x, goals = samples.batch(index).to(device), _goals(samples, index, device)
        rows, zeros = [], []
        for goal in goals:
            for loss in LOSSES.values():
                own = logits_and_gradient(classifier, x, loss, goal)[1].double().flatten(1)
                exact = logits_and_gradient(doubled, x.double(), loss, goal)[1].flatten(1)
                size = torch.linalg.vector_norm(exact, dim=1)
                far = torch.linalg.vector_norm(own - exact, dim=1) / size  # 0 / 0 is NaN
                rows.append(far.masked_fill(~own.isfinite().all(1) & size.isfinite(), math.inf))
                zeros.append((own == 0).all(1))
        apart.append(torch.stack(rows, 1).cpu().numpy())
        nothing.append(torch.stack(zeros, 1).cpu().numpy())
    return np.concatenate(apart), np.concatenate(nothing)


def _inputs(doubled: Classifier, x: Tensor) -> dict[str, Tensor]:
    """What each module of a network was asked first, where that is one tensor of numbers with a gradient."""
    seen: dict[str, Tensor] = {}
    hooks = []
    for name, module in doubled.network.named_modules():

        def note(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], name: str = name) -> None:
            one = len(args) == 1 and not kwargs and isinstance(args[0], Tensor) and args[0].dtype == torch.float64
            if one and name not in seen:
                seen[name] = args[0].detach().clone()  # what comes after may change it in place

        hooks.append(module.register_forward_pre_hook(note, with_kwargs=True))
    try:
        with torch.no_grad():
            doubled(x)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _ask(module: nn.Module, x: Tensor, moves: Tensor, g: torch.Generator) -> Checked | None:
    """A module's derivatives at x (1, ...), along the way that its input moves, if any, and a random one."""
    with torch.no_grad():
        out = module(x.clone())
    if not isinstance(out, Tensor) or out.dtype != torch.float64 or out.numel() == 0:
        return None
    weights = directions(out.shape, g, 1, 0)[0].to(x.device)

    def weighted(at: Tensor) -> Tensor:
        answer: Tensor = (module(at.clone()) * weights).sum().view(1, 1)
        return answer

    ways = [directions(x.shape, g, 1, 0)[0].to(x.device)]
    length = float(torch.linalg.vector_norm(moves)) if moves.shape == x.shape else 0.0
    if length > 0:
        ways.insert(0, moves / length)
    gradient = gradients_of(weighted, x)
    return _stacked([check(weighted, x, way * math.sqrt(x.numel()), gradient) for way in ways], 1)


def _planted(doubled: Classifier) -> tuple[Classifier | None, str]:
    """A copy with a wrong backward after the layer in its middle, and that layer's name; None where it has none."""
    names = [n for n, m in doubled.network.named_modules() if n and any(True for _ in m.parameters(recurse=False))]
    if not names:
        return None, ""
    wrong, where = copy.deepcopy(doubled), names[len(names) // 2]
    module = wrong.network.get_submodule(where)

    def hook(_: nn.Module, args: Any, out: Any) -> Any:
        return Off.apply(out) if isinstance(out, Tensor) else out

    module.register_forward_hook(hook)
    return wrong, where
