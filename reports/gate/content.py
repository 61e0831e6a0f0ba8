"""What a page says of two snapshots side by side, as data. There is no HTML here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from eval.gate.compare import Comparison, Finding
from eval.gate.fates import Fate, fate
from eval.gate.outcomes import Cell
from eval.gate.snapshot import Snapshot
from eval.intervals import wilson
from reports.gate.pictures import Album, Picture
from reports.texts import Share, norm_label

_SHOWN, _OF_A_CELL, _OF_OTHERS = 48, 12, 3  # samples with pictures: of cells that failed, of each, of each other
_NAMED = 500  # others, by their id


@dataclass(frozen=True)
class Lost:
    """A sample that was lost: its class, what the network says of it now, and its picture, if there is one.

    `attack` and `size` are of the perturbation, empty where it is misclassified without one.
    """

    sample: str
    label: str
    after: str
    attack: str
    size: float
    norm: str
    picture: Picture | None


@dataclass(frozen=True)
class Row:
    """A cell: the shares before and now, and the paired counts."""

    finding: Finding
    before: Share
    after: Share

    @property
    def both(self) -> int:
        """Samples that held and hold."""
        return self.finding.before - len(self.finding.lost)

    @property
    def neither(self) -> int:
        """Samples that did not hold and do not."""
        return self.finding.n - self.both - len(self.finding.lost) - len(self.finding.won)


@dataclass(frozen=True)
class Moved:
    """A cell with samples that were lost: those that are shown, and the ids of some others."""

    finding: Finding
    shown: tuple[Lost, ...]
    named: tuple[str, ...]

    @property
    def more(self) -> int:
        """Samples that are not even named."""
        return len(self.finding.lost) - len(self.shown) - len(self.named)


@dataclass(frozen=True)
class Changes:
    """Two snapshots side by side; `pictures` counts the samples shown with one, of `shown`.

    `notes` say in what they differ besides the networks; `networks` which two are paired that have other names.
    """

    comparison: Comparison
    before: str
    after: str
    rows: tuple[Row, ...]
    moved: tuple[Moved, ...]
    pictures: int
    shown: int
    notes: tuple[str, ...] = ()
    networks: str = ""


def _share(k: int, n: int) -> Share:
    low, high = wilson(k, n)
    return Share(k / n, float(low), float(high), n) if n else Share.unknown()


def read(
    comparison: Comparison,
    before: str,
    after: str,
    notes: tuple[str, ...] = (),
    *,
    networks: str = "",
    most: int = _SHOWN,
) -> Changes:
    """What a page says of a comparison.

    Args:
        comparison: of two snapshots, the second of a run.
        before: what the first is called.
        after: what the second is called.
        notes: in what they differ besides.
        networks: which are paired, where they have other names.
        most: samples with pictures, roughly; few of cells that did not fail.
    """
    album = Album(comparison.after)
    listed = sorted((f for f in comparison.findings if f.lost), key=lambda f: not f.failed)
    each = max(1, min(_OF_A_CELL, most // max(len(comparison.failed), 1)))
    others = min(_OF_OTHERS, most // max(len(listed), 1))
    moved = []
    for finding in listed:
        kept = sorted(finding.lost, key=lambda sample: not album.kept(sample))[: each if finding.failed else others]
        shown = tuple(_lost(comparison.after, album, finding.cell, sample) for sample in kept)
        rest = [sample for sample in finding.lost if sample not in set(kept)]
        moved.append(Moved(finding, shown, tuple(rest[:_NAMED])))
    everything = [one for part in moved for one in part.shown]
    return Changes(
        comparison=comparison,
        before=before,
        after=after,
        rows=tuple(Row(f, _share(f.before, f.n), _share(f.after, f.n)) for f in comparison.findings),
        moved=tuple(moved),
        pictures=sum(one.picture is not None for one in everything),
        shown=len(everything),
        notes=notes,
        networks=networks,
    )


def _class(snapshot: Snapshot, label: int) -> str:
    classes = [str(c) for c in snapshot.run.data.get("classes", ())] if snapshot.run else []
    return classes[label] if 0 <= label < len(classes) else "no answer" if label < 0 else str(label)


def _lost(snapshot: Snapshot, album: Album, cell: Cell, sample: str) -> Lost:
    told = fate(snapshot, cell, sample) or Fate(-1, -1, -1)
    norm = norm_label(str(snapshot.question["threat"]["norm"]))
    label, after = (_class(snapshot, c) for c in (told.label, told.after))
    return Lost(sample, label, after, told.attack, told.size, norm, album.find(cell, sample, told.attack))


def changes(comparison: Comparison, pairs: Mapping[Cell, Cell]) -> Iterator[dict[str, Any]]:
    """Each sample that was lost or won, cell by cell, as a row of changes.csv."""
    for finding in comparison.findings:
        old = pairs[finding.cell]
        for change, samples in (("lost", finding.lost), ("won", finding.won)):
            for sample in samples:
                was, now = fate(comparison.before, old, sample), fate(comparison.after, finding.cell, sample)
                told = now or was
                label = -1 if told is None else told.label
                yield {
                    "sample": sample,
                    "label": label,
                    "class": _class(comparison.after, label),
                    "change": change,
                    "attack": finding.cell.attack,
                    "eps_text": finding.cell.eps,
                    "model_before": old.model,
                    "model_after": finding.cell.model,
                    "pred_before": None if was is None else was.after,
                    "pred_after": None if now is None else now.after,
                    "by": "" if told is None else (was if change == "won" and was else told).attack,
                }
