"""What the page on universal perturbations says of arrays written down here: both sides of each verdict."""

from __future__ import annotations

import numpy as np
import pytest

from eval.studies.cells import Value
from eval.studies.estimates import standing
from eval.studies.moosavi import _across, _one
from eval.studies.universal_found import Found, above, over_draws
from eval.studies.universal_names import ASCENT, MAKERS, NORMS
from eval.studies.universal_why import _from, few, labels, normals

IMAGES = 400
COUNTS = [500, 64, 4, 1]


def hits(*shares: float) -> np.ndarray:
    """Predictions (len(shares), 400): 1, fooled, for the first images, 0 for the others."""
    return np.array([np.where(np.arange(IMAGES) < round(share * IMAGES), 1, 0) for share in shares])


def made(shares: list[float], other: float = 0.0) -> dict[str, np.ndarray]:
    """What one maker's perturbation does, by the number of images that it is made on."""
    return {
        "images": np.array(COUNTS[: len(shares)]), "own": hits(*shares), "clean": np.zeros(IMAGES, int),
        "made": hits(shares[0])[0], "free": hits(shares[0])[0], "rounded": hits(shares[0])[0],
        "label": np.zeros(IMAGES, int), "v": np.full((1, 1, 2, 2), 0.2), "seconds": np.array([1.0]),
        "names": np.array(["b"]), "other": hits(other), "other_clean": np.zeros((1, IMAGES), int),
    }  # fmt: skip


def drawn(**shares: list[float]) -> dict[str, np.ndarray]:
    kinds = {"linf": [0.1] * 2, "l2": [0.1] * 2, "whole": [0.1] * 4, "span": [0.1] * 4, "components": [0.1] * 4}
    return {
        **{kind: hits(*own) for kind, own in (kinds | shares).items()},
        "clean": np.zeros(IMAGES, int), "among": np.arange(IMAGES), "budget": np.array(0.4),
        "dimensions": np.array(2), "pixels": np.array(4), "singular": np.array([3.0, 1.0, 1.0, 1.0]),
        "chance": np.ones(4),
    }  # fmt: skip


def found(directions: dict[str, np.ndarray], *shares: float, other: float = 0.0) -> Found:
    """Networks `a` and `b` of one kind: `a` alone if nothing is said of what is shown to others."""
    names = ["a", "b"] if other else ["a"]
    both = {name: made(list(shares), other) for name in names}
    if other:
        both["b"]["names"] = np.array(["a"])
    return Found({(m, n): both for m in MAKERS for n in NORMS}, dict.fromkeys(names, directions), names, False, 0.2, 5)


def test_what_is_fooled_are_changed_predictions():
    assert found(drawn(), 0.25).fooled(ASCENT, "linf", "a").sum() == 100


def test_a_share_is_above_another_only_where_their_intervals_are_apart():
    low, high, wide = (Value("share", v, v - r, v + r, 9) for v, r in ((0.2, 0.05), (0.4, 0.05), (0.4, 0.2)))
    assert above(high, low)
    assert not above(low, high)
    assert not above(wide, low)
    assert not above(high, None)
    assert not above(None, low)


@pytest.mark.parametrize(("share", "more"), [(0.58, 1), (0.52, 0), (0.4, 0)])
def test_networks_of_which_clearly_more_than_half_are_fooled_are_counted(share: float, more: int):
    said = _one(found(drawn(), share), "").answer
    assert f" In Linf one perturbation changes {share:.1%} of the answers on held-out images, on {more}" in said
    stands = {0.58: "The claim stands here", 0.52: "Whether the claim stands here cannot be told"}
    assert said.startswith(
        stands.get(share, "The claim does not stand here") + ", of one perturbation for most images."
    )
    assert said.endswith("intervals are over images, not over perturbations made anew.")


def test_where_the_papers_algorithm_does_better_on_fewer_images_its_rates_say_so():
    """Made on 64 images it fools more than on 500, clearly; on 4 images more, but not clearly."""
    for said in (
        one.answer
        for one in (_one(found(drawn(), 0.4, 0.6, 0.45, 0.1), ""), few(found(drawn(), 0.4, 0.6, 0.45, 0.1), ""))
    ):
        assert said.endswith(
            " The paper's algorithm is unstable: in Linf it fools clearly more made on fewer images for a (60.0% on 64 "
            "images, but 40.0% on 500)."
        )
    assert "unstable" not in _one(found(drawn(), 0.6, 0.4, 0.4, 0.1), "").answer


def test_a_claim_stands_in_all_cases_in_some_or_in_none():
    assert standing(2, 2) == "the claim stands here"
    assert standing(1, 3) == "the claim stands here in 1 of 3 cases"
    assert standing(1, 3, 1) == "the claim stands here in 1 of 3 cases, in 1 it does not"
    assert standing(0, 2, 2) == "the claim does not stand here"
    assert standing(0, 2, 1) == "whether the claim stands here cannot be told"
    assert standing(0, 0) == "whether the claim stands here cannot be told"


@pytest.mark.parametrize(("other", "pairs"), [(0.3, 2), (0.12, 0), (0.05, 0)])
def test_pairs_that_are_fooled_clearly_more_than_at_random_are_counted(other: float, pairs: int):
    said = _across(found(drawn(), 0.5, other=other), "").answer
    assert f"In Linf {pairs} of 2 pairs of different networks are fooled clearly more" in said
    assert f"{other:.1%} of the images" in said
    stands = "the claim stands here" if other == 0.3 else "whether the claim stands here cannot be told"
    assert said.endswith(f"Of being fooled more than at random {stands}.")


@pytest.mark.parametrize(
    ("shares", "says"),
    [
        ([0.5, 0.4, 0.36, 0.1], "a 4."),
        ([0.5, 0.4, 0.32, 0.1], "a 64."),  # 0.32 is more than 30%, but not clearly
        ([0.5, 0.1, 0.1, 0.4], "a 500."),  # one image did, and 4 and 64 did not
        ([0.1, 0.4, 0.4, 0.4], "a not with 500."),
        ([0.32, 0.1, 0.1, 0.1], "a not with 500."),
        ([0.9, 0.9, 0.9, 0.9], "a 1."),
    ],
)
def test_the_fewest_images_are_those_from_which_on_all_more_suffice(shares: list[float], says: str):
    said = few(found(drawn(), *shares), "")
    stands = "whether the claim stands here cannot be told" if "not" in says else "the claim stands here"
    assert said.answer.startswith(
        f"The ascent fools clearly more than 30% of held-out images from so many images on: {says[:-1]}; of up to 500 "
        f"images {stands}."
    )
    assert said.curves[0].bases == (10, 0)
    assert said.tables[0].columns == ("1", "4", "64", "500")
    assert [v.ours for v in dict(said.tables[0].rows)["a: ascent"] if v is not None] == shares[::-1]


def test_the_least_number_from_which_on_all_hold():
    assert _from([1, 4, 16], [True, True, True]) == 1
    assert _from([1, 4, 16], [True, False, True]) == 16
    assert _from([1, 4, 16], [True, True, False]) is None


def test_the_interval_of_random_directions_is_over_directions():
    value = over_draws(np.array([0.1, 0.2, 0.3]), 450)
    assert (value.ours, value.n) == (pytest.approx(0.2), 3)
    assert (value.low, value.high) == (0.0, pytest.approx(0.2 + 4.302653 * 0.1 / 3**0.5, rel=1e-6))
    same = over_draws(np.zeros(9), 50)  # that none fools any image does not say that none ever will
    assert (same.low, same.ours, same.high) == (0, 0, 0.01)
    assert over_draws(np.full(9, 0.5), 50).low == 0.49


@pytest.mark.parametrize(
    ("span", "components", "says"),
    [
        ([0.3, 0.32, 0.3, 0.32], [0.2, 0.22, 0.2, 0.22], "on 1 of 1 networks, and than one of the images' principal "
         "components on 1, clearly less on 0; the claim stands here."),
        ([0.3, 0.32, 0.3, 0.32], [0.4, 0.42, 0.4, 0.42], "on 1 of 1 networks, and than one of the images' principal "
         "components on 0, clearly less on 1; the claim does not stand here."),
        ([0.1, 0.5, 0.1, 0.5], [0.2, 0.22, 0.2, 0.22], "on 0 of 1 networks, and than one of the images' principal "
         "components on 0, clearly less on 0; whether the claim stands here cannot be told."),  # too far apart
    ],
)  # fmt: skip
def test_subspaces_are_compared_over_directions(span: list[float], components: list[float], says: str):
    said = normals(found(drawn(span=span, components=components), 0.5), "")
    assert says in said.answer
    assert f"fools {np.mean(span):.1%} of the images" in said.answer
    assert "holds 83% of the normals' squares, of random directions' 50%" in said.answer  # 10 of 12, 2 of 4
    assert "means over 4 directions each on 400 images" in said.tables[0].note


@pytest.mark.parametrize(("share", "cases"), [(1.0, 2), (0.05, 0)])
def test_labels_that_dominate_are_counted_where_random_ones_do_less(share: float, cases: int):
    """The ascent fools all images, into one class or into twenty; random perturbations half of them, into two."""
    one = made([1.0])
    one["own"] = np.where(np.arange(IMAGES) < share * IMAGES, 1, 1 + np.arange(IMAGES) % 20)[None]
    random = np.where(np.arange(IMAGES) < 200, 1 + np.arange(IMAGES) % 2, 0)[None]
    directions = drawn() | {"linf": random, "l2": random}
    stands = "the claim stands here" if cases else "whether the claim stands here cannot be told"
    said = labels(Found({(ASCENT, n): {"a": one} for n in NORMS}, {"a": directions}, ["a"], False, 0.2, 5), 30, "")
    assert said.answer.endswith(f"fool 50.0%; clearly more in {cases} of 2 cases: {stands}.")
