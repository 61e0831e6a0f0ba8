"""A network written as a graph of `torch.export` with a batch of any size, and the file tried before it is kept."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.archive import read_program
from models.classifier import Classifier
from models.errors import ModelError
from models.foreign import told
from models.replay import module_of
from models.weights import replace

_TOLERANCE = 1e-5  # of logits, relative to the largest one, or 1
_BATCHES = (1, 2, 5)


class _Pixels(nn.Module):
    """Pixels in [0, 1] -> logits."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W)."""
        logits: Tensor = self.classifier.network(self.classifier.normalised(x))
        return logits if logits.dtype == x.dtype else logits.to(x.dtype)


def export(
    network: nn.Module,
    input_shape: Sequence[int],
    path: Path | str,
    *,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
) -> str:
    """Write a network to a file for `model=exported`, with its normalisation inside, and try the file.

    Args:
        network: images (B, C, H, W), normalised, -> logits (B, K); a `Classifier` brings its own normalisation.
        input_shape: (C, H, W).
        path: of the file, ending with `.pt2`; it is written in one step, once it was tried.
        mean: the network takes (pixel - mean) / std of pixels in [0, 1]: one value, or one a channel.
        std: see `mean`.

    Returns:
        What was tried, in a few words.

    Raises:
        ModelError: `torch.export` cannot trace the network, or the file does not do what the network does: with any
            size of the batch, the same logits to 1e-5, and the same gradients.
    """
    path, shape = Path(path), (int(input_shape[0]), int(input_shape[1]), int(input_shape[2]))
    modes = [(module, module.training) for module in network.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    own = isinstance(network, Classifier)
    classifier = network if own else Classifier(
        network, name=path.stem, input_shape=shape, num_classes=0, mean=mean, std=std
    )  # fmt: skip
    assert isinstance(classifier, Classifier)
    try:
        classifier.to(classifier.mean.device if own else _device(network))
        said = ""

        def write(beside: Path) -> None:
            nonlocal said
            _save(classifier, shape, beside, path)
            said = _try(classifier, shape, beside, path)

        replace(path, write)
        return said
    finally:
        for module, training in modes:
            module.training = training
        for parameter, wants in wanted:
            parameter.requires_grad_(wants)


def _device(network: nn.Module) -> torch.device:
    return next((p.device for p in network.parameters()), torch.device("cpu"))


def _images(count: int, shape: tuple[int, int, int], device: torch.device) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(count)).to(device)


def _save(classifier: Classifier, shape: tuple[int, int, int], beside: Path, path: Path) -> None:
    x = _images(2, shape, classifier.mean.device)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch.export says of itself
            batch = {0: torch.export.Dim("batch")}
            program = torch.export.export(_Pixels(classifier).eval(), (x,), dynamic_shapes=(batch,))
            with beside.open("wb") as file:
                torch.export.save(program, file)
    except OSError:
        raise
    except Exception as error:  # the network is the user's code, and torch.export raises a hundred kinds
        raise ModelError(
            f"{path}: torch.export must be able to trace the network with a batch of any size, got {told(error)}; "
            "bring it as model=factory instead"
        ) from error


def _try(classifier: Classifier, shape: tuple[int, int, int], beside: Path, path: Path) -> str:
    """Compare a file with the network that it was made of."""
    device = classifier.mean.device
    again: Any = module_of(read_program(beside, str(path))).to(device).requires_grad_(False)
    worst = 0.0
    for count in _BATCHES:
        x = _images(count, shape, device).requires_grad_()
        logits, theirs = classifier.bare(x), again(x)
        if theirs.shape == logits.shape:
            scale = max(1.0, float(logits.detach().abs().max()))
            worst = max(worst, float((logits - theirs).detach().abs().max()) / scale)
        if theirs.shape != logits.shape or not worst <= _TOLERANCE:
            raise ModelError(
                f"{path}: the file must give the network's logits to {_TOLERANCE:g}, got a difference of {worst:g} "
                f"for {count} images; does its forward depend on chance, on the batch, or on values?"
            )
        if not theirs.requires_grad:
            raise ModelError(f"{path}: a gradient must reach the pixels, got none (no_grad or detach in its forward?)")
        mine, other = (torch.autograd.grad(z.sum(), x)[0] for z in (logits, theirs))
        if not torch.allclose(mine, other, rtol=1e-3, atol=_TOLERANCE * max(1.0, float(mine.abs().max()))):
            raise ModelError(f"{path}: the file must have the network's gradients, got others for {count} images")
    sizes = ", ".join(map(str, _BATCHES[:-1])) + f" and {_BATCHES[-1]}"
    return f"tried on {sizes} images: the same gradients, and the same logits to {worst:.1g}"
