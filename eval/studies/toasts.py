"""What a run of `eval.studies.toaster` found: pictures, what networks say of them, what it took. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eval.records import UNFINISHED, Run, read_slices
from eval.rows import erred, flag
from eval.studies.judged_again import command, nearby
from eval.studies.reading import Curves, Reading

Array = np.ndarray[Any, Any]
Watched = Mapping[str, Mapping[str, Mapping[str, Array]]]
"""What `eval.toasting` saw, by search and network."""
Seen = tuple[tuple[str, float], ...]
"""The likeliest classes of a picture and their probabilities."""

CONFIDENT = 0.8  # where the article's loop stops
_AFTER, _SAVED, _TRUNCATED = 1, 2, 3  # of `eval.toasting.STAGES`


@dataclass(frozen=True)
class Toast:
    """What a search made of a picture for one network.

    Attributes:
        network: that it was made for.
        search: name of the attack.
        sample: id of the picture.
        target: the wanted class.
        stages: what the network says before, after, of the file that was saved, and after cutting to 8 bits.
        wanted: probability of the target at each stage.
        way: what it says at 11 points on the way from the picture to the file that was saved.
        x: the picture (C, H, W) in box units.
        x_adv: the result, likewise.
        steps: backwards of the network.
        steps_to: gradient steps until the target had a probability of 0.8; None if it never had.
        seconds: of the search.
        linf: size of the change in box units.
        linf_8bit: of the file that was saved.
        rms: root mean square of the change, in box units.
        done: the network's answer is the target.
        done_8bit: it still is after rounding to 8 bits.
        picture: name of the file among the run's pictures; empty where there is none.
        path: of that file; None where it is not there.
        again: the command that judges the file again; empty where it is not there.
        seed: of the run, where pictures of several are shown.
    """

    network: str
    search: str
    sample: str
    target: str
    stages: tuple[Seen, ...]
    wanted: tuple[float, ...]
    way: tuple[Seen, ...]
    x: Array
    x_adv: Array
    steps: int
    steps_to: int | None
    seconds: float
    linf: float
    linf_8bit: float
    rms: float
    done: bool
    done_8bit: bool
    picture: str = ""
    path: Path | None = None
    again: str = ""
    seed: int | None = None


@dataclass(frozen=True)
class Toasts:
    """All of a run, and whom else they fool.

    Attributes:
        all: by network, then by search.
        best: the one to show first: 8-bit, smallest.
        passed: (network, search, other network, its answer, its probability, whether it is the target).
    """

    all: tuple[Toast, ...]
    best: Toast | None
    passed: tuple[tuple[str, str, str, str, float, bool], ...]

    @staticmethod
    def joined(several: Sequence[Toasts], seeds: Sequence[int]) -> Toasts:
        """Those of runs with different seeds, each with its seed."""
        pairs = list(zip(several, seeds, strict=True))
        found = tuple(replace(toast, seed=seed) for toasts, seed in pairs for toast in toasts.all)
        passed = tuple((f"{p[0]}, seed {seed}", *p[1:]) for toasts, seed in pairs for p in toasts.passed)
        return Toasts(found, _best(found), passed)


def read(run: Run, records: pd.DataFrame, folder: Path) -> Reading:
    """What a run of `eval.studies.toaster.Toaster` says."""
    rows = records[~erred(records) & (records["role"] == "attack")]
    watched = {str(a["name"]): _watched(folder, str(a["name"])) for a in run.attacks}
    found = tuple(_found_again(toast, run, folder) for toast in _toasts(run, rows, watched))
    toasts = Toasts(found, _best(found), tuple(_passed(run, rows)))
    done = run.status not in UNFINISHED
    said = _findings(toasts) if found or done else ["No search has ended yet."]
    curves, told = tuple(_traces(run, watched)), tuple(_told(toasts))
    return Reading((), tuple(said), curves=curves, told=told, shows=toasts, csv=_frame(toasts))


def _found_again(toast: Toast, run: Run, folder: Path) -> Toast:
    path = folder / "pictures" / toast.picture
    if not toast.picture or not path.is_file():
        return toast
    return replace(toast, path=nearby(path), again=command(run, path))


def _told(toasts: Toasts) -> Iterator[str]:
    """Where the best is, and how it is judged again."""
    if toasts.best is not None and toasts.best.path is not None:
        yield f"Saved: {toasts.best.path}"
        yield f"Judged again by: {toasts.best.again}"


def _watched(folder: Path, search: str) -> dict[str, dict[str, Array]]:
    """What was seen of a search, by network: all slices of the pictures as one."""
    found = {}
    for network, slices in read_slices(folder, f"watched:{search}").items():
        seen, before = [], 0
        for arrays in (some for some in slices if "sample" in some):
            shift = np.array([before, 0, 0, 0])  # traces count the pictures of their slice
            seen.append({**arrays, "trace": arrays["trace"] + shift})
            before += len(arrays["sample"])
        if seen:
            found[network] = {k: np.concatenate([s[k] for s in seen]) for k, v in seen[0].items() if v.ndim}
    return found


def _toasts(run: Run, rows: pd.DataFrame, watched: Watched) -> Iterator[Toast]:
    classes = run.data["classes"]
    own = rows[rows["source"] == rows["target_model"]].to_dict("records")
    at = {(row["source"], row["attack"], row["sample"]): row for row in own}
    for network in (str(m["name"]) for m in run.models):
        for search, measured in watched.items():
            seen = measured.get(network, {})
            for i in range(len(seen.get("sample", ()))):
                row = at[network, search, str(seen["sample"][i])]
                yield _toast(network, search, seen, i, row, classes)


def _toast(network: str, search: str, seen: Mapping[str, Array], i: int, row: Any, classes: Sequence[str]) -> Toast:
    trace = seen["trace"][seen["trace"][:, 0] == i]
    sure = trace[trace[:, 3] >= CONFIDENT]
    return Toast(
        network=network,
        search=search,
        sample=str(seen["sample"][i]),
        target=classes[int(seen["target"][i])],
        stages=tuple(_named(seen["classes"][i], seen["shares"][i], classes)),
        wanted=tuple(float(p) for p in seen["wanted"][i]),
        way=tuple(_named(seen["way_classes"][i], seen["way_shares"][i], classes)),
        x=seen["x"][i],
        x_adv=seen["x_adv"][i],
        steps=int(row["backwards"]),
        steps_to=int(sure[0, 1]) if len(sure) else None,
        seconds=float(row["seconds"]),
        linf=float(row["linf"]),
        linf_8bit=float(seen["linf_8bit"][i]),
        rms=float(row["rms"]),
        done=bool(row["success"]),
        done_8bit=bool(row["success_8bit"]),
        picture=str(seen["picture"][i]) if "picture" in seen else "",
    )


def _named(classes: Array, shares: Array, names: Sequence[str]) -> Iterator[Seen]:
    for row, p in zip(classes, shares, strict=True):
        yield tuple((names[int(k)], float(s)) for k, s in zip(row, p, strict=True))


def _best(found: Sequence[Toast]) -> Toast | None:
    """Of those that are still the target in 8 bits and sure of it, the smallest; else of those that are at all."""

    def rank(toast: Toast) -> tuple[bool, bool, float, float]:
        return not toast.done_8bit, toast.wanted[_SAVED] < CONFIDENT, toast.linf_8bit, -toast.wanted[_SAVED]

    return min((t for t in found if t.done), key=rank, default=None)


def _passed(run: Run, rows: pd.DataFrame) -> Iterator[tuple[str, str, str, str, float, bool]]:
    classes = run.data["classes"]
    others = rows[rows["source"] != rows["target_model"]]
    hit = flag(others["success"])
    for row, success in zip(others.to_dict("records"), hit, strict=True):
        answer = classes[int(row["adv_pred"])] if int(row["adv_pred"]) >= 0 else "nothing"
        yield (
            str(row["source"]),
            str(row["attack"]),
            str(row["target_model"]),
            answer,
            float(row["adv_conf"]),
            bool(success),
        )


def _findings(toasts: Toasts) -> Iterator[str]:
    best = toasts.best
    if best is None:
        yield "No search made the picture the wanted class."
        return
    (before, sure), (after, now) = best.stages[0][0], best.stages[_SAVED][0]
    saved = "saved as PNG and read back" if best.picture else "rounded to 8 bits"
    yield (
        f"{best.network} takes the picture for {before} ({sure:.1%}). Changed by at most "
        f"{255 * best.linf_8bit:.3g}/255 a pixel, {saved}, it is {after} ({now:.1%})."
    )
    for network in dict.fromkeys(t.network for t in toasts.all):
        yield from _compared([t for t in toasts.all if t.network == network and t.sample == toasts.all[0].sample])
    if toasts.passed:
        hits = sum(passed[-1] for passed in toasts.passed)
        of = f"{hits} of {len(toasts.passed)} cases"
        yield f"Shown to another network, the result is taken for {best.target} in {of}."


def _compared(found: Sequence[Toast]) -> Iterator[str]:
    """The article's loop beside ours on one picture, and the smallest step of 1/255."""
    by = {t.search: t for t in found}
    article, ours = by.get("article"), by.get("pgd")
    if article is not None and ours is not None and ours.steps_to is not None:
        theirs = (
            f"the article's loop {article.steps_to}: {article.steps_to / max(1, ours.steps_to):.0f} times as many"
            if article.steps_to is not None
            else f"the article's loop has not got there after {article.steps}"
        )
        yield f"{ours.network}: projected gradients reach 80% in {ours.steps_to} steps, {theirs}."
    smallest = by.get("smallest_eps")
    if smallest is not None and smallest.done_8bit:
        yield (
            f"{smallest.network}: the smallest change that makes the saved picture {smallest.target} is "
            f"{255 * smallest.linf_8bit:.3g}/255 a pixel ({smallest.wanted[_SAVED]:.1%})."
        )


def _traces(run: Run, watched: Watched) -> Iterator[Curves]:
    """The probability of the target against gradient steps, one chart a network, for its first picture."""
    for network in (str(m["name"]) for m in run.models):
        lines = []
        for search, measured in watched.items():
            trace = measured.get(network, {}).get("trace", np.zeros((0, 4)))
            first = trace[trace[:, 0] == 0]
            if len(first) > 1:
                lines.append((search, np.column_stack([np.log10(1 + first[:, 1]), first[:, 3]])))
        if lines:
            yield Curves(
                f"trace_{network}",
                f"{network}: how sure it is",
                "The probability of the wanted class each time that the search asked the network.",
                "gradient steps + 1",
                "probability",
                tuple(lines),
                bases=(10, 0),
            )


def _frame(toasts: Toasts) -> dict[str, pd.DataFrame]:
    rows = [
        {
            "network": t.network, "search": t.search, "sample": t.sample, "target": t.target,
            "before": t.stages[0][0][0], "after": t.stages[_AFTER][0][0], "saved": t.stages[_SAVED][0][0],
            "p_before": t.wanted[0], "p_after": t.wanted[_AFTER], "p_saved": t.wanted[_SAVED],
            "p_truncated": t.wanted[_TRUNCATED], "steps": t.steps,
            "steps_to_0.8": math.nan if t.steps_to is None else t.steps_to, "seconds": t.seconds, "linf": t.linf,
            "linf_8bit": t.linf_8bit, "rms": t.rms, "done": t.done, "done_8bit": t.done_8bit, "picture": t.picture,
        }
        for t in toasts.all
    ]  # fmt: skip
    passed = pd.DataFrame(toasts.passed, columns=["made_for", "search", "shown_to", "answer", "probability", "target"])
    return {"toasts": pd.DataFrame(rows), "transfer": passed}
