"""The networks of a run: built, loaded or trained, checked, and frozen behind the `Classifier`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attacks.base import Attack
from attacks.goal import Goal
from attacks.rng import Rng
from attacks.threat import ThreatModel
from eval.config import Plan
from eval.data import Samples
from eval.errors import InputError
from eval.forms import Forms, forms, plain
from eval.progress import Bar
from eval.records import key
from eval.speed import multiplications, share_out
from eval.trial import Cohort
from models.check import check
from models.classifier import Classifier
from models.distillation import distillation
from models.pools import Pools
from models.randomise import randomise
from models.recipe import TrainConfig
from models.renamed import Renamed
from models.spec import Network, Spec, build, derive, names_itself, trained_as
from models.store import load_or_fit
from models.tensorboard import tensorboard
from models.train import Perturb
from models.weights import fingerprint

_PROBE = 32  # images that a network is tried on


@dataclass(frozen=True)
class Entrant:
    """A network that takes part.

    Attributes:
        name: in records and reports.
        forms: frozen, on the run's device; all that is asked of the network is asked of them.
        description: a few words.
        fingerprint: a hash of its weights, its layers, its source and its normalisation, before any folding.
        parameters: how many, before any folding.
        trained: how it was trained here; None for a network that came with its weights.
        warnings: what the check found.
        work: multiplications per image.
        oracle: the network that it is a substitute of, if it is one.
        guesses: it is meant to know nothing.
    """

    name: str
    forms: Forms
    description: str
    fingerprint: str
    trained: dict[str, Any] | None
    warnings: tuple[str, ...]
    work: int
    parameters: int
    oracle: str | None = None
    guesses: bool = False

    @property
    def classifier(self) -> Classifier:
        """The network, of all questions but those of attacks."""
        return self.forms.classifier

    def about(self) -> dict[str, Any]:
        """What the header of a run says of it."""
        return {
            "name": self.name,
            "description": self.description,
            "parameters": self.parameters,
            "fingerprint": self.fingerprint,
            "trained": self.trained,
            **self.forms.about(),
        }


def perturbation(adversary: tuple[Attack, ThreatModel] | None, seed: int, device: torch.device) -> Perturb | None:
    """What adversarial training calls for its images: an attack with its budget, seeded by step and row."""
    if adversary is None:
        return None
    attack, threat = adversary

    def perturb(network: nn.Module, x: Tensor, labels: Tensor, step: int) -> Tensor:
        rng = Rng.of(seed, ["adversary", str(step)], map(str, range(len(x))), device)
        return attack(network, x, Goal(labels), threat, rng=rng).detach()

    return perturb


def enter(
    plan: Plan, cohorts: Sequence[Cohort], test: Samples, device: torch.device, console: Any, logs: Path
) -> list[Entrant]:
    """All networks of a run, ready to be attacked. `logs` is where trainings are logged, if the plan says so.

    Raises:
        models.errors.ModelError: one cannot be built, loaded, trained or trusted.
        InputError: two have the same name, or there is nothing to train on.
    """
    found: dict[str, Entrant] = {}
    total = sum(len(cohort.specs) for cohort in cohorts)
    usual = test
    for cohort in cohorts:
        test = usual if cohort.test is None else cohort.test
        probe = test.batch(np.arange(min(_PROBE, max(plan.batch_size or _PROBE, 2), len(test)))).to(device)
        seed = plan.seed if cohort.seed is None else cohort.seed
        perturb = perturbation(plan.adversary if cohort.config is None else cohort.adversary, seed, device)
        pools = None if cohort.pools is None else cohort.pools.pools(seed)
        if cohort.imitates is not None:
            for entrant in list(found.values()):
                found |= {e.name: e for e in _substitutes(cohort, entrant, probe, test, seed, plan, device, console)}
            continue
        for node, spec in cohort.specs.items():
            renamed = bool(cohort.suffix) and names_itself(spec)
            spec = Renamed(spec, cohort.suffix) if renamed else spec  # noqa: PLW2901
            name = node if renamed else node + cohort.suffix
            networks = build(spec, name, test.shape, len(test.classes), seed=seed)
            for name, network in networks.items():
                if name in found:
                    raise InputError(f"model.{node}: names must differ, got {name!r} twice")
                _soften(network, cohort, found)
                if cohort.untrained:
                    _draw(network, derive(seed, name, "untrained"))
                config = cohort.config or plan.train
                place = f"{name}, {len(found) + 1} of {max(total, len(found) + 1)}" if total > 1 else name
                fit = _Fit(
                    plan, config, cohort.train, spec, name, network, seed, device, perturb, pools, place,
                    cohort.untrained,
                )  # fmt: skip
                entrant = fit.enter(probe, test, console, logs)
                found[name] = replace(entrant, guesses=cohort.guesses or cohort.untrained)
    return list(found.values())


def _draw(network: Network, seed: int) -> None:
    """Leave a network without anything that it learnt."""
    if network.ready:
        randomise(network.module, seed)
    network.ready = True
    network.origin += f" untrained {seed}"
    network.description += ", untrained"


def _soften(network: Network, cohort: Cohort, found: Mapping[str, Entrant]) -> None:
    """Let a network learn at the temperature of its cohort, from its teacher if it has one."""
    if cohort.temperature == 1 and cohort.teacher is None:
        return
    teacher = None if cohort.teacher is None else found[cohort.teacher]
    network.loss = distillation(cohort.temperature, None if teacher is None else teacher.classifier)
    network.origin += f" at temperature {cohort.temperature:g}"
    if teacher is not None:
        network.origin += f" from {teacher.fingerprint}"
        network.description += f", distilled at {cohort.temperature:g}"


def _substitutes(
    cohort: Cohort,
    oracle: Entrant,
    probe: Tensor,
    test: Samples,
    seed: int,
    plan: Plan,
    device: torch.device,
    console: Any,
) -> Iterator[Entrant]:
    """The networks of a cohort that learn from the labels of another one, after each round."""
    assert cohort.imitates is not None
    for node, spec in cohort.specs.items():
        for network in build(spec, node + cohort.suffix, test.shape, len(test.classes), seed=seed).values():
            rounds = cohort.imitates.networks(
                oracle.classifier, oracle.fingerprint, network, seed, device, plan.checkpoints
            )
            for name, learnt, trained in rounds:
                classifier = learnt.classifier(name, test.shape).to(device)
                warnings = tuple(check(classifier, probe, test.labels))
                work = multiplications(classifier, probe)
                console.print(f"[bold]{name}[/]: {trained['queries']:,} labels of {oracle.name}", highlight=False)
                yield Entrant(
                    name, plain(classifier, probe, oracle.forms.batch_size), learnt.description, _identity(learnt),
                    trained, warnings, work, _parameters(classifier), oracle=oracle.name,
                )  # fmt: skip


def _parameters(classifier: Classifier) -> int:
    return sum(p.numel() for p in classifier.parameters())


def _identity(network: Network) -> str:
    """A hash of what a network is."""
    return key(
        {
            "weights": fingerprint(network.module),
            "layers": str(network.module),
            "origin": network.origin,
            "normalisation": [list(network.mean), list(network.std), list(network.bounds)],
            **({} if network.disguise is None else {"disguise": repr(network.disguise)}),
        }
    )


@dataclass(frozen=True)
class _Fit:
    """How a network becomes an entrant; `place` says which it is, and of how many."""

    plan: Plan
    config: TrainConfig
    train: Samples | None
    spec: Spec
    name: str
    network: Network
    seed: int
    device: torch.device
    perturb: Perturb | None
    pools: Pools | None
    place: str
    untrained: bool

    def enter(self, probe: Tensor, test: Samples, console: Any, logs: Path) -> Entrant:
        network, name = self.network, self.name
        if network.ready and not self.untrained and self.config.method == "adversarial":
            raise InputError(
                f"train: {name} came with its weights, which train=adversarial would leave as they are; write "
                "model.factory.train=true to train it further, or train=standard to attack it as it is"
            )
        classifier = network.classifier(name, test.shape).to(self.device)
        warnings = check(classifier, probe, test.labels)  # before any time is spent on it
        work = multiplications(classifier, probe)
        share_out(work, self.device)
        trained = None
        if not self.untrained and (not network.ready or self.config.method == "finetune"):
            trained = self.fit(test, console, logs)
            classifier = network.classifier(name, test.shape).to(self.device)  # frozen again
            warnings = check(classifier, probe, test.labels)
        made = forms(self.plan, classifier, probe, work, self.device)
        if made.reduced is None and self.plan.precision == "bfloat16":
            warnings = [*warnings, f"{name}: gradients are in float32, since bfloat16 changes what the network says"]
        if made.unreplayed:
            warnings = [*warnings, f"{name}: is not replayed as CUDA graphs: {made.unreplayed}"]
        return Entrant(
            name, made, network.description, _identity(network), trained, tuple(warnings), work, _parameters(classifier)
        )

    def fit(self, test: Samples, console: Any, logs: Path) -> dict[str, Any]:
        """Train the network, or find it trained; returns what the header says of that."""
        plan, name = self.plan, self.name
        if self.train is None:
            raise InputError(
                f"model.{name}: there must be training samples for a network without weights, got none; "
                "give model.weights, or a data set with a training part (for one folder or file: "
                "data.test_fraction=0.2)"
            )
        own, spec = trained_as(name, self.spec)
        logging = tensorboard(logs / name) if plan.tensorboard else nullcontext()
        with logging as log, Bar(console, f"Training {self.place}") as bar:
            trained = load_or_fit(
                self.network,
                spec,
                self.config,
                self.train,
                root=plan.checkpoints,
                name=own,
                data=self.train.fingerprint,
                input_shape=test.shape,
                seed=self.seed,
                device=self.device,
                perturb=self.perturb,
                pools=self.pools,
                progress=bar.fit,
                log=log,
            )
        epochs = trained.history.epochs
        best = epochs[trained.history.best]
        reached = f"validation accuracy {best.val_accuracy:.1%}" if best.val_accuracy is not None else "not validated"
        how = "found in the checkpoints" if trained.loaded else f"trained in {trained.history.seconds:.1f} s"
        console.print(f"[bold]{name}[/]: {self.network.description}; {how}, {reached}", highlight=False, soft_wrap=True)
        return {
            "checkpoint": trained.path.name,
            "epochs": len(epochs),
            "best_epoch": trained.history.best + 1,
            "val_accuracy": best.val_accuracy,
            "train_accuracy": best.accuracy,
            "seconds": trained.history.seconds,
            "samples": trained.history.samples,
            "method": self.config.method,
        }
