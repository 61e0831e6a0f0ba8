"""What a run of `eval.studies.distances` says: how near each search comes, beside the pool of all. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from eval.intervals import Floats
from eval.optimality import greatest, optimality, optimality_interval, steps
from eval.records import Run
from eval.rows import erred, flag, numbers, white_box, wrong
from eval.studies.cells import Table, Value, average, share
from eval.studies.known_pool import KEYS, nearest, read_pool
from eval.studies.reading import Curves, Reading

_NEAR = 1.01  # as good as the best: within 1%
_POOL = "pool"
_NORMS = {"l0": "L0", "l1": "L1", "l2": "L2", "linf": "Linf"}
_COLUMNS = ("found", "median", "mean", "nearest", "optimality", "forwards", "backwards")
_RESAMPLES = 1000


@dataclass(frozen=True)
class _Search:
    """What one search found on one network in one norm.

    Attributes:
        name: of the attack.
        found: distances (n,), 0 where the image was misclassified to begin with, infinity where nothing was found.
        best: those of the pool.
        forwards: (n,).
        backwards: (n,).
    """

    name: str
    found: Floats
    best: Floats
    forwards: Floats
    backwards: Floats

    def cells(self) -> tuple[Value, ...]:
        """As the columns name them."""
        right = self.best > 0
        hit = self.found[right & np.isfinite(self.found)]
        near = np.isfinite(self.found) & (self.found <= _NEAR * self.best)
        return (
            share(np.isfinite(self.found[right])),
            _median(hit),
            average("number", hit),
            share(near[right]),
            _optimality(self.found, self.best),
            average("number", self.forwards[right]),
            average("number", self.backwards[right]),
        )


def read(run: Run, records: pd.DataFrame, folder: Path) -> Reading:
    """What a run of `eval.studies.distances.Distances` says."""
    rows = _rows(run, records)
    stored = run.config["study"]["pool"]
    pool = nearest([_offers(rows), *([read_pool(Path(stored))] if stored else [])])
    pool = pool[pool["weights"].isin(set(rows["weights"]))].reset_index(drop=True)
    tables, curves, findings = [], [], []
    for norm in (n for n in run.config["study"]["norms"] if n in set(rows["norm"])):
        networks = {
            name: list(_searches(part, pool))
            for name, part in rows[rows["norm"] == norm].groupby("network", sort=False)
        }
        tables.append(_table(norm, {str(name): found for name, found in networks.items()}))
        curves += [_curves(norm, str(name), found, len(networks) > 1) for name, found in networks.items()]
        findings.append(_finding(norm, list(networks.values()), stored is not None))
    return Reading(tuple(tables), tuple(findings), curves=tuple(curves), csv={"pool": pool})


def _rows(run: Run, records: pd.DataFrame) -> pd.DataFrame:
    """One row per network, attack and image that has a result: its distances in all norms, and what it cost."""
    rows = white_box(records)
    rows = rows[np.isinf(numbers(rows["eps"])) & ~erred(rows)]
    weights = {str(m["name"]): str(m["fingerprint"]) for m in run.models}
    missed, misclassified = ~flag(rows["success"]), wrong(rows, "clean_pred")
    sizes = {n: np.where(misclassified, 0.0, np.where(missed, np.inf, numbers(rows[n]))) for n in _NORMS}
    names = rows["target_model"].astype(str)
    return pd.DataFrame(
        {
            "network": names,
            "weights": names.map(weights),
            "data": str(run.data["name"]),
            "sample": rows["sample"].astype(str),
            "norm": rows["norm"].astype(str),
            "attack": rows["attack"].astype(str),
            **sizes,
            "forwards": numbers(rows["forwards"]),
            "backwards": numbers(rows["backwards"]),
        }
    ).reset_index(drop=True)


def _offers(rows: pd.DataFrame) -> pd.DataFrame:
    """What each search offers to the pool of every norm: what was found in one has a size in the others too."""
    norms = [str(n) for n in rows["norm"].unique()]
    own = [rows.assign(distance=rows[n])[rows["norm"] == n] for n in norms]  # before others that are as near
    others = [rows.assign(distance=rows[n], norm=n)[rows["norm"] != n] for n in norms]
    return pd.concat([*own, *others], ignore_index=True)


def _searches(rows: pd.DataFrame, pool: pd.DataFrame) -> Iterator[_Search]:
    """Of one network and norm."""
    norm = str(rows["norm"].iloc[0])
    best = pool.set_index(KEYS)["distance"]
    for name, part in rows.groupby("attack", sort=False):
        yield _Search(
            str(name),
            numbers(part[norm]),
            best.loc[pd.MultiIndex.from_frame(part[KEYS])].to_numpy(np.float64),
            numbers(part["forwards"]),
            numbers(part["backwards"]),
        )


def _table(norm: str, networks: dict[str, list[_Search]]) -> Table:
    found: list[tuple[str, tuple[Value | None, ...]]] = []
    for network, searches in networks.items():
        cells = {s.name: s.cells() for s in searches}
        best = _best(searches)
        whole = _Search(_POOL, best, best, np.zeros_like(best), np.zeros_like(best)).cells()[:3]
        label = f"{network}: " if len(networks) > 1 else ""
        found += [(label + name, values) for name, values in cells.items()]
        found.append((label + _POOL, (*whole, None, None, None, None)))
    if len(networks) > 1:
        found += [(f"mean of the networks: {n}", _mean(values)) for n, values in _by_search(networks).items()]
    return Table(
        f"distances-{norm}",
        f"Smallest perturbations in {_NORMS[norm]}",
        "Of the images that are right without attack: the share for which a perturbation was found, the median and "
        "the mean of its size, the share for which nothing is known that is more than 1% nearer, and forwards and "
        "backwards per image. Optimality is about all images, beside the pool: 1 for the smallest known everywhere, 0 "
        "for nothing found. The pool holds the smallest perturbations of all searches of the run, whatever norm they "
        "minimise.",
        _COLUMNS,
        tuple(found),
    )


def _best(searches: Sequence[_Search]) -> Floats:
    """The pool on the images of a network that most searches have results on."""
    return max((s.best for s in searches), key=len)


def _by_search(networks: dict[str, list[_Search]]) -> dict[str, list[_Search]]:
    found: dict[str, list[_Search]] = {}
    for searches in networks.values():
        for search in searches:
            found.setdefault(search.name, []).append(search)
    return found


def _mean(searches: Sequence[_Search]) -> tuple[Value | None, ...]:
    """Optimality over networks alone, with the least and the greatest in place of an interval."""
    values = [v for v in (optimality(s.found, s.best) for s in searches) if not np.isnan(v)]
    mean = Value("number", float(np.mean(values)), min(values), max(values), len(values)) if values else None
    return tuple(mean if name == "optimality" else None for name in _COLUMNS)


def _optimality(found: Floats, best: Floats) -> Value:
    return Value("number", optimality(found, best), *optimality_interval(found, best), len(best))


def _median(values: Floats) -> Value:
    """With a bootstrap interval."""
    if not len(values):
        return Value("number", np.nan, np.nan, np.nan, 0)
    drawn = np.random.default_rng(0).choice(values, (_RESAMPLES, len(values)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return Value("number", float(np.median(values)), float(low), float(high), len(values))


def _curves(norm: str, network: str, searches: Sequence[_Search], several: bool) -> Curves:
    best = _best(searches)
    most = greatest(best)
    lines = [(s.name, _until(steps(s.found), most)) for s in searches]
    return Curves(
        f"accuracy-{norm}-{network}",
        f"{network}: accuracy against eps in {_NORMS[norm]}" if several else f"Accuracy against eps in {_NORMS[norm]}",
        "Each search has no budget, so that the curve falls where an image is lost. The pool takes for each image the "
        "smallest perturbation that is known.",
        f"eps ({_NORMS[norm]})",
        "accuracy",
        (*lines, (_POOL, steps(best))),
        strong=_POOL,
    )


def _until(points: Floats, most: float) -> Floats:
    """The line as far as the pool's: what lies beyond says nothing more of how near a search comes."""
    inside = points[points[:, 0] <= most]
    return np.vstack([inside, [most, inside[-1, 1]]])


def _finding(norm: str, networks: Sequence[Sequence[_Search]], stored: bool) -> str:
    by: dict[str, list[float]] = {}
    for searches in networks:
        for s in searches:
            if not np.isnan(value := optimality(s.found, s.best)):
                by.setdefault(s.name, []).append(value)
    if not by:
        return f"{_NORMS[norm]}: no search found enough to be compared."
    means = {name: float(np.mean(values)) for name, values in by.items()}
    first, *others = sorted(means, key=lambda name: -means[name])
    beside = "the pool that was given and this run's" if stored else "the pool of this run"
    over = f", the mean of {len(networks)} networks" if len(networks) > 1 else ""
    line = f"{_NORMS[norm]}: {first} comes nearest, with an optimality of {means[first]:.3f} beside {beside}{over}"
    if not others:
        return line + ("." if stored else "; it is the only search in this norm, and others met what measures it.")
    return f"{line}; then {', '.join(f'{name} {means[name]:.3f}' for name in others)}."
