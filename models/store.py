"""Trained networks on disk, named by all that produced them, so that the same configuration trains once.

A checkpoint is one safetensors file `<key>.safetensors`; its header is JSON text in the file's metadata, readable
with any safetensors tool. `<key>.partial` beside it is the state of a fit that is under way or was interrupted.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from models.errors import ModelError
from models.history import History, Progress
from models.pools import Pools
from models.recipe import TrainConfig
from models.source import Source
from models.spec import Network, Spec, plain
from models.train import Log, Perturb, fit
from models.weights import digest_file, load_state, read_state, replace

SCHEMA = 2
"""Raised by one when a change of code changes what the same configuration trains to."""


@dataclass(frozen=True)
class Trained:
    """A network that is ready.

    Attributes:
        key: of the checkpoint.
        path: of the checkpoint.
        history: of its training.
        loaded: whether it was found, not trained now.
        header: all that produced it, and the history.
    """

    key: str
    path: Path
    history: History
    loaded: bool
    header: dict[str, Any]


def describe(spec: Spec) -> dict[str, Any]:
    """The class and the fields of a spec, as JSON knows them."""
    values = {f.name: plain(getattr(spec, f.name)) for f in fields(spec)}  # type: ignore[arg-type]
    return {"class": f"{type(spec).__module__}.{type(spec).__qualname__}", **values}


def produced_by(
    network: Network,
    spec: Spec,
    config: TrainConfig,
    *,
    name: str,
    data: str,
    input_shape: tuple[int, int, int],
    seed: int,
    pools: Pools | None = None,
) -> dict[str, Any]:
    """All that a checkpoint depends on. `data` is the fingerprint of the training samples.

    Raises:
        ModelError: the base of a fine-tuning cannot be read.
    """
    recipe = plain(asdict(config))
    if config.base:
        try:
            recipe["base"] = digest_file(Path(config.base).expanduser())
        except OSError as error:
            raise ModelError(f"train.base: must be a readable file, got {config.base}: {error.strerror}") from None
    return {
        "schema": SCHEMA,
        "name": name,
        "model": describe(spec),
        "layers": str(network.module),
        "origin": network.origin,
        "mean": list(network.mean),
        "std": list(network.std),
        "num_classes": network.num_classes,
        "input_shape": list(input_shape),
        "train": recipe,
        "data": data,
        "seed": seed,
        **({} if pools is None else {"pools": plain(pools.about())}),
    }


def key_of(content: Mapping[str, Any]) -> str:
    """The first 128 bits of the SHA-256 of `content`, in hex."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def load_or_fit(
    network: Network,
    spec: Spec,
    config: TrainConfig,
    source: Source,
    *,
    root: Path,
    name: str,
    data: str,
    input_shape: tuple[int, int, int],
    seed: int,
    device: torch.device | str = "cpu",
    perturb: Perturb | None = None,
    pools: Pools | None = None,
    progress: Callable[[Progress], None] | None = None,
    log: Log | None = None,
) -> Trained:
    """Load the network that this configuration trains to into `network.module`, training it if there is none.

    Args:
        network: as `build` made it of `spec`.
        spec: what describes it.
        config: the recipe.
        source: the training samples.
        root: folder of the checkpoints.
        name: of the model; its initialisation depends on it.
        data: fingerprint of the training samples.
        input_shape: (C, H, W).
        seed: of initialisation and training.
        device: where the module ends.
        perturb: makes the images of adversarial training.
        pools: of adversarial examples to train on as well.
        progress: told how a fit goes.
        log: takes a fit's scalars.

    Raises:
        ModelError: the stored file is damaged, the folder cannot be written, or as `fit` does.
    """
    content = produced_by(network, spec, config, name=name, data=data, input_shape=input_shape, seed=seed, pools=pools)

    def make(partial: Path) -> dict[str, Any]:
        history = fit(
            network,
            config,
            source,
            seed=seed,
            device=device,
            perturb=perturb,
            pools=pools,
            progress=progress,
            store=partial,
            log=log,
        )
        return {"history": json.loads(history.to_json())}

    path, header, loaded = load_or_make(network, content, make, root=root, name=name, device=device)
    return Trained(path.stem, path, _history(header, path), loaded, header)


def checkpoint(root: Path, content: Mapping[str, Any]) -> Path:
    """The file in the folder `root` of the network that `content` produces."""
    return root / f"{key_of(content)}.safetensors"


def load_or_make(
    network: Network,
    content: Mapping[str, Any],
    make: Callable[[Path], Mapping[str, Any]],
    *,
    root: Path,
    name: str,
    device: torch.device | str,
) -> tuple[Path, dict[str, Any], bool]:
    """Load what `content` produces into `network.module`, or make it, in one process at a time.

    Args:
        network: to load into.
        content: all that a checkpoint depends on, as JSON knows it.
        make: trains the module; given the file for what is under way, returns what its header holds besides `content`.
        root: folder of the checkpoints.
        name: of the network, for messages.
        device: where the module ends when it is loaded.

    Returns:
        The checkpoint, its header, and whether it was found.

    Raises:
        ModelError: the stored file is damaged, the folder cannot be written, or as `make` does.
    """
    path = checkpoint(root, content)
    partial = path.with_suffix(".partial")
    try:
        with _alone(root, path.stem, path):
            if path.exists():
                header = read_header(path)
                load_state(network.module, read_state(path, f"stored network {name}"), f"stored network {name}")
                network.module.to(device).eval()
                return path, header, True
            header = {**content, **make(partial)}
            write_checkpoint(path, network, header)
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise ModelError(
            f"paths.checkpoints: must be a writable folder with space, got {root}: {error.strerror or error}"
        ) from None
    return path, header, False


@contextmanager
def _alone(root: Path, key: str, path: Path) -> Iterator[None]:
    """Train a network in one process at a time; the others wait, and find it. Nothing is locked to read it."""
    if path.exists():
        yield
        return
    root.mkdir(parents=True, exist_ok=True)
    place = root / f"{key}.lock"
    with FileLock(place):
        try:
            yield
        finally:
            if os.name == "posix":  # elsewhere a file that is open cannot be removed
                place.unlink(missing_ok=True)


def write_checkpoint(path: Path, network: Network, header: Mapping[str, Any]) -> None:
    """Write the module's weights with a header, in one step; whoever may read other files here may read this one."""
    state = {k: v.detach().cpu().contiguous().clone() for k, v in network.module.state_dict().items()}
    metadata = {"format": "pt", "toastproof": json.dumps(header, sort_keys=True)}
    content = save(state, metadata)  # a file that safetensors makes is its owner's alone
    replace(path, lambda beside: beside.write_bytes(content))


def read_header(path: Path) -> dict[str, Any]:
    """The header of a checkpoint.

    Raises:
        ModelError: the file cannot be read, is damaged, or was not written here.
    """
    try:
        path.open("rb").close()  # safetensors calls a file that is another user's absent
    except OSError as error:
        raise ModelError(f"{path}: must be a file that can be read, got: {error.strerror or error}") from None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path}: must be a whole safetensors file, got one that is damaged or cut short: {error}; "
            "delete it and run again"
        ) from None
    if "toastproof" not in metadata:
        raise ModelError(f"{path}: must have a header of ours in its metadata, got keys {sorted(metadata)}")
    header: dict[str, Any] = json.loads(metadata["toastproof"])
    return header


def _history(header: Mapping[str, Any], path: Path) -> History:
    try:
        return History.from_json(json.dumps(header["history"]))
    except (KeyError, TypeError) as error:
        raise ModelError(f"{path}: header must hold a history, got none of this schema: {error}") from None
