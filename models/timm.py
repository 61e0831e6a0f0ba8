"""Any classifier of timm by its name, fresh, with timm's pretrained weights, or with those in a file."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from models.errors import ModelError
from models.published import Published
from models.spec import Network
from models.weights import digest_file, load_state, read_state

_USUAL: dict[str, Any] = {  # of an architecture without any weights
    "input_size": (3, 224, 224), "mean": (0.0,), "std": (1.0,), "classifier": "head.fc",
    "hf_hub_id": "", "url": "", "tag": "",
}  # fmt: skip
_WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


@dataclass(frozen=True)
class Timm(Published):
    """A classifier of PyTorch Image Models, which `pip install toastproof[timm]` brings.

    Attributes:
        name: of the architecture, with or without the tag of its weights: `convnext_tiny.fb_in1k`.
        pretrained, weights: see `Published`; timm's come from the Hugging Face Hub.
    """

    @property
    def side(self) -> int | None:
        """The side in pixels of the images that its weights were made for."""
        return self._about()["input_size"][-1] if self.ready else None

    def _about(self) -> dict[str, Any]:
        """What timm says of the architecture and its weights.

        Raises:
            ModelError: timm is not installed, or has no such classifier.
        """
        try:
            import timm
        except ModuleNotFoundError as error:
            raise ModelError(
                f"model=timm/...: must find the package timm, got: {error}; pip install 'toastproof[timm]'"
            ) from None
        architecture, _, tag = self.name.partition(".")
        known = timm.list_models()
        if architecture not in known:
            near = difflib.get_close_matches(architecture, known, 4) or known
            raise ModelError(f"model.timm.name: must be one of timm, such as {', '.join(near[:4])}; got {self.name!r}")
        tags = timm.list_pretrained(f"{architecture}.*")
        if tag and self.name not in tags:
            raise ModelError(f"model.timm.name: must have one of the tags {', '.join(tags)}; got {self.name!r}")
        found: Any = timm.models.get_pretrained_cfg(self.name)
        return {**_USUAL, **({} if found is None else found.to_dict())}

    def build(self, name: str, input_shape: tuple[int, int, int], num_classes: int) -> dict[str, Network]:
        """One network.

        Raises:
            ModelError: timm is not installed or has no such classifier, the images have other channels, or the
                weights are not to be had or of another architecture.
        """
        about = self._about()
        channels, *_, side = about["input_size"]
        if input_shape[0] != channels:
            raise ModelError(f"model {name}: {self.name} takes {channels} channels, got images with {input_shape[0]}")
        network = Network(
            nn.Identity(), num_classes, f"timm {self.name}", tuple(about["mean"]), tuple(about["std"]), crop=side
        )
        if self.weights is not None:
            path = Path(self.weights).expanduser()
            network.module = self._from_file(path, f"model.{name}.weights", num_classes, about)
            network.description += f", weights of {path.name}"
            network.origin = digest_file(path)
        elif self.pretrained:
            network.module = self._download(name, about)
            network.description += f", weights {about['hf_hub_id'] or about['url']}"
            network.origin = f"timm {self.name} {about['tag']}"
        else:
            network.module = self._fresh(num_classes)
            network.description += ", no pretrained weights"
            return {name: network}
        module: Any = network.module
        network.ready = module.num_classes == num_classes
        if not network.ready:
            network.description += f", new last layer for {num_classes} classes"
            module.reset_classifier(num_classes)
        return {name: network}

    def _fresh(self, num_classes: int) -> nn.Module:
        import timm

        module: nn.Module = timm.create_model(self.name.partition(".")[0], pretrained=False, num_classes=num_classes)
        return module

    def _from_file(self, path: Path, where: str, num_classes: int, about: dict[str, Any]) -> nn.Module:
        """A network with the classes of the state dict in a file."""
        state = read_state(path, where)
        head = about["classifier"] if isinstance(about["classifier"], str) else about["classifier"][0]
        rows = next((len(value) for key, value in state.items() if key.endswith(f"{head}.weight")), num_classes)
        module = self._fresh(rows)
        load_state(module, state, f"{where}: {path}")
        return module

    def _download(self, name: str, about: dict[str, Any]) -> nn.Module:
        """The network with timm's own weights, from its cache or the hub."""
        import timm

        try:
            with _careful():
                module: nn.Module = timm.create_model(self.name, pretrained=True)
        except Exception as error:  # of the hub, the network, the disk, or a checkpoint that holds more than weights
            first = str(error).strip().partition("\n")[0].partition(". ")[0] or type(error).__name__
            raise ModelError(
                f"model.{name}: pretrained weights of {self.name} must be downloaded, or be in the cache of the "
                f"Hugging Face Hub, got: {first}; take model.safetensors of {about.get('hf_hub_id') or 'the hub'} and "
                f"name it with model.weights=FILE, or train without: model.{name}.pretrained=false"
            ) from error
        return module


@contextmanager
def _careful() -> Iterator[None]:
    """Let nothing be unpickled but weights, which timm would, and let the hub keep its retries to itself."""
    before, hub = os.environ.get(_WEIGHTS_ONLY), logging.getLogger("huggingface_hub")
    level = hub.level
    os.environ[_WEIGHTS_ONLY] = "1"
    hub.setLevel(logging.ERROR)
    try:
        yield
    finally:
        hub.setLevel(level)
        if before is None:
            del os.environ[_WEIGHTS_ONLY]
        else:
            os.environ[_WEIGHTS_ONLY] = before
