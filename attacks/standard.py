"""The field's standard ensemble, one that is quicker and one that is stronger: nothing in them is to be tuned.

    standard   APGD on the cross-entropy, APGD on the targeted difference of logits ratio, targeted FAB, Square
    quick      APGD on the margin, then towards three classes: a first look, an upper bound that is not tight
    strong     standard with more steps, classes and starts, searches for the smallest perturbation, and more effort for
               the samples whose searches ask for it, as `attacks.escalation` says

Each stage has the samples that those before it left; see `attacks.cascade`. A stage that has no form for the norm of
the budget is left out (Square in L1, the search for the smallest perturbation anywhere but in L2). With fewer than four
classes, targeted searches have fewer targets and the margin takes the place of the ratio.

Source: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
attacks", ICML 2020 (arXiv 2003.01690), and the `standard` version of its program: 100 steps, 9 target classes, 5,000
queries.
Departures: those of the attacks; what is far from falling and comes no nearer is given up early, as `attacks.prospects`
says, but not by `strong`; stages work on the survivors sample by sample, and candidates must hold after rounding
to 8 bits before a sample is let go.
Cost: that of the stages; on a network without defence almost all samples leave in the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from attacks.apgd import APGD
from attacks.base import Attack, Logits
from attacks.cascade import Stages, in_turn
from attacks.escalation import Escalation
from attacks.fab import FAB
from attacks.goal import Goal
from attacks.lbfgs import LBFGS
from attacks.rng import Rng
from attacks.square import Square
from attacks.threat import ThreatModel


def _for(norm: str, *stages: tuple[str, Attack]) -> Stages:
    return tuple((name, attack) for name, attack in stages if norm in attack.norms)


def _standard(steps: int, targets: int, queries: int, restarts: int, give_up: float | None) -> Stages:
    return (
        ("apgd", APGD(steps=steps, early_stop=True)),
        ("apgd_targeted", APGD(steps=steps, loss="dlr", targets=targets, early_stop=True, give_up=give_up)),
        ("fab", FAB(minimal=False, steps=steps, targets=targets, give_up=give_up)),
        ("square", Square(queries=queries, restarts=restarts, give_up=give_up)),
    )


class _InTurn:
    """What the ensembles share: the norms, and running their stages in turn."""

    norms: ClassVar[frozenset[str]] = frozenset({"l1", "l2", "linf"})
    minimal: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self.stages("l2")  # refuses what its stages refuse

    def stages(self, norm: str) -> Stages:
        """Its attacks for budgets in that norm."""
        raise NotImplementedError

    def __call__(self, logits: Logits, x: Tensor, goal: Goal, threat: ThreatModel, *, rng: Rng) -> Tensor:
        """Per sample the first candidate (B, C, H, W) that reaches the goal, else the nearest to it."""
        return in_turn(self.stages(threat.norm), logits, x, goal, threat, rng).x_adv


@dataclass(frozen=True)
class Standard(_InTurn):
    """The field's standard ensemble: APGD, targeted APGD, targeted FAB and Square in turn.

    Attributes:
        steps: of each gradient search.
        targets: classes that the targeted searches go to.
        queries: of each search of Square.
        restarts: searches of Square for a sample that is not given up; the original has one.
        give_up: factor of `attacks.prospects` for searches that do not get near; None spends everything on them, as the
            original does.
    """

    steps: int = 100
    targets: int = 9
    queries: int = 5000
    restarts: int = 2
    give_up: float | None = 3.0

    def stages(self, norm: str) -> Stages:
        """Its attacks for budgets in that norm."""
        return _for(norm, *_standard(self.steps, self.targets, self.queries, self.restarts, self.give_up))


@dataclass(frozen=True)
class Quick(_InTurn):
    """A first look in seconds: an upper bound of robust accuracy that is not tight.

    Attributes:
        steps: of each gradient search.
        targets: classes that the targeted search goes to.
    """

    steps: int = 20
    targets: int = 3

    def stages(self, norm: str) -> Stages:
        """Its attacks for budgets in that norm."""
        return _for(
            norm,
            ("apgd", APGD(steps=self.steps, loss="margin", early_stop=True)),
            ("apgd_targeted", APGD(steps=self.steps, loss="dlr", targets=self.targets, early_stop=True)),
        )


@dataclass(frozen=True)
class Strong(_InTurn):
    """The standard ensemble, the smallest perturbation, longer searches, more queries, and more still where asked for.

    Attributes:
        steps: of each gradient search of the standard ensemble; the longer ones have three times as many.
        targets: classes that the targeted searches go to.
        queries: of Square at first; later four times as many.
        restarts: starts of the longer searches.
    """

    steps: int = 100
    targets: int = 9
    queries: int = 5000
    restarts: int = 4

    def stages(self, norm: str) -> Stages:
        """Its attacks for budgets in that norm."""
        longer, many = 3 * self.steps, self.restarts
        return _for(
            norm,
            *_standard(self.steps, self.targets, self.queries, 1, None),
            ("lbfgs", LBFGS()),
            ("apgd_longer", APGD(steps=longer, loss="margin", restarts=many, early_stop=True)),
            (
                "apgd_targeted_longer",
                APGD(steps=longer, loss="dlr", targets=self.targets, restarts=many, early_stop=True),
            ),
            ("fab_longer", FAB(minimal=False, steps=longer, targets=self.targets, restarts=many)),
            ("square_longer", Square(queries=4 * self.queries)),
            ("asked", Escalation(steps=longer, queries=self.queries)),
        )
