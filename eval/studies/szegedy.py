"""Tables 1 to 4 of Szegedy et al. from the records of `eval.studies.tables`, the paper's numbers beside. Free of torch.

Source of the numbers: "Intriguing properties of neural networks", ICLR 2014 (arXiv 1312.6199v4), Tables 1 to 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from eval.intervals import Bools, Floats
from eval.records import Run, read_measured
from eval.rows import erred, flag, numbers, wrong
from eval.studies import szegedy_numbers as paper
from eval.studies.cells import Table, Value, excess
from eval.studies.cells import share as share_of
from eval.studies.cells import size as size_of
from eval.studies.findings import findings
from eval.studies.reading import Reading
from eval.studies.sheets import filters

LABELS = {
    "fc10_1e-4": "FC10(10⁻⁴)", "fc10_1e-2": "FC10(10⁻²)", "fc10_1": "FC10(1)", "fc100_100": "FC100-100-10",
    "fc200_200": "FC200-200-10", "ae400": "AE400-10", "fc100_100_p1": "FC100-100-10 (P1)",
    "fc123_456_p1": "FC123-456-10 (P1)", "fc100_100_p2": "FC100-100-10' (P2)",
}  # fmt: skip
"""What the paper calls our networks."""

_NEAREST_NOTE = "; towards a class drawn for each image, which the paper's fit, and towards the nearest one"


@dataclass(frozen=True)
class _Records:
    """What the records say of networks on the parts `train`, `test`, `p1` and `p2` of the data."""

    rows: pd.DataFrame
    mnist: bool
    nearest: bool

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the distortions towards the nearest class, if there are any."""
        return ("distortion, nearest class",) if self.nearest else ()

    def known(self, numbers_: paper.Printed, row: str, place: int | None) -> str | None:
        """What the paper prints, or None where it has none or is about other data."""
        found = numbers_.get(row)
        return found[place] if self.mnist and found is not None and place is not None else None

    def errors(self, model: str, part: str) -> Bools:
        """Whether each sample of a part is misclassified."""
        rows = self.rows
        chosen = rows[(rows["role"] == "clean") & (rows["target_model"] == model) & (rows["part"] == part)]
        return wrong(chosen.drop_duplicates("sample"), "clean_pred")

    def fed(self, source: str, target: str, role: str, part: str, attack: str) -> pd.DataFrame:
        """The rows of what was made for one network and judged on another."""
        rows = self.rows
        here = (rows["source"] == source) & (rows["target_model"] == target) & (rows["attack"] == attack)
        return rows[here & (rows["role"] == role) & (rows["part"] == part)]

    def sizes(self, model: str, part: str, attack: str) -> Floats:
        """The distortions of the samples that the network classifies correctly and the search fooled it on."""
        rows = _right(self.fed(model, model, "attack", part, attack))
        return numbers(rows["rms"])[flag(rows["success"]) & (numbers(rows["rms"]) > 0)]

    def fooled(self, model: str, attack: str) -> Bools:
        """Whether the search fooled the network, on each sample of any part that it classifies correctly."""
        rows = self.rows
        own = (rows["source"] == model) & (rows["target_model"] == model) & (rows["role"] == "attack")
        return flag(_right(rows[own & (rows["attack"] == attack)])["success"])


def read(run: Run, records: pd.DataFrame, folder: Path) -> Reading:
    """What a run of `eval.studies.tables.Tables` says."""
    made = tables(run, records)
    return Reading(tuple(made), tuple(findings(made)), filters(read_measured(folder, "filters"), LABELS))


def tables(run: Run, records: pd.DataFrame) -> list[Table]:
    """All tables of a run of `eval.studies.tables.Tables`; those of a second attack bear its name.

    Args:
        run: its header.
        records: as `eval.records.read_records` gives them.
    """
    study = run.config["study"]
    rows = records[~erred(records)]
    rows = rows.assign(part=rows["sample"].str.partition(":")[0])
    known = _Records(rows, str(run.data["name"]).lower() == "mnist", bool(study["nearest"]))
    full, first, second = (list(study[key]) for key in ("full", "first", "second"))
    halves = [*(f"{name}_p1" for name in first), *(f"{name}_p2" for name in second)]
    native2 = _Native("table2", "Table 2", paper.TRANSFER, paper.FULL, study["noise"])
    native4 = _Native("table4", "Table 4", paper.NATIVE, paper.HALVES, study["halves_noise"])
    found: list[Table] = []
    for attack in (a["name"] for a in run.attacks):
        made = [
            _distortions(known, full, attack),
            _matrix(known, full, attack, "train", native2),
            _matched(known, full, attack, "train", 2, study["amplified"]),
            _half_errors(known, halves, attack),
            _matrix(known, halves, attack, "test", native4),
            _amplified(known, halves, attack, study["amplified"]),
            _matched(known, halves, attack, "test", 4, study["amplified"]),
        ]
        more = (replace(t, name=f"{t.name}_{attack}", title=f"{t.title} ({attack})") for t in made)
        found += more if found else made
    return found


@dataclass(frozen=True)
class _Native:
    """A matrix of the paper: perturbations as they were found, and Gaussian noise."""

    name: str
    title: str
    numbers: paper.Printed
    order: Sequence[str]
    noise: Sequence[float]

    def place(self, model: str) -> int | None:
        return self.order.index(model) if model in self.order else None


def _noise(sizes: Sequence[float]) -> list[tuple[str, str]]:
    """Names and labels of the noise beside a matrix: the paper's, then that in the box."""
    plain = [(f"gaussian_{s:g}", f"Gaussian noise, {s:g}") for s in sizes]
    return [*plain, *((f"{name}_clipped", f"{label}, in the box") for name, label in plain)]


def _label(name: str) -> str:
    return LABELS.get(name, name)


def _distortions(known: _Records, models: Sequence[str], attack: str) -> Table:
    rows = []
    for model in models:
        train, test, distortion = (known.known(paper.ERRORS, model, k) for k in range(3))
        values: tuple[Value | None, ...] = (
            share(known.errors(model, "train"), train, paper.TRAIN),
            share(known.errors(model, "test"), test, paper.TEST),
            size(known.sizes(model, "train", attack), distortion),
            size(known.sizes(model, "test", attack)),
            *_nearest(known, model, "train", attack),
            share(known.fooled(model, attack)),
        )
        rows.append((_label(model), values))
    return Table(
        "table1",
        "Table 1: average minimum distortion",
        "Trained on all training samples. Distortion: root mean square of the perturbation, over the images that the "
        f"network classifies correctly{_NEAREST_NOTE if known.nearest else ''}. The paper attacked training images. It "
        "asks for the minimum c > 0 for which the minimiser of c|r| + loss is adversarial; since r shrinks as c grows, "
        "what it means is the largest. Fooled: of training and test images that are classified correctly.",
        ("train error", "test error", "distortion, train", "distortion, test", *known.columns, "fooled"),
        tuple(rows),
    )


def share(hits: Bools, text: str | None = None, n: int | None = paper.IMAGES) -> Value:
    """A share beside what the paper prints in percent, of `n` images; None where nobody knows how many."""
    if text is None:
        return share_of(hits)
    return share_of(hits, float(text), n, paper.decimals(text), "share")


def size(values: Floats, text: str | None = None) -> Value:
    """A distortion beside what the paper prints."""
    return size_of(values) if text is None else size_of(values, float(text), paper.decimals(text))


def _nearest(known: _Records, model: str, part: str, attack: str) -> list[Value]:
    return [size(known.sizes(model, part, attack + "_nearest"))] if known.nearest else []


def _right(rows: pd.DataFrame) -> pd.DataFrame:
    """Those whose unperturbed image is classified correctly."""
    return rows[~wrong(rows, "clean_pred")]


def _matrix(known: _Records, models: Sequence[str], attack: str, part: str, native: _Native) -> Table:
    rows = []
    for source in models:
        cells: list[Value | None] = [
            share(
                wrong(known.fed(source, target, "attack", part, attack), "adv_pred"),
                known.known(native.numbers, source, native.place(target)),
            )
            for target in models
        ]
        rows.append((_label(source), (*cells, size(known.sizes(source, part, attack)))))
    for name, label in _noise(native.noise):
        noisy = [known.fed(target, target, "attack", part, name) for target in models]
        cells = [
            share(wrong(fed, "adv_pred"), known.known(native.numbers, name, native.place(target)), None)
            for target, fed in zip(models, noisy, strict=True)
        ]
        rows.append((label, (*cells, size(numbers(noisy[0]["rms"])))))
    return Table(
        native.name,
        f"{native.title}: error of each network on what was made for another",
        "Row: the network that the perturbations were made for. Column: the network that they were fed to. What a "
        "network gets wrong unperturbed is part of its error. Noise as the paper adds it leaves the box, so that what "
        "is judged is no image any more; noise of the same size that stays in the box is harder on networks.",
        (*map(_label, models), "distortion"),
        tuple(rows),
    )


def _amplified(known: _Records, models: Sequence[str], attack: str, rms: float) -> Table:
    rows = []
    for source in models:
        cells: list[Value | None] = []
        for target in models:
            fed = known.fed(source, target, "amplified", "test", attack)
            place = paper.HALVES.index(target) if target in paper.HALVES and rms == 0.1 else None
            cells.append(share(wrong(fed, "adv_pred"), known.known(paper.AMPLIFIED, source, place)))
        after = numbers(known.fed(source, source, "amplified", "test", attack)["rms"])
        rows.append((_label(source), (*cells, size(after[after > 0]))))
    return Table(
        "table4_amplified",
        f"Table 4, amplified to a root mean square of {rms:g}",
        f"Every perturbation is scaled to {rms:g} and then cut off by the box; the last column is what is left of it. "
        "The paper prints the L2 norm as the divisor, which would make perturbations of MNIST 28 times smaller than it "
        "says; the divisor is the root mean square.",
        (*map(_label, models), "distortion"),
        tuple(rows),
    )


def _matched(known: _Records, models: Sequence[str], attack: str, part: str, number: int, rms: float) -> Table:
    rows = []
    for source in models:
        cells: list[Value | None] = []
        for target in models:
            cells.append(_added(known.fed(source, target, "amplified", part, attack)))
        rows.append((_label(source), tuple(cells)))
    noise: list[Value | None] = []
    for target in models:
        noise.append(_added(known.fed(target, target, "attack", part, f"gaussian_{rms:g}_clipped")))
    rows.append((f"Gaussian noise, {rms:g}, in the box", tuple(noise)))
    return Table(
        f"table{number}_matched",
        f"Table {number} at one size: errors beyond the clean ones, all perturbations scaled to {rms:g}",
        "A fair comparison of sources: equal size, and without what the network gets wrong anyway, over the images "
        "that had to be moved. The last row is the floor: noise of that size, in the box like all else here.",
        tuple(map(_label, models)),
        tuple(rows),
    )


def _added(rows: pd.DataFrame) -> Value:
    """The errors that perturbations add, over the images that were moved."""
    moved = rows[numbers(rows["rms"]) > 0]
    return excess(wrong(moved, "adv_pred"), wrong(moved, "clean_pred"))


def _half_errors(known: _Records, models: Sequence[str], attack: str) -> Table:
    rows = []
    for model in models:
        cells: list[Value | None] = [
            share(known.errors(model, part), known.known(paper.HALVES_ERRORS, model, k), n)
            for k, (part, n) in enumerate((("p1", paper.HALF), ("p2", paper.HALF), ("test", paper.TEST)))
        ]
        distortion = known.known(paper.HALVES_ERRORS, model, 3)
        found = size(known.sizes(model, "test", attack), distortion)
        fooled = share(known.fooled(model, attack))
        rows.append((_label(model), (*cells, found, *_nearest(known, model, "test", attack), fooled)))
    return Table(
        "table3",
        "Table 3: networks that saw one half of the training samples each",
        "P1 and P2 are disjoint. The distortions are those of test images.",
        ("error on P1", "error on P2", "test error", "distortion", *known.columns, "fooled"),
        tuple(rows),
    )
