"""What the diagnosis costs beside the standard attack: evaluations of the network and time, in one run.

    TOASTPROOF_DATA=... python -m tests.benchmarks.diagnosis_cost --networks mnist_lenet5_adv --images 1000

The diagnosis is what `experiment=robustness` measures before it gives its verdict; its proofs from below stand in a
column of their own. The attack's images are taken in slices, with the diagnosis between them, so that other work on
the machine slows both down alike.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from attacks.threat import parse_eps
from eval.data import Data, Samples
from eval.device import choose, synchronize
from eval.errors import InputError
from eval.studies.robustness import Robustness
from eval.trial import Probe
from models.classifier import Classifier
from tests.benchmarks.autoattack_table import BUDGETS, Counted, in_turns, ours
from tests.benchmarks.networks import Subject, load

_TURNS = 3  # times that the diagnosis is measured; the median counts


@dataclass(frozen=True)
class Cost:
    """Evaluations (forwards and backwards of one image each) and seconds."""

    evaluations: int = 0
    seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.evaluations + other.evaluations, self.seconds + other.seconds)


@dataclass(frozen=True)
class Row:
    """One network at one budget.

    Attributes:
        network, eps: what was measured.
        images: that were attacked.
        attack: what the standard attack took for all of them.
        diagnosis: what all probes but the proofs took.
        proofs: what those took.
    """

    network: str
    eps: str
    images: int
    attack: Cost
    diagnosis: Cost
    proofs: Cost

    @property
    def share(self) -> float:
        """Time of the diagnosis over that of the attack."""
        return self.diagnosis.seconds / self.attack.seconds

    @property
    def share_of_evaluations(self) -> float:
        """Evaluations of the diagnosis over those of the attack."""
        return self.diagnosis.evaluations / self.attack.evaluations


def taken(network: Counted, work: Callable[[], object], device: torch.device) -> Cost:
    """What `work` costs."""
    before = network.forwards + network.backwards
    synchronize(device)
    began = time.perf_counter()
    work()
    synchronize(device)
    return Cost(network.forwards + network.backwards - before, time.perf_counter() - began)


def measured(subject: Subject, eps: str, size: int, seed: int) -> Row:
    """Attack all images in slices of `size`, and diagnose in between."""
    device = subject.x.device
    network = Counted(subject.network)
    shape = tuple(subject.x.shape[1:])
    classes = int(network(subject.x[:2]).shape[1])

    def classifier(module: nn.Module) -> Classifier:
        return Classifier(module, name=subject.name, input_shape=(shape[0], shape[1], shape[2]), num_classes=classes)

    names = [str(k) for k in range(classes)]
    samples = Samples.of(subject.x.cpu().numpy(), subject.labels.cpu().numpy(), names, "test")
    (trial,) = Robustness("linf", eps).trials(Data(subject.name, "", None, samples), {}, seed)

    def probe(measure: Probe, module: nn.Module) -> Cost:
        return taken(network, lambda: measure(classifier(module), samples, 128, device, seed), device)

    starts = list(range(0, len(subject.x), size))
    asked = set(np.linspace(0, len(starts) - 1, min(_TURNS, len(starts))).round().astype(int).tolist())
    attack, diagnoses, proofs = Cost(), [], Cost()
    for turn, start in enumerate(starts):
        x, labels = subject.x[start : start + size], subject.labels[start : start + size]
        attack += taken(network, lambda x=x, labels=labels: ours(network, x, labels, parse_eps(eps), seed), device)
        if turn in asked:
            diagnoses.append(sum((probe(p, network) for name, p in trial.probes.items() if name != "below"), Cost()))
    if "below" in trial.probes:
        proofs = probe(trial.probes["below"], subject.network)  # whose layers they look into
    typical = Cost(diagnoses[0].evaluations, statistics.median(d.seconds for d in diagnoses))
    return Row(subject.name, eps, len(subject.x), attack, typical, proofs)


def table(rows: list[Row]) -> str:
    """Markdown, one row for each network and budget."""
    lines = [
        "| network | eps | n | evaluations: attack | diagnosis | share "
        "| seconds: attack | diagnosis | share | proofs |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {r.network} | {r.eps} | {r.images} | {r.attack.evaluations:,} | {r.diagnosis.evaluations:,} | "
        f"{r.share_of_evaluations:.1%} | {r.attack.seconds:.1f} | {r.diagnosis.seconds:.1f} | {r.share:.1%} | "
        f"{r.proofs.seconds:.1f} |"
        for r in rows
    ]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Print the table; exit code 2 after a request that cannot be met."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.diagnosis_cost", description=__doc__)
    in_turns(parser, "mnist_lenet5_clean,mnist_lenet5_adv,mnist_trades_smallcnn,cifar10_resnet4b")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    rows: list[Row] = []
    try:
        for name in options.networks.split(","):
            if name not in BUDGETS:
                raise InputError(f"--networks: {name!r} is none of {', '.join(BUDGETS)}")
            subject = load(name, options.images, options.first, str(choose(options.device)))
            rows += [measured(subject, eps, options.slice, options.seed) for eps in BUDGETS[name]]
            print(table(rows), flush=True)
    except InputError as problem:
        print(problem, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
