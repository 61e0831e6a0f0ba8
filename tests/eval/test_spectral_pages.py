"""What the pages on spectra count of arrays written down here: ratios above products, and radii above distances."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from eval.studies.spectral_product import product, radius
from eval.studies.spectral_slips import slips
from eval.studies.spectral_tables import _spectra, _unstable

STUDY = SimpleNamespace(config={"study": {"steps": 60}}, attacks=[{"name": "lbfgs"}])


def pairs(bound: float, found: list[float], chance: list[float]) -> dict[str, np.ndarray]:
    """A network's product, and ratios; the attack's pairs are among those found."""
    return {
        "product": np.array(bound), "reason": np.array("" if math.isfinite(bound) else "mul: no bound"),
        "found": np.array(found), "attack": np.array(found) / 2, "random": np.array(chance),
    }  # fmt: skip


def test_ratios_are_counted_once_and_only_where_a_product_may_be_exceeded():
    networks = {"a": pairs(10.0, [5.0, 4.0], [1.0, 2.0]), "b": pairs(math.inf, [9.0] * 3, [1.0] * 3)}
    said = product(STUDY, networks, ["a", "b"])
    assert said.answer.startswith("Of 4 ratios of pairs, from each image the largest found and a random one, 0 exceed")
    assert said.answer.endswith("it is 2 times the largest that was found.")
    assert product(STUDY, networks, ["b"]).answer == "No product is known of these networks."


@pytest.mark.parametrize(
    ("found", "chance", "over", "stands"),
    [
        ([11.0, 4.0], [1.0, 1.0], 1, "does not stand"),
        ([11.0, 4.0], [1.0, 10.5], 2, "does not stand"),
        ([10.0], [10.0], 0, "stands"),
    ],
)
def test_ratios_above_the_product_are_told(found: list[float], chance: list[float], over: int, stands: str):
    said = product(STUDY, {"a": pairs(10.0, found, chance)}, ["a"])
    assert f", {over} exceed the product of their network: the bound {stands}; it" in said.answer


def proved(lead: list[float], by_product: list[float], tight: list[float]) -> dict[str, np.ndarray]:
    return {
        "lead": np.array(lead), "radius": np.array(by_product), "tight": np.array(tight),
        "sample": np.arange(len(lead)),
    }  # fmt: skip


def test_radii_that_cannot_be_above_a_distance_do_not_count():
    """Of the images: one wrong, one without an example, one whose certificate is 0, one without attack, one of all."""
    net = proved([-1, 2, 2, 2, 2], [0, 0.1, 0.1, 0.1, 0.2], [0, 0.2, 0, math.nan, 0.4])
    said = radius(STUDY, {"n": net}, ["n"], {"n": np.array([0.0, math.inf, 1.0, math.nan, 2.0])})
    assert said.answer == (
        "Of 3 radii above 0 of images of which an example was found, 0 radii are above the distance: the claim "
        "stands; the attack finds examples at 7.5 times the proved radius (medians of the networks)."
    )  # 1 / 0.1 and 2 / 0.4
    none = radius(STUDY, {"n": net}, ["n"], {"n": np.full(5, math.inf)})
    assert none.answer == "No image has both a radius above 0 and an example that was found."


def test_untrained_networks_are_told_apart():
    networks = {"a": pairs(10.0, [5.0], [1.0]), "b": pairs(9.0, [3.0], [1.0]), "a_untrained": pairs(8.0, [1.0], [1.0])}
    said = product(STUDY, networks, list(networks)).answer
    assert said.endswith("it is 2 to 3 times (untrained networks: 8) the largest that was found.")
    nets = {"a": proved([1.0], [0.1], [0.2]), "a_untrained": proved([1.0], [0.1], [0.1])}
    far = radius(STUDY, nets, list(nets), {"a": np.array([0.4]), "a_untrained": np.array([6.0])}).answer
    assert "examples at 2 times (untrained networks: 60) the proved radius" in far
    alone = product(STUDY, {"a_untrained": networks["a_untrained"]}, ["a_untrained"]).answer
    assert alone.endswith("it is 8 times (untrained networks) the largest that was found.")


@pytest.mark.parametrize(
    ("lead", "distance", "says"),
    [
        (1.0, math.inf, " No distance of n: no example was found of any of its 2 images that are right."),
        (-1.0, 0.0, " No distance of n: none of its images is right."),
        (1.0, math.nan, " No distance of n: no attack ran on an image that is right."),
        (1.0, 1.0, "with quartiles."),
    ],
)
def test_a_distance_that_is_missing_has_a_reason(lead: float, distance: float, says: str):
    net = proved([lead] * 2, [0.1] * 2, [0.2] * 2)
    assert radius(STUDY, {"n": net}, ["n"], {"n": np.full(2, distance)}).tables[0].note.endswith(says)


@pytest.mark.parametrize(("distance", "over"), [(0.3, 0), (0.2, 0), (0.15, 1), (0.05, 2)])
def test_radii_above_the_distance_are_told(distance: float, over: int):
    net = proved([1.0], [0.1], [0.2])
    said = radius(STUDY, {"n": net}, ["n"], {"n": np.array([distance])})
    assert said.answer.startswith(
        f"Of 2 radii above 0 of images of which an example was found, {over} radii are above the distance"
    )


@pytest.mark.parametrize(("layers", "says"), [(6, "Each layer's singular"), (7, "Of 7 layers 6, evenly along the")])
def test_a_chart_that_leaves_layers_out_says_so(layers: int, says: str):
    singular = np.tile([3.0, 2.0, 1.0], (layers, 1))
    of = {"layer": np.arange(layers), "kind": np.array(["Linear"] * layers), "singular": singular}
    (chart,) = _spectra("n", of, "")
    assert chart.note.startswith(says)
    assert (chart.up, chart.bases) == ("singular value", (0, 10))
    assert len(chart.lines) == 6


def test_a_network_of_one_answer_has_a_product_and_no_ratio():
    said = product(STUDY, {"a": pairs(0.0, [0.0], [0.0])}, ["a"])
    assert said.answer.endswith("0 exceed the product of their network: the bound stands.")
    assert said.tables[0].rows[0][1][-1] is None


def norms(*bounds: tuple[float, float], unknown: int = 0) -> dict[str, np.ndarray]:
    """Dense layers by the bounds of their norms, and a pool of gain 1, which has no weights."""
    low, high = zip(*bounds, (1.0, 1.0), strict=True)
    kinds = ["Linear"] * len(bounds) + ["MaxPool2d"]
    return {
        "kind": np.array(kinds), "weight": np.array([""] * len(kinds)), "low": np.array(low), "high": np.array(high),
        "unknown": np.array(["mul"] * unknown, dtype=np.str_),
    }  # fmt: skip


LARGE, SMALL, EITHER = (2.0, 2.1), (0.8, 0.9), (0.9, 1.1)


@pytest.mark.parametrize(
    ("networks", "clear", "says"),
    [
        ([norms(LARGE, LARGE), norms(LARGE)], "2 of 2", "the claim stands here"),
        ([norms(LARGE, SMALL), norms(SMALL)], "0 of 2", "the claim does not stand here"),
        ([norms(LARGE, (1.0, 1.0))], "0 of 1", "the claim does not stand here"),
        ([norms(LARGE, EITHER)], "0 of 1", "whether the claim stands here cannot be told"),
        ([norms(LARGE, unknown=1)], "0 of 1", "whether the claim stands here cannot be told"),
        ([norms(SMALL, unknown=1)], "0 of 1", "the claim does not stand here"),
        ([norms()], "0 of 1", "whether the claim stands here cannot be told"),
        ([norms(LARGE), norms(SMALL)], "1 of 2", "the claim stands here in 1 of 2 cases, in 1 it does not"),
        ([norms(LARGE), norms(EITHER)], "1 of 2", "the claim stands here in 1 of 2 cases"),
    ],
)
def test_unstable_layers_are_told_by_networks(networks: list[dict[str, np.ndarray]], clear: str, says: str):
    plain = f"{clear} networks that were trained without the norms as a penalty"
    assert f"all lie above 1 in {plain}: of unstable layers {says}. What" in _unstable(networks)


def slipped(printed: list[float], fourier: list[float], bound: list[float], attained: list[float]) -> str:
    """The answer about convolutions whose norm is 4, of one kernel each, and about pools."""
    one = {
        "convolution": np.array([f"c{i}" for i in range(len(printed))]), "dense": np.full((len(printed), 1), 4.0),
        "fourier": np.array(fourier)[:, None], "printed": np.array(printed)[:, None],
        "pool": np.array(["3\u00d73, stride 2", "2\u00d72, stride 2"]), "bound": np.array(bound),
        "attained": np.array(attained), "typical": np.full((2, 7), 0.5),
    }  # fmt: skip
    return slips(one).answer


@pytest.mark.parametrize(
    ("printed", "fourier", "says"),
    [
        ([2.0, 1.0, 4.0], [4.0, 4.0, 4.0], "the claim does not stand here"),  # the last has stride 1: no case
        ([4.0, 4.0], [8.0, 16.0], "the claim stands here"),
        ([8.0, 4.0], [16.0, 4.0], "the claim does not stand here"),  # too large is wrong as well
        ([4.0, 2.0], [8.0, 4.0], "the claim stands here in 1 of 2 cases, in 1 it does not"),
        ([4.0, 4.0], [4.0, 4.0], "whether the claim stands here cannot be told"),
    ],
)
def test_the_factor_of_a_stride_is_judged_where_there_is_a_stride(
    printed: list[float], fourier: list[float], says: str
):
    assert f" Of the factor S\u207b\u00b2 {says}; of max-pools" in slipped(printed, fourier, [1, 1], [1, 1])


@pytest.mark.parametrize(
    ("bound", "attained", "says"),
    [
        ([1.0, 1.0], [1.0, 0.9], "the claim stands here"),
        ([2.0, 1.5], [2.0, 1.5], "the claim does not stand here"),
        ([2.0, 1.0], [2.0, 1.0], "the claim stands here in 1 of 2 cases, in 1 it does not"),
        ([2.0, 1.0], [1.0, 1.0], "the claim stands here in 1 of 2 cases"),  # below a bound that leaves it open
        ([2.0, 2.0], [1.0, 1.0], "whether the claim stands here cannot be told"),
    ],
)
def test_max_pools_contract_where_their_bound_says_so(bound: list[float], attained: list[float], says: str):
    assert slipped([4.0], [4.0], bound, attained).endswith(f"; of max-pools that contract {says}.")
