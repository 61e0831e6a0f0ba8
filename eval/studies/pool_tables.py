"""What a run of `eval.studies.pools` says, the errors of Szegedy et al. beside ours. Free of torch.

Two intervals stand beside a difference of errors. Over seeds: Student's t of the differences of the networks with the
same seed, which says whether other networks of these kinds would show it on these test samples. Over images: of the
same differences, averaged over the seeds for each test sample, which says whether other samples would show it. Each is
of one comparison. Findings that some kinds of pools are better or worse than weight decay alone, in errors or in
distortions, hold for all these comparisons together, at 5%, by Holm's method. One seed tells nothing of chance.

Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979.

Source of the numbers: "Intriguing properties of neural networks", ICLR 2014 (arXiv 1312.6199v4), section 4.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit

from eval.intervals import Floats, wilson
from eval.records import Run
from eval.rows import erred, flag, numbers, wrong
from eval.studies.cells import Table, Value, average
from eval.studies.pool_names import DECAY, DROPOUT, NOISE, kinds, label, suffix
from eval.studies.reading import Reading

_PAPER = {DECAY: 1.6, DROPOUT: 1.3}
_POOLS = 1.2  # the paper: below it, with pools at several layers
_TEST, _ROUNDING = 10_000, 0.0005
_LEVEL = 0.05  # of all comparisons together


@dataclass(frozen=True)
class Kind:
    """The networks of one kind.

    Attributes:
        name: of the kind.
        label: as people read it.
        layers: with a pool; none without pools.
        wrong: which test samples each network misclassifies, (seeds, n).
        sizes: smallest distortions found, each network's average, (seeds,); NaN where none was searched for.
    """

    name: str
    label: str
    layers: tuple[int, ...]
    wrong: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
    sizes: Floats

    @property
    def errors(self) -> Floats:
        """Test errors, (seeds,)."""
        return np.asarray(self.wrong.mean(axis=1), dtype=np.float64)


def read(run: Run, records: pd.DataFrame, folder: Path) -> Reading:
    """What a run of `eval.studies.pools.Pools` says."""
    found = networks(run, records)
    mnist, model = str(run.data["name"]).lower() == "mnist", run.config["model"][run.config["study"]["model"]]
    every = tuple(range(len(model["widths"]) + 1))
    made = [_errors(found, every, mnist), _differences(found), *_distortions(found)]
    return Reading(tuple(made), tuple(findings(found, mnist)))


def networks(run: Run, records: pd.DataFrame) -> list[Kind]:
    """All networks of a run, by their kind.

    Raises:
        LookupError: there is nothing of one of them.
        ValueError: there is less of one than of another.
    """
    study = run.config["study"]
    rows = records[~erred(records)]
    clean, attacked = rows[rows["role"] == "clean"], rows[(rows["role"] == "attack") & flag(rows["success"])]
    made = []
    for name, layers in kinds(study["pools"], study["noise"]).items():
        missed, sizes = [], []
        for i in range(study["seeds"]):
            network = study["model"] + suffix(name, i)
            own = clean[clean["target_model"] == network].drop_duplicates("sample").sort_values("sample")
            if own.empty:
                raise LookupError(f"no prediction of {network}")
            missed.append(wrong(own, "clean_pred"))
            found = numbers(attacked[attacked["source"] == network]["rms"])
            found = found[found > 0]
            sizes.append(float(found.mean()) if len(found) else math.nan)
        made.append(Kind(name, label(name, layers), tuple(layers), np.stack(missed), np.array(sizes)))
    return made


def over_seeds(kind: str, values: Floats) -> Value:
    """The mean of one value a seed (s,), with Student's interval; that of one seed alone has none."""
    mean, count = float(values.mean()), len(values)
    if count < 2:
        return Value(kind, mean, math.nan, math.nan, count)
    half = float(stdtrit(count - 1, 0.975)) * float(values.std(ddof=1)) / math.sqrt(count)
    return Value(kind, mean, mean - half, mean + half, count)


def chance(values: Floats) -> float:
    """How often chance alone brings the mean of one value a seed (s,) as far from 0: Student's p; NaN for one seed."""
    value = over_seeds("number", values)
    mean, error = abs(value.ours), float(values.std(ddof=1)) / math.sqrt(value.n) if value.n > 1 else math.nan
    if error <= 1e-9 * mean or mean == 0:
        return float(mean == 0)
    return 2 * float(stdtr(value.n - 1, -mean / error))


def holm(chances: Sequence[float], level: float = _LEVEL) -> list[bool]:
    """Which of several comparisons stand, so that one or more stand wrongly no more often than `level`."""
    stand, left = [False] * len(chances), len(chances)
    for i in sorted(range(len(chances)), key=lambda i: chances[i]):
        if not chances[i] * left <= level:
            break
        stand[i], left = True, left - 1
    return stand


def _errors(found: list[Kind], every: tuple[int, ...], mnist: bool) -> Table:
    rows, pools = [], {kind.name for kind in _pools(found)}
    for kind in found:
        paper = _PAPER.get(kind.name)
        if kind.name in pools and tuple(sorted(kind.layers)) == every:
            paper = _POOLS
        error = _beside(over_seeds("rate", kind.errors), paper) if mnist else over_seeds("rate", kind.errors)
        rows.append((kind.label, (error, _middle("rate", kind.errors))))
    beside = f" The paper says less than {_POOLS}% for pools at every layer." if mnist else ""
    return Table(
        "errors",
        "Test errors: what training on pools of adversarial examples is worth",
        f"The mean over networks with different seeds and its interval (Student's), then the middle one of these "
        f"networks, the best and the worst; {found[0].wrong.shape[1]:,} test samples.{beside}",
        ("test error", "middle, best and worst"),
        tuple(rows),
    )


def _beside(value: Value, paper: float | None) -> Value:
    """The value with the paper's, in percent, of one network; a less-than is taken by its bound."""
    if paper is None:
        return value
    low, high = (float(bound) for bound in wilson(paper / 100 * _TEST, _TEST))
    apart = value.low > high + _ROUNDING or (value.high < low - _ROUNDING and paper != _POOLS)
    return replace(value, paper=paper / 100, apart=apart)


def _differences(found: list[Kind]) -> Table:
    base, rows = found[0], []
    for kind in found[1:]:
        gap = kind.errors - base.errors
        each = np.asarray(kind.wrong.mean(axis=0) - base.wrong.mean(axis=0), dtype=np.float64)
        values = (over_seeds("difference", gap), average("difference", each), _middle("difference", gap))
        rows.append((kind.label, values))
    return Table(
        "differences",
        f"Differences: errors beyond those of {base.label}",
        "Below 0 is better. Networks of the same number are compared, on the same samples: these share the seed of "
        "their training, not their initial weights. The first interval says whether other networks would show it, the "
        "second whether other test samples would; each is of one comparison.",
        ("over seeds", "over images", "middle, best and worst"),
        tuple(rows),
    )


def _middle(kind: str, values: Floats) -> Value:
    """The middle one of some values, the least and the greatest."""
    least, middle, most = (float(v) for v in np.quantile(values, (0, 0.5, 1)))
    return Value(kind, middle, least, most, len(values))


def _distortions(found: list[Kind]) -> list[Table]:
    if any(np.isnan(kind.sizes).any() for kind in found):
        return []
    base = found[0]
    rows = tuple(
        (kind.label, (over_seeds("size", kind.sizes), over_seeds("number", kind.sizes / base.sizes))) for kind in found
    )
    return [
        Table(
            "distortions",
            "Distortions: whether pools make networks more robust",
            "Average RMS of the smallest perturbation found that fools a network, over samples that it classifies "
            "correctly; and how many times that of weight decay alone of the same number.",
            ("distortion", "times weight decay's"),
            rows,
        )
    ]


def _pools(found: list[Kind]) -> list[Kind]:
    """Those with pools of adversarial examples."""
    return [kind for kind in found if kind.layers and not kind.name.startswith(NOISE)]


def findings(found: list[Kind], mnist: bool) -> list[str]:
    """What the numbers say of the paper's claims, counted from them."""
    base, dropout, pools = found[0], found[1], _pools(found)
    noise = [kind for kind in found if kind.name.startswith(NOISE)]
    known = [kind for kind in pools if not np.isnan(kind.sizes).any() and not np.isnan(base.sizes).any()]
    gaps = {kind.label: kind.errors - base.errors for kind in pools}
    times = {kind.label: kind.sizes / base.sizes for kind in known}
    stand = holm([chance(v) for v in gaps.values()] + [chance(v - 1) for v in times.values()])
    lines = [_worth(base, dropout, pools, stand[: len(gaps)], len(stand), mnist)] if pools else []
    lines += _higher([kind for kind in pools if len(kind.layers) == 1], base)
    lines += [_control(kind, pools) for kind in noise if any(p.layers == kind.layers for p in pools)]
    if _single(base):
        return ["One seed tells nothing of chance: other networks of these kinds may differ as much.", *lines] + (
            _robust(base, times, []) if times else []
        )
    wins = ", ".join(f"{kind.label} in {int((kind.errors < base.errors).sum())}" for kind in found[1:])
    lines.append(f"Better than {base.label} of the same number, of {len(base.errors)}: {wins}.")
    return lines + (_robust(base, times, stand[len(gaps) :]) if times else [])


def _single(kind: Kind) -> bool:
    return len(kind.errors) < 2


def _worth(base: Kind, dropout: Kind, pools: list[Kind], stand: list[bool], comparisons: int, mnist: bool) -> str:
    moved = [
        (kind.label, float((kind.errors - base.errors).mean()))
        for kind, is_so in zip(pools, stand, strict=True)
        if is_so
    ]
    better, worse = [name for name, gap in moved if gap < 0], [name for name, gap in moved if gap > 0]
    best = min(pools, key=lambda kind: float(kind.errors.mean()))
    said = ""
    if not _single(base):
        said = f"Of {len(pools)} kinds of pools, {len(better)} lower the test error beyond the chance of seeds"
        said += f" ({', '.join(better)})" if better else ""
        said += f", {len(worse)} raise it" + (f" ({', '.join(worse)})" if worse else "")
        said += f", by Holm's method for {comparisons} comparisons. "
    said += (
        f"Lowest is {best.label}: {best.errors.mean():.2%}, beside {base.errors.mean():.2%} with {base.label} and "
        f"{dropout.errors.mean():.2%} with {dropout.label}."
    )
    return said + (f" The paper: below {_POOLS}% with pools at every layer, 1.6% and 1.3%." if mnist else "")


def _gap(values: Floats, form: str = "+.2%") -> str:
    """A mean over seeds with its interval, which one seed has not."""
    value = over_seeds("number", values)
    return f"{value.ours:{form}}" + (f" ({value.low:{form}} to {value.high:{form}})" if value.n > 1 else "")


def _higher(single: list[Kind], base: Kind) -> list[str]:
    if len(single) < 2:
        return []
    single = sorted(single, key=lambda kind: kind.layers)
    first, last = single[0], single[-1]
    gap = over_seeds("difference", last.errors - first.errors)
    order = ", ".join(f"{kind.label} {(kind.errors - base.errors).mean():+.2%}" for kind in single)
    if gap.high < 0:
        what = "as the paper claims, the highest layer helps more than the lowest"
    elif gap.low > 0:
        what = "against the paper's claim, the highest layer helps less than the lowest"
    elif gap.n < 2:
        what = "whether the highest layer helps more than the lowest, as the paper claims, one seed cannot tell"
    else:
        what = "the seeds do not settle whether the highest layer helps more than the lowest, as the paper claims"
    beyond = _gap(last.errors - first.errors)
    return [f"Pools of one layer, against {base.label}: {order}; the highest beyond the lowest {beyond}: {what}."]


def _control(noise: Kind, pools: list[Kind]) -> str:
    same = next(kind for kind in pools if kind.layers == noise.layers)
    gap = over_seeds("difference", same.errors - noise.errors)
    if gap.high < 0 or gap.low > 0:
        verdict = "the direction of the perturbations matters, not their size alone"
    else:
        one = "one seed cannot tell" if gap.n < 2 else "the seeds do not settle"
        verdict = f"{one} whether their direction matters beyond their size"
    return (
        f"With noise of the same size in place of perturbations ({noise.label}) the error is "
        f"{noise.errors.mean():.2%}, with perturbations {same.errors.mean():.2%}, a difference of "
        f"{_gap(same.errors - noise.errors)}: {verdict}."
    )


def _robust(base: Kind, times: Mapping[str, Floats], stand: list[bool]) -> list[str]:
    each = ", ".join(f"with {name} {_gap(values, '.2f')} times" for name, values in times.items())
    said = f"The smallest perturbation that fools a network is {each} that of {base.label}"
    if not stand:
        return [said + "."]
    moved = [(name, float(values.mean())) for (name, values), is_so in zip(times.items(), stand, strict=True) if is_so]
    larger, smaller = [name for name, mean in moved if mean > 1], [name for name, mean in moved if mean < 1]
    parts = [f"larger with {', '.join(larger)}"] if larger else []
    parts += [f"smaller with {', '.join(smaller)}"] if smaller else []
    return [f"{said}; beyond the chance of seeds, corrected likewise, {'; '.join(parts) or 'with none it differs'}."]
