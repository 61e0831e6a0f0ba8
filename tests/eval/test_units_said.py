"""What the page of `eval.studies.units` says of numbers made by hand: both sides of each verdict; nulls that died."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from eval.errors import InputError
from eval.studies import unit_detectors, unit_family, unit_tops, unit_twins
from eval.studies.cells import Value
from eval.studies.unit_family import Family, Looked, family, percents, superiority
from eval.studies.unit_firing import Fired
from eval.studies.unit_tables import _findings
from eval.studies.unit_twins import _row, common
from eval.units.bases import BASES

MODELS = ("cnn", "cnn_shuffled", "cnn_untrained")
RUN: Any = SimpleNamespace(
    seed=0,
    models=[{"name": name, "trained": {"train_accuracy": 0.4} if "untrained" not in name else None} for name in MODELS],
    data={"name": "made", "classes": ["a", "b"]},
    config={"study": {"at": "mean", "steps": 9}},
)


def value(low: float, high: float) -> Value:
    return Value("number", (low + high) / 2, low, high, 100)


SOME, HALF, LITTLE, MUCH = value(0.3, 0.6), value(0.35, 0.7), value(0.45, 0.55), value(0.75, 0.9)
NONE = value(math.nan, math.nan)
FEW = value(0.1, 0.2)
MEANS_NOTHING = ", so that no meaning needs to be behind it"
NO_MORE = "are not shown to be more so than where nothing was learnt ({})"
NO_NULL = "have no network that learnt nothing to be compared with"
NOTHING_SPEAKS = ", so that nothing speaks for units"
ONE_SIDED = "are not shown to have more than random directions that are one-sided, as units are"


@pytest.mark.parametrize(
    ("above", "sparse", "nulls", "says"),
    [
        (NONE, HALF, [HALF], "too few units to tell whether the claim stands here"),
        (LITTLE, HALF, [HALF], "if there is a difference it is small, within 0.4 to 0.6: here the claim stands"),
        (MUCH, MUCH, [HALF], "units have more in common: here the claim is rejected"),
        (MUCH, MUCH, [HALF, LITTLE], "units have more in common: here the claim is rejected"),
        (SOME, HALF, [HALF], "no difference can be told"),
        (FEW, HALF, [HALF], "random directions have more in common" + NOTHING_SPEAKS),
        (
            FEW,
            HALF,
            [value(0.1, 0.3), HALF],
            "random directions have more in common, but " + NO_MORE.format("null 0") + NOTHING_SPEAKS,
        ),
        (
            FEW,
            HALF,
            [],
            "random directions have more in common, but " + NO_NULL + NOTHING_SPEAKS,
        ),
        (
            MUCH,
            MUCH,
            [],
            "units have more in common, but " + NO_NULL + MEANS_NOTHING,
        ),
        (MUCH, MUCH, [NONE], "units have more in common, but " + NO_MORE.format("null 0") + MEANS_NOTHING),
        (
            MUCH,
            MUCH,
            [LITTLE, value(0.6, 0.85)],
            "units have more in common, but " + NO_MORE.format("null 1") + MEANS_NOTHING,
        ),
        (
            MUCH,
            MUCH,
            [MUCH, value(0.6, 0.85)],
            "units have more in common, but " + NO_MORE.format("null 0 and null 1") + MEANS_NOTHING,
        ),
        (MUCH, HALF, [LITTLE], "units have more in common, but " + ONE_SIDED + MEANS_NOTHING),
        (MUCH, NONE, [LITTLE], "units have more in common, but " + ONE_SIDED + MEANS_NOTHING),
        (
            MUCH,
            NONE,
            [MUCH],
            "units have more in common, but " + ONE_SIDED + " and " + NO_MORE.format("null 0") + MEANS_NOTHING,
        ),
    ],
)
def test_a_difference_is_rejected_by_what_nulls_do_not_have(above: Value, sparse: Value, nulls: Any, says: str) -> None:
    said = unit_tops._verdict(above, sparse, {f"null {at}": null for at, null in enumerate(nulls)})
    decided = ("too few", "here the claim stands", "here the claim is rejected")
    assert said == (says if any(part in says for part in decided) else says + ": here the claim is not rejected")


@pytest.mark.parametrize(
    ("gain", "says"),
    [
        (value(0.01, 0.02), "more than the choice of images and of random directions explains"),
        (value(-0.02, -0.01), "less than random directions"),
        (value(-0.01, 0.01), "no more than the choice of images and of random directions explains"),
        (NONE, "too few to tell"),
    ],
)
def test_detectors_are_better_only_where_the_interval_says_so(gain: Value, says: str) -> None:
    assert unit_detectors._verdict(gain) == says


def test_fewer_than_nine_directions_have_no_interval() -> None:
    assert math.isnan(superiority(np.arange(8.0), np.arange(50.0), 0).low)
    assert math.isnan(superiority(np.arange(50.0), np.arange(8.0), 0).low)
    rng, told = np.random.default_rng(0), 0
    for seed in range(300):
        found = superiority(rng.normal(size=9), rng.normal(size=100), seed)
        told += not found.low <= 0.5 <= found.high
    assert told <= 0.12 * 300  # some 8%: resampling is a little narrow for so few, and far too narrow for fewer


def test_a_difference_without_an_interval_says_of_how_few() -> None:
    assert percents(Value("excess", 0.05, math.nan, math.nan, 1)) == "+5.0 points (n=1, no interval)"


def seen(purity: float = 0.5, live: int = 10) -> dict[str, np.ndarray]:
    """A layer of 12 units whose top images have that purity, random directions 0.5, spread alike."""
    wide = np.linspace(-0.1, 0.1, live)
    some: dict[str, Any] = {"alias": "fc1", "shape": [12], "live": np.arange(live), "fitted": np.arange(40) % 2 == 0}
    some |= {
        "classes": np.arange(2),
        "again_right": np.zeros((2, 20, 2), bool),
        "top_natural": np.zeros((live, 9), int),
    }
    for basis in (*BASES, "chance"):
        middle = purity if basis == "natural" else 0.5
        some |= {f"{what}_{basis}": middle + wide for what in ("purity", "entropy", "likeness")}
        some |= {f"v_{basis}": np.zeros((live, 12)), f"picture_{basis}": np.zeros((1, 9, 1, 2, 2), np.uint8)}
    return {key: np.asarray(part) for key, part in some.items()}


def told(monkeypatch: pytest.MonkeyPatch, **measured: dict[str, np.ndarray]) -> Family:
    monkeypatch.setattr(unit_family, "read_measured", lambda *_: measured)
    return family(RUN, Path())


def test_nulls_that_respond_are_named_and_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    found = told(monkeypatch, cnn=seen(0.9), cnn_shuffled=seen(0.5), cnn_untrained=seen(0.5))
    section = unit_tops.section(found)
    assert section.answer.endswith(". Units have more in common: here the claim is rejected.")
    assert "labels shuffled: 0.50" in section.answer
    assert "untrained: 0.50" in section.answer
    assert "untrained, and trained on shuffled labels, of which it is right about 40%" in section.null
    assert "left out" not in section.null
    assert not found.gone
    also = told(monkeypatch, cnn=seen(0.9), cnn_shuffled=seen(0.9), cnn_untrained=seen(0.5))
    answer = unit_tops.section(also).answer
    assert answer.endswith(NO_MORE.format("labels shuffled") + MEANS_NOTHING + ": here the claim is not rejected.")


@pytest.mark.parametrize(("live", "says"), [(0, "none of its 12 units responds"), (1, "1 of its 12 units responds")])
def test_a_null_that_died_is_named_as_such_and_as_nothing_else(monkeypatch: Any, live: int, says: str) -> None:
    found = told(monkeypatch, cnn=seen(0.9), cnn_shuffled=seen(live=live), cnn_untrained=seen(0.5))
    section = unit_tops.section(found)
    assert [one.name for one in found.networks] == ["cnn", "cnn_untrained"]
    assert section.null.startswith(
        f"9 images at random; the same network untrained; left out: labels shuffled ({says}). Sparse"
    )
    assert "labels shuffled" not in section.answer
    assert "here the claim is rejected" in section.answer  # the untrained one is left
    assert f"Left out, as nothing can be compared there: labels shuffled ({says})." in _findings(found, [])


def test_without_any_null_nothing_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    found = told(monkeypatch, cnn=seen(0.9), cnn_shuffled=seen(live=1), cnn_untrained=seen(live=0))
    section = unit_tops.section(found)
    assert section.answer.endswith("here the claim is not rejected.")
    assert "As a null" not in section.answer
    assert "There is no null: no network that learnt nothing has units that respond. Units have" in section.answer
    assert "no network that learnt nothing; left out: untrained (none of" in section.null


def test_a_layer_that_died_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"layer: must have 2 units or more .* fc1 of cnn has 1 of 12; choose another"):
        told(monkeypatch, cnn=seen(live=1), cnn_untrained=seen())
    with pytest.raises(LookupError, match="nothing was measured of cnn"):
        told(monkeypatch, cnn_untrained=seen())
    early = {key: part for key, part in seen().items() if key != "again_right"}
    with pytest.raises(InputError, match="cnn was by an earlier one"):
        told(monkeypatch, cnn=early)


def test_the_best_unit_stands_beside_the_mean_of_draws() -> None:
    labels = np.array([0] * 5 + [1] * 5)
    responses = np.array([[1, 0]] * 4 + [[0, 0]] + [[0, 1]] * 5, np.float32)  # the first unit misses one of its class
    draws = np.stack([np.ones((10, 2), bool), np.zeros((10, 2), bool)])
    draws[1, :5] = True  # the second draw is right about half of the images
    some = {
        **{"label": np.tile(labels, 2), "fitted": np.repeat([True, False], 10), "classes": np.arange(2)},
        **{"responses": np.tile(responses, (2, 1)), "v_natural": np.eye(2, dtype=np.float32)},
        **{"threshold_natural": np.full((2, 2), 0.5), "side_natural": np.ones((2, 2))},
        **{"fitted_natural": np.array([[0.9, 0.1], [0.0, 1.0]]), "again_right": draws},
    }
    there = Family(RUN, (Looked("cnn", "trained", some),), Path())
    ours, random, gain, majority = dict(unit_detectors._networks(there).rows)["trained"]
    assert (ours.ours, random.ours, gain.ours, majority.ours) == pytest.approx((0.95, 0.75, 0.2, 0.5))
    assert gain.high - gain.low > 2 * 0.25  # two draws half of all apart: little is known of their mean


def many(units: int, order: np.ndarray, name: str) -> Looked:
    """A layer whose units are those of all others in that order; at most 512 of them lead."""
    responses = np.random.default_rng(0).standard_normal((80, units))[:, order].astype(np.float32)
    rng, most = np.random.default_rng(len(name)), min(units, 512)
    led = rng.permutation(units)[:most]
    some = {"responses": responses, "fitted": np.arange(80) % 2 == 0, "live": np.arange(units)}
    some |= {"v_natural": np.eye(units, dtype=np.float32)[led]}
    some |= {f"v_{basis}": rng.standard_normal((most, units)).astype(np.float32) for basis in BASES[1:]}
    return Looked(name, name, some)


@pytest.mark.parametrize("units", [100, 700])
def test_units_of_a_wide_layer_are_all_found_again(units: int) -> None:
    one = many(units, np.arange(units), "a")
    other = many(units, np.random.default_rng(1).permutation(units), "bb")
    found = {basis: common([(one, other)], basis) for basis in BASES}
    assert found["natural"] is not None
    assert found["random"] is not None
    assert found["natural"].ours == pytest.approx(1.0, abs=1e-5)
    assert found["natural"].n == found["random"].n == units
    assert abs(found["random"].ours) < 0.3  # of noise of 40 images
    assert (found["sparse"] is None) == (units > 512)


@pytest.mark.parametrize(("units", "strongest"), [(12, 3), (100, 10), (700, 51)])
def test_images_are_known_by_a_tenth_of_the_units_that_are_looked_at(units: int, strongest: int) -> None:
    one = many(units, np.arange(units), "a")
    stages = dict.fromkeys(("before", "after", "noise"), one.seen["responses"][:6])
    fired = Fired(one, np.zeros(6, int), np.ones(6, int), stages)
    assert fired.strongest == strongest
    assert (fired.kept("after") == 1).all()
    assert fired.first_kept().all()


def test_stimuli_move_the_matched_unit_in_its_sign() -> None:
    """The other network has the units in another order, one of them with the other sign."""
    x = np.tile(np.linspace(-1, 1, 21), 2)
    y = x**2 - (x**2).mean()  # uncorrelated with x
    fitted = np.repeat([True, False], 21)
    eye = np.eye(2, dtype=np.float32)
    base = {"fitted": fitted, "live": np.arange(2), "v_natural": eye, "v_random": eye}
    one = Looked("cnn", "trained", base | {"responses": np.stack([x, y], 1)})
    other = Looked("cnn_seed1", "trained, another seed (cnn_seed1)", base | {"responses": np.stack([-y, x], 1)})
    up, down = y.max(), (-y).max()
    some = {
        "count": np.array(2),
        "on:cnn": np.array([[1.5, 0], [0, 2.5 * up], [3.0, 0], [0, 3.0 * up]]),
        "on:cnn_seed1": np.array([[0.5 * down, 2.0], [-3.0 * up, 0.0], [0, 0], [0, 0]]),
    }
    own, random, match, others, real = _row(one, other, some)
    assert [v.ours for v in (own, random, match, others, real)] == pytest.approx([2.0, 3.0, 2.5, 0.25, 1.0])


def test_stability_without_an_untrained_network_says_so() -> None:
    nets = []
    for name, label in (("cnn", "trained"), ("cnn_seed1", "trained, another seed (cnn_seed1)")):
        one = many(20, np.arange(20), name)
        nets.append(Looked(name, label, dict(one.seen) | {"shape": np.array([20]), "alias": np.array("fc1")}))
    section = unit_twins.stability(Family(RUN, tuple(nets), Path()))
    assert section is not None
    assert section.answer.endswith("There is no untrained network whose units respond, and so no null.")
    assert section.null == "As many random directions, matched alike."
    assert "units are found again more than random directions are" in section.answer


@pytest.mark.parametrize(
    ("matched", "says"),
    [
        ((0.9, 0.5), "0.40 (0.37 to 0.43), units are found again more than random directions are."),
        ((0.5, 0.9), "-0.40 (-0.43 to -0.37), units are found again less than random directions are."),
        ((0.5, 0.51), "no difference can be told."),
    ],
)
def test_units_are_found_again_more_or_less_than_random_directions(monkeypatch: Any, matched: Any, says: str) -> None:
    by = dict.fromkeys(BASES, 0.5) | dict(zip(("natural", "random"), matched, strict=True))
    monkeypatch.setattr(unit_twins, "common", lambda _, basis: value(by[basis] - 0.02, by[basis] + 0.02))
    nets = [Looked(name, name, seen()) for name in ("cnn", "cnn_seed1")]
    section = unit_twins.stability(Family(RUN, tuple(nets), Path()))
    assert section is not None
    assert says in section.answer


@pytest.mark.parametrize(
    ("gone", "says"),
    [(0.5, "0.2500 (0.2349 to 0.2651) nats of loss: units matter more."), (0.0, "units matter less."), (0.25, "told.")],
)
def test_taking_out_a_unit_stands_beside_a_direction_of_its_variance(gone: float, says: str) -> None:
    """Ten directions, four images; all are right with all directions, and their loss is 1."""
    some: dict[str, Any] = seen() | {"intact_right": np.ones(4, bool), "intact_loss": np.ones(4)}
    noise = np.tile([-0.02, 0.02], 5)[:, None]  # of each direction
    for basis in BASES:
        some[f"gone_right_{basis}"] = np.tile([True, True, True, False], (10, 1))
        some[f"equal_right_{basis}"] = np.tile([True, True, False, False], (10, 1))
        some[f"gone_loss_{basis}"] = 1 + gone + noise + np.zeros((10, 4))
        some[f"equal_loss_{basis}"] = np.full((10, 4), 1.25)
    section = unit_detectors.ablation(Family(RUN, (Looked("cnn", "trained", some),), Path()))
    assert "without one unit is +25.0 points (25.0 to 25.0), without a random direction of the same variance +50.0" in (
        section.answer
    )
    assert "a difference of -25.0 points" in section.answer
    assert section.answer.endswith(says)
