"""From records to numbers: clean and robust accuracy with n and intervals. Free of torch.

Pure functions of data frames. `outcomes` keeps what is needed of the white-box rows and works shard
by shard: the outcomes of two shards, concatenated, are the outcomes of both. `robust_accuracy` and
`curve` then count; `worst_case` tells sample by sample.

A sample is *broken at eps* when it was misclassified to begin with, or when some white-box record
succeeded on it at a distance of at most eps in the threat's norm. Records of any budget count, so
minimal attacks count at every eps, and what is broken at one eps is broken at every larger one.

A record with an error is neither broken nor robust. Where an attack crashed on a sample at an eps, it
has no result there, whatever it did to that sample at another eps: were such samples let in when they
fell at a smaller eps, and left out when not, the rest would look weaker than it is.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from eval.intervals import Bools, Codes, Floats, rate
from eval.levels import WORST, Threat
from eval.rows import erred, flag, numbers, silent, spelled, white_box, wrong

__all__ = [
    "COSTS", "COUNTS", "WORST", "Cube", "Threat", "clean_accuracy", "curve", "outcomes", "robust_accuracy",
    "worst_case",
]  # fmt: skip


def clean_accuracy(records: pd.DataFrame) -> pd.DataFrame:
    """One row per model: n, correct, clean_accuracy, low, high, and errors (samples without a result)."""
    rows = records[records["role"] == "clean"].drop_duplicates(["target_model", "sample"])
    failed = erred(rows)
    counted = pd.DataFrame(
        {
            "model": rows["target_model"],
            "n": ~failed,
            "correct": ~failed & ~wrong(rows, "clean_pred"),
            "errors": failed,
        }
    )
    table = counted.groupby("model", sort=False, observed=True).sum().astype(np.int64).reset_index()
    return rate(spelled(table), "correct", "n", "clean_accuracy")


_KEPT = (
    "sample", "label", "target_model", "attack", "norm", "eps", "eps_text", "clean_pred", "adv_pred", "success",
    "success_8bit", "forwards", "backwards", "seconds", "error",
)  # fmt: skip


def outcomes(records: pd.DataFrame, threat: Threat) -> pd.DataFrame:
    """One row per white-box record: how far the sample had to be moved.

    Columns: model, attack, sample, label, eps, eps_text, `everywhere` (the attempt stands for every
    eps: the attack is minimal, or its budget is in another norm), `size` (distance at which the
    sample is broken: 0 when it was misclassified to begin with, infinity when the record did not
    break it), `size_8bit`, failed, forwards, backwards, seconds. After rounding only the verdict is
    on record, not the distance: a record with a budget stands for that budget, and a minimal one
    for its distance before rounding. Box and budget are those before rounding, which may move a pixel
    by half a level more. Failed is a record with an error, and one without success whose perturbed
    image got no prediction at all: that is no robustness.
    """
    rows = white_box(records, [*_KEPT, threat.norm])
    eps, misclassified = numbers(rows["eps"]), wrong(rows, "clean_pred")
    failed = erred(rows) | (silent(rows) & ~misclassified & ~flag(rows["success"]))
    everywhere = np.isinf(eps) | (rows["norm"] != threat.norm).to_numpy(bool)
    distance = np.nan_to_num(numbers(rows[threat.norm]), nan=np.inf, posinf=np.inf)

    def size(success: Bools, reach: Floats) -> Floats:
        return np.where(failed, np.inf, np.where(misclassified, 0.0, np.where(success, reach, np.inf)))

    result = rows[["target_model", "attack", "sample", "label", "eps", "eps_text"]].rename(
        columns={"target_model": "model"}
    )
    return result.assign(
        everywhere=everywhere,
        # The judge found it within its budget, so float32 rounding beyond that is no distance.
        size=size(flag(rows["success"]), np.where(everywhere, distance, np.minimum(distance, eps))),
        size_8bit=size(flag(rows["success_8bit"]), np.where(everywhere, distance, eps)),
        failed=failed,
        **{c: np.where(failed, 0.0, np.nan_to_num(numbers(rows[c]))) for c in ("forwards", "backwards", "seconds")},
    ).reset_index(drop=True)


class Cube:
    """Outcomes by model (M), attack (A) and sample (S).

    Args:
        rows: from `outcomes`.
    """

    def __init__(self, rows: pd.DataFrame) -> None:
        self.rows = rows
        coded = [pd.factorize(rows[c], use_na_sentinel=False) for c in ("model", "attack", "sample")]
        model, attack, sample = (np.asarray(codes, dtype=np.int64) for codes, _ in coded)
        self.models, self.attacks, self.samples = (pd.Index(names) for _, names in coded)
        self.shape = (len(self.models), len(self.attacks), len(self.samples))
        self.pair: Codes = model * self.shape[1] + attack  # into (M, A)
        self.place: Codes = self.pair * self.shape[2] + sample  # into (M, A, S)
        self.failed = rows["failed"].to_numpy(bool)
        self.size, self.size_8bit = self.least("size"), self.least("size_8bit")
        self._tried: dict[float, Bools] = {}

    @classmethod
    def of(cls, rows: pd.DataFrame | Cube) -> Cube:
        """That of outcomes, or what already is one."""
        return rows if isinstance(rows, cls) else cls(rows)  # type: ignore[arg-type]

    def least(self, column: str) -> Floats:
        """The least value (M, A, S) of a column over all records of a sample, whatever their budget."""
        result = np.full(math.prod(self.shape), np.inf)
        np.minimum.at(result, self.place, self.rows[column].to_numpy(np.float64))
        return result.reshape(self.shape)

    def where(self, chosen: Bools) -> Bools:
        """Which samples (M, A, S) have a chosen row."""
        result = np.zeros(math.prod(self.shape), dtype=bool)
        result[self.place[chosen]] = True
        return result.reshape(self.shape)

    def total(self, column: str, chosen: Bools) -> Floats:
        """Sums (M, A) of a column over chosen rows."""
        values = self.rows[column].to_numpy(np.float64)[chosen]
        pairs = self.shape[0] * self.shape[1]
        sums = np.bincount(self.pair[chosen], values, minlength=pairs).astype(np.float64)  # of no row at all it is int
        return sums.reshape(self.shape[:2])

    def tried(self, eps: float) -> Bools:
        """Which rows are attempts at this eps."""
        if eps not in self._tried:
            near = np.isclose(self.rows["eps"].to_numpy(np.float64), eps, rtol=1e-9, atol=0.0)
            self._tried[eps] = near | self.rows["everywhere"].to_numpy(bool)
        return self._tried[eps]

    def at(self, eps: float, threat: Threat) -> tuple[dict[str, Bools], dict[str, Bools]]:
        """What became of the samples under each attack (M, A, S), and in the worst case (M, S)."""
        tried = self.tried(eps)
        valid, crashed = self.where(tried & ~self.failed), self.where(tried & self.failed)
        broken, broken_8bit = threat.within(self.size, eps), threat.within(self.size_8bit, eps)
        missing = crashed & ~valid
        single = {
            "n": valid,
            "robust": valid & ~broken,
            "robust_8bit": valid & ~broken_8bit,
            "errors": missing,
            "alone": valid & broken & (broken.sum(1, keepdims=True) == 1) & (self.size > 0),
        }
        counted: Bools = np.asarray(valid.any(1))
        fallen: Bools = np.asarray(broken.any(1))
        fallen_8bit: Bools = np.asarray(broken_8bit.any(1))
        worst = {
            "n": counted,
            "robust": counted & ~fallen,
            "robust_8bit": counted & ~fallen_8bit,
            "errors": np.asarray(missing.any(1)) & ~(counted & fallen),
            "alone": np.zeros(fallen.shape, dtype=bool),
        }
        return {"tried": valid | crashed} | single, {"tried": np.asarray((valid | crashed).any(1))} | worst


COUNTS = ("n", "robust", "robust_8bit", "errors", "alone")
COSTS = ("forwards", "backwards", "seconds")


def robust_accuracy(rows: pd.DataFrame | Cube, threat: Threat) -> pd.DataFrame:
    """One row per model x attack x eps; and per model x eps the worst case, sample by sample.

    Columns: model, attack, norm, eps_text, eps, n (samples with a result at this eps), robust,
    robust_8bit (box and budget before rounding, so it may lie below robust where eps or the pixels
    are no multiples of a level), errors (samples on which the attack ended with an error at this eps),
    alone (broken by this attack and no other), forwards, backwards, seconds (means per sample),
    robust_accuracy, low, high, and the same three with `_8bit`.

    In the worst case a sample counts when at least one attack has a result for it at this eps. It is
    an error as well when an attack failed on it and it does not count as broken: either it has no
    result at all, or it is robust only as far as the other attacks can say.

    Args:
        rows: from `outcomes`; or their `Cube`, where several tables are made of the same.
        threat: its levels are the eps.
    """
    cube, parts = Cube.of(rows), []
    last = len(cube.attacks)
    for text, eps in threat.levels:
        single, worst = cube.at(eps, threat)
        tried = cube.tried(eps)
        totals = {c: cube.total(c, tried) for c in COSTS}
        model, attack = np.nonzero(single["tried"].any(2))
        level = {"norm": threat.norm, "eps_text": text, "eps": eps}
        counts = {c: single[c].sum(2)[model, attack] for c in COUNTS} | {c: totals[c][model, attack] for c in COSTS}
        parts.append(pd.DataFrame({"place": model, "order": attack, **level, **counts}))
        model = np.nonzero(worst["tried"].any(1))[0]
        counts = {c: worst[c].sum(1)[model] for c in COUNTS} | {c: totals[c].sum(1)[model] for c in COSTS}
        parts.append(pd.DataFrame({"place": model, "order": last, **level, **counts}))
    columns = ["place", "order", "norm", "eps_text", "eps", *COUNTS, *COSTS]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({c: np.zeros(0) for c in columns})
    table = table.sort_values(["place", "order", "eps"], kind="stable", ignore_index=True)
    place, order = table.pop("place").to_numpy(np.int64), table.pop("order").to_numpy(np.int64)
    table.insert(0, "model", np.asarray(cube.models, dtype=object)[place])
    table.insert(1, "attack", np.asarray([*cube.attacks, WORST], dtype=object)[order])
    for cost in COSTS:
        table[cost] = table[cost] / table["n"].clip(lower=1)
    table = rate(table, "robust", "n", "robust_accuracy")
    return rate(table, "robust_8bit", "n", "robust_accuracy_8bit", "_8bit")


def curve(rows: pd.DataFrame | Cube, threat: Threat, robust: pd.DataFrame | None = None) -> pd.DataFrame:
    """Accuracy against eps: one row per model x attack x point, the worst case among the attacks.

    Columns: model, attack, steps, eps, n, robust, robust_accuracy, low, high. A minimal attack, and
    the worst case of minimal attacks alone, is a step function (`steps` true): it falls at each
    distance that broke a sample. Others are known at eps 0 and at the levels alone: between two
    budgets nobody searched, and a step function would draw a cliff at each of them.

    Args:
        rows: from `outcomes`; or their `Cube`.
        threat: its levels are the eps.
        robust: what `robust_accuracy` makes of the same, where it is known already.
    """
    cube = Cube.of(rows)
    table = robust_accuracy(cube, threat) if robust is None else robust
    valid, parts = cube.where(~cube.failed), []
    budgeted: Bools = np.asarray(cube.where(~cube.rows["everywhere"].to_numpy(bool)).any(2))  # (M, A)
    for key, part in table.groupby(["model", "attack"], sort=False):
        model, attack = str(key[0]), str(key[1])
        m = cube.models.get_loc(model)
        a = slice(None) if attack == WORST else [cube.attacks.get_loc(attack)]
        size = cube.size[m, a].min(0)[np.nonzero(valid[m, a].any(0))[0]]  # (n,)
        steps = not bool(budgeted[m, a].any())
        at = np.unique(np.r_[0.0, size[np.isfinite(size)]]) if steps else np.zeros(1)
        left = len(size) - np.searchsorted(np.sort(size), at, side="right")
        points = pd.DataFrame({"eps": at, "n": len(size), "robust": left})
        if not steps:
            points = pd.concat([points, part[["eps", "n", "robust"]]], ignore_index=True)
        parts.append(points.assign(model=model, attack=attack, steps=steps))
    names = ["model", "attack", "steps", "eps", "n", "robust"]
    merged = pd.concat(parts, ignore_index=True)[names] if parts else pd.DataFrame({c: np.zeros(0) for c in names})
    return rate(merged, "robust", "n", "robust_accuracy")


def worst_case(rows: pd.DataFrame | Cube, threat: Threat) -> pd.DataFrame:
    """One row per model x sample with a result at the headline eps: model, sample, robust (under all attacks)."""
    cube, eps = Cube.of(rows), dict(threat.levels).get(threat.headline, math.inf)
    _, worst = cube.at(eps, threat)
    m, s = np.nonzero(worst["n"])
    models, samples = (np.asarray(names, dtype=object) for names in (cube.models, cube.samples))
    return pd.DataFrame({"model": models[m], "sample": samples[s], "robust": worst["robust"][m, s]})
