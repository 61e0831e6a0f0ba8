"""What was probably meant by a mistyped name on the command line, from the files of `conf`. Free of torch."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

from eval.keys import keys
from eval.usage import GROUPS, options

_NEAREST, _ALIKE, _BEHIND = 4, 0.7, 0.1  # how many, how alike, and how far behind the nearest at most
_ALIKE_KEYS, _SURE = 0.75, 0.9  # what two keys have in common may be no more than the node that they lie in
_OPTION = re.compile(r"Could not (?:find|load) '(\w+)/([^']+)'\.?(?:; Available options in '\w+':.*)?")
_KEY = re.compile(r"Key '[^']+' (?:is not in struct|not in '(?!HydraConf)\w+').*?full_key: (?!hydra\b)([\w./-]+)")
_VALUE = re.compile(
    r"(?:Error merging override .*?; )?Value '(.*)' (?:of type '\w+' could not be converted to|is not a valid) (\w+)"
    r"(?: \(type \w+\))?; full_key: ([\w./-]+)"
)
_TYPES = {
    "Integer": "a whole number", "Float": "a decimal number", "Boolean": "true or false", "bool": "true or false",
}  # fmt: skip
_NULL = re.compile(r"(?:Error merging override .*?; )?field '([\w./-]+)' is not Optional; full_key: .*")
_ARGUMENT = re.compile(r"Could not (?:override|append to config|delete from config)\.? '?([\w./-]+)'?")


def remedy(text: str, conf: Path, arguments: Sequence[str]) -> str:
    """A message of Hydra's with what exists and is nearest in place of its own words.

    Args:
        text: the message, in one line.
        conf: the folder of configuration files.
        arguments: the command line.
    """
    missing = _OPTION.search(text)
    if missing and missing[1] in GROUPS:
        return text.replace(missing[0], f"there is no {missing[1]}={missing[2]}; {_meant(conf, *missing.groups())}")
    stranger = _KEY.search(text)
    if stranger:
        written = _ARGUMENT.search(text)
        wrong = written[1] if written and written[1].startswith(stranger[1]) else stranger[1]
        return f"{wrong}: there is no such key; {_key_meant(wrong, stranger[1], keys(conf, arguments))}"
    value = _VALUE.fullmatch(text)
    if value and value[2] in _TYPES:
        return f"{value[3]}: must be {_TYPES[value[2]]}, got {value[1]!r}"
    empty = _NULL.fullmatch(text)
    return f"{empty[1]}: must have a value, got null" if empty else text


def near(wrong: str, known: Sequence[str], alike_at_least: float = _ALIKE) -> list[str]:
    """The names that are most alike, the nearest first.

    >>> near("attack.pgd.stps", ["attack.pgd.steps", "attack.pgd.restarts", "seed"])
    ['attack.pgd.steps']
    """
    found = difflib.get_close_matches(wrong, known, _NEAREST, alike_at_least)
    alike = [difflib.SequenceMatcher(None, name, wrong).ratio() for name in found]
    return [name for name, ratio in zip(found, alike, strict=True) if ratio > alike[0] - _BEHIND]


def _meant(conf: Path, group: str, wrong: str) -> str:
    """The nearest options of a group, in sub-folders too, or all where none is near."""
    known = options(conf, group)
    found = near(wrong, known)
    name = wrong.rpartition("/")[2]  # right, but in another folder or in none
    found += [option for option in known if option.rpartition("/")[2] == name and option not in found]
    if found:
        return f"did you mean {' or '.join(found)}?"
    return f"options: {', '.join(known)}"


def _key_meant(wrong: str, first: str, known: Sequence[str]) -> str:
    """The nearest keys, and those that are where `first`, the first part of `wrong` that does not exist, should be."""
    node = first.rpartition(".")[0]
    found = near(wrong, [key for key in known if not wrong.startswith(f"{key}.")], _ALIKE_KEYS)
    if not found:  # right, but in another node or in none
        found = [key for key in known if key.rpartition(".")[2] == wrong.rpartition(".")[2]][:_NEAREST]
    parts = [f"did you mean {' or '.join(found)}?"] if found else []
    beside = [key.removeprefix(f"{node}.") for key in known if key.startswith(f"{node}.")]
    beside = [key for key in beside if "." not in key]
    if node in ("attack", "model"):
        parts.append(f"this run's {node}s: {', '.join(k for k in beside if f'{node}.{k}.' in _nodes(known)) or 'none'}")
    elif not found and node in GROUPS and not beside:
        parts.append(f"this run has no {node}; choose one with {node}=..., see toastproof --help")
    elif beside and not near(wrong, found, _SURE):
        parts.append(f"keys of {node}: {', '.join(beside)}")
    elif not found:
        parts.append("toastproof --help lists the keys")
    return "; ".join(parts).replace("?;", "?")


def _nodes(known: Sequence[str]) -> set[str]:
    """The keys that hold others, each with a dot at its end."""
    return {f"{key.rpartition('.')[0]}." for key in known}
