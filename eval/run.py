"""The main job: data, networks, perturbations, judgements, records.

A run is made of units, each written as one part under a name that says what made it. A run that was interrupted
goes on where it stopped when it is started again in the same folder.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from eval import device as devices
from eval import speed
from eval.benches import benches, guessing
from eval.claim import Lead
from eval.clean import Once, named
from eval.cluster.parcel import Parcel
from eval.cluster.terms import reachable, room_here
from eval.config import read
from eval.earlier import earlier, mended, same_networks, swept, torn, written_now
from eval.errors import InputError
from eval.frames import read_frame
from eval.header import describe_attack, header, now
from eval.intake import aimed, load, parts
from eval.networks import Entrant, enter
from eval.nodes import settled
from eval.records import Run, read_records
from eval.studies.readers import studied
from eval.summary import show
from eval.workload import Workload
from models.errors import ModelError

_PATIENCE = 0.5  # seconds between looks at whether the run that leads has begun


def run(cfg: DictConfig, folder: Path, overrides: list[str], console: Any) -> Run:
    """Do what a configuration says, in a folder, or help the process that is doing it there.

    Returns:
        The header: of status `complete`, `failed` where an attack crashed, or `helped` where another process leads.

    Raises:
        InputError, models.errors.ModelError: bad input; nothing was written.
        KeyboardInterrupt: the user, or the system, wants it to end; the header says so.
    """
    with Lead(folder) as lead:
        return _run(cfg, folder, overrides, console, lead)


def _run(cfg: DictConfig, folder: Path, overrides: list[str], console: Any, lead: Lead) -> Run:
    started, began = now(), written_now(folder)
    plan = read(cfg)
    if plan.run.backend == "ray":
        reachable(plan.run.terms())  # before anything is trained
        room_here(plan.run.terms(), torch.cuda.device_count())
    device = devices.choose(plan.device)
    speed.keep_memory(device)
    clock = time.perf_counter()
    data = load(plan)
    seconds = {"data": time.perf_counter() - clock}
    samples = data.test
    _say(console, f"[bold]{data.name}[/]: {len(samples)} test images, {len(samples.classes)} classes")
    cohorts, trials = parts(plan, data)
    about = header(plan, data, overrides, device, started)
    here = about.device
    before = earlier(folder, about)
    if not lead.mine:
        _say(console, f"another process is at work in {folder}: this one helps it")
    clock = time.perf_counter()
    entrants = enter(plan, cohorts, samples, device, console, folder / "tensorboard")
    if data.unlabelled:
        data = aimed(named(data, entrants[0].classifier, entrants[0].forms.batch, device), plan.goal)
        _, trials = parts(plan, data)
    seconds["models"] = time.perf_counter() - clock
    about.models = [e.about() for e in entrants]
    if not lead.mine:
        before = _begun(folder, about, lead)
    if before is not None:
        _go_on(folder, about, entrants, before, lead, console)
    about.warnings += [line for e in entrants for line in e.warnings]
    about.wall_seconds |= seconds
    once = Once(plan.seed, device)
    tried = benches(plan, trials, entrants, once)
    about.models = [e.about() for e in entrants]  # their batches may be smaller by now
    transfer = any(bench.transfer for bench, _ in tried)
    about.attacks = [describe_attack(name, settled(attack, transfer), plan) for name, attack in plan.attacks.items()]
    about.warnings += guessing([bench for bench, _ in tried], {e.name for e in entrants if e.guesses})
    work = Workload(plan, tried, about, folder, entrants, console, lambda: Parcel.of(plan, about, data, once), here)
    failures = _worked(work, lead)
    if failures is None:
        about.status = "helped"
        return about
    about.warnings += failures
    about.finished, about.status = now(), "failed" if failures else "complete"
    plan.hidden.header(about).write(folder)
    swept(folder, began)
    show(about, read_records(folder) if studied(about) else read_frame(folder), folder, console)
    return about


def _worked(work: Workload, lead: Lead) -> list[str] | None:
    """Do the work, and leave in the header how it ended where it did not come to its end; returns what `help` does."""
    try:
        return work.lead() if lead.mine else work.help(lead)
    except KeyboardInterrupt:
        work.ended("interrupted", lead)
        raise
    except (InputError, ModelError) as error:  # half-way: a cluster that does not answer, a network that fails
        work.about.warnings.append(str(error))
        work.ended("failed", lead)
        raise


def _go_on(folder: Path, about: Run, entrants: list[Entrant], before: Run, lead: Lead, console: Any) -> None:
    """Take over what is known of the same run from its header, and leave only parts that are whole.

    Raises:
        InputError: its networks are others.
    """
    same_networks(folder, about.models, before)
    alike = devices.kinds(before.device) & devices.kinds(about.device)
    backends = {of.config["run"]["backend"] for of in (before, about)}
    if alike or backends == {"ray"}:  # whose workers are as they were, wherever the command is given
        for entrant, model in zip(entrants, before.models, strict=True):
            entrant.forms.batch.go_on(model)
    about.started, about.taken = before.started, before.taken
    about.wall_seconds = {k: v for k, v in before.wall_seconds.items() if k in ("attacks", "probes")}
    if not lead.mine:
        _await_mending(folder, lead, console)
    if lead.mine:
        about.warnings += mended(folder)


def _await_mending(folder: Path, lead: Lead, console: Any) -> None:
    """Wait until whoever leads has removed what is not whole, before anything is made, or until we lead."""
    found = torn(folder)
    if found:
        what = f"{found[0].relative_to(folder)}{f' and {len(found) - 1} more' if len(found) > 1 else ''}"
        _say(console, f"not whole: {what}; this one waits until the process that leads has removed what is torn")
    while found and not lead.take():
        time.sleep(_PATIENCE)
        found = torn(folder, found)


def _say(console: Any, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)


def _begun(folder: Path, about: Run, lead: Lead) -> Run | None:
    """The header of the run that leads, as soon as there is one; None where it ended without, so that we lead.

    Raises:
        InputError: it is another run.
    """
    while not (folder / "run.json").exists() and not lead.take():
        time.sleep(_PATIENCE)
    return earlier(folder, about)
