"""All work of a run whose networks are ready: what its probes measure, and its parts, made here or by workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from eval import device as devices
from eval import speed
from eval.batches import halving
from eval.bench import Bench
from eval.claim import Claims, Lead
from eval.cluster.parcel import Parcel
from eval.config import Plan
from eval.craft import clean_rows, warm_up
from eval.earlier import strangers
from eval.header import now
from eval.jobs import Job, jobs
from eval.make import Made, make
from eval.networks import Entrant
from eval.progress import Bar
from eval.records import UNFINISHED, Run, has_measured, has_part, key, write_measured, write_part
from eval.schedule import Alone, Crew, in_turn
from eval.shared import Shared
from eval.trial import Arrays, Beside, Probe, Trial


@dataclass(frozen=True)
class Workload:
    """What is to be done.

    Attributes:
        plan: of the run.
        tried: its trials, each with what it works on.
        about: its header, which is told of times and troubles.
        folder: where it is kept.
        entrants: its networks.
        console: to tell how it goes.
        parcel: what workers in other processes are sent.
        here: the device of this process, in words.
        makers: the devices that made parts where workers on Ray do, in words; of earlier sessions too.
    """

    plan: Plan
    tried: list[tuple[Bench, Trial]]
    about: Run
    folder: Path
    entrants: list[Entrant]
    console: Any
    parcel: Callable[[], Parcel]
    here: str
    makers: set[str] = field(default_factory=set)

    def lead(self) -> list[str]:
        """Write all that is not there yet, header included; returns a line for each attack that crashed."""
        parts = self._parts()
        if not (self.folder / "run.json").exists():
            strangers(self.folder, parts)
        elif any(has_part(self.folder, job.part) for job in self._jobs):
            self._made_before()
        self.plan.hidden.header(self.about).write(self.folder)
        with self._timed("probes", any(trial.probes for _, trial in self.tried)):
            todo = self._todo()
            self._measure()
        with self._timed("attacks"):
            return self._attack(todo, True)

    def help(self, lead: Lead) -> list[str] | None:
        """Write parts that nobody is at; returns None where another process does what is left.

        A process that led and died leaves the rest to one that helped.
        """
        failures = self._attack(self._todo(), False)
        if not lead.take() or Run.read(self.folder).status not in UNFINISHED:
            self.console.print(f"nothing is left to help with: the other process ends the run in {self.folder}")
            return None
        self._made_before()
        self._parts()
        self._measure()
        return failures

    def ended(self, status: str, lead: Lead) -> None:
        """Say in the header how the run ended, if it had begun, and another process does not lead it."""
        if lead.mine and (self.folder / "run.json").exists():
            self.about.finished, self.about.status = now(), status
            self.plan.hidden.header(self.about).write(self.folder)

    @contextmanager
    def _timed(self, stage: str, counts: bool = True) -> Iterator[None]:
        """Add the time within to a stage of the run, also where it is interrupted."""
        began = time.perf_counter()
        try:
            yield
        finally:
            if counts:
                seconds = self.about.wall_seconds
                seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - began

    @property
    def _fingerprints(self) -> dict[str, str]:
        return {e.name: e.fingerprint for e in self.entrants}

    @cached_property
    def _clean(self) -> dict[str, tuple[Bench, str]]:
        """The parts of unperturbed samples by their names, each with the network that is asked and what it works on."""
        fingerprints = self._fingerprints
        return {
            key({"clean": fingerprints[name], "name": name, "data": bench.samples.fingerprint}): (bench, name)
            for bench, _ in self.tried
            for name in bench.classifiers
        }

    @cached_property
    def _jobs(self) -> list[Job]:
        """All parts that are searched for."""
        fingerprints = self._fingerprints
        return [job for tried in self.tried for job in jobs(self.plan, self.about, *tried, fingerprints)]

    def _parts(self) -> set[str]:
        """The names of all parts, which the header is told the number of."""
        parts = {*self._clean, *(job.part for job in self._jobs)}
        self.about.parts = len(parts)
        return parts

    def _todo(self) -> list[Job]:
        """The parts that are not there, and are none that another run has made. Those of clean samples are written."""
        for part, (bench, name) in self._clean.items():
            if not has_part(self.folder, part):
                write_part(self.folder, part, clean_rows(bench, name))
        shared, wanted = self._shared(self.here), self._jobs
        missing = [job for job in wanted if not has_part(self.folder, job.part)]
        if len(missing) < len(wanted):
            there = f"{len(wanted) - len(missing)} of {len(wanted)} parts are there already"
            self.console.print(there, highlight=False, soft_wrap=True)
        todo = [job for job in missing if not shared.take(job, self.folder)]
        self.about.taken += shared.taken
        self.about.warnings += shared.troubles
        if shared.taken:
            what = f"{shared.taken} of {shared.taken + len(todo)} parts are taken from {self.plan.parts}"
            self.console.print(f"{what}, with the times of the runs that made them", highlight=False, soft_wrap=True)
        return todo

    def _measure(self) -> None:
        """Write what the probes of the trials measure of the networks, where it is not there yet."""
        plan, fingerprints, todo = self.plan, self._fingerprints, []
        for bench, trial in self.tried:
            for probe_name, probe in trial.probes.items():
                for name in bench.classifiers:
                    what = {"probe": [probe_name, repr(probe)], "network": [name, fingerprints[name]]}
                    others = [n for n in bench.classifiers if n != name] if isinstance(probe, Beside) else []
                    beside = {"beside": {n: fingerprints[n] for n in others}} if others else {}
                    file = key({**what, "seed": plan.seed, **beside, "data": bench.samples.fingerprint})
                    if not has_measured(self.folder, file):
                        todo.append((bench, name, probe_name, probe, file))
        with Bar(self.console, "Measuring", len(todo)) as bar:
            for bench, name, probe_name, probe, file in todo:
                bar.say(f"{name}: {probe_name}")
                batch = bench.smallest if isinstance(probe, Beside) else bench.batches[name]
                if isinstance(probe, Beside):
                    probe = probe.beside({n: c for n, c in bench.classifiers.items() if n != name})  # noqa: PLW2901
                arrays = halving(batch, partial(self._probed, bench, name, probe_name, probe))
                write_measured(self.folder, file, probe_name, name, arrays)
                self._keep()
                bar.advance(1)

    def _probed(self, bench: Bench, name: str, probe_name: str, probe: Probe, size: int) -> Arrays:
        """What a probe measures with batches of that size."""
        with devices.drawing(bench.device, self.plan.seed, name, probe_name):
            return probe(bench.classifiers[name], bench.samples, size, bench.device, self.plan.seed)

    def _made_before(self) -> None:
        """Name the devices in the header that is there beside those of this session's workers."""
        if self.plan.run.backend == "ray":
            self.makers.update(Run.read(self.folder).device.split("; "))
            self.about.device = self._device

    @property
    def _device(self) -> str:
        """What the header says of the devices that made parts."""
        return "; ".join(sorted(self.makers)) or self.here

    def _keep(self) -> None:
        """Write the header where memory ran out, or a device made its first part.

        A run that goes on begins with the smaller batches, and names all the devices.
        """
        models, device = [e.about() for e in self.entrants], self._device
        if (models, device) != (self.about.models, self.about.device):
            self.about.models, self.about.device = models, device
            self.plan.hidden.header(self.about).write(self.folder)

    def _attack(self, todo: list[Job], leads: bool) -> list[str]:
        """Have parts made that are not there yet; returns a line for each attack that crashed."""
        failures: dict[str, str] = {}
        shared: dict[str, Shared] = {}  # by the device that made the parts, in words
        with (
            Bar(self.console, "Attacking", sum(len(job.unit.index) for job in todo)) as bar,
            Claims(self.folder, lambda part: has_part(self.folder, part)) as claims,
            self._crew(todo, bar) as crew,
        ):
            for ended in in_turn(todo, crew, claims):
                job, unit, made = ended.task, ended.task.unit, ended.result
                if made is None:  # by another process
                    bar.advance(len(unit.index))
                    continue
                failures |= {f"attack.{unit.attack_name} on {unit.source}": what for what in made.wrong}
                if made.device and self.plan.run.backend == "ray":
                    self.makers.add(made.device)
                if leads:
                    self._keep()
                if made.device and made.device not in shared:  # there is none where a part was given up
                    shared[made.device] = self._shared(made.device)
                if made.device and has_part(self.folder, job.part):
                    shared[made.device].put(job, self.folder)
        self.about.warnings += dict.fromkeys(line for kept in shared.values() for line in kept.troubles)
        return [f"{where} crashed: {what}" for where, what in failures.items()]

    @contextmanager
    def _crew(self, todo: list[Job], bar: Bar) -> Iterator[Crew[Job, Made]]:
        """Who makes the parts: this process, or workers on Ray."""
        if self.plan.run.backend == "ray" and todo:
            from eval.cluster.workers import Cluster

            terms = self.plan.run.terms()
            batches = {e.name: e.forms.batch for e in self.entrants}
            with Cluster(terms, self.plan.device, self.parcel(), self.folder, bar.advance, batches) as cluster:
                self.console.print(cluster.about, highlight=False, soft_wrap=True)
                bar.say(f"{len(todo)} part{'' if len(todo) == 1 else 's'} on Ray")
                yield cluster
            return
        work = {e.name: e.work for e in self.entrants}
        for source, bench in {job.unit.source: job.bench for job in todo}.items():
            warm_up(bench, source)

        def do(job: Job) -> Made:
            unit = job.unit
            bar.say(f"{unit.source}: {unit.attack_name} {unit.text if unit.text != 'min' else ''}".rstrip())
            speed.share_out(work[unit.source], job.bench.device)
            return Made(make(job, self.folder, bar.advance, bar.pulse), self.here)

        yield Alone(do)

    def _shared(self, device: str) -> Shared:
        """Parts that a device, in words, made for runs that are like this one in what the names of parts do not say."""
        plan, about = self.plan, self.about
        same = {
            "device": sorted(devices.kinds(device)),
            "fold": plan.fold,
            "fuse": plan.fuse,
            "channels_last": plan.channels_last,
            "graphs": plan.graphs,
            "examples": plan.examples,
            "groups": about.data["groups"],
            "data": {k: v for k, v in plan.config["data"].items() if k != "root"},
            "classes": about.data["classes"],
        }
        return Shared(plan.parts, same)
