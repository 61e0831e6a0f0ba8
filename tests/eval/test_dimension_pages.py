"""What the page on dimension says of arrays written down here: both sides of each verdict, and nothing of nothing."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from eval.studies.cells import Value
from eval.studies.dimension_causes import causes, noise, volume
from eval.studies.dimension_measured import Measured
from eval.studies.dimension_names import HE, UNTRAINED
from eval.studies.dimension_tables import _gradients, _said
from eval.studies.dimension_verdicts import fault, left, moves, predicted, returned, stands, takes_in
from eval.studies.reading import Section
from eval.trial import Arrays

IMAGES = 4
SIDES = (2, 4)
SEEDS = 2


def measured(resize: str = "nearest", other: float = 2.0, **boundary: float | np.ndarray) -> Measured:
    """Softmax regression of two seeds at two sizes; r_adv 1 and 2, that to another class 3 and 3 `other`."""
    plain = {"adversarial": 1.0, "random": 5.0, "left": 0.0, "error": 0.1}
    probes: dict[str, dict[str, Arrays]] = {"boundary": {}, "projected": {}, "separation": {}}
    for i, side in enumerate(SIDES):
        for seed in range(SEEDS):
            name = f"softmax-{HE}-{side}-{seed}"
            at = {k: np.broadcast_to(v, (IMAGES, *((2,) if k in ("left", "error") else ()))) for k, v in (
                plain | boundary).items()}  # fmt: skip
            size = np.where(at["adversarial"] == 0, 0, at["adversarial"] * 2.0**i)
            probes["boundary"][name] = {**at, "adversarial": size, "random": np.repeat(at["random"][:, None], 2, 1)}
            probes["projected"][name] = {"adversarial": size * 2}
            probes["separation"][name] = {"other": np.full(IMAGES, 3 * other**i)}
    return Measured(2, SIDES, 1, SEEDS, ("softmax",), ("softmax",), (HE,), resize, 10, probes)


def row(section: Section, place: int = 0) -> tuple[Value | None, ...]:
    return section.tables[0].rows[place][1]


@pytest.mark.parametrize(
    ("left", "says"),
    [
        (0.0, "in no case, and one of RMS 0.1 in no case, at any size and for any network: "
         "volume is not the reason."),
        (0.04, "in at most 4.0% of cases, and one of RMS 0.1 in at most 4.0% of cases, at any size and for any "
         "network: volume is not the reason."),
        (0.06, "in at most 6.0% of cases, and one of RMS 0.1 in at most 6.0% of cases, at any size and for any "
         "network: random steps do some of what adversarial ones do."),
    ],
)  # fmt: skip
def test_volume_is_the_reason_where_random_steps_leave_as_adversarial_ones_do(left: float, says: str) -> None:
    assert volume(measured(left=left)).answer.endswith(says)


def test_of_random_steps_only_those_as_long_as_the_adversarial_one_give_the_verdict() -> None:
    said = volume(measured(left=np.array([[0.01, 0.9]] * IMAGES))).answer
    assert "in at most 1.0% of cases, and one of RMS 0.1 in at most 90.0% of cases" in said
    assert said.endswith("volume is not the reason.")


def test_where_no_image_is_right_nothing_is_said_of_volume() -> None:
    said = volume(measured(adversarial=0.0))
    assert said.answer.endswith(
        "in no case that is known, and one of RMS 0.1 in no case that is known, at any size and for any network: "
        "whether volume is the reason is not known."
    )
    assert all(math.isnan(v.ours) for v in row(said)[1:4] if v is not None)


def test_where_no_perturbation_was_found_steps_of_one_length_are_told_alone() -> None:
    said = volume(measured(adversarial=math.inf, left=0.2))
    assert "in no case that is known, and one of RMS 0.1 in at most 20.0% of cases" in said.answer
    adversarial = row(said)[1]
    assert adversarial is not None
    assert (adversarial.ours, adversarial.n) == (0.0, SEEDS)
    assert math.isnan(adversarial.low)  # all seeds are the same: no interval of no width


def changed(found: Measured, wrong: int) -> Measured:
    """As it was, but so many images are wrong at the largest size once the first layer is projected."""
    projected = {k: {"adversarial": v["adversarial"].copy()} for k, v in found.probes["projected"].items()}
    for seed in range(SEEDS):
        projected[f"softmax-{HE}-{SIDES[-1]}-{seed}"]["adversarial"][:wrong] = 0
    return dataclasses.replace(found, probes={**found.probes, "projected": projected})


@pytest.mark.parametrize(("wrong", "kept"), [(0, "all"), (1, "at least 75.0%"), (3, "at least 25.0%")])
def test_answers_that_the_projection_changes_are_counted(wrong: int, kept: str) -> None:
    said = causes(changed(measured(), wrong), 2.0).answer
    assert f"and {kept} of the images are right or wrong as before (4 x 4)." in said


def test_answers_of_networks_that_are_never_right_are_not_kept() -> None:
    said = causes(measured(adversarial=0.0), 2.0).answer
    assert "as before" not in said
    assert "What becomes of the answers is not known where none was right." in said
    assert "He's start, projected: not known for the softmax regression." in said


@pytest.mark.parametrize(
    ("resize", "other", "says"),
    [
        ("nearest", 2.0, "delta is 1/2 by construction, since pixels are replicated"),
        ("bilinear", 2**0.8, "delta is 0.40 (0.40 to 0.40) as measured, since interpolation smooths images"),
    ],
)
def test_the_null_is_what_the_images_do(resize: str, other: float, says: str) -> None:
    said = causes(measured(resize, other), 2.0)
    assert says in said.null
    assert says in said.tables[0].note
    alpha, gap = row(said)[1:3]
    assert alpha is not None
    assert gap is not None
    assert alpha.ours == pytest.approx(0.5)  # twice as far with four times the pixels
    assert gap.ours == pytest.approx(0.5 - math.log(other) / math.log(4))


def test_errors_in_noise_count_the_images_that_noise_never_moves() -> None:
    """Of four images one is never moved, one always, and two at the rates of hyperplanes at 1.1 and 1.5."""
    beyond = [0.5 * math.erfc(z / 2**0.5) for z in (1.1, 1.5)]
    found = measured(error=np.array([[0.0, 0.0], [1.0, 1.0], [beyond[0]] * 2, [beyond[1]] * 2]))
    cells = [v.ours for v in row(noise(found)) if v is not None]
    assert cells[:4] == pytest.approx([(1 + sum(beyond)) / 4, 0.5, 1.3, 0.75])  # of 1.64, -1.64, 1.1 and 1.5
    assert cells[4:] == pytest.approx([(1 + sum(beyond)) / 4, 0.5, 0.65, 0])  # of half of these
    assert "1 / 20, and one that all move" in noise(found).tables[0].note


def test_where_noise_moves_no_image_the_prediction_is_the_least_that_the_draws_can_tell() -> None:
    cells = [v.ours for v in row(noise(measured(error=0.0))) if v is not None]
    assert cells == pytest.approx([0, 0, 1.644854, 1, 0, 0, 0.822427, 0])


def test_of_networks_that_are_never_right_noise_says_nothing() -> None:
    said = noise(measured(adversarial=0.0))
    assert all(math.isnan(v.ours) for v in row(said) if v is not None)
    assert "at 1 r_adv not known (softmax regression)" in said.answer
    assert said.answer.endswith("that it does at every sigma cannot be told.")


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [(-0.3, -0.1, "comes nearer as d grows"), (0.1, 0.3, "goes away"), (-0.1, 0.1, "cannot be told to move")],
)
def test_the_boundary_moves_where_the_interval_says_so(low: float, high: float, says: str) -> None:
    assert moves([("perceptron", Value("number", (low + high) / 2, low, high, 5))]).startswith(f"{says} for the perc")


def number(ours: float, reach: float = 0.05) -> Value:
    """A number with an interval of some reach."""
    return Value("number", ours, ours - reach, ours + reach, 5)


@pytest.mark.parametrize(
    ("alpha", "gap", "says"),
    [
        (0.5, 0.0, "innocent (alpha = delta)"),
        (0.25, -0.25, "guilty in part (alpha lies between 0 and delta)"),
        (0.0, -0.5, "guilty (alpha = 0)"),
        (0.7, 0.2, "innocent (alpha above delta)"),
        (0.01, -0.01, "neither, as far as can be told,"),
    ],
)
def test_dimension_is_innocent_or_guilty_as_the_claim_defines_it(alpha: float, gap: float, says: str) -> None:
    assert fault([("cnn", number(alpha))], [("cnn", number(gap))]) == f"dimension is {says} for the cnn"


def test_the_verdict_on_dimension_is_that_of_the_sizes_where_it_alone_changes() -> None:
    """Over all sizes the boundary comes nearer; where images are only enlarged it does not."""
    found = dataclasses.replace(measured(), native=SIDES[1], sides=(*SIDES, 8))
    said = _said(found, [("cnn", number(0.5))], [("cnn", number(-0.01))], [("cnn", number(-0.06, 0.04))])
    assert "from 4 x 4 on, where d alone changes, the boundary cannot be told to move for the cnn, -0.01" in said
    assert "dimension is innocent (alpha = delta) for the cnn." in said
    assert said.endswith("averaging makes some and takes information away, it is -0.06 (-0.10 to -0.02) (cnn).")
    without = _said(measured(), [("cnn", number(0.5))], [("cnn", number(0.0))], [("cnn", number(0.0))])
    assert "averaging" not in without  # no size is below the images' own
    largest = dataclasses.replace(measured(), native=SIDES[-1])
    assert _said(largest, [], [], [("cnn", number(0.0))]).startswith("Whether dimension is guilty cannot be told")


@pytest.mark.parametrize(
    ("one", "half", "says"),
    [
        (0.53, 0.91, "within 15% of it at 1 r_adv for none and at 0.5 r_adv for all; that it does at every sigma does "
         "not stand."),
        (0.95, 0.91, "at 1 r_adv for all and at 0.5 r_adv for all; that it does at every sigma stands."),
        (0.85, 0.91, "at 1 r_adv for none that can be told and at 0.5 r_adv for all; that it does at every sigma "
         "cannot be told."),
        (1.3, 0.91, "at 1 r_adv for none and at 0.5 r_adv for all; that it does at every sigma does not stand."),
    ],
)  # fmt: skip
def test_noise_is_judged_at_every_level(one: float, half: float, says: str) -> None:
    said = predicted([(1.0, [("a", number(one))]), (0.5, [("a", number(half))])])
    assert said.endswith(says)
    assert f"at 1 r_adv {one:.2f} (" in said


def test_noise_names_the_networks_for_which_it_predicts() -> None:
    said = predicted([(0.5, [("a", number(0.94)), ("b", number(0.24))])])
    assert said.endswith("within 15% of it at 0.5 r_adv for the a; that it does at every sigma does not stand.")


def test_the_page_says_both_levels_of_noise() -> None:
    said = noise(measured(error=np.array([[0.5 * math.erfc(1.2 / 2**0.5), 0.5 * math.erfc(2 / 2**0.5)]] * IMAGES)))
    assert said.answer.startswith("Of the distance found, noise predicts at 1 r_adv 1.20 (softmax regression) and at")
    assert "within 15% of it at 1 r_adv for none and at 0.5 r_adv for" in said.answer


def test_a_claim_stands_where_the_interval_takes_it_in() -> None:
    some = [("a", number(0.5)), ("b", number(0.4)), ("c", Value("number", 0.5, math.nan, math.nan, 1))]
    assert stands(some, takes_in(0.5)) == (
        "the claim stands for the a, and does not stand for the b, and cannot be told for the c"
    )


def test_treatments_are_told_apart() -> None:
    said = returned([("decay", [("a", number(-0.12)), ("b", number(0.0))]), ("zero", [("a", number(0.01))])])
    assert said == "decay: back for the b, not for the a, -0.12 (-0.17 to -0.07) off; zero: back for the a"


def test_gradients_are_compared_with_their_own_before_training() -> None:
    """The lead's from 1/2 to 1/4; the loss's, which is no part of that, from 0.6 to whatever it is."""
    probes: dict[str, Arrays] = {}
    for handle, lead in ((UNTRAINED, 0.5), (HE, 0.25)):
        for i, side in enumerate(SIDES):
            for seed in range(SEEDS):
                own = {"loss": 4.0 ** (0.6 * i), "lead": 4.0 ** (i * (lead + 0.001 * seed * (handle == HE)))}
                probes[f"softmax-{handle}-{side}-{seed}"] = {k: np.full((IMAGES, 2), v) for k, v in own.items()}
    found = measured()
    found = dataclasses.replace(found, probes={**found.probes, "gradients": probes})
    said = _gradients(found).answer
    assert "0.50 (0.50 to 0.50) untrained and 0.25 (0.24 to 0.26) trained (softmax regression)" in said
    assert "that training leaves it so does not stand for the softmax regression." in said
    assert said.endswith("the derived 1/2 does not stand for the softmax regression.")


def test_training_leaves_exponents_where_the_change_may_be_none() -> None:
    one = [("a", number(0.5))]
    assert "that training leaves it so stands for the a." in left(one, one, [("a", number(0.0))], one)
