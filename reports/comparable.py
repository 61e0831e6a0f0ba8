"""Whether the numbers of several runs answer one question, so that one can be called better than another."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from eval.records import Run

AT_A_GLANCE = ("title", "data", "data.path", "threat.norm", "threat.eps", "goal", "target", "image")
"""Keys that tell runs apart which share little."""
_MOST = 6  # keys that somebody varies on purpose
_PLACES = ("path", "train", "test")  # of a configuration of data: which files they are


def _data(run: Run) -> Any:
    node: Mapping[str, Any] = run.config.get("data") or {}
    files = [node.get(key) for key in _PLACES]
    return [run.data["name"], run.data["classes"], run.data["shape"], files]


def _study(run: Run) -> Any:
    node: Mapping[str, Any] = run.config.get("study") or {}
    return [node.get(key) for key in ("_target_", "target", "of")]


_QUESTIONS: Mapping[str, Callable[[Run], Any]] = {
    "data": _data,
    "norm": lambda run: run.threat["norm"],
    "budget": lambda run: run.threat["headline"],
    "goal": lambda run: run.goal,
    "study": _study,
}


def strange(apart: Collection[str], varied: Collection[str]) -> bool:
    """Whether runs are no sweep, but have little in common: to be told by their titles, not by all that varied."""
    return len(varied) > _MOST and bool(set(apart) - {"budget"})


def differ(runs: Sequence[Run]) -> tuple[str, ...]:
    """In what runs differ that makes their numbers answers to different questions.

    Returns:
        Some of `data`, `norm`, `budget`, `goal` and `study`. Nothing where networks, attacks, training or seeds vary.
    """
    found = []
    for name, asked in _QUESTIONS.items():
        if len({json.dumps(asked(run), sort_keys=True) for run in runs}) > 1:
            found.append(name)
    return tuple(found)


def question(run: Run, apart: Collection[str]) -> str:
    """The question that a run answers, as far as it is not that of all the others: the same text, the same question."""
    return json.dumps([_QUESTIONS[name](run) for name in apart], sort_keys=True) if apart else ""
