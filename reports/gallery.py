"""The examples of a report: images that a run kept, with what was said of them before and after."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from eval.metrics import Threat
from eval.records import Run, read_examples
from eval.rows import white_box
from reports.figures import number
from reports.images import triptych
from reports.texts import eps_label, norm_label

_MOST = 24
_FOREMOST, _PER_MODEL = 9, 3  # shown at once
_MOST_PIXELS = 24 * 80 * 80  # fewer of large ones, so that the page stays small


@dataclass(frozen=True)
class Example:
    """One image: three pictures as data URIs, and the predictions on the first and the last."""

    sample: str
    model: str
    attack: str
    eps: str
    original: str
    perturbation: str
    adversarial: str
    factor: int
    pixels: int
    label: str
    before: str
    before_confidence: float
    after: str
    after_confidence: float
    sizes: tuple[tuple[str, str], ...]
    survives: bool


def _units(folder: Path, run: Run, threat: Threat) -> list[dict[str, Any]]:
    """The files of examples: those of the headline eps and of minimal attacks first, models and attacks in turn."""
    models = {str(m["name"]): i for i, m in enumerate(run.models)}
    attacks = {str(a["name"]): i for i, a in enumerate(run.attacks)}

    def rank(unit: dict[str, Any]) -> tuple[bool, int, int]:
        first = str(unit["eps_text"]) in (threat.headline, "min")
        return not first, attacks.get(str(unit["attack"]), 99), models.get(str(unit["source"]), 99)

    return sorted(read_examples(folder), key=rank)


def _turns(units: Sequence[dict[str, Any]], headline: str) -> list[tuple[int, int]]:
    """The order of the examples, as (unit, image): one of each unit, then a second of each; other eps last.

    Each unit takes the image that was shown least for its model, so that attacks stand beside different samples.
    """
    left = [list(range(len(unit["sample"]))) for unit in units]
    shown: dict[tuple[str, str], int] = {}
    result = []
    for at_headline in (True, False):
        mine = [u for u, unit in enumerate(units) if (str(unit["eps_text"]) in (headline, "min")) == at_headline]
        while any(left[u] for u in mine):
            for u in (u for u in mine if left[u]):
                keys = [(str(units[u]["source"]), str(units[u]["sample"][i])) for i in left[u]]
                place = min(range(len(keys)), key=lambda k: shown.get(keys[k], 0))
                shown[keys[place]] = shown.get(keys[place], 0) + 1
                result.append((u, left[u].pop(place)))
    return result


def gallery(folder: Path, run: Run, records: pd.DataFrame, threat: Threat) -> tuple[Example, ...]:
    """Examples from each model and attack in turn, as many as a page holds."""
    units = _units(folder, run, threat)
    if not units:
        return ()
    pixels = math.prod(run.data.get("shape", (1, 1, 1))[1:])
    most = max(12, min(_MOST, _MOST_PIXELS // max(pixels, 1)))
    turns = _turns(units, threat.headline)[:most]
    wanted = {str(units[turn]["sample"][i]) for turn, i in turns}
    rows = white_box(records[records["sample"].isin(list(wanted))])
    rows = rows[rows["error"].eq("")]
    found = {(r["source"], r["attack"], r["eps_text"], r["sample"]): r for r in rows.to_dict("records")}
    classes = [str(c) for c in run.data.get("classes", ())]
    low, high = run.data.get("box", (0.0, 1.0))

    def name(label: int) -> str:
        return classes[label] if 0 <= label < len(classes) else str(label)

    result = []
    for turn, i in turns:
        unit = units[turn]
        key = (str(unit["source"]), str(unit["attack"]), str(unit["eps_text"]), str(unit["sample"][i]))
        row = found.get(key)
        if row is None:
            continue
        original, perturbation, adversarial, factor = triptych(unit["x"][i], unit["x_adv"][i], (low, high))
        measures = dict.fromkeys([threat.norm, "l2", "rms"])
        result.append(
            Example(
                sample=key[3],
                model=key[0],
                attack=key[1],
                eps=eps_label(key[2]),
                original=original,
                perturbation=perturbation,
                adversarial=adversarial,
                factor=factor,
                pixels=max(unit["x"].shape[2:]),
                label=name(int(row["label"])),
                before=name(int(row["clean_pred"])),
                before_confidence=float(row["clean_conf"]),
                after=name(int(row["adv_pred"])),
                after_confidence=float(row["adv_conf"]),
                sizes=tuple(("RMS" if m == "rms" else norm_label(m), number(float(row[m]))) for m in measures),
                survives=bool(row["success_8bit"]),
            )
        )
    return tuple(result)


def foremost(
    examples: Sequence[Example], strength: Mapping[tuple[str, str], float]
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """The examples to show at once, three of each model and nine in all at most, and the rest.

    Args:
        examples: in the order of the page.
        strength: robust accuracy under (model, attack) at the headline eps; the first example of each of a model's
            strongest attacks comes first, then the second of each.
    """
    turn: dict[tuple[str, str], int] = {}
    ranked = []
    for i, e in enumerate(examples):
        key = (e.model, e.attack)
        turn[key] = turn.get(key, -1) + 1
        ranked.append((turn[key], strength.get(key, math.inf), i))
    taken: dict[str, list[int]] = {e.model: [] for e in examples}
    for _, _, i in sorted(ranked):
        taken[examples[i].model].append(i)
    rounds = [mine[r] for r in range(_PER_MODEL) for mine in taken.values() if r < len(mine)]
    chosen = set(rounds[:_FOREMOST])
    return tuple(examples[i] for i in sorted(chosen)), tuple(e for i, e in enumerate(examples) if i not in chosen)
