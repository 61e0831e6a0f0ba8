"""What the trials of a run work on: networks that are ready, samples, and what they say of these unperturbed."""

from __future__ import annotations

import numpy as np
import torch

from eval.bench import Bench
from eval.clean import Once
from eval.config import Plan
from eval.networks import Entrant
from eval.trial import Trial

_ENOUGH = 20  # samples for a warning that a network guesses


def benches(plan: Plan, trials: list[Trial], entrants: list[Entrant], once: Once) -> list[tuple[Bench, Trial]]:
    """All trials, each with what it works on."""
    return [(bench, trial) for trial in trials for bench in _benches(plan, trial, entrants, once)]


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
        clean={e.name: once(e.name, e.classifier, trial.samples, e.forms.batch) for e in chosen},
        device=once.device,
        seed=plan.seed,
        goal=trial.goal or plan.goal,
        batch_size=min((e.forms.batch_size for e in chosen), default=1),
        batches={e.name: e.forms.batch for e in chosen},
        transfer=trial.transfer and len(chosen) > 1,
        derived=trial.derived,
        examples=plan.examples,
        access=trial.access or plan.access,
        reduced={e.name: e.forms.reduced for e in chosen if e.forms.reduced is not None},
        quicker={e.name: e.forms.quicker for e in chosen if e.forms.quicker is not None},
        victims={e.name: e.oracle for e in chosen if trial.substitutes and e.oracle is not None},
    )


def guessing(tried: list[Bench], meant: set[str]) -> list[str]:
    """A warning for each network, none of those `meant` to guess, that is at chance (within three standard errors)."""
    lines: dict[str, str] = {}
    for bench in tried:
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
