"""What an attack takes: the distance that a success needs, and the work it costs. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from eval.intervals import Bools
from eval.metrics import COSTS, WORST, Threat
from eval.rows import erred, flag, named, numbers, spelled, white_box, wrong

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
DISTANCES = ("searched", "found", "distance_norm", "distance_median", "distance_mean", "rms_mean")


def _told(records: pd.DataFrame) -> Bools:
    """The rows with a result, of samples that were classified correctly to begin with."""
    return ~erred(records) & ~wrong(records, "clean_pred")


def distortion(records: pd.DataFrame, threat: Threat) -> pd.DataFrame:
    """Quantiles of the distances of successes, one row per model x attack x eps x measure.

    Successes on samples that were misclassified to begin with are left out: their distance of 0 says
    nothing of the attack. Columns: model, attack, eps_text, eps, measure (l2, linf, rms, the threat's
    norm and those that minimal attacks minimise), q05, q25, q50, q75, q95, n.
    """
    hits = _told(records) & flag(records["success"])
    own = white_box(records, ["norm"], hits & np.isinf(numbers(records["eps"])))["norm"].unique()
    measures = list(dict.fromkeys([threat.norm, "l2", "linf", "rms", *map(str, own)]))
    keys = ["target_model", "attack", "eps_text", "eps"]
    rows = white_box(records, [*keys, *measures], hits)
    groups = rows.groupby(keys, sort=False, observed=True)
    n = groups.size().rename("n")
    parts = []
    for measure in measures:
        table = groups[measure].quantile(np.array(QUANTILES)).unstack().reindex(columns=QUANTILES)
        table.columns = pd.Index([f"q{round(100 * q):02d}" for q in QUANTILES])
        parts.append(table.join(n).reset_index().assign(measure=measure))
    return spelled(pd.concat(parts, ignore_index=True).rename(columns={"target_model": "model"}))


def minimal_distances(records: pd.DataFrame) -> pd.DataFrame:
    """How near the minimal attacks came, in the norm that each minimises: one row per model x attack.

    In the row of the worst case the nearest counts, sample by sample; there is none where the norms differ. A budget
    has no part in it: the same numbers hold at every eps.

    Columns: model, attack, searched (samples with a result that were classified correctly before), found (those of
    them with a perturbation that reached the goal), distance_norm, distance_median, distance_mean and rms_mean (of
    the found).
    """
    searched = _told(records) & np.isinf(numbers(records["eps"]))
    norms = [str(norm) for norm in white_box(records, ["norm"], searched)["norm"].unique()]
    kept = ["sample", "target_model", "attack", "norm", "success", *dict.fromkeys(["rms", *norms])]
    rows = white_box(records, kept, searched)
    found = flag(rows["success"])
    distance = np.full(len(rows), np.nan)
    for norm in norms:
        mine = named(rows["norm"], norm)
        distance[mine] = numbers(rows[norm])[mine]
    table = pd.DataFrame(
        {
            "model": rows["target_model"],
            "attack": rows["attack"],
            "sample": rows["sample"],
            "found": found,
            "distance_norm": rows["norm"],
            "distance": np.where(found, distance, np.nan),
            "rms": np.where(found, numbers(rows["rms"]), np.nan),
        }
    ).reset_index(drop=True)
    tables = [_nearness(table)]
    if len(norms) == 1:
        nearest = table.sort_values("distance", kind="stable").drop_duplicates(["model", "sample"])
        tables.append(_nearness(nearest.sort_index().assign(attack=WORST)))
    return pd.concat(tables, ignore_index=True)


def _nearness(table: pd.DataFrame) -> pd.DataFrame:
    groups = table.groupby(["model", "attack"], sort=False, observed=True)
    found = groups.agg(
        searched=("sample", "size"),
        found=("found", "sum"),
        distance_norm=("distance_norm", "first"),
        distance_median=("distance", "median"),
        distance_mean=("distance", "mean"),
        rms_mean=("rms", "mean"),
    )
    return spelled(found.reset_index())


def costs(rows: pd.DataFrame) -> pd.DataFrame:
    """What the attacks took, one row per model x attack x budget as it was run.

    Columns: model, attack, eps_text, eps, samples, errors, broken (at any distance), forwards,
    backwards, seconds (means per sample with a result), total_seconds.
    """
    keys = ["model", "attack", "eps_text", "eps"]
    counted = rows[[*keys, *COSTS]].assign(
        samples=1, errors=rows["failed"].astype(np.int64), broken=np.isfinite(rows["size"]).astype(np.int64)
    )
    table = spelled(counted.groupby(keys, sort=False, observed=True).sum().reset_index())
    table = table.assign(total_seconds=table["seconds"])
    done = (table["samples"] - table["errors"]).clip(lower=1)
    return table.assign(**{c: table[c] / done for c in COSTS})


def by_stage(records: pd.DataFrame, stages: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Who broke what in an attack made of several, and what it cost: one row per model x attack x eps x stage.

    The last row of each is for the samples that no stage broke. Samples that were misclassified to begin with are left
    out, and those whose attack crashed.

    Args:
        records: of a run.
        stages: names of the stages, in order, by the name of the attack.

    Returns:
        Columns: model, attack, eps_text, eps, stage ("" for none), samples, share (of those tried), forwards,
        backwards, seconds (means per sample, of all stages up to that one).
    """
    keys = ["target_model", "attack", "eps_text", "eps"]
    staged = _told(records) & np.asarray(records["attack"].isin(list(stages)), dtype=bool)
    rows = white_box(records, [*keys, "stage", *COSTS], staged)
    parts = []
    for key, part in rows.groupby(keys, sort=False, observed=True):
        model, attack, text, eps = key
        for stage in (*stages[str(attack)], ""):
            mine = part[named(part["stage"], stage)]
            parts.append(
                {"model": model, "attack": attack, "eps_text": text, "eps": eps, "stage": stage, "samples": len(mine)}
                | {"share": len(mine) / len(part)}
                | {cost: float(numbers(mine[cost]).mean()) if len(mine) else np.nan for cost in COSTS}
            )
    return pd.DataFrame(parts, columns=["model", "attack", "eps_text", "eps", "stage", "samples", "share", *COSTS])
