"""The networks of a run: built, loaded or trained, checked, and frozen behind the `Classifier`."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attacks.goal import Goal
from attacks.rng import Rng
from eval.config import Plan
from eval.data import Data
from eval.errors import InputError
from eval.progress import Bar
from eval.records import key
from eval.speed import lay_out, multiplications, share_out
from models.check import check
from models.classifier import Classifier
from models.spec import Network, Spec, build
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
        classifier: frozen, on the run's device.
        description: a few words.
        fingerprint: a hash of its weights, its layers, its source and its normalisation.
        trained: how it was trained here; None for a network that came with its weights.
        warnings: what the check found.
        work: multiplications per image.
    """

    name: str
    classifier: Classifier
    description: str
    fingerprint: str
    trained: dict[str, Any] | None
    warnings: tuple[str, ...]
    work: int

    def about(self) -> dict[str, Any]:
        """What the header of a run says of it."""
        return {
            "name": self.name,
            "description": self.description,
            "parameters": sum(p.numel() for p in self.classifier.parameters()),
            "fingerprint": self.fingerprint,
            "trained": self.trained,
        }


def perturbation(plan: Plan, device: torch.device) -> Perturb | None:
    """What adversarial training calls for its images: the configured attack, seeded by step and row."""
    if plan.adversary is None:
        return None
    attack, threat = plan.adversary

    def perturb(network: nn.Module, x: Tensor, labels: Tensor, step: int) -> Tensor:
        rng = Rng.of(plan.seed, ["adversary", str(step)], map(str, range(len(x))), device)
        return attack(network, x, Goal(labels), threat, rng=rng).detach()

    return perturb


def enter(plan: Plan, data: Data, device: torch.device, console: Any, logs: Path) -> list[Entrant]:
    """All networks of a plan, ready to be attacked. `logs` is where trainings are logged, if the plan says so.

    Raises:
        models.errors.ModelError: one cannot be built, loaded, trained or trusted.
        InputError: two have the same name, or there is nothing to train on.
    """
    found: dict[str, Entrant] = {}
    probe = data.test.batch(np.arange(min(_PROBE, len(data.test)))).to(device)
    perturb = perturbation(plan, device)
    for node, spec in plan.models.items():
        networks = build(spec, node, data.test.shape, len(data.test.classes), seed=plan.seed)
        for name, network in networks.items():
            if name in found:
                raise InputError(f"model.{node}: names must differ, got {name!r} twice")
            if network.ready and plan.train.method == "adversarial":
                raise InputError(
                    f"train: {name} came with its weights, which train=adversarial would leave as they are; write "
                    "model.factory.train=true to train it further, or train=standard to attack it as it is"
                )
            classifier = network.classifier(name, data.test.shape).to(device)
            warnings = check(classifier, probe, data.test.labels)  # before any time is spent on it
            work = multiplications(classifier, probe)
            share_out(work, device)
            trained = None
            if not network.ready or plan.train.method == "finetune":
                trained = _train(plan, data, spec, name, network, device, perturb, console, logs)
                classifier = network.classifier(name, data.test.shape).to(device)  # frozen again
                warnings = check(classifier, probe, data.test.labels)
            lay_out(classifier, probe)
            identity = key(
                {
                    "weights": fingerprint(classifier.network),
                    "layers": str(network.module),
                    "origin": network.origin,
                    "normalisation": [list(network.mean), list(network.std), list(network.bounds)],
                }
            )
            found[name] = Entrant(name, classifier, network.description, identity, trained, tuple(warnings), work)
    return list(found.values())


def _train(
    plan: Plan,
    data: Data,
    spec: Spec,
    name: str,
    network: Network,
    device: torch.device,
    perturb: Perturb | None,
    console: Any,
    logs: Path,
) -> dict[str, Any]:
    if data.train is None:
        raise InputError(
            f"model.{name}: there must be training samples for a network without weights, got none in {data.name}; "
            "give model.weights, or a data set with a training part (for one folder or file: data.test_fraction=0.2)"
        )
    logging = tensorboard(logs / name) if plan.tensorboard else nullcontext()
    with logging as log, Bar(console, f"Training {name}") as bar:
        trained = load_or_fit(
            network,
            spec,
            plan.train,
            data.train,
            root=plan.checkpoints,
            name=name,
            data=data.train.fingerprint,
            input_shape=data.test.shape,
            seed=plan.seed,
            device=device,
            perturb=perturb,
            progress=bar.fit,
            log=log,
        )
    epochs = trained.history.epochs
    best = epochs[trained.history.best]
    result = f"{best.val_accuracy:.1%}" if best.val_accuracy is not None else "none"
    how = "found in the checkpoints" if trained.loaded else f"trained in {trained.history.seconds:.1f} s"
    console.print(
        f"[bold]{name}[/]: {network.description}; {how}, validation accuracy {result}", highlight=False, soft_wrap=True
    )
    return {
        "checkpoint": trained.path.name,
        "epochs": len(epochs),
        "best_epoch": trained.history.best + 1,
        "val_accuracy": best.val_accuracy,
        "train_accuracy": best.accuracy,
        "seconds": trained.history.seconds,
        "samples": trained.history.samples,
        "method": plan.train.method,
    }
