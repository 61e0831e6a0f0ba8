"""A user's network as a graph of `torch.export`: one file, without their code, and none of it run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.archive import MALFORMED, Program, read_program
from models.errors import ModelError
from models.operators import TrainingModeError, UnknownOperatorError
from models.replay import input_of, module_of
from models.spec import Network, listed, normalisation
from models.weights import digest_file

_WHERE = "model.path"


@dataclass(frozen=True)
class Exported:
    """Networks in files that `torch.export.save` wrote, or `task=export`.

    Attributes:
        path: of a file, or a list of them.
        mean: the networks take (pixel - mean) / std: one value, or one a channel.
        std: see `mean`.
        bounds: least and greatest value of a pixel as the networks, `mean` and `std` have it.
    """

    path: Any
    mean: list[float] = field(default_factory=lambda: [0.0])
    std: list[float] = field(default_factory=lambda: [1.0])
    bounds: list[float] = field(default_factory=lambda: [0.0, 1.0])

    @property
    def names_itself(self) -> bool:
        """Whether its networks may have names of their own: those of the files."""
        return True

    @property
    def ready(self) -> bool:
        """Whether the networks come with their weights: always."""
        return True

    @property
    def side(self) -> int | None:
        """The side in pixels of the square images that all files were exported for, if it is one and fixed."""
        shapes = {_image_shape(read_program(path, _WHERE, tensors=False), path)[1:] for path in self._paths()}
        (height, width), *others = shapes
        return height if height == width and not others else None

    def _paths(self) -> list[Path]:
        paths = [Path(path).expanduser() for path in listed(self.path)]
        if not paths:
            raise ModelError(f"{_WHERE}: must be a file of torch.export, got nothing; write model.path=net.pt2")
        return paths

    def build(self, name: str, input_shape: tuple[int, int, int], num_classes: int) -> dict[str, Network]:
        """A network for each file: called `name` if there is one and it has a name of its own, else as its file.

        Raises:
            ModelError: a file is none of `torch.export`, may run code, or does not fit the images.
        """
        paths = self._paths()
        norm = normalisation("model.exported", self.mean, self.std, input_shape[0], self.bounds)
        networks: dict[str, Network] = {}
        for path in paths:
            own = path.stem if name == "exported" or len(paths) > 1 else name
            if own in networks:
                raise ModelError(f"{_WHERE}: the files must have different names, got {own} twice")
            program = read_program(path, _WHERE)
            _check_shape(program, path, input_shape)
            module = _module(program, path)
            networks[own] = Network(
                module,
                num_classes,
                f"exported graph {path.name}",
                *norm,
                ready=True,
                origin=digest_file(path),
            )
        return networks


def _module(program: Program, path: Path) -> Any:
    try:
        return module_of(program)
    except TrainingModeError as error:
        raise ModelError(
            f"{_WHERE}: {path} must be exported in evaluation mode, got {error}; call net.eval() before torch.export"
        ) from None
    except UnknownOperatorError as error:
        raise ModelError(
            f"{_WHERE}: {path} must be made of PyTorch's own operators on tensors, got {error}; bring the network as "
            "model=factory instead"
        ) from None
    except MALFORMED as error:
        first = str(error).partition("\n")[0]
        raise ModelError(f"{_WHERE}: {path} must be a graph from images to logits, got a fault: {first}") from None


def _dimensions(program: Program, path: Path) -> list[int | None]:
    """The shape that a graph takes; None where any number goes."""
    try:
        sizes = program.graph["tensor_values"][input_of(program)]["sizes"]
        return [_fixed(size) for size in sizes]
    except MALFORMED as error:
        raise ModelError(f"{_WHERE}: {path} must take one tensor of images and return logits, but {error}") from None


def _fixed(size: Mapping[str, Any]) -> int | None:
    return int(size["as_int"]) if "as_int" in size else None


def _image_shape(program: Program, path: Path) -> tuple[int | None, int | None, int | None]:
    found = _dimensions(program, path)
    if len(found) != 4:
        raise ModelError(f"{_WHERE}: {path} must take images (B, C, H, W), got {len(found)} dimensions")
    return found[1], found[2], found[3]


def _check_shape(program: Program, path: Path, input_shape: tuple[int, int, int]) -> None:
    """Refuse a graph that was made for other images, or for one size of the batch."""
    own = _image_shape(program, path)
    if any(mine not in (None, theirs) for mine, theirs in zip(own, input_shape, strict=True)):
        shown = "x".join("any" if n is None else str(n) for n in own)
        remedy = f"; write data.size={own[1]}" if own[0] == input_shape[0] and own[1] == own[2] else ""
        raise ModelError(
            f"{_WHERE}: {path} takes images {shown}, got {'x'.join(map(str, input_shape))} from the data{remedy}"
        )
    batch = _dimensions(program, path)[0]
    if batch is not None:
        raise ModelError(
            f"{_WHERE}: {path} must take any number of images, but was exported for batches of {batch}; export it "
            "with dynamic_shapes=({0: torch.export.Dim('batch')},), or with toastproof task=export"
        )
