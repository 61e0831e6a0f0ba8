"""A network with its weights drawn again: what its architecture does before it has learnt anything.

Source: J. Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018 (arXiv 1810.03292), for the null.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from models.errors import ModelError


def drawable(module: nn.Module) -> dict[str, bool]:
    """The parts that have parameters of their own, by name, and whether they can be drawn again."""
    return {
        name: callable(getattr(part, "reset_parameters", None))
        for name, part in module.named_modules()
        if any(True for _ in part.parameters(recurse=False))
    }


def randomise(module: nn.Module, seed: int, only: str | None = None) -> None:
    """Draw the parameters of a network again, in place, as its layers draw them when they are made.

    Running statistics of batch norms begin anew as well. The process's own random state is left as it was.

    Args:
        module: the network.
        seed: of what is drawn.
        only: name of the one submodule whose own parameters are drawn; None for all.

    Raises:
        ModelError: a part has parameters of its own and no `reset_parameters`.
    """
    parts = module.named_modules() if only is None else [(only, module.get_submodule(only))]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed)
        for name, part in parts:
            if callable(getattr(part, "reset_parameters", None)):
                fresh: Any = copy.deepcopy(part).cpu()  # whose draws are those of the seed, wherever the network lives
                fresh.reset_parameters()
                part.load_state_dict(fresh.state_dict())
            elif any(True for _ in part.parameters(recurse=False)):
                raise ModelError(
                    f"model: the weights of {name or 'the network'} ({type(part).__name__}) must have a "
                    "reset_parameters to be drawn again, it has none; write one in its class"
                )
