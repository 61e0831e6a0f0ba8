"""How perturbations made for one model fare on others, beside what no attack at all would do. Free of torch.

A transfer number alone says little: the target errs without any perturbation, and noise of the same
size fools it too. So each cell stands beside the target's clean error and its error under noise of
the same RMS, on the same samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from eval.intervals import Bools, Codes, Floats, rate
from eval.rows import erred, flag, numbers, silent, spelled, wrong

CELL = ["source", "target_model", "attack", "norm", "eps_text", "eps"]
_MADE = [name for name in CELL if name != "target_model"]
_KEPT = [
    "role", "sample", "label", "target_class", "clean_pred", "adv_pred", "success", "in_box", "in_budget", "rms",
    "error",
]  # fmt: skip
_MOST_KINDS = 2**62


def _missing(rows: pd.DataFrame) -> Bools:
    """Whether there is no result: the attack ended with an error, or the target gave no prediction."""
    return erred(rows) | silent(rows)


def _fooled(rows: pd.DataFrame, missing: Bools) -> Bools:
    """Whether the prediction is wrong, on an image inside the box and the budget."""
    return wrong(rows, "adv_pred") & flag(rows["in_box"]) & flag(rows["in_budget"]) & ~missing


def _codes(column: pd.Series[Any]) -> tuple[Codes, int]:
    """Numbers from 0 on, one per row, equal where the column is; and the number that all are below."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return np.asarray(column.cat.codes, dtype=np.int64) + 1, len(column.dtype.categories) + 1
    codes, names = pd.factorize(column, use_na_sentinel=False)
    return np.asarray(codes, dtype=np.int64), max(1, len(names))


def _keys(rows: pd.DataFrame, columns: list[str], base: Codes | None = None) -> Codes:
    """One number per row, equal where the columns, and those behind `base`, are; ascending as they first appear."""
    keys = np.zeros(len(rows), dtype=np.int64) if base is None else base
    below = _kinds(keys)
    for codes, kinds in (_codes(rows[column]) for column in columns):
        if below * kinds > _MOST_KINDS:
            keys = pd.factorize(keys)[0]
            below = _kinds(keys)
        keys, below = keys * kinds + codes, below * kinds
    return np.asarray(pd.factorize(keys)[0], dtype=np.int64)


def _kinds(codes: Codes) -> int:
    """How many different numbers there are, if they ascend as they first appear."""
    return int(codes.max(initial=-1)) + 1


def _alike(made: Codes, what: Codes, chosen: Bools) -> Bools:
    """Which rows are made in the same way, of the same thing, as one of those chosen."""
    place = made * _kinds(what) + what
    there = np.zeros(_kinds(made) * _kinds(what), dtype=bool)
    there[place[chosen]] = True
    return np.asarray(there[place], dtype=bool)


def _sums(rows: pd.DataFrame, cells: Codes, columns: Mapping[str, Bools | Floats]) -> pd.DataFrame:
    """One row per cell, as they first appear: its keys, how many of its rows are true, and sums of their numbers."""
    n = _kinds(cells)
    first = np.zeros(n, dtype=np.int64)
    first[cells[::-1]] = np.arange(len(cells))[::-1]
    table = spelled(rows[CELL].iloc[first].reset_index(drop=True))
    for name, values in columns.items():
        if values.dtype == bool:
            table[name] = np.bincount(cells[values], minlength=n)
        else:
            table[name] = pd.Series(values).groupby(cells, sort=False).sum()
    return table


def transfer(records: pd.DataFrame) -> pd.DataFrame:
    """One row per source x target x attack x eps, the white box (source = target) among them.

    Columns: source, target, attack, norm, eps_text, eps; n, wrong, error, low, high (the target's
    prediction differs from the label; candidates outside the box or the budget fool nobody);
    clean_wrong, clean_error (of the same samples unperturbed); noise_n, noise_wrong, noise_error,
    low_noise, high_noise (NaN where no control was run); moved (samples with a perturbation), rms (its
    mean over them, NaN without any); transfer_n, transferred_count, transferred, low_transferred,
    high_transferred (of the samples that both models classify correctly and that fool the source, those
    that fool the target); targeted_n, reached, targeted, low_targeted, high_targeted (the wanted class
    was reached); failed (no result: the attack crashed, or the target's logits were not finite).

    All n samples count in `error`, `clean_error` and `noise_error`, also those that were not attacked
    because the source misclassifies them unperturbed: what the target sees there is the image itself.
    """
    attacks, control = (records[[*CELL, *_KEPT]][records["role"] == role] for role in ("attack", "control"))
    bad = _missing(attacks)
    fooled = _fooled(attacks, bad)
    rms = numbers(attacks["rms"])
    moved = np.isfinite(rms) & (rms > 0) & ~bad
    right = ~wrong(attacks, "clean_pred")
    made = _keys(attacks, _MADE)
    white = (attacks["source"] == attacks["target_model"]).to_numpy(bool)
    base = _alike(made, _keys(attacks, ["sample", "target_class"]), white & right & fooled) & right & ~bad
    targeted = (numbers(attacks["target_class"]) >= 0) & ~bad
    columns = {
        "n": ~bad,
        "wrong": fooled,
        "clean_wrong": ~right & ~bad,
        "moved": moved,
        "rms": np.where(moved, rms, 0.0),
        "transfer_n": base,
        "transferred_count": base & fooled,
        "targeted_n": targeted,
        "reached": targeted & flag(attacks["success"]),
        "failed": bad,
    }
    table = _sums(attacks, _keys(attacks, ["target_model"], made), columns)
    absent = _missing(control)
    noise = {"noise_n": ~absent, "noise_wrong": _fooled(control, absent)}
    table = table.merge(_sums(control, _keys(control, CELL), noise), on=CELL, how="left")
    table[["noise_n", "noise_wrong"]] = table[["noise_n", "noise_wrong"]].fillna(0).astype(np.int64)
    n = table["n"].clip(lower=1)
    table = table.assign(
        clean_error=table["clean_wrong"] / n, rms=table["rms"] / table["moved"].where(table["moved"] > 0)
    )
    table = rate(table, "wrong", "n", "error")
    table = rate(table, "noise_wrong", "noise_n", "noise_error", "_noise")
    table = rate(table, "transferred_count", "transfer_n", "transferred", "_transferred")
    table = rate(table, "reached", "targeted_n", "targeted", "_targeted")
    return table.rename(columns={"target_model": "target"})
