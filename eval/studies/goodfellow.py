"""What a run of `eval.studies.linear` says, the numbers of Goodfellow et al. beside ours. Free of torch.

Source of the numbers: "Explaining and harnessing adversarial examples", ICLR 2015 (arXiv 1412.6572), sections 4 to 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from eval.errors import InputError
from eval.intervals import Bools
from eval.records import Run, read_measured
from eval.rows import erred, numbers, wrong
from eval.studies.cells import Table, Value, average, confidence, over, share
from eval.studies.large import DIFFERENCE, changed
from eval.studies.linear_names import ADVERSARIAL, CLIPPED, LOGISTIC, PAPERS, ROUNDED, SIGN, UNIFORM
from eval.studies.reading import Reading
from eval.studies.traced import RISE, STRAIGHT, curves, pictures, straightness, stretches

_TEST, _PAIR_TEST = 10_000, 2_038  # test samples behind the paper's errors
_NOTE = (
    "Confidence: mean probability of the predicted class over the perturbed images that are misclassified. As in the "
    "paper, images are not clipped to the box; clipped ones, which are images, stand beside. An image that a network "
    "gets wrong unperturbed counts as an error and is left as it is. "
)
ROUNDED_ERROR = "error, rounded"


@dataclass(frozen=True)
class _Paper:
    """The paper's percentages: error without and with perturbation, and confidence in the errors."""

    clean: float | None = None
    error: float | None = None
    confidence: float | None = None
    n: int = _TEST


_NUMBERS = {
    "softmax": _Paper(None, 99.9, 79.3),
    LOGISTIC: _Paper(1.6, 99.0, None, _PAIR_TEST),
    "maxout": _Paper(0.94, 89.4, 97.6),
    ADVERSARIAL: _Paper(0.84, 17.9, 81.4),
    SIGN: _Paper(None, 86.2, 97.3),
    UNIFORM: _Paper(None, 90.4, 97.8),
}
_TRANSFER = {("", ADVERSARIAL): 19.6, (ADVERSARIAL, ""): 40.9, ("", ""): 89.4, (ADVERSARIAL, ADVERSARIAL): 17.9}
_LARGE = {"": _Paper(1.14), ADVERSARIAL: _Paper(0.782, 17.9, 81.4)}


@dataclass(frozen=True)
class _Records:
    """The records of a run on the data of the paper, or on others; a complete one may lack those of failed attacks."""

    rows: pd.DataFrame
    mnist: bool
    complete: bool = True

    def clean(self, model: str) -> Bools:
        """Whether each sample is misclassified without perturbation."""
        rows = self.rows
        chosen = rows[(rows["role"] == "clean") & (rows["target_model"] == model)]
        return wrong(self._some(chosen, model).drop_duplicates("sample").sort_values("sample"), "clean_pred")

    def fed(self, source: str, target: str, attack: str) -> pd.DataFrame:
        """The rows of what was made for one network and judged on another."""
        rows = self.rows
        here = (rows["source"] == source) & (rows["target_model"] == target) & (rows["attack"] == attack)
        return self._some(rows[here & (rows["role"] == "attack")], f"{attack} on {target}")

    def _some(self, rows: pd.DataFrame, what: str) -> pd.DataFrame:
        if rows.empty and not self.complete:
            raise LookupError(f"no record of {what}")
        return rows

    def paper(self, which: str) -> _Paper:
        """What the paper says of a network; nothing about other data."""
        return _NUMBERS.get(which, _Paper()) if self.mnist else _Paper()


def read(run: Run, records: pd.DataFrame, folder: Path) -> Reading:
    """What a run of `eval.studies.linear.Linear` says.

    Raises:
        InputError: its attacks are others.
        LookupError: it has not finished, and something is missing.
    """
    if PAPERS not in (attack["name"] for attack in run.attacks):
        raise InputError(f"{folder}: the run must have {PAPERS} among its attacks, which its page is about")
    measured, made = read_measured(folder, "rays"), tables(run, records)
    rays = [straightness(measured, _labels(run)), stretches(measured, _labels(run))]
    found = [*made, *rays]
    maxout = str(run.config["study"]["maxout"])
    chosen = {maxout: _labels(run)[maxout], maxout + ADVERSARIAL: _labels(run)[maxout + ADVERSARIAL]}
    return Reading(
        tuple(found),
        tuple(findings(run, found)),
        pictures(measured, chosen, float(_eps(run))),
        curves(measured, chosen, list(map(str, run.data["classes"]))),
    )


def _eps(run: Run) -> str:
    return str(run.threat["eps"][0]["value"])


def _labels(run: Run) -> dict[str, str]:
    """What the tables call the networks, in their order."""
    study, classes = run.config["study"], [str(c) for c in run.data["classes"]]
    maxout = study["maxout"]
    pair = " against ".join(classes[c] if isinstance(c, int) else str(c) for c in study["pair"])
    described = {m["name"]: str(m["description"]) for m in run.models}
    return {
        **{name: described.get(name, name) for name in study["softmax"]},
        LOGISTIC: f"logistic regression, {pair}",
        maxout: maxout,
        maxout + ADVERSARIAL: f"{maxout}, adversarial training",
        maxout + SIGN: f"{maxout}, trained on noise, \u00b1\u03b5",
        maxout + UNIFORM: f"{maxout}, trained on noise, U(\u2212\u03b5, \u03b5)",
    }


def tables(run: Run, records: pd.DataFrame) -> list[Table]:
    """The tables of errors; those of another attack than the paper's bear its name, and no number of the paper."""
    rows = records[~erred(records)]
    known = _Records(rows, str(run.data["name"]).lower() == "mnist", run.status == "complete")
    found = [_errors(run, known, PAPERS), _transfer(run, known, PAPERS), *_large(run, known, PAPERS)]
    known = replace(known, mnist=False)
    for attack in (str(a["name"]) for a in run.attacks if a["name"] != PAPERS):
        made = [_errors(run, known, attack), _transfer(run, known, attack), *_large(run, known, attack)]
        found += [replace(t, name=f"{t.name}_{attack}", title=f"{t.title} ({attack})") for t in made]
    return found


def _hit(fed: pd.DataFrame, paper: _Paper) -> tuple[Value, Value]:
    """Error, and confidence in the errors that perturbation made."""
    errors = wrong(fed, "adv_pred")
    chosen = numbers(fed["adv_conf"])[errors & (numbers(fed["linf"]) > 0)]
    behind = round(paper.n * (paper.error or 0.0) / 100)
    return share(errors, paper.error, paper.n), confidence(chosen, paper.confidence, behind)


def _errors(run: Run, known: _Records, attack: str) -> Table:
    study = run.config["study"]
    maxout = study["maxout"]
    which = {**dict.fromkeys(study["softmax"], "softmax"), LOGISTIC: LOGISTIC, maxout: "maxout"}
    rows = []
    for name, label in _labels(run).items():
        paper = known.paper(which.get(name, name.removeprefix(maxout)))
        clean = share(known.clean(name), paper.clean, paper.n, digits=2)
        clipped = _hit(known.fed(name, name, attack + CLIPPED), _Paper())
        rounded = _hit(known.fed(name, name, ROUNDED), _Paper()) if attack == PAPERS else (None, None)
        rows.append((label, (clean, *_hit(known.fed(name, name, attack), paper), *rounded, *clipped)))
    return Table(
        "fgsm",
        f"Fast gradient signs: errors at \u03b5 = {study['eps']}",
        _NOTE + "The paper's 17.9% are of a larger network, and it does not give the weight decay of its softmax "
        "regression. Rounded: with the gradient that automatic differentiation gives in float32, in which 1 \u2212 p "
        "of a network that is sure of its label cancels.",
        (
            "clean error",
            "error",
            "confidence",
            ROUNDED_ERROR,
            "confidence, rounded",
            "error, clipped",
            "confidence, clipped",
        ),
        tuple(rows),
    )


def _transfer(run: Run, known: _Records, attack: str) -> Table:
    maxout, labels = run.config["study"]["maxout"], _labels(run)
    rows = []
    for source in ("", ADVERSARIAL):
        values = [
            share(
                wrong(known.fed(maxout + source, maxout + target, attack), "adv_pred"),
                _TRANSFER[source, target] if known.mnist else None,
                _TEST,
            )
            for target in ("", ADVERSARIAL)
        ]
        rows.append((labels[maxout + source], tuple(values)))
    return Table(
        "transfer",
        "Each on the other: errors on images made for the network with and the one without adversarial training",
        "Row: the network that the images were made for. Column: the network that they were fed to. The paper's "
        "network with adversarial training is a larger one.",
        tuple(labels[maxout + target] for target in ("", ADVERSARIAL)),
        tuple(rows),
    )


def _large(run: Run, known: _Records, attack: str) -> list[Table]:
    """The large networks, if there are any: means over the seeds, the least and the greatest."""
    study = run.config["study"]
    seeds = range(int(study["large"]))
    if not seeds:
        return []
    rows = []
    for kind, label in (("", "without adversarial training"), (ADVERSARIAL, "with adversarial training")):
        names = [f"{study['large_model']}{kind}_{i}" for i in seeds]
        paper = _LARGE[kind] if known.mnist else _Paper()
        hits = [_hit(known.fed(name, name, attack), paper) for name in names]
        values = (
            over([share(known.clean(name), paper.clean, paper.n, digits=2) for name in names]),
            over([error for error, _ in hits]),
            over([sure for _, sure in hits]),
        )
        rows.append((label, values))
    without, trained = (
        np.mean([known.clean(f"{study['large_model']}{kind}_{i}") for i in seeds], axis=0) for kind in ("", ADVERSARIAL)
    )
    rows.append((DIFFERENCE, (average("difference", trained - without), None, None)))
    return [
        Table(
            "large",
            f"Large networks: {study['large_model']}, mean over {len(seeds)} seeds",
            "Beside the mean stand the least and the greatest; n counts networks. The paper's number is marked where "
            "every one of ours is apart from it. The difference has its interval over images. The paper's large "
            "networks stopped early by their adversarial validation error and were then trained again on all samples; "
            "here the number of epochs is given.",
            ("clean error", "error", "confidence"),
            tuple(rows),
        )
    ]


def findings(run: Run, found: Sequence[Table]) -> list[str]:
    """What the tables say, in sentences whose numbers are theirs."""
    by = {table.name: table for table in found}
    maxout, labels = run.config["study"]["maxout"], _labels(run)
    plain, adv = labels[maxout], labels[maxout + ADVERSARIAL]
    errors, crossed, line = by["fgsm"], by["transfer"], by["straight"]
    controls = [_at(errors, labels[maxout + kind], "error").ours for kind in (SIGN, UNIFORM)]
    own, clean = ([_at(errors, label, column).ours for label in (plain, adv)] for column in ("error", "clean error"))
    across = [_at(crossed, plain, adv), _at(crossed, adv, plain)]
    masked = across[0].low > _at(crossed, adv, adv).high
    hidden = " Its own gradient misleads it less than another's: one step underrates the attacker." if masked else ""
    softmax = [_at(line, labels[name], RISE).ours for name in run.config["study"]["softmax"]]
    straight, rise = ([_at(line, label, column).ours for label in (plain, adv)] for column in (STRAIGHT, RISE))
    return [
        f"One step of signs at \u03b5 = {run.config['study']['eps']} takes the maxout network from {clean[0]:.2%} to "
        f"{own[0]:.1%} errors. Trained on such images too, it errs on {own[1]:.1%} of its own and on {clean[1]:.2%} of "
        f"the clean ones; trained on noise of that size, on {controls[0]:.1%} and {controls[1]:.1%} of its own.",
        "With the gradient as float32 leaves it where a network is sure, the same step takes the maxout network to "
        f"{_at(errors, plain, ROUNDED_ERROR).ours:.1%}.",
        "Images made for the network without adversarial training bring the one with it to an error of "
        f"{across[0].ours:.1%}; the other way round it is {across[1].ours:.1%}.{hidden}",
        f"Along the ray {straight[0]:.0%} of the maxout network's logits are straight lines with an R\u00b2 of 0.95 or "
        f"more; with adversarial training {straight[1]:.0%} are.",
        "The most dangerous class of a linear network of two classes gains \u03b5\u2016w\u2016\u2081 on the label; "
        f"that of softmax regression with {len(run.data['classes'])} classes gains {_range(softmax)} of it, that of "
        f"the maxout network {rise[0]:.0%}, with adversarial training {rise[1]:.0%}.",
        *changed(by.get("large")),
        _apart(found),
    ]


def _at(table: Table, label: str, column: str) -> Value:
    """The value in a cell."""
    values = next(values for row, values in table.rows if row == label)
    found = values[table.columns.index(column)]
    assert found is not None
    return found


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.0%}", f"{max(values):.0%}"
    return low if low == high else f"{low} to {high}"


def _apart(found: Sequence[Table]) -> str:
    """How many of the paper's numbers are apart from ours, each counted once wherever it stands."""
    compared: dict[tuple[str, float], list[bool]] = {}
    for value in (v for t in found for _, values in t.rows for v in values if v is not None and v.paper is not None):
        compared.setdefault((value.kind, round(value.paper or 0.0, 6)), []).append(value.apart)
    if not compared:
        return "The paper's numbers are about MNIST; beside other data they are not shown."
    apart = sum(map(all, compared.values()))
    return (
        f"Of {len(compared)} numbers of the paper {apart} lie further from each of ours beside them than the choice of "
        f"its test images explains, {_TEST:,} or the {_PAIR_TEST:,} of the pair. Training differs, and one network of "
        "each kind says nothing of how much."
    )
