"""What goes into a run: its samples, what networks are trained on, and what is tried on what."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from eval.config import Plan
from eval.data import Data, Images, limited
from eval.data.classes import imagenet_classes
from eval.derived import CONTROL
from eval.errors import InputError
from eval.goals import eligible
from eval.trial import Cohort, Trial
from models.published import Published
from models.spec import Spec, comes_ready, side_of
from models.toaster import Fitting

_IMAGENET = 1000  # classes


def load(plan: Plan) -> Data:
    """The data that a plan names, as far as it uses them.

    Raises:
        InputError: they cannot be read, or nothing is left to attack.
    """
    spec = plan.data
    trains = plan.train.method == "finetune" or not all(comes_ready(model) for model in plan.models.values())
    if not trains and getattr(spec, "test_fraction", 1.0) is None:
        spec = dataclasses.replace(spec, test_fraction=1.0)  # nothing needs the other part
    if isinstance(spec, Images) and spec.size is None:
        spec = dataclasses.replace(spec, size=_side(plan.models.values()))
    data: Data = spec.load(plan.seed)
    few, train = plan.debug, data.train
    test = (
        data.test if few.samples is None else limited(data.test, min(few.samples, len(data.test)), plan.seed, "debug")
    )
    if few.train_samples is not None and train is not None:
        train = limited(train, min(few.train_samples, len(train)), plan.seed, "debug")
    data = dataclasses.replace(data, train=train, test=test)
    data = known(data, plan.models.values())
    return data if data.unlabelled else aimed(data, plan.goal)


def _side(models: Collection[Spec]) -> int | None:
    """The side of the images that all networks were made for, where they say so and are of one mind."""
    sides = {side_of(model) for model in models}
    return sides.pop() if len(sides) == 1 else None


def known(data: Data, models: Collection[Spec]) -> Data:
    """The data with the names of ImageNet's classes, where they have 1,000 without names and a network knows ImageNet.

    It does where it is torchvision's or timm's with weights; a goal such as `toaster` is then understood.
    """
    if len(data.test.classes) != _IMAGENET or data.test.classes != tuple(map(str, range(_IMAGENET))):
        return data
    if not any(isinstance(m, Fitting) or (isinstance(m, Published) and m.ready) for m in models):
        return data
    names = imagenet_classes()
    train = None if data.train is None else dataclasses.replace(data.train, classes=names)
    return dataclasses.replace(data, train=train, test=dataclasses.replace(data.test, classes=names))


def aimed(data: Data, goal: str) -> Data:
    """The data without the samples that are of the wanted class already.

    Raises:
        InputError: no sample is left.
    """
    keep = eligible(goal, data.test.labels, data.test.classes)
    if len(keep) == 0:
        raise InputError(f"goal: there must be samples of another class than {goal}, got none in {data.name}")
    dropped = len(data.test) - len(keep)
    note = f"{dropped} samples are of the wanted class {goal} already and were left out"
    more = (note,) if dropped else ()
    return dataclasses.replace(data, test=data.test.select(keep), warnings=(*data.warnings, *more))


def parts(plan: Plan, data: Data) -> tuple[list[Cohort], list[Trial]]:
    """What a plan consists of: what its study says, or all its attacks on all its networks."""
    if plan.study is not None:
        return plan.study.cohorts(data, plan.models, plan.seed), plan.study.trials(data, plan.attacks, plan.seed)
    trial = Trial(data.test, plan.attacks, transfer=plan.transfer, derived=CONTROL if plan.controls else {})
    return [Cohort(plan.models, data.train)], [trial]
