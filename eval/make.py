"""How a part is made, wherever that is: searched for, judged, and written into a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval import device as devices
from eval.album import Album
from eval.carry import craft_rest
from eval.craft import craft
from eval.jobs import Job
from eval.records import (
    failed,
    has_part,
    part_file,
    read_example,
    read_part,
    write_examples,
    write_measured,
    write_part,
)


@dataclass(frozen=True)
class Made:
    """What came of a job.

    Attributes:
        wrong: what crashes said; where there are any, the part is not there.
        device: that did it, in words.
    """

    wrong: list[str]
    device: str


def make(job: Job, folder: Path, tell: Callable[[float], None], pulse: Callable[[], None] | None = None) -> list[str]:
    """Make one part in a folder that holds the one that it builds on, if that was made; returns what crashes said.

    `tell` is told how many samples are done, batch by batch; `pulse` is called whenever a network is asked.
    """
    bench, unit, trial, part = job.bench, job.unit, job.trial, job.part
    part_file(folder, failed(part)).unlink(missing_ok=True)
    watcher = None
    if trial.watch is not None:
        album = Album.of(folder / "pictures", bench.samples.ids.tolist(), bench.sources, list(trial.attacks))
        watcher = trial.watch(album, unit.source, unit.attack_name)
    labels = (unit.source, unit.attack_name, unit.text, int(unit.index[0]))
    missing = job.after is not None and not has_part(folder, job.after)  # the smaller eps crashed
    with devices.drawing(bench.device, bench.seed, *labels):
        if job.after is None or missing:
            rows, examples = craft(bench, unit, tell, watcher, pulse)
        else:
            before, images = read_part(folder, job.after), read_example(folder, job.after)
            rows, examples = craft_rest(bench, unit, before, images, tell, pulse)
    if watcher is not None:
        seen, first = watcher.arrays(), int(unit.index[0])
        write_measured(folder, part, f"watched:{unit.attack_name}", unit.source, seen, first)
    wrong = [str(w) for w in np.unique(rows["error"][rows["error"] != ""])]
    if examples is not None and unit.index[0] == 0:
        write_examples(folder, part, **examples)
    write_part(folder, failed(part) if wrong or missing else part, rows)  # what follows a crash is tried again too
    return wrong
