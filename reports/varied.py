"""What varied between the jobs of a sweep, by the configurations that they were resolved to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_PLACES = ("run.dir",)  # has the time in it: another one for each job


def text(value: Any) -> str:
    """A value of a configuration as it is shown."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _kind(node: Mapping[str, Any]) -> str:
    """A node in a few words: what its nodes are called, else what it is, else its keys.

    >>> _kind({"path": None, "softmax": {"decay": 0.1}}), _kind({"_target_": "eval.data.Arrays", "test": "a.npz"})
    ('softmax', 'Arrays')
    """
    nodes = [k for k, v in node.items() if isinstance(v, Mapping)]
    if not nodes and "_target_" in node:
        return str(node.get("name") or node["_target_"]).rpartition(".")[2]
    return ", ".join(nodes or node)


def differences(configs: Sequence[Mapping[str, Any]], path: str = "") -> dict[str, list[str]]:
    """The keys whose values differ, with the values as text; nodes of other keys by `_kind`.

    >>> differences([{"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 2}])
    {'a.b': ['1', '3']}
    >>> differences([{"attack": {"fgsm": {}}}, {"attack": {"pgd": {"steps": 4}}}])
    {'attack': ['fgsm', 'pgd']}
    """
    result: dict[str, list[str]] = {}
    if all(config is configs[0] for config in configs):
        return result
    shared = [k for k in configs[0] if all(k in c for c in configs)]
    if any(len(c) > len(shared) for c in configs):
        result[path or "(top)"] = [_kind(c) for c in configs]
    for key in shared:
        values = [c[key] for c in configs]
        where = f"{path}.{key}" if path else key
        if all(isinstance(v, Mapping) for v in values):
            result |= differences(values, where)
        elif any(v != values[0] for v in values):
            result[where] = [text(v) for v in values]
    return result


def varied(configs: Sequence[Mapping[str, Any]], folders: Sequence[Path]) -> dict[str, list[str]]:
    """What differs between runs, with the value of each; where a run wrote to is no parameter."""
    if len(configs) < 2:
        return {}
    return {
        key: values
        for key, values in differences(configs).items()
        if key not in _PLACES and not all(str(folder) in v for v, folder in zip(values, folders, strict=True))
    }


def apart(found: Mapping[str, Sequence[str]]) -> list[str]:
    """The keys of `varied` that say something of their own: not those that repeat another one of the same name.

    >>> apart({"layer": ["conv1", "conv2"], "model.layer": ["conv1", "conv2"], "seed": ["0", "0"]})
    ['layer', 'seed']
    """
    kept: list[str] = []
    for key, values in found.items():
        twins = (k for k in kept if k.rpartition(".")[2] == key.rpartition(".")[2])
        if not any(found[k] == values for k in twins):
            kept.append(key)
    return kept


def shared(new: Any, old: Any) -> Any:
    """`new`, with whatever equals its counterpart in `old` taken from there: thousands of headers are mostly one."""
    if isinstance(new, dict) and isinstance(old, dict):
        if new == old:
            return old
        return {key: shared(value, old.get(key)) for key, value in new.items()}
    if isinstance(new, list) and isinstance(old, list) and len(new) == len(old):
        return old if new == old else [shared(a, b) for a, b in zip(new, old, strict=True)]
    return old if type(new) is type(old) and new == old else new
