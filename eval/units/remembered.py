"""A forward pass that goes on from a layer: what comes before it is computed once and remembered.

Of the modules that have returned when the layer is called, the outermost ones say again what they said first. What a
network computes between modules is computed again, of what these say, so that the outcome is that of a whole pass; for
that, modules that are called more than once are left alone, and what others change in place is copied each time.

Cost: a forward to remember and one to see what is changed in place; afterwards nothing before the layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from models.classifier import Classifier


@contextmanager
def remembered(classifier: Classifier, layer: str, x: Tensor) -> Iterator[None]:
    """Within it, the network answers the images `x` (B, C, H, W), and no others, from the layer on.

    Args:
        classifier: whose layer it is.
        layer: its name by `named_modules`.
        x: images in box units.
    """
    kept = _before(classifier, layer, x)
    parts = {name: classifier.network.get_submodule(name) for name in kept}
    try:
        copies = {name: said.clone() for name, said in kept.items()}
        begun = {name: copy._version for name, copy in copies.items()}
        for name, part in parts.items():
            part.forward = lambda *_, said=copies[name], **__: said
        with torch.no_grad():
            classifier.bare(x)
        for name, part in parts.items():
            changed = copies[name]._version != begun[name]
            part.forward = lambda *_, said=kept[name], changed=changed, **__: said.clone() if changed else said
        yield
    finally:
        for part in parts.values():
            part.__dict__.pop("forward", None)


@torch.no_grad()
def _before(classifier: Classifier, layer: str, x: Tensor) -> dict[str, Tensor]:
    """What the outermost modules say that have returned, for good, when the layer is called."""
    said: dict[str, Tensor] = {}
    calls: Counter[str] = Counter()
    reached = False

    def arrive(_module: nn.Module, _inputs: Any) -> None:
        nonlocal reached
        reached = True

    def note(name: str, output: Any) -> None:
        calls[name] += 1
        if not reached and isinstance(output, Tensor):
            said[name] = output.clone()
            for inner in [other for other in said if other.startswith(f"{name}.")]:
                del said[inner]

    hooks = [classifier.network.get_submodule(layer).register_forward_pre_hook(arrive)]
    hooks += [
        part.register_forward_hook(lambda _m, _i, output, name=name: note(name, output))
        for name, part in classifier.network.named_modules()
        if name and not isinstance(part, torch.jit.ScriptModule) and "forward" not in part.__dict__
    ]
    try:
        classifier.bare(x)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: output for name, output in said.items() if calls[name] == 1}
