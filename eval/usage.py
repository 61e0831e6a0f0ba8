"""What `toastproof --help` prints: the groups, and every key with its comment, straight from the files of `conf`."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

_GROUPS = ("data", "model", "attack", "threat", "train", "experiment", "debug")
_WIDTH = 110
_HEAD = """\
toastproof: how easily is this image classifier fooled?

Trains or loads classifiers, searches for adversarial perturbations, measures how they transfer, and writes
report.html, summary.csv, transfer.csv and run.json into hydra.run.dir (by default below runs/).

Examples
  toastproof
  toastproof data=mnist 'model=[softmax,mlp,cnn]' 'attack=[fgsm,pgd,lbfgs]' threat=linf_0_3
  toastproof model=factory model.path=nets.py:resnet data=cifar10 threat=linf_8_255
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


def _options(conf: Path, group: str) -> list[str]:
    return sorted(p.relative_to(conf / group).with_suffix("").as_posix() for p in (conf / group).rglob("*.yaml"))


def _chosen(defaults: dict[str, list[str]], arguments: Sequence[str]) -> dict[str, list[str]]:
    """The options that the command line chooses in each group."""
    chosen = dict(defaults)
    for argument in arguments:
        group, equals, value = argument.partition("=")
        if equals and group in _GROUPS:
            chosen[group] = [v for v in value.strip("[]'\" ").split(",") if v and v != "null"]
    return chosen


def _defaults(text: str) -> dict[str, list[str]]:
    """The options that `config.yaml` itself chooses."""
    found = re.findall(r"^  - (\w+): (.+)$", text.partition("\n\n")[0], re.MULTILINE)
    return {g: [v for v in o.strip("[]").split(", ") if v != "null"] for g, o in found if g in _GROUPS}


def _body(text: str) -> Iterator[str]:
    """The lines of a configuration file that are keys."""
    skipping = False
    for line in text.splitlines():
        if re.match(r"\S", line):
            skipping = line.startswith(("defaults:", "hydra:", "_target_:"))
        if line.strip() and not skipping and not line.startswith("# @package") and not line.startswith("# The main"):
            yield line


def usage(conf: Path, arguments: Sequence[str]) -> str:
    """The help text, for the options that the command line chooses."""
    main = (conf / "config.yaml").read_text(encoding="utf-8")
    indent = " " * 15
    lists = [
        textwrap.fill(f"  {group + ':':<13}{', '.join(_options(conf, group))}", _WIDTH, subsequent_indent=indent)
        for group in _GROUPS
    ]
    parts = [_HEAD, *lists]
    parts += ["", _KEYS, *(f"  {line}" for line in _body(main))]
    for group, options in _chosen(_defaults(main), arguments).items():
        for option in options:
            path = conf / group / f"{option}.yaml"
            if not path.is_file():
                parts += ["", f"  {group}={option}: there is no such option"]
                continue
            text = path.read_text(encoding="utf-8")
            package = re.match(r"# @package (\S+)", text)
            node = package.group(1) if package and package.group(1) != "_global_" else group
            parts += ["", f"  {node}:   # {group}={option}", *(f"    {line}" for line in _body(text))]
    return "\n".join([*parts, "", _TAIL])
