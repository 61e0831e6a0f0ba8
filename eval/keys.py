"""The keys that a command line can set, read from the files of `conf` that it chooses. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from eval.usage import GROUPS, chosen, package


def keys(conf: Path, arguments: Sequence[str]) -> list[str]:
    """All keys of a run, nodes and leaves, in the order of the files.

    Args:
        conf: the folder of configuration files.
        arguments: the command line.

    Returns:
        Such as `seed`, `attack`, `attack.pgd` and `attack.pgd.steps`.
    """
    main = _content(conf / "config.yaml")
    selected = _selected(main)
    for experiment in chosen({}, arguments).get("experiment", ()):
        selected |= _selected(_content(conf / "experiment" / f"{experiment}.yaml"))
    found = dict.fromkeys([*GROUPS, *_flat(main, "")])
    for group, options in chosen(selected, arguments).items():
        for option in options:
            found |= dict.fromkeys(_of_option(conf, group, option))
    return list(found)


def _content(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    content = OmegaConf.to_container(OmegaConf.load(path))
    return {str(k): v for k, v in content.items()} if isinstance(content, Mapping) else {}


def _selected(content: Mapping[str, Any]) -> dict[str, list[str]]:
    """The options by group that the defaults list of a file chooses."""
    found: dict[str, list[str]] = {}
    for entry in content.get("defaults", ()):
        for name, options in entry.items() if isinstance(entry, Mapping) else ():
            group = str(name).removeprefix("override ").removeprefix("/")
            if group in GROUPS and options is not None:
                found[group] = [str(o) for o in (options if isinstance(options, list) else [options])]
    return found


def _of_option(conf: Path, group: str, option: str) -> Iterator[str]:
    """The keys of an option's file, and of those of its group that it builds on."""
    path = conf / group / f"{option}.yaml"
    content = _content(path)
    for base in content.get("defaults", ()):
        if isinstance(base, str) and base != "_self_":
            yield from _of_option(conf, group, base)
    if content:
        text = path.read_text(encoding="utf-8")
        where = "" if text.startswith("# @package _global_") else package(text, group)
        yield from _above(where)
        yield from _flat(content, f"{where}." if where else "")


def _above(where: str) -> Iterator[str]:
    """A key, and those that it lies in: outermost first."""
    parts = where.split(".") if where else []
    yield from (".".join(parts[: i + 1]) for i in range(len(parts)))


def _flat(content: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for key, value in content.items():
        if key in ("defaults", "hydra", "_target_"):
            continue
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat({str(k): v for k, v in value.items()}, f"{prefix}{key}.")
