"""What was probably meant by a mistyped name on the command line, from the files of `conf`. Free of torch."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from eval.usage import GROUPS, chosen, defaults, options, package

_NEAREST, _ALIKE = 4, 0.7
_OPTION = re.compile(r"Could not (?:find|load) '(\w+)/([^']+)'\.?(?:; Available options in '\w+':.*)?")
_NODE = re.compile(r"Key '(\w+)' is not in struct; full_key: (attack|model)\.")
_OVERRIDE = re.compile(r"^  - override /(attack|model): (.+)$", re.MULTILINE)


def remedy(text: str, conf: Path, arguments: Sequence[str]) -> str:
    """A message of Hydra's, with the options that exist in place of its list, or the names that the run has.

    Args:
        text: the message, in one line.
        conf: the folder of configuration files.
        arguments: the command line.
    """
    missing = _OPTION.search(text)
    if missing and missing[1] in GROUPS:
        return text.replace(missing[0], f"there is no {missing[1]}={missing[2]}; {_meant(conf, *missing.groups())}")
    stranger = _NODE.search(text)
    if stranger:
        names = dict.fromkeys(_names(conf, stranger[2], arguments))
        return f"{text}; this run's {stranger[2]}s: {', '.join(names) or 'none'}"
    return text


def _meant(conf: Path, group: str, wrong: str) -> str:
    """The nearest options of a group, in sub-folders too, or all where none is near."""
    known = options(conf, group)
    near = difflib.get_close_matches(wrong, known, _NEAREST, _ALIKE)
    name = wrong.rpartition("/")[2]  # right, but in another folder or in none
    near += [option for option in known if option.rpartition("/")[2] == name and option not in near]
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"options: {', '.join(known)}"


def _names(conf: Path, group: str, arguments: Sequence[str]) -> Iterator[str]:
    """What the run's attacks or models are called as keys: each option's file says by its package."""
    selected = defaults((conf / "config.yaml").read_text(encoding="utf-8"))
    for experiment in chosen({}, arguments).get("experiment", ()):
        path = conf / "experiment" / f"{experiment}.yaml"
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        selected |= {g: [v.strip() for v in listed.strip("[] ").split(",")] for g, listed in _OVERRIDE.findall(text)}
    for option in chosen(selected, arguments).get(group, ()):
        path = conf / group / f"{option}.yaml"
        if path.is_file():
            yield package(path.read_text(encoding="utf-8"), group).rpartition(".")[2]
