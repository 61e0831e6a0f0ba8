"""The main job: data, networks, perturbations, judgements, records.

A run is made of units, each written as one part under a name that says what made it. A run that was interrupted
goes on where it stopped when it is started again in the same folder.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from eval import device as devices
from eval import speed
from eval.album import Album
from eval.bench import Bench
from eval.carry import craft_rest
from eval.clean import Once, named
from eval.config import Plan, read
from eval.craft import clean_rows, craft, warm_up
from eval.errors import InputError
from eval.header import describe_attack, header, now
from eval.intake import aimed, load, parts
from eval.jobs import VERSIONS, Job, jobs
from eval.networks import Entrant, enter
from eval.nodes import settled
from eval.progress import Bar
from eval.records import (
    Run,
    has_measured,
    has_part,
    key,
    read_example,
    read_part,
    read_records,
    write_examples,
    write_measured,
    write_part,
)
from eval.shared import Shared
from eval.summary import show
from eval.trial import Beside, Trial

log = logging.getLogger(__name__)

_ENOUGH = 20  # samples for a warning that a network guesses
_SAME_RECORDS = ("batch_size", "device", "title", "paths", "examples", "tensorboard")


def _identity(about: Run) -> dict[str, Any]:
    """What two runs must share for the records of one to belong to the other, by a name to tell the user."""
    config = {k: v for k, v in about.config.items() if k not in _SAME_RECORDS}
    config["data"] = {k: v for k, v in config["data"].items() if k != "root"}
    return {
        **config,
        "the data themselves": about.data["fingerprint"],
        "the groups themselves": about.data.get("groups"),
        "versions": {k: v for k, v in about.versions.items() if k in VERSIONS},
        "commit": about.commit,
    }


def _earlier(folder: Path, about: Run) -> Run | None:
    """The run that is to be gone on with in this folder, if any.

    Raises:
        InputError: the folder holds another run, whose records would be mixed with those of this one.
    """
    if not (folder / "run.json").exists():
        if any((folder / "parts").glob("*.parquet")):
            raise InputError(f"hydra.run.dir: {folder} holds records without a run.json; choose another folder")
        return None
    earlier = Run.read(folder)
    mine, theirs = _identity(about), _identity(earlier)
    _refuse(folder, sorted(k for k in mine.keys() | theirs.keys() if mine.get(k) != theirs.get(k)))
    return earlier


def _refuse(folder: Path, differs: list[str]) -> None:
    if differs:
        raise InputError(
            f"hydra.run.dir: {folder} holds another run (differs in: {', '.join(differs)}); choose another folder, "
            "or delete it"
        )


def _chance(benches: list[Bench], meant: set[str]) -> list[str]:
    """A warning for each network, none of those `meant` to guess, that is at chance (within three standard errors)."""
    lines: dict[str, str] = {}
    for bench in benches:
        samples = bench.samples
        labels, n = torch.from_numpy(samples.labels.copy()), len(samples)
        found = np.bincount(samples.labels)
        most = float(found.max() / n) if (found > 0).sum() > 1 else 1 / len(samples.classes)
        for name, answer in bench.clean.items():
            if name in meant:
                continue
            accuracy = float((answer.prediction.cpu() == labels).float().mean())
            if n >= _ENOUGH and accuracy <= most + 3 * (most * (1 - most) / n) ** 0.5:
                lines[name] = (
                    f"{name}: clean accuracy is {accuracy:.1%}, at chance ({most:.1%} is always naming the largest "
                    "class); check the normalisation (mean, std), the order of the classes and the weights"
                )
    return list(lines.values())


def run(cfg: DictConfig, folder: Path, overrides: list[str], console: Any) -> Run:
    """Do what a configuration says, in a folder.

    Raises:
        InputError, models.errors.ModelError: bad input; nothing was written.
    """
    started = now()
    plan = read(cfg)
    device = devices.choose(plan.device)
    speed.keep_memory(device)
    clock = time.perf_counter()
    data = load(plan)
    seconds = {"data": time.perf_counter() - clock}
    samples = data.test
    console.print(
        f"[bold]{data.name}[/]: {len(samples)} test images, {len(samples.classes)} classes",
        highlight=False,
        soft_wrap=True,
    )
    cohorts, trials = parts(plan, data)
    about = header(plan, data, overrides, device, started)
    earlier = _earlier(folder, about)
    clock = time.perf_counter()
    entrants = enter(plan, cohorts, samples, device, console, folder / "tensorboard")
    if data.unlabelled:
        data = aimed(named(data, entrants[0].classifier, entrants[0].forms.batch_size, device), plan.goal)
        _, trials = parts(plan, data)
    seconds["models"] = time.perf_counter() - clock
    about.models = [e.about() for e in entrants]
    if earlier is not None:
        same = [m["fingerprint"] for m in about.models] == [m["fingerprint"] for m in earlier.models]
        _refuse(folder, [] if same else ["the networks themselves"])
        about.started, about.taken = earlier.started, earlier.taken
        seconds |= {k: v for k, v in earlier.wall_seconds.items() if k in ("attacks", "probes")}
    about.warnings += [line for e in entrants for line in e.warnings]
    about.wall_seconds = seconds
    once = Once(plan.seed, device)
    benches = [(bench, trial) for trial in trials for bench in _benches(plan, trial, entrants, once)]
    transfer = any(bench.transfer for bench, _ in benches)
    about.attacks = [describe_attack(name, settled(attack, transfer), plan) for name, attack in plan.attacks.items()]
    about.warnings += _chance([bench for bench, _ in benches], {e.name for e in entrants if e.guesses})
    plan.hidden.header(about).write(folder)
    failures = _work(plan, benches, about, folder, entrants, console)
    about.warnings += failures
    about.finished, about.status = now(), "failed" if failures else "complete"
    plan.hidden.header(about).write(folder)
    show(about, read_records(folder), folder, console)
    return about


def _benches(plan: Plan, trial: Trial, entrants: list[Entrant], once: Once) -> list[Bench]:
    """What a trial is done on: its networks all together, or each substitute with the one that it imitates."""
    some = [e for e in entrants if not e.name.endswith(trial.without)]
    chosen = [e for e in some if trial.models is None or e.name in trial.models]
    if not trial.substitutes:
        return [_bench(plan, trial, [e for e in chosen if trial.substitutes is None or e.oracle is None], once)]
    by_name = {e.name: e for e in entrants}
    return [_bench(plan, trial, [e, by_name[e.oracle]], once) for e in chosen if e.oracle is not None]


def _bench(plan: Plan, trial: Trial, chosen: list[Entrant], once: Once) -> Bench:
    return Bench(
        samples=trial.samples,
        classifiers={e.name: e.classifier for e in chosen},
        clean={e.name: once(e.name, e.classifier, trial.samples, e.forms.batch_size) for e in chosen},
        device=once.device,
        seed=plan.seed,
        goal=trial.goal or plan.goal,
        batch_size=min((e.forms.batch_size for e in chosen), default=1),
        transfer=trial.transfer and len(chosen) > 1,
        derived=trial.derived,
        examples=plan.examples,
        access=trial.access or plan.access,
        reduced={e.name: e.forms.reduced for e in chosen if e.forms.reduced is not None},
        replayed={e.name: e.forms.replayed for e in chosen if e.forms.replayed is not None},
        victims={e.name: e.oracle for e in chosen if trial.substitutes and e.oracle is not None},
    )


def _measure(
    plan: Plan, benches: list[tuple[Bench, Trial]], fingerprints: Mapping[str, str], folder: Path, console: Any
) -> None:
    """Write what the probes of the trials measure of the networks, where it is not there yet."""
    todo = []
    for bench, trial in benches:
        for probe_name, probe in trial.probes.items():
            for name in bench.classifiers:
                what = {"probe": [probe_name, repr(probe)], "network": [name, fingerprints[name]], "seed": plan.seed}
                others = [n for n in bench.classifiers if n != name] if isinstance(probe, Beside) else []
                beside = {"beside": {n: fingerprints[n] for n in others}} if others else {}
                file = key({**what, **beside, "data": bench.samples.fingerprint})
                if not has_measured(folder, file):
                    todo.append((bench, name, probe_name, probe, file))
    with Bar(console, "Measuring", len(todo)) as bar:
        for bench, name, probe_name, probe, file in todo:
            bar.say(f"{name}: {probe_name}")
            if isinstance(probe, Beside):
                probe = probe.beside({n: c for n, c in bench.classifiers.items() if n != name})  # noqa: PLW2901
            with devices.drawing(bench.device, plan.seed, name, probe_name):
                arrays = probe(bench.classifiers[name], bench.samples, bench.batch_size, bench.device, plan.seed)
            write_measured(folder, file, probe_name, name, arrays)
            bar.advance(1)


def _work(
    plan: Plan,
    benches: list[tuple[Bench, Trial]],
    about: Run,
    folder: Path,
    entrants: list[Entrant],
    console: Any,
) -> list[str]:
    """Write every part that is not there yet; returns a line for each attack that crashed."""
    clock = time.perf_counter()
    work = {e.name: e.work for e in entrants}
    fingerprints = {e.name: e.fingerprint for e in entrants}
    todo: list[Job] = []
    shared = _shared(plan, about)
    for bench, trial in benches:
        for name in bench.classifiers:
            part = key({"clean": fingerprints[name], "name": name, "data": bench.samples.fingerprint})
            if not has_part(folder, part):
                write_part(folder, part, clean_rows(bench, name))
        missing = [job for job in jobs(plan, about, bench, trial, fingerprints) if not has_part(folder, job.part)]
        todo += [job for job in missing if not shared.take(job, folder)]
    about.taken += shared.taken
    if shared.taken:
        what = f"{shared.taken} of {shared.taken + len(todo)} parts are taken from {plan.parts}"
        console.print(f"{what}, with the times of the runs that made them", highlight=False, soft_wrap=True)
    _measure(plan, benches, fingerprints, folder, console)
    measured, clock = time.perf_counter() - clock, time.perf_counter()
    for source, bench in {job.unit.source: job.bench for job in todo}.items():
        warm_up(bench, source)
    failures: dict[str, str] = {}
    with Bar(console, "Attacking", sum(len(job.unit.index) for job in todo)) as bar:
        for job in todo:
            unit = job.unit
            bar.say(f"{unit.source}: {unit.attack_name} {unit.text if unit.text != 'min' else ''}".rstrip())
            speed.share_out(work[unit.source], job.bench.device)
            wrong = _do(plan, job, folder, bar)
            failures |= {f"attack.{unit.attack_name} on {unit.source}": w for w in wrong}
            if has_part(folder, job.part):
                shared.put(job, folder)
    about.warnings += shared.troubles
    if any(trial.probes for _, trial in benches):
        about.wall_seconds["probes"] = about.wall_seconds.get("probes", 0.0) + measured
    about.wall_seconds["attacks"] = about.wall_seconds.get("attacks", 0.0) + time.perf_counter() - clock
    return [f"{where} crashed: {what}" for where, what in failures.items()]


def _shared(plan: Plan, about: Run) -> Shared:
    """Parts of other runs that are like this one in what the names of parts do not say."""
    data = {k: v for k, v in plan.config["data"].items() if k != "root"}
    same = {
        "device": about.device,
        "fold": plan.fold,
        "channels_last": plan.channels_last,
        "examples": plan.examples,
        "groups": about.data["groups"],
    }
    return Shared(plan.parts, {**same, "data": data, "classes": about.data["classes"]})


def _do(plan: Plan, job: Job, folder: Path, bar: Bar) -> list[str]:
    """Make one part; returns what crashes said."""
    bench, unit, trial, part = job.bench, job.unit, job.trial, job.part
    failed = f"{part}-failed"
    (folder / "parts" / f"{failed}.parquet").unlink(missing_ok=True)
    watcher = None
    if trial.watch is not None:
        album = Album.of(folder / "pictures", bench.samples.ids.tolist(), bench.sources, list(trial.attacks))
        watcher = trial.watch(album, unit.source, unit.attack_name)
    labels = (unit.source, unit.attack_name, unit.text, int(unit.index[0]))
    missing = job.after is not None and not has_part(folder, job.after)  # the smaller eps crashed
    with devices.drawing(bench.device, plan.seed, *labels):
        if job.after is None or missing:
            rows, examples = craft(bench, unit, bar.advance, watcher, bar.pulse)
        else:
            before, images = read_part(folder, job.after), read_example(folder, job.after)
            rows, examples = craft_rest(bench, unit, before, images, bar.advance, bar.pulse)
    if watcher is not None:
        seen, first = watcher.arrays(), int(unit.index[0])
        write_measured(folder, part, f"watched:{unit.attack_name}", unit.source, seen, first)
    wrong = [str(w) for w in np.unique(rows["error"][rows["error"] != ""])]
    if examples is not None and unit.index[0] == 0:
        write_examples(folder, part, **examples)
    write_part(folder, failed if wrong or missing else part, rows)  # what crashed is tried again, and what follows it
    return wrong
