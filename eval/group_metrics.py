"""Who is hurt most: accuracy class by class and group by group, and how unequal it is. Free of torch.

For a part g of the samples, a class or a group, with clean accuracy A_nat(g) and robust accuracy A_rob(g):

    boundary error  R_bdy(g)  = R_rob(g) - R_nat(g) = A_nat(g) - A_rob(g)     what the attack takes
    disparity       D         = max_g A(g) - min_g A(g)                       clean and robust
    growth          D_rob - D_nat

The least of many parts is low by chance alone, and so is D great by chance alone: a bootstrap of D itself never reaches
0. What is bootstrapped is therefore the largest error among all differences of two parts, each in units of its own
standard error, both accuracies together:

    c = 97.5% quantile of max over g, h, A of |(A*_g - A_g) - (A*_h - A_h)| / s_gh

No difference A_g - A_h is off by more than c s_gh, so that max_gh (A_g - A_h - c s_gh) bounds D from below, and a part
that lies further than that below every other is the worst. From above, only the error of the pair that is truly the
furthest apart counts, and that is a single one: max_gh (A_g - A_h + z s_gh), with 1.25% beyond z. Growth has the
differences of these bounds. All this holds together in 95% of repetitions.

A resampled part is a multinomial draw of what became of its samples (misclassified, lost to the attack, robust), which
is what drawing samples with replacement comes to. One sample is added to each of the three, so that a part of which
none fell is not taken to be certain.

Source: Xu, Liu, Li, Jain and Tang, "To be robust or to be fair", ICML 2021 (arXiv 2010.06121), for the boundary error;
the largest studentised difference is Tukey's, by the bootstrap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from eval.intervals import Codes, Floats, rate, wilson
from eval.metrics import Cube, Threat, worst_case
from eval.rows import erred, spelled, wrong

LEVEL = 0.95
HALF, GROWN = 0.5, 0.1
"""Flagged: a robust accuracy below this share of the mean of all parts; a disparity that grows by more than this."""

_STREAM = 3  # of the seed
_MOST, _LEAST, _DRAWS = 2000, 200, 4_000_000  # replicates, and how many parts they may have altogether
_PARTS = 2000  # more of them are no grouping
_PAIRED = 50  # parts of which every pair is looked at in every replicate
_ADDED = 1.0
_CHUNK = 1_000_000  # differences at once


@dataclass(frozen=True)
class Between:
    """A number and the interval that it lies in."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Disparity:
    """How unequally the parts of the samples fare on one network.

    Attributes:
        model: name of the network.
        n: samples with a clean and a robust result.
        parts: how many parts they are in.
        clean: greatest less least clean accuracy.
        robust: the same of robust accuracies.
        growth: the second less the first.
        mean: of the robust accuracies of the parts.
        least: the lowest of them.
        worst: parts that may be the worst, the lowest first; more than one where chance explains what is between them.
        halved: whether the lowest lies below half of the mean, and does so beyond chance.
        replicates: of the bootstrap.
    """

    model: str
    n: int
    parts: int
    clean: Between
    robust: Between
    growth: Between
    mean: float
    least: float
    worst: tuple[str, ...]
    halved: bool
    replicates: int

    @property
    def grown(self) -> bool:
        """Whether the attack makes the parts more unequal, by more than is let pass and than chance explains."""
        return self.growth.value > GROWN and self.growth.low > 0

    @property
    def named(self) -> bool:
        """Whether one part is the worst beyond chance."""
        return len(self.worst) == 1


def per_sample(records: pd.DataFrame, rows: pd.DataFrame | Cube, threat: Threat) -> pd.DataFrame:
    """One row per model x sample with a clean result.

    Columns: model, sample, label, group, right (without attack), judged (some attack has a result at the headline eps),
    robust (and none broke it).

    Args:
        records: of a run.
        rows: their `eval.metrics.outcomes`, or the `Cube` of them.
        threat: its headline is the eps.
    """
    clean = records[records["role"] == "clean"].drop_duplicates(["target_model", "sample"])
    clean = spelled(clean[~erred(clean)])
    table = pd.DataFrame(
        {
            "model": clean["target_model"],
            "sample": clean["sample"],
            "label": clean["label"].astype(np.int64),
            "group": np.where(clean["group"].isna(), "", clean["group"].astype(str)),
            "right": ~wrong(clean, "clean_pred"),
        }
    )
    table = table.merge(worst_case(rows, threat), on=["model", "sample"], how="left")
    judged = table["robust"].notna().to_numpy(bool)
    return table.assign(judged=judged, robust=judged & (table["robust"] == True).to_numpy(bool))  # noqa: E712


def by_part(samples: pd.DataFrame, column: str) -> pd.DataFrame:
    """One row per model x part: clean accuracy, robust in the worst case at the headline eps, and their difference.

    Columns: model, the column, n, correct, clean_accuracy, low, high, robust_n, robust, robust_accuracy, low_robust,
    high_robust, lost, boundary_error, low_boundary, high_boundary. The boundary error is that of the samples that have
    both results.

    Args:
        samples: from `per_sample`.
        column: `label` or `group`; samples of no group are left out.
    """
    inside = samples[samples[column] != ""]
    counts = pd.DataFrame(
        {
            "model": inside["model"],
            column: inside[column],
            "n": 1,
            "correct": inside["right"].astype(np.int64),
            "robust_n": inside["judged"].astype(np.int64),
            "robust": inside["robust"].astype(np.int64),
            "lost": (inside["right"] & inside["judged"] & ~inside["robust"]).astype(np.int64),
        }
    )
    table = counts.groupby(["model", column], sort=False).sum().reset_index()
    table = rate(table, "correct", "n", "clean_accuracy")
    table = rate(table, "robust", "robust_n", "robust_accuracy", "_robust")
    table = rate(table, "lost", "robust_n", "boundary_error", "_boundary")
    return table.sort_values(["model", column], kind="stable", ignore_index=True)


def disparities(samples: pd.DataFrame, column: str, seed: int) -> list[Disparity]:
    """How unequal the parts are, for each network on which at least two parts, and at most 2,000, have results.

    Args:
        samples: from `per_sample`.
        column: `label` or `group`; samples of no group are left out.
        seed: of the bootstrap; non-negative.
    """
    inside = samples[(samples[column] != "") & samples["judged"]]
    found = []
    for model, mine in inside.groupby("model", sort=False):
        names, place = np.unique(mine[column].to_numpy().astype(str), return_inverse=True)
        if not 2 <= len(names) <= _PARTS:
            continue
        robust, right = mine["robust"].to_numpy(bool), mine["right"].to_numpy(bool)
        outcome = np.where(robust, 2, np.where(right, 1, 0))
        counts = np.bincount(place * 3 + outcome, minlength=3 * len(names)).reshape(-1, 3)
        found.append(disparity(str(model), names.tolist(), counts, seed))
    return found


def disparity(model: str, names: Sequence[str], counts: Codes, seed: int, level: float = LEVEL) -> Disparity:
    """How unequal parts are.

    Args:
        model: name of the network.
        names: of the parts (G,), at least two.
        counts: (G, 3) samples that are misclassified, lost to the attack, and robust; at least one in each part.
        seed: of the bootstrap; non-negative.
        level: of all intervals together.
    """
    n = counts.sum(1)
    accuracies = _accuracies(counts)  # (2, G)
    replicates = int(np.clip(_DRAWS // len(names), _LEAST, _MOST))
    deviation, rest = spread(counts), 1.0 - level
    reach = critical(counts, seed, replicates, 1.0 - rest / 2) * deviation  # (2, G, G)
    differences = accuracies[:, :, None] - accuracies[:, None, :]
    low = np.clip((differences - reach).max((1, 2)), 0.0, 1.0)
    high = np.clip((differences + NormalDist().inv_cdf(1.0 - rest / 4) * deviation).max((1, 2)), 0.0, 1.0)
    value = accuracies.max(1) - accuracies.min(1)
    clean, robust = (Between(float(value[a]), float(low[a]), float(high[a])) for a in range(2))
    growth = Between(robust.value - clean.value, robust.low - clean.high, robust.high - clean.low)
    behind = (differences[1] > reach[1]).any(1)  # better than some other part, beyond chance
    order = np.argsort(accuracies[1], kind="stable")
    mean, worst = float(accuracies[1].mean()), order[0]
    _, at_most = wilson(counts[worst, 2], n[worst], level ** (1 / len(names)))  # it was chosen among so many
    return Disparity(
        model=model,
        n=int(n.sum()),
        parts=len(names),
        clean=clean,
        robust=robust,
        growth=growth,
        mean=mean,
        least=float(accuracies[1, worst]),
        worst=tuple(names[g] for g in order if not behind[g]),
        halved=bool(at_most < HALF * mean),
        replicates=replicates,
    )


def resampled(counts: Codes, seed: int, replicates: int, added: float = _ADDED) -> Floats:
    """Errors (2, B, G) of the clean and the robust accuracies of parts in resampled data.

    Args:
        counts: (G, 3) as in `disparity`.
        seed: non-negative.
        replicates: B.
        added: to each count before drawing.
    """
    n = counts.sum(1)
    shares = (counts + added) / (n + 3 * added)[:, None]
    draws = np.random.default_rng([_STREAM, seed]).multinomial(n, shares, size=(replicates, len(n)))  # (B, G, 3)
    drawn = draws / n[:, None]
    return np.stack([drawn[..., 1:].sum(-1) - shares[:, 1:].sum(-1), drawn[..., 2] - shares[:, 2]])


def spread(counts: Codes) -> Floats:
    """Standard errors (2, G, G) of the differences of the clean and of the robust accuracies of two parts."""
    n = counts.sum(1)
    shares = _accuracies(counts + _ADDED)
    variances = shares * (1 - shares) / n  # (2, G)
    result: Floats = np.sqrt(variances[:, :, None] + variances[:, None, :])
    return result


def critical(counts: Codes, seed: int, replicates: int, level: float) -> float:
    """How many standard errors the differences of two parts are off at most, all at once, with probability `level`.

    Of very many parts it is an upper bound that hardly differs: no difference of two is off by more standard errors
    than sqrt(2) times what the worst of the parts is off by.
    """
    errors, inverse = resampled(counts, seed, replicates), 1.0 / spread(counts)
    if len(counts) > _PAIRED:
        alone = np.diagonal(inverse, axis1=1, axis2=2)[:, None]  # (2, 1, G), 1 / sqrt(2) standard errors of a part
        return 2.0 * float(np.quantile(np.abs(errors * alone).max((0, 2)), level))
    chunk = max(1, _CHUNK // len(counts) ** 2)
    largest = np.empty(replicates)
    for start in range(0, replicates, chunk):
        part = errors[:, start : start + chunk]  # (2, b, G)
        apart = np.abs(part[..., :, None] - part[..., None, :]) * inverse[:, None]  # (2, b, G, G)
        largest[start : start + chunk] = apart.max((0, 2, 3))
    return float(np.quantile(largest, level))


def _accuracies(counts: npt.NDArray[Any]) -> Floats:
    """Clean and robust accuracies (2, G)."""
    result: Floats = np.stack([counts[:, 1:].sum(1), counts[:, 2]]) / counts.sum(1)
    return result
