"""The schemas that Hydra checks a configuration against.

The dataclass of an attack, a data set, a model or the training is the schema of its file in `conf`: the fields of
the class named by `_target_` are its keys and their types. So a mistyped key or a wrong type fails when the
configuration is composed, before anything is written.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import re
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from eval.cluster.terms import Terms

CONF = Path(importlib.import_module("conf").__file__ or "").parent
_GROUPS = ("data", "model", "attack", "train", "study")
_TARGET = re.compile(r"^_target_:\s*([\w.]+)", re.MULTILINE)


@dataclass
class ThreatConfig:
    """The attacker's budget.

    Attributes:
        norm: `l0`, `l1`, `l2` or `linf`.
        eps: text, such as 8/255 or 0.3, in box units.
        curve: more budgets, for the curve of accuracy against eps.
    """

    norm: str = MISSING
    eps: str = MISSING
    curve: list[str] = field(default_factory=list)


@dataclass
class Paths:
    """Where things are kept.

    Attributes:
        data: data sets.
        checkpoints: trained networks.
        parts: records that runs share; None for none.
    """

    data: str = MISSING
    checkpoints: str = MISSING
    parts: str | None = None


@dataclass
class Work:
    """Where a run is kept, and who does the work. Records do not depend on it.

    Attributes:
        dir: the run's folder.
        backend: `local`, this process, or `ray`, workers on this machine or a cluster.
        address, workers, cpus, gpus, retries: see `eval.cluster.terms.Terms`.
        shard: samples in a unit of work.
    """

    dir: str = MISSING
    backend: str = MISSING
    address: str = MISSING
    workers: int | None = None
    cpus: Any = MISSING
    gpus: Any = MISSING
    retries: int = MISSING
    shard: int = MISSING

    def terms(self) -> Terms:
        """What workers on Ray get.

        Raises:
            InputError: a value is not allowed.
        """
        return Terms(self.address, self.cpus, self.gpus, self.workers, self.retries, "run")


@dataclass
class Debug:
    """Upper limits that make a run smaller; None for no limit.

    Attributes:
        samples: test images.
        train_samples: training images.
        epochs: of training.
        examples: images kept per source and attack.
        curve: whether to run the other budgets of the curve.
        attack: greatest value of any attack's field of that name.
    """

    samples: int | None = None
    train_samples: int | None = None
    epochs: int | None = None
    examples: int | None = None
    curve: bool = True
    attack: dict[str, int] = field(default_factory=dict)


@dataclass
class Config:
    """The keys at the top. `data`, `model`, `attack`, `train` and `study` are filled from their groups."""

    task: str = MISSING
    title: str = MISSING
    seed: int = MISSING
    batch_size: Any = MISSING
    device: str = MISSING
    fold: bool = MISSING
    fuse: bool = MISSING
    channels_last: bool = MISSING
    precision: str = MISSING
    graphs: bool = MISSING
    goal: str = MISSING
    image: Any = None
    target: str = MISSING
    layer: str | None = None
    unit: int | None = None
    transfer: bool = MISSING
    controls: bool = MISSING
    reuse: bool = MISSING
    access: str = MISSING
    queries: int | None = None
    examples: int = MISSING
    tensorboard: bool = MISSING
    data: Any = field(default_factory=dict)
    model: Any = field(default_factory=dict)
    attack: Any = field(default_factory=dict)
    threat: ThreatConfig = field(default_factory=ThreatConfig)
    train: Any = field(default_factory=dict)
    paths: Paths = field(default_factory=Paths)
    run: Work = field(default_factory=Work)
    debug: Debug = field(default_factory=Debug)
    study: Any = None


def _strings(hint: Any) -> Any:
    """A type as OmegaConf knows it: tuples become lists, mappings dictionaries."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        options = [_strings(o) for o in typing.get_args(hint) if o is not type(None)]
        simple = len(options) == 1 and options[0] is not Any
        return typing.Optional[options[0]] if simple else Any  # noqa: UP045 - built at run time
    if origin is tuple:
        return list[typing.get_args(hint)[0]]  # type: ignore[misc]
    if origin is list:
        return hint if typing.get_args(hint)[0] in (int, float, str, bool) else Any
    return hint if hint in (int, float, str, bool) else Any


def _default(field_: dataclasses.Field[Any]) -> Any:
    """The default of a field, as a field of a structured config: mandatory where there is none."""
    if field_.default_factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=field_.default_factory)
    default = MISSING if field_.default is dataclasses.MISSING else field_.default
    if isinstance(default, tuple):
        return dataclasses.field(default_factory=lambda: list(default))
    return dataclasses.field(default=default)


def schema(cls: type) -> type:
    """The structured config of a dataclass: its fields, their types and defaults, and `_target_`."""
    hints = typing.get_type_hints(cls)
    keys = [(f.name, _strings(hints[f.name]), _default(f)) for f in dataclasses.fields(cls)]
    return dataclasses.make_dataclass(cls.__name__, [("_target_", str, dataclasses.field(default=MISSING)), *keys])


def targets() -> Iterator[tuple[str, str]]:
    """Group and class path of everything that the files in `conf` can name."""
    for group in _GROUPS:
        found = {
            target
            for path in sorted((CONF / group).rglob("*.yaml"))
            for target in _TARGET.findall(path.read_text(encoding="utf-8"))
        }
        yield from ((group, target) for target in sorted(found))


@functools.cache
def register() -> None:
    """Give Hydra the schemas, once in a process. Costs the import of torch, which `--help` does without."""
    store = ConfigStore.instance()
    store.store(name="config", group="schema/top", node=Config, provider="toastproof")
    store.store(name="threat", group="schema/threat", node=ThreatConfig, provider="toastproof")
    for group, target in targets():
        module, _, name = target.rpartition(".")
        cls = getattr(importlib.import_module(module), name)
        store.store(name=name.lower(), group=f"schema/{group}", node=schema(cls), provider="toastproof")
