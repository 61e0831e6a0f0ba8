"""Which attacks end with their first success: by what they say, and by what they ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from attacks.apgd import APGD
from attacks.article import Article
from attacks.bim import BIM
from attacks.bpda import BPDA
from attacks.eot import EOT
from attacks.expectation import Expectation
from attacks.fgsm import FGSM
from attacks.foolbox import Foolbox
from attacks.goal import Goal
from attacks.lbfgs import LBFGS
from attacks.noise import Noise
from attacks.pgd import PGD
from attacks.rng import Rng
from attacks.square import Square
from attacks.standard import Quick
from attacks.threat import ThreatModel
from attacks.transferable import Transferable
from eval.stopping import ends_with_success

ENDS = [PGD, APGD, Square, Quick, BPDA, lambda: Noise(draws=9), lambda: Foolbox("hopskipjump", within_budget=True)]
GOES_ON = [
    lambda: PGD(early_stop=False), lambda: BPDA({"early_stop": False}), BIM, FGSM, EOT, Expectation, Transferable,
    LBFGS, lambda: Foolbox("hopskipjump"),
]  # fmt: skip


@pytest.mark.parametrize("made", ENDS)
def test_these_end_with_their_first_success(made: Callable[[], Any]) -> None:
    assert ends_with_success(made(), "linf")


@pytest.mark.parametrize("made", GOES_ON)
def test_these_go_on(made: Callable[[], Any]) -> None:
    assert not ends_with_success(made(), "linf")


def test_the_articles_loop_ends_with_confidence() -> None:
    assert not ends_with_success(Article(), "linf")


@pytest.mark.parametrize(
    ("made", "most"), [(PGD, 4), (Square, 4), (lambda: Noise(draws=9), 4), (lambda: BIM(steps=30), None)]
)
def test_what_is_asked_on_a_network_that_is_fooled_at_once_bears_it_out(
    made: Callable[[], Any], most: int | None
) -> None:
    asked = 0

    def network(x: torch.Tensor) -> torch.Tensor:
        nonlocal asked
        asked += 1
        return x.flatten(1)[:, :2] * 0 + torch.tensor([0.0, 1.0])  # always the second class

    x, attack = torch.full((1, 1, 4, 4), 0.5), made()
    attack(network, x, Goal(torch.tensor([0])), ThreatModel("linf", 0.1), rng=Rng.of(0, ["s"], ["a"]))
    assert ends_with_success(attack, "linf") is (most is not None)
    assert asked <= most if most is not None else asked == 31  # the last point is judged too
