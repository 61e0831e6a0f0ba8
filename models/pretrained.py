"""Any classifier of torchvision by its name, fresh, with torchvision's ImageNet weights, or with those in a file."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from torch import nn

from models.errors import ModelError
from models.finetune import head_name
from models.published import Published
from models.spec import Network
from models.weights import digest_file, load_state, read_state

_HAS_AUXILIARY = ("inception_v3", "googlenet")  # extra classifiers, for training as in their papers alone


@dataclass(frozen=True)
class Torchvision(Published):
    """A classifier of `torchvision.models`, whose weights are downloaded with its checksum."""

    @property
    def side(self) -> int | None:
        """The side in pixels of the images that torchvision's weights were made for; None for a fresh network."""
        from torchvision import models as zoo

        if not self.ready or self.name not in zoo.list_models(module=zoo):
            return None
        return int(zoo.get_model_weights(self.name).DEFAULT.transforms().crop_size[0])

    def build(self, name: str, input_shape: tuple[int, int, int], num_classes: int) -> dict[str, Network]:
        """One network.

        Raises:
            ModelError: torchvision has no such classifier, the images are not in colour, or the weights are not to
                be had or of another architecture.
        """
        from torchvision import models as zoo

        known = zoo.list_models(module=zoo)
        if self.name not in known:
            near = difflib.get_close_matches(self.name, known, 4) or known
            raise ModelError(
                f"model.{name}.name: must be a classifier of torchvision, such as {', '.join(near[:4])}; "
                f"got {self.name!r}"
            )
        if input_shape[0] != 3:
            raise ModelError(f"model {name}: {self.name} takes 3 channels, got images with {input_shape[0]}")
        default = zoo.get_model_weights(self.name).DEFAULT
        recipe = default.transforms()
        network = Network(
            nn.Identity(),
            num_classes,
            f"torchvision {self.name}",
            tuple(recipe.mean),
            tuple(recipe.std),
            crop=recipe.crop_size[0],
        )
        if self.weights is not None:
            path = Path(self.weights).expanduser()
            network.module = self._from_file(path, f"model.{name}.weights", num_classes)
            network.description += f", weights of {path.name}"
            network.origin = digest_file(path)
        elif self.pretrained:
            network.module = self._download(default, name)
            network.description += f", {default}"
            network.origin = str(default)
        else:
            network.module = self._fresh(num_classes)
            network.description += ", no pretrained weights"
            return {name: network}
        network.ready = _classes(network.module) == num_classes
        if not network.ready:
            network.description += f", new last layer for {num_classes} classes"
            _replace_head(network.module, num_classes)
        return {name: network}

    def _fresh(self, num_classes: int, **options: Any) -> nn.Module:
        from torchvision.models import get_model

        if self.name in _HAS_AUXILIARY:
            options = {"aux_logits": False, "init_weights": True, **options}
        module: nn.Module = get_model(self.name, weights=None, num_classes=num_classes, **options)
        return module

    def _from_file(self, path: Path, where: str, num_classes: int) -> nn.Module:
        """A network with the classes of the state dict in a file."""
        state = read_state(path, where)
        head = head_name(self._fresh(num_classes))
        rows = next((len(value) for key, value in state.items() if key.endswith(f"{head}.weight")), num_classes)
        options: dict[str, Any] = {}
        if self.name in _HAS_AUXILIARY:
            options = {"transform_input": True, "init_weights": False}  # as torchvision's own weights need it
            state = {key: value for key, value in state.items() if "aux" not in key.lower()}
        module = self._fresh(rows, **options)
        load_state(module, state, f"{where}: {path}")
        return module

    def _download(self, weights: Any, name: str) -> nn.Module:
        """The network with torchvision's own weights, from its cache or its server."""
        import torch
        from torchvision.models import get_model

        try:
            module: nn.Module = get_model(self.name, weights=weights, progress=True)
        except (OSError, RuntimeError, EOFError, HTTPException, UnpicklingError) as error:  # network, checksum, disk
            first = str(error).strip().partition("\n")[0] or type(error).__name__
            place = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
            raise ModelError(
                f"model.{name}: pretrained weights of {self.name} must be downloaded or at {place}, got: {first}; put "
                f"{weights.url} there, or name a file with model.{name}.weights=FILE, or train without: "
                f"model.{name}.pretrained=false"
            ) from error
        if self.name == "inception_v3":
            module.aux_logits, module.AuxLogits = False, None  # type: ignore[assignment]
        return module


def _classes(module: nn.Module) -> int:
    layer = module.get_submodule(head_name(module))
    return layer.out_features if isinstance(layer, nn.Linear) else int(layer.out_channels)  # type: ignore[arg-type]


def _replace_head(module: nn.Module, num_classes: int) -> None:
    """Put a fresh last layer with that many classes in place of the present one."""
    head = head_name(module)
    old = module.get_submodule(head)
    parent = module.get_submodule(head.rpartition(".")[0])
    if isinstance(old, nn.Linear):
        new: nn.Module = nn.Linear(old.in_features, num_classes, bias=old.bias is not None)
    elif isinstance(old, nn.Conv2d) and old.kernel_size == (1, 1):
        new = nn.Conv2d(old.in_channels, num_classes, 1, bias=old.bias is not None)
    else:
        raise ModelError(f"torchvision: the last layer must be linear or a 1x1 convolution, got {type(old).__name__}")
    setattr(parent, head.rpartition(".")[2], new)
