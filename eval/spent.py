"""What a run took: seconds and passes per sample of each attack on each network, and bytes of records.

Seconds of a search are on record; they come batch by batch, shared out evenly, so what counts as one observation is a
part. What comes after the search, the judgement of each perturbation and of what stands beside it, is the rest of the
time of the stage, per row, known where one process did all of it. Means are over all samples of the parts, with
Student's interval of the logarithm, over parts. A pass is a forward or a backward of one image. Free of torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from eval.columns import coded, plain
from eval.errors import InputError
from eval.forecast import Chain, Job
from eval.intervals import Floats
from eval.parts import part_file, read_table
from eval.records import Run

SPREAD = 1.5
"""Standard deviation of the seconds of samples over their mean, where too few parts tell."""
START = 20.0
"""Seconds until a worker has built its networks, where the run that is read trained its own."""
EMPTY = 3900
"""Bytes of a part with next to nothing in it."""
DRIVER = 0.01
"""Seconds that the process that leads spends on a part: files, locks, and Ray with 3,000 tasks under way."""
_FEW = 3  # parts that say how much parts differ
_COLUMNS = ("source", "target_model", "role", "attack", "eps_text", "eps", "forwards", "backwards", "seconds")
_JUDGED = 2.0  # forwards of a judgement: as it is, and rounded to 8 bits


@dataclass(frozen=True)
class Cell:
    """What an attack within a budget cost on a network.

    Attributes:
        source: the network.
        attack: its name.
        eps: the budget, infinity for a search for the smallest.
        text: the same, as it was written.
        samples: (n,) of each part.
        seconds: (n,) of the searches of each part.
        passes: (n,) forwards and backwards of them.
        rows: (n,) that were judged.
        bytes: (n,) of its file.
    """

    source: str
    attack: str
    eps: float
    text: str
    samples: Floats
    seconds: Floats
    passes: Floats
    rows: Floats
    bytes: Floats

    def mean(self, values: Floats) -> float:
        """What comes to a sample of what came to parts."""
        return float(values.sum() / self.samples.sum())

    def interval(self, values: Floats) -> tuple[float, float]:
        """The 95% interval of that mean; NaN where there are too few parts, or nothing was spent."""
        n, mean = len(values), self.mean(values)
        if n < _FEW or not mean:
            return float("nan"), float("nan")
        from scipy.special import stdtrit

        away = values - mean * self.samples
        error = float(np.sqrt((away**2).sum() * n / (n - 1)) / values.sum())
        factor = float(np.exp(stdtrit(n - 1, 0.975) * error))
        return mean / factor, mean * factor

    @property
    def spread(self) -> float:
        """Standard deviation of the seconds of single samples over their mean, as far as parts tell."""
        mean = self.mean(self.seconds)
        if len(self.seconds) < _FEW or not mean:
            return SPREAD
        away = (self.seconds / self.samples - mean) ** 2 * self.samples
        return float(np.sqrt(away.sum() / (len(away) - 1)) / mean)


@dataclass(frozen=True)
class Costs:
    """What a run cost.

    Attributes:
        cells: by network, attack and budget.
        models: how many networks it has.
        judging: seconds per row that was judged; None where it is not known.
        start: seconds until its networks were built; None where some were trained first.
        chained: names of attacks whose budgets build on one another.
        transfer: whether every network judges what was made for any of them.
        kept: bytes of everything but parts.
        failed: parts that are left out, since something crashed.
        given: whether somebody said how fast networks are, so that the clock has no part in it.
    """

    cells: tuple[Cell, ...]
    models: int
    judging: float | None
    start: float | None
    chained: frozenset[str]
    transfer: bool
    kept: int
    failed: int = 0
    given: bool = False

    def at(self, passes_per_second: float) -> Costs:
        """The same with networks that take so many passes a second."""
        cells = tuple(replace(cell, seconds=cell.passes / passes_per_second) for cell in self.cells)
        return replace(self, cells=cells, judging=_JUDGED / passes_per_second, given=True)

    def of(self, cell: Cell) -> float:
        """Seconds of a worker per sample, judgement included."""
        return cell.mean(cell.seconds) + (self.judging or 0.0) * cell.mean(cell.rows)

    @cached_property
    def bytes(self) -> float:
        """Of the file of a part, per row, beyond what an empty one has."""
        beyond = sum(float((cell.bytes - EMPTY).clip(min=0).sum()) for cell in self.cells)
        return beyond / sum(float(cell.rows.sum()) for cell in self.cells)

    def _chains(self) -> dict[str, list[Chain]]:
        """What has to be done in turn on each shard, by network, in the order of the run."""
        together: dict[tuple[str, ...], list[Cell]] = {}
        for cell in self.cells:
            key = (cell.source, cell.attack) if cell.attack in self.chained else (cell.source, cell.attack, cell.text)
            together.setdefault(key, []).append(cell)
        found: dict[str, list[Chain]] = {}
        for cells in together.values():
            seconds = sum(self.of(cell) for cell in cells)
            wide = float(np.sqrt(sum((cell.spread * cell.mean(cell.seconds)) ** 2 for cell in cells)))
            chain = Chain(seconds, wide / seconds if seconds else 0.0, len(cells))
            found.setdefault(cells[0].source, []).append(chain)
        return found

    def interval(self) -> tuple[float, float]:
        """The 95% interval of the seconds per sample of everything, as wide as if all cells erred the same way."""
        judged = sum(self.of(cell) - cell.mean(cell.seconds) for cell in self.cells)
        ends = [cell.interval(cell.seconds) for cell in self.cells]
        return judged + sum(low for low, _ in ends), judged + sum(high for _, high in ends)

    def on(self, models: int) -> Costs:
        """The same with so many networks, which are on average like these."""
        if not self.transfer:
            return replace(self, models=models)
        factor = models / self.models  # each judges what was made for any of them
        return replace(self, models=models, cells=tuple(replace(cell, rows=cell.rows * factor) for cell in self.cells))

    def job(self, samples: int, start: float | None = None, driver: float = DRIVER) -> Job:
        """The same on another number of samples.

        Args:
            samples: of each network.
            start: seconds until a worker has built its networks; None for what the run took.
            driver: seconds that the process that leads spends on a part.
        """
        by_source = list(self._chains().values())
        chosen = [by_source[i * len(by_source) // self.models] for i in range(self.models)]
        wanted = sum(self.of(cell) for cell in self.cells) * self.models / len(by_source)
        factor = wanted / sum(chain.seconds for chains in chosen for chain in chains)
        many = [replace(chain, seconds=chain.seconds * factor) for chains in chosen for chain in chains]
        ready = next(value for value in (start, self.start, START) if value is not None)
        clean = (self.judging or 0.0) / _JUDGED * samples * self.models
        return Job(samples, tuple(many), ready, ready + clean, driver)

    def disk(self, samples: int, shard: int) -> float:
        """Bytes of the parts of so many samples."""
        share = self.models / len({cell.source for cell in self.cells})
        rows = samples * sum(cell.mean(cell.rows) for cell in self.cells)
        return share * (-(-samples // shard) * len(self.cells) * EMPTY + rows * self.bytes)


def read(folder: Path) -> Costs:
    """What a run cost, as far as it got.

    Raises:
        InputError: it is no run, a part cannot be read, or nothing was attacked yet.
    """
    about = Run.read(folder)
    names = sorted(path.stem for path in (folder / "parts").glob("*.parquet"))
    whole = [name for name in names if not name.endswith("-failed")]
    found: dict[tuple[str, str, float, str], list[tuple[float, ...]]] = {}
    for name in whole:
        if (part := _part(folder, name)) is not None:
            found.setdefault(part[0], []).append(part[1])
    if not found:
        raise InputError(f"{folder}: must hold parts of an attack, but has none; run it, or let it run for longer")
    order = [model["name"] for model in about.models]
    keys = sorted(found, key=lambda key: (_place(key[0], order), key[1], key[2]))
    cells = tuple(Cell(*key, *np.array(found[key], dtype=np.float64).T) for key in keys)
    trained = any(model["trained"] is not None for model in about.models)
    return Costs(
        cells=cells,
        models=len(order),
        judging=_judging(about, cells),
        start=None if trained else about.wall_seconds.get("models"),
        chained=frozenset(_chained(about)),
        transfer=_transfer(about),
        kept=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.parent.name != "parts"),
        failed=len(names) - len(whole),
    )


def _place(name: str, order: list[str]) -> int:
    return order.index(name) if name in order else len(order)


def _part(folder: Path, name: str) -> tuple[tuple[str, str, float, str], tuple[float, ...]] | None:
    """Of one part: which cell it belongs to, and its samples, seconds, passes, rows and bytes; None if it is clean."""
    table = read_table(folder, [name], _COLUMNS)
    texts = {column: coded(table[column]) for column in ("source", "target_model", "role", "attack", "eps_text")}
    said = {column: [words[code] for code in codes] for column, (words, codes) in texts.items()}
    own = np.array(
        [
            role == "attack" and source == target
            for role, source, target in zip(said["role"], said["source"], said["target_model"], strict=True)
        ],
        dtype=bool,
    )
    if not own.any():
        return None
    first = int(np.flatnonzero(own)[0])
    number = {column: plain(table[column]) for column in ("eps", "seconds", "forwards", "backwards")}
    passes = float(number["forwards"][own].sum()) + float(number["backwards"][own].sum())
    size = float(part_file(folder, name).stat().st_size)
    cell = (said["source"][first], said["attack"][first], float(number["eps"][first]), said["eps_text"][first])
    return cell, (float(own.sum()), float(number["seconds"][own].sum()), passes, float(len(own)), size)


def _judging(about: Run, cells: Iterable[Cell]) -> float | None:
    """Seconds per row beside the search, where this process did all of it and nothing was taken from elsewhere."""
    wall = about.wall_seconds.get("attacks")
    rows = sum(float(cell.rows.sum()) for cell in cells)
    searched = sum(float(cell.seconds.sum()) for cell in cells)
    if wall is None or about.taken or about.config.get("run", {}).get("backend") != "local" or wall < searched:
        return None
    return (wall - searched) / rows


def _transfer(about: Run) -> bool:
    return bool(about.config.get("transfer")) and len(about.models) > 1


def _chained(about: Run) -> Iterable[str]:
    """Attacks whose larger budgets leave alone what the smaller ones broke; see `eval.jobs`."""
    if about.config.get("reuse") and not _transfer(about) and len(about.threat["eps"]) > 1:
        for attack in about.attacks:
            if not attack["minimal"] and (attack["stages"] or attack["stops"]):
                yield attack["name"]
