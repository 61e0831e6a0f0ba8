"""What `toastproof --help` prints: the groups, and every key with its comment, straight from the files of `conf`."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

GROUPS = ("data", "model", "attack", "threat", "train", "experiment", "study", "debug")
_WIDTH = 110
_HEAD = """\
toastproof: how easily is this image classifier fooled?

Trains or loads classifiers, searches for adversarial perturbations, measures how they transfer, and writes
report.html, summary.csv, transfer.csv and run.json into run.dir (by default below runs/).

Examples
  toastproof
  toastproof data=mnist 'model=[softmax,mlp,cnn]' 'attack=[fgsm,pgd,lbfgs]' threat=linf_0_3
  toastproof model=factory model.path=nets.py:resnet data=cifar10 threat=linf_8_255
  toastproof model=exported model.path=net.pt2 data=images data.root=val threat=linf_4_255
  toastproof -m threat.eps=0.05,0.1,0.2 attack.pgd.steps=10,40
  toastproof experiment=transfer data=cifar10
  toastproof debug=quick            a small form of anything
  toastproof-report RUN             rebuild a report from stored records

Groups: choose with group=option; several models or attacks as 'model=[option,option]' (quoted, without blanks)
"""
_KEYS = """\
Keys: set with key=value, such as seed=1 or attack.pgd.steps=100. Below are those of the options chosen by default;
`toastproof data=images attack=foolbox/pgd --help` shows those of others.
"""
_TAIL = """\
--multirun, -m   run every combination of values given as key=a,b,c, and write one combined report
--cfg job        print the composed configuration instead of running it
--hydra-help     Hydra's own options
--version
"""


def options(conf: Path, group: str) -> list[str]:
    """The options of a group, those in sub-folders as `folder/option`."""
    return sorted(p.relative_to(conf / group).with_suffix("").as_posix() for p in (conf / group).rglob("*.yaml"))


def chosen(default: dict[str, list[str]], arguments: Sequence[str]) -> dict[str, list[str]]:
    """The options that the command line chooses in each group."""
    result = dict(default)
    for argument in arguments:
        group, equals, value = argument.partition("=")
        if equals and group in GROUPS:
            result[group] = [v for v in value.strip("[]'\" ").split(",") if v and v != "null"]
    return result


def _named(found: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Groups with their options, of which a list or one is written."""
    return {g: [v for v in o.strip("[]").split(", ") if v not in ("", "null")] for g, o in found if g in GROUPS}


def defaults(text: str) -> dict[str, list[str]]:
    """The options that `config.yaml` itself chooses."""
    found = re.findall(r"^  - (\w+): (.+)$", text.partition("\n\n")[0], re.MULTILINE)
    return _named(found)


def overridden(text: str) -> dict[str, list[str]]:
    """The options that an experiment chooses in place of those of `config.yaml`."""
    lists = re.sub(r" +#.*", "", text)
    lists = re.sub(r":\n((?:    - \S+\n)+)", lambda found: f": [{', '.join(found[1].split()[1::2])}]\n", lists)
    found = re.findall(r"^  - override /(\w+): (.+)$", lists, re.MULTILINE)
    return _named(found)


def package(text: str, group: str) -> str:
    """Where the keys of an option's file go: its group, or what its first line says; nothing for the top."""
    found = re.match(r"# @package (\S+)", text)
    return group if found is None else found[1].replace("_global_", "")


def _body(text: str) -> Iterator[str]:
    """The lines of a configuration file that are keys."""
    skipping = False
    for line in text.splitlines():
        if re.match(r"\S", line):
            skipping = line.startswith(("defaults:", "hydra:", "_target_:"))
        if line.strip() and not skipping and not line.startswith("# @package") and not line.startswith("# The main"):
            yield line


def _default(conf: Path, main: str, arguments: Sequence[str]) -> dict[str, list[str]]:
    """The options that are chosen where the command line chooses none: those of the experiment before the rest."""
    found = defaults(main)
    for name in chosen(found, arguments).get("experiment", []):
        path = conf / "experiment" / f"{name}.yaml"
        found |= overridden(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def usage(conf: Path, arguments: Sequence[str]) -> str:
    """The help text, for the options that the command line chooses."""
    main = (conf / "config.yaml").read_text(encoding="utf-8")
    indent = " " * 15
    lists = [
        textwrap.fill(f"  {group + ':':<13}{', '.join(options(conf, group))}", _WIDTH, subsequent_indent=indent)
        for group in GROUPS
    ]
    parts = [_HEAD, *lists]
    parts += ["", _KEYS, *(f"  {line}" for line in _body(main))]
    for group, names in chosen(_default(conf, main, arguments), arguments).items():
        for option in names:
            path = conf / group / f"{option}.yaml"
            if not path.is_file():
                parts += ["", f"  {group}={option}: there is no such option"]
                continue
            text = path.read_text(encoding="utf-8")
            place = package(text, group)
            parts += ["", f"  {place}:   # {group}={option}" if place else f"  # {group}={option}"]
            parts += [f"  {'  ' if place else ''}{line}" for line in _body(text)]
    return "\n".join([*parts, "", _TAIL])
