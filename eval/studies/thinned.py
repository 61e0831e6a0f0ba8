"""What a run of `eval.studies.groups` says: how a group fares with what is left of its data. Free of torch."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eval.group_metrics import per_sample
from eval.intervals import Bools
from eval.metrics import Threat, outcomes
from eval.records import Run
from eval.studies.cells import Table, Value, excess, share
from eval.studies.reading import Curves, Reading
from eval.studies.thinned_names import BACK, REPEATED, chosen, column

_COLUMNS = ("clean, {group}", "robust, {group}", "clean, others", "robust, others")
_COUNT = re.compile(rf"_(\d+)of(\d+)({REPEATED})?")


@dataclass(frozen=True)
class _Network:
    """One network on the test samples (N,) that all networks of its model have results on.

    Attributes:
        left: training samples of the group.
        of: how many there were.
        way: empty, or how they were shown, or that all were given back.
        right: which samples are right without attack.
        robust: and no attack changed that.
    """

    left: int
    of: int
    way: str
    right: Bools
    robust: Bools

    @property
    def label(self) -> str:
        return f"{self.left:,} of {self.of:,} ({_percent(self.left / self.of)}){self.way}"


@dataclass(frozen=True)
class _Model:
    """The networks of one model, the one on all data first and then from most to least; which samples are the group."""

    name: str
    networks: tuple[_Network, ...]
    inside: Bools

    def of(self, way: str) -> list[_Network]:
        return [n for n in self.networks if n.way == way]

    def cells(self, one: _Network) -> tuple[Value, ...]:
        """As the columns name them."""
        return tuple(share(hits[part]) for part, hits in self._cells(one))

    def changes(self, one: _Network, before: _Network) -> tuple[Value, ...]:
        """The same less those of another network, pair by pair."""
        pairs = zip(self._cells(one), self._cells(before), strict=True)
        return tuple(excess(now[part], then[part]) for (part, now), (_, then) in pairs)

    def _cells(self, one: _Network) -> list[tuple[Bools, Bools]]:
        return [(part, hits) for part in (self.inside, ~self.inside) for hits in (one.right, one.robust)]


_SHOWN_AS_OFTEN, _GIVEN_BACK = ", shown as often as all were", ", given back"


def read(run: Run, records: pd.DataFrame, folder: Path) -> Reading:
    """What a run of `eval.studies.groups.Thinned` says."""
    threat = Threat.of(run)
    samples = per_sample(records, outcomes(records, threat), threat)
    study = run.config["study"]
    by = column(study["by"], run.data.get("groups") is not None)
    names = run.data["classes"]
    values = samples[by].unique().tolist() if by == "group" else [names[i] for i in sorted(samples[by].unique())]
    group = chosen(study["group"], values)
    inside = samples[by] == (group if by == "group" else names.index(group))
    models = [m for name in run.config["model"] if (m := _model(name, run, samples.assign(inside=inside))) is not None]
    if not models:
        raise LookupError("there is no network of this study")
    columns = tuple(name.format(group=group) for name in _COLUMNS)
    attacks = ", ".join(str(a["name"]) for a in run.attacks)
    under = f"under {attacks} with {threat.norm} {threat.headline}"
    tables = (
        Table(
            "accuracies",
            f"Accuracies: with what is left of {group}",
            f"Of the test images that are {group}, and of the others: the share that is right, clean and {under}.",
            columns,
            tuple((_labelled(m, one, models), m.cells(one)) for m in models for one in m.networks),
        ),
        Table(
            "changes",
            "Changes: beside the network that has all data",
            "Pair by pair on the same test images, in points; the intervals are about other images. What training anew "
            "does of itself stands in the row of the network that all data were given back to.",
            columns,
            tuple((_labelled(m, one, models), m.changes(one, m.networks[0])) for m in models for one in m.networks[1:]),
        ),
    )
    return Reading(
        tables, tuple(line for m in models for line in _findings(m, group)), curves=tuple(_curves(models, group))
    )


def _labelled(model: _Model, one: _Network, models: list[_Model]) -> str:
    return f"{model.name}: {one.label}" if len(models) > 1 else one.label


def _percent(value: float) -> str:
    return f"{100 * value:.2g}%" if value < 1 else "100%"


def _model(name: str, run: Run, samples: pd.DataFrame) -> _Model | None:
    """The networks of one model, as far as they have results."""
    found: list[tuple[int, int, str, str]] = []
    for network in (str(m["name"]) for m in run.models):
        match = _COUNT.fullmatch(network.removeprefix(name)) if network.startswith(name) else None
        if match:
            found.append((int(match[1]), int(match[2]), _SHOWN_AS_OFTEN if match[3] else "", network))
    if not found:
        return None
    total = found[0][1]
    found += [(total, total, "", name), (total, total, _GIVEN_BACK, name + BACK)]
    wide: Mapping[str, Any] = {
        what: samples[samples["judged"]].pivot(index="sample", columns="model", values=what)
        for what in ("right", "robust", "inside")
    }
    known = [f for f in found if f[3] in wide["right"]]
    common = wide["right"][[f[3] for f in known]].dropna().index
    known.sort(key=lambda f: (f[2] == _GIVEN_BACK, -f[0], f[2]))

    def hits(what: str, network: str) -> Bools:
        return np.asarray(wide[what].loc[common, network].to_numpy(bool), dtype=bool)

    networks = tuple(_Network(k, n, way, hits("right", who), hits("robust", who)) for k, n, way, who in known)
    return _Model(name, networks, hits("inside", known[0][3]))


def _curves(models: list[_Model], group: str) -> Iterator[Curves]:
    for model in models:
        full, *thinned = model.of("")
        again = [full, *model.of(_SHOWN_AS_OFTEN)]
        names = [name.format(group=group) for name in _COLUMNS]
        lines = [(name, _line(model, [full, *thinned], i)) for i, name in enumerate(names)]
        if len(again) > 1:
            lines.append((f"{names[1]}, shown as often", _line(model, again, 1)))
        yield Curves(
            f"thinned-{model.name}",
            f"{model.name}: what is left of the data, and of the accuracy",
            "The network with all data on the right; the distance along the axis is a ratio.",
            f"share of the training images of {group} that is left",
            "accuracy",
            tuple(lines),
            strong=names[1],
            ticks=tuple((math.log10(n.left / n.of), _percent(n.left / n.of)) for n in reversed([full, *thinned])),
            bases=(10, 0),
        )


def _line(model: _Model, networks: list[_Network], cell: int) -> np.ndarray[Any, Any]:
    """Points (n, 2) from left to right."""
    points = [(math.log10(n.left / n.of), model.cells(n)[cell].ours) for n in networks]
    return np.array(sorted(points), dtype=np.float64)


def _findings(model: _Model, group: str) -> Iterator[str]:
    full, *thinned = model.of("")
    clean, robust, *_ = model.cells(full)
    yield (
        f"{model.name}: with all {full.of:,} training images of {group}, {clean.ours:.1%} of its {clean.n} test images "
        f"are right without attack and {robust.ours:.1%} under it."
    )
    change = model.changes(thinned[-1], full)
    yield (
        f"{model.name}: with {thinned[-1].label} that changes by {_points(change[0])} and by {_points(change[1])}; for "
        f"the others by {_points(change[2])} and by {_points(change[3])}."
    )
    onset = f"{_onset(model, 0)}, and under attack {_onset(model, 1)}"
    yield f"{model.name}: beyond chance, {group} is right less often {onset}."
    for one in model.of(_SHOWN_AS_OFTEN)[-1:]:
        fewest = next(n for n in thinned if n.left == one.left)
        gained = model.changes(one, fewest)
        yield (
            f"{model.name}: to show these {one.left:,} as often as all were shown, in place of more data, gains "
            f"{_points(gained[0])} without attack and {_points(gained[1])} under it."
        )
    for one in model.of(_GIVEN_BACK):
        regained = model.changes(one, thinned[-1])
        anew = model.changes(one, full)
        yield (
            f"{model.name}: to give the data back gains {_points(regained[0])} without attack and "
            f"{_points(regained[1])} under it; the network that has them back, trained anew from other weights, "
            f"differs from the first by {_points(anew[0])} and by {_points(anew[1])}."
        )


def _onset(model: _Model, cell: int) -> str:
    """From which share on the interval of the change lies below 0, for all smaller shares too."""
    full, *thinned = model.of("")
    from_on = None
    for one in reversed(thinned):
        if not model.changes(one, full)[cell].high < 0:
            break
        from_on = one
    return "with none of these shares" if from_on is None else f"from {from_on.label} on"


def _points(change: Value) -> str:
    if not change.n:
        return "nothing that could be measured"
    return f"{100 * change.ours:.1f} points (95% interval {100 * change.low:.1f} to {100 * change.high:.1f})"
