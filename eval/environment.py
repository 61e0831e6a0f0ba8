"""What a configuration takes from the environment, which no record and no report is to show.

A key may say `${oc.env:NAME}`. Its value is used, and the text of the interpolation is what is stored in its place,
wherever the value turns up. The values of variables that are called as secrets are (`..._TOKEN`, `..._SECRET`, ...) are
hidden too, since a shell puts them into a command line without a trace. Our own `TOASTPROOF_...` are shown.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers import oc

from eval.records import Run

_OURS = "TOASTPROOF_"
_CALLED = re.compile(
    r"TOKEN$|(^|_)(TOKEN|AUTH)(_|$)|SECRET|PASSW(OR)?D|PASSPHRASE|CREDENTIAL|(PRIVATE|API|ACCESS)_?KEY", re.IGNORECASE
)
_LONG = 6  # characters from which a value can be told from any other text
T = TypeVar("T")


@dataclass(frozen=True)
class Hidden:
    """Texts that must not be stored, each with what stands in its place."""

    places: Mapping[str, str]

    def hide(self, value: T) -> T:
        """A text, or a mapping or list of anything, without what is hidden; keys stay as they are."""
        found: Any = value
        if isinstance(value, str):
            for secret, place in self.places.items():
                found = found.replace(secret, place)
        elif isinstance(value, Mapping):
            found = {key: self.hide(item) for key, item in value.items()}
        elif isinstance(value, list | tuple):
            found = type(value)(self.hide(item) for item in value)
        shown: T = found
        return shown

    def header(self, run: Run) -> Run:
        """The header of a run without what is hidden; names of models, which records share, stay as they are."""
        shown = {f.name: self.hide(getattr(run, f.name)) for f in fields(run)}
        models = [{**model, "name": own["name"]} for model, own in zip(shown["models"], run.models, strict=True)]
        return replace(run, **{**shown, "models": models})


def read(cfg: DictConfig) -> tuple[dict[str, Any], dict[str, Any], Hidden]:
    """A configuration with its values, the same as it may be shown, and what must not be shown anywhere.

    Raises:
        omegaconf.errors.OmegaConfBaseException: a value is missing or cannot be resolved.
    """
    content: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    raw: Any = OmegaConf.to_container(cfg, resolve=False)
    asked: set[str] = set()
    with _listening(asked.add) as begin:
        shown = _shown(cfg, content, raw, begin)
    return content, shown, _hidden(asked)


def hidden(cfg: DictConfig) -> Hidden:
    """What must not be shown of a configuration that may have mistakes, as far as it can be resolved."""
    asked: set[str] = set()
    with _listening(asked.add), suppress(OmegaConfBaseException):
        OmegaConf.to_container(cfg, resolve=True)
    return _hidden(asked)


def _hidden(asked: set[str]) -> Hidden:
    names = {name for name in os.environ if _CALLED.search(name)} | asked
    values = {os.environ[name]: name for name in sorted(names) if name in os.environ and not name.startswith(_OURS)}
    longest = sorted((value for value in values if len(value) >= _LONG), key=len, reverse=True)
    return Hidden({value: f"${{oc.env:{values[value]}}}" for value in longest})


@contextmanager
def _listening(tell: Callable[[str], Any]) -> Iterator[Callable[[], Callable[[], bool]]]:
    """Notice which variables are asked for while a value is resolved; ours are not told."""
    heard: list[str] = []

    def env(name: str, default: Any = _NONE) -> Any:
        if not name.startswith(_OURS):
            heard.append(name)
            tell(name)
        return oc.env(name) if default is _NONE else oc.env(name, default)

    def begin() -> Callable[[], bool]:
        heard.clear()
        return lambda: bool(heard)

    OmegaConf.register_new_resolver("oc.env", env, replace=True)
    try:
        yield begin
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)


_NONE: Any = object()


def _shown(node: Any, content: Any, raw: Any, begin: Callable[[], Callable[[], bool]]) -> Any:
    """What may be shown of a node: its values, or their texts where they come from the environment."""
    if isinstance(raw, dict) and isinstance(content, dict):
        return {key: _child(node, key, content[key], raw[key], begin) for key in content}
    if isinstance(raw, list) and isinstance(content, list):
        return [_child(node, i, item, raw[i], begin) for i, item in enumerate(content)]
    return content


def _child(node: Any, key: Any, content: Any, raw: Any, begin: Callable[[], Callable[[], bool]]) -> Any:
    if isinstance(raw, dict | list):
        return _shown(node[key], content, raw, begin)
    from_environment = begin()
    _ = node[key]
    return raw if from_environment() else content
