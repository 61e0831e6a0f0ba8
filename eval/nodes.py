"""What a configuration says of one object, and what becomes of it: for a run, and for networks in memory."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

from attacks.base import Attack
from attacks.threat import ThreatModel, parse_eps, unlimited
from eval.errors import InputError


def make(where: str, node: Any) -> Any:
    """The object that a node describes.

    Raises:
        InputError: its class refuses a value; the line begins with the full key.
    """
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise InputError(f"{where}: must come from a file of conf/{where.partition('.')[0]}, got {node!r}")
    arguments = {k: v for k, v in node.items() if k != "_target_"}
    module, _, name = str(node["_target_"]).rpartition(".")
    if module.partition(".")[0] not in ("attacks", "models", "eval"):
        raise InputError(f"{where}._target_: must be a class of attacks, models or eval, got {node['_target_']}")
    try:
        return getattr(importlib.import_module(module), name)(**arguments)
    except (ImportError, AttributeError):
        raise InputError(f"{where}._target_: there is no {node['_target_']}") from None
    except (ValueError, TypeError) as error:
        text = str(error)
        raise InputError(text if text.startswith(f"{where}.") else f"{where}.{text}") from error


def budget(norm: str, eps: str) -> ThreatModel:
    """What an attacker may do: an eps as the user wrote it.

    Raises:
        InputError: the norm or the eps is none.
    """
    try:
        return ThreatModel(norm, parse_eps(eps))
    except ValueError as error:
        raise InputError(str(error)) from None


def check_norm(where: str, attack: Attack, norm: str) -> None:
    """Refuse an attack that keeps no budget in that norm; `where` begins the line.

    Raises:
        InputError: it supports others.
    """
    if not attack.minimal and norm not in attack.norms:
        raise InputError(
            f"{where}: supports the norm {' or '.join(sorted(attack.norms))}, got {norm}; "
            f"choose another threat or attack"
        )


def unbounded(attack: Attack, norm: str, box: tuple[float, float]) -> ThreatModel:
    """What an attack that searches for the smallest perturbation runs with: in `norm`, if it supports that."""
    return unlimited(norm if norm in attack.norms else min(attack.norms), box)


def settled(attack: Attack, transfer: bool) -> Attack:
    """The attack with what it leaves to the run: fooled samples leave early unless they are shown to others."""
    if getattr(attack, "early_stop", True) is None:
        return dataclasses.replace(attack, early_stop=not transfer)  # type: ignore[type-var]
    return attack
