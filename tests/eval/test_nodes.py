"""What a node becomes."""

from __future__ import annotations

import math

import pytest

from attacks.fgsm import FGSM
from attacks.lbfgs import LBFGS
from attacks.pgd import PGD
from eval.errors import InputError
from eval.nodes import budget, check_norm, make, settled, unbounded


def test_a_node_becomes_an_object_of_its_class() -> None:
    assert make("attack.pgd", {"_target_": "attacks.pgd.PGD", "steps": 7}) == PGD(steps=7)


@pytest.mark.parametrize(
    ("node", "says"),
    [
        ({"steps": 7}, "attack.pgd: must come from a file of conf/attack"),
        ({"_target_": "os.system", "command": "ls"}, "attack.pgd._target_: must be a class of attacks, models or eval"),
        ({"_target_": "attacks.pgd.PDG"}, "attack.pgd._target_: there is no attacks.pgd.PDG"),
        ({"_target_": "attacks.pdg.PGD"}, "attack.pgd._target_: there is no attacks.pdg.PGD"),
        ({"_target_": "attacks.pgd.PGD", "steps": 0}, "attack.pgd.steps: must be"),
        ({"_target_": "attacks.pgd.PGD", "stride": 0}, "attack.pgd.PGD.__init__() got an unexpected"),
    ],
)
def test_a_node_that_describes_nothing_is_refused_under_its_key(node, says) -> None:
    with pytest.raises(InputError) as caught:
        make("attack.pgd", node)
    assert str(caught.value).startswith(says)


def test_a_budget_is_what_its_text_says_or_is_refused() -> None:
    assert (budget("l2", "8/255").norm, budget("l2", "8/255").eps) == ("l2", 8 / 255)
    with pytest.raises(InputError, match="write 8/255"):
        budget("linf", "8")


def test_only_an_attack_that_keeps_a_budget_must_support_its_norm() -> None:
    check_norm("attack.lbfgs", LBFGS(), "linf")
    check_norm("attack.pgd", PGD(), "linf")
    with pytest.raises(InputError, match=r"attack.pgd: supports the norm .*, got l0; choose another"):
        check_norm("attack.pgd", PGD(), "l0")


def test_a_search_for_the_smallest_keeps_its_norm_where_it_has_no_other() -> None:
    for norm in ("l2", "linf"):
        given = unbounded(LBFGS(), norm, (-1.0, 1.0))
        assert (given.norm, given.eps, given.box) == ("l2", math.inf, (-1.0, 1.0))


def test_fooled_samples_leave_early_unless_they_are_shown_to_others_or_the_attack_says_so() -> None:
    free = PGD(early_stop=None)
    assert settled(free, transfer=False) == PGD(early_stop=True)
    assert settled(free, transfer=True) == PGD(early_stop=False)
    assert settled(PGD(early_stop=True), transfer=True) == PGD(early_stop=True)
    assert settled(FGSM(), transfer=True) == FGSM()
