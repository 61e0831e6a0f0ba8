"""The numbers of single units: closed forms, naive counts, and other libraries."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp, mannwhitneyu
from sklearn.metrics import roc_auc_score

from eval.units import detectors, matching, tops
from eval.units.bases import BASES, bases, live, tilted

SEEDS = st.integers(0, 100_000)
WELL = settings(deadline=None, max_examples=25)


def features(seed: int, n: int = 200, units: int = 12) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, units)) @ rng.standard_normal((units, units))


# directions


def test_directions_are_as_many_as_asked_for_and_of_length_one() -> None:
    found = bases(features(0), 30, 512, 0)
    assert list(found) == list(BASES)
    assert [len(found[name]) for name in BASES[:4]] == [12, 30, 30, 30]
    assert all(np.linalg.norm(v, axis=1) == pytest.approx(1.0) for v in found.values())
    assert (found["sparse"] >= 0).all()
    assert ((found["sparse"] > 0).sum(1) == 2).all()


def test_units_that_never_respond_are_none_of_the_natural_basis() -> None:
    phi = features(1)
    phi[:, [3, 7]] = 0.25
    natural = bases(phi, 5, 512, 0)["natural"]
    assert sorted(natural.argmax(1)) == [i for i in range(12) if i not in (3, 7)] == list(live(phi))
    assert not len(bases(np.zeros((9, 4)), 5, 512, 0)["random"])


def test_the_unit_that_is_to_lead_leads() -> None:
    assert bases(features(1), 5, 512, 0, lead=4)["natural"][0].argmax() == 4


def test_components_are_those_of_the_covariance_and_rotations_are_white() -> None:
    phi = features(2)
    found = bases(phi, 12, 512, 0)
    values, vectors = np.linalg.eigh(np.cov(phi.T))
    assert abs(found["pca"][0] @ vectors[:, -1]) == pytest.approx(1.0)
    rank = len(found["pca"])
    r = (phi - phi.mean(0)) @ found["rotated"][:rank].T
    correlation = np.corrcoef(r.T)
    assert correlation == pytest.approx(np.eye(rank), abs=1e-6)
    assert values[::-1][: rank - 1].sum() < 0.99 * values.sum() <= values[::-1][:rank].sum()


@WELL
@given(seed=SEEDS, share=st.floats(0.02, 0.98))
def test_a_random_direction_has_the_variance_that_is_asked_for(seed: int, share: float) -> None:
    covariance = np.cov(features(seed).T)
    values, axes = np.linalg.eigh(covariance)
    wanted = values[0] ** (1 - share) * values[-1] ** share
    v = tilted((values, axes), wanted, np.random.default_rng(seed))
    assert np.linalg.norm(v) == pytest.approx(1.0)
    assert v @ covariance @ v == pytest.approx(wanted, rel=1e-3)


# what images have in common


def test_the_strongest_images_are_found_and_chance_decides_between_equals() -> None:
    r = np.zeros((100, 2))
    r[[5, 70, 30], 0] = [3, 2, 1]
    chosen = tops.top(r, 3, 0)
    assert chosen[0].tolist() == [5, 70, 30]
    assert chosen[1].tolist() != [0, 1, 2]
    assert sorted(tops.top(r, 100, 0)[1]) == list(range(100))


@WELL
@given(seed=SEEDS)
def test_purity_and_entropy_are_what_a_naive_count_gives(seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 4, (6, 9))
    for row, pure, bits in zip(labels, tops.purity(labels), tops.entropy(labels), strict=True):
        shares = [np.mean(row == c) for c in set(row.tolist())]
        assert pure == pytest.approx(max(shares))
        assert bits == pytest.approx(-sum(p * np.log2(p) for p in shares))


def test_likeness_is_the_mean_correlation_of_pairs() -> None:
    pixels = np.random.default_rng(0).random((20, 3, 4))
    flat = pixels.reshape(20, -1) - pixels.reshape(20, -1).mean(0)
    chosen = np.array([[0, 5, 9], [3, 3, 3]])
    naive = np.mean([flat[i] @ flat[j] / np.linalg.norm(flat[i]) / np.linalg.norm(flat[j])
                     for i, j in ((0, 5), (0, 9), (5, 9))])  # fmt: skip
    assert tops.likeness(pixels, chosen) == pytest.approx([naive, 1.0])


@WELL
@given(seed=SEEDS)
def test_differences_of_distributions_agree_with_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.integers(0, 6, 17) / 5, rng.integers(1, 7, 23) / 5
    area = mannwhitneyu(one, other).statistic / (17 * 23)
    assert tops.superiority(one, other) == pytest.approx(area)
    assert tops.kolmogorov(one, other) == pytest.approx(ks_2samp(one, other).statistic)


def test_the_interval_of_a_superiority_covers_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(100):
        low, high = tops.superiority_interval(rng.normal(0.5, 1, 40), rng.normal(0, 1, 40), seed)
        covered += low <= 0.6382 <= high  # Phi(0.5 / sqrt 2)
    assert 88 <= covered <= 99


def planted(seed: int, rotated: bool) -> tuple[np.ndarray, np.ndarray]:
    """Features of which unit c fires for class c alone, or the same cloud turned at random; and the labels."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(10), 40)
    phi = np.eye(10)[labels] * 3 + 0.3 * rng.standard_normal((400, 10))
    turn = np.linalg.qr(rng.standard_normal((10, 10)))[0]
    return (phi @ turn if rotated else phi), labels


def purities(phi: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    found = bases(phi, 200, 512, 1)
    return {name: tops.purity(labels[tops.top(phi @ found[name].T, 9, 0)]) for name in ("natural", "random")}


def test_planted_grandmothers_are_found_and_their_turned_cloud_has_none() -> None:
    by = purities(*planted(0, rotated=False))
    assert (by["natural"] == 1).all()
    assert by["random"].mean() < 0.97
    turned = [purities(*planted(seed, rotated=True)) for seed in range(12)]  # units of a turned cloud: random ones
    both = [np.concatenate([by[name] for by in turned]) for name in ("natural", "random")]
    low, high = tops.superiority_interval(both[0], both[1], 0)
    assert low <= 0.5 <= high


def test_a_cloud_without_a_preferred_basis_shows_none() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 10, 500)
    means = rng.standard_normal((10, 60))  # classes anywhere, noise alike in all directions
    by = purities(means[labels] + rng.standard_normal((500, 60)), labels)
    low, high = tops.superiority_interval(by["natural"], by["random"], 0)
    assert low <= 0.5 <= high


# detectors


def naive_best(r: np.ndarray, inside: np.ndarray) -> float:
    cuts = [-np.inf, *((np.unique(r)[1:] + np.unique(r)[:-1]) / 2), np.inf]
    return max(max(np.mean((r > t) == inside), np.mean((r < t) == inside)) for t in cuts)


@WELL
@given(seed=SEEDS)
def test_the_best_threshold_is_what_trying_all_gives(seed: int) -> None:
    rng = np.random.default_rng(seed)
    r, labels = rng.integers(0, 12, (40, 3)).astype(float), rng.integers(0, 4, 40)
    member = labels[:, None] == np.arange(4)
    found = detectors.fit(r, member)
    wanted = [[naive_best(r[:, d], member[:, c]) for c in range(4)] for d in range(3)]
    assert found.fitted == pytest.approx(np.array(wanted))
    assert detectors.accuracy(r, member, found) == pytest.approx(found.fitted)
    chosen, kinds = np.array([2, 0]), np.array([1, 3])
    said = detectors.detected(r, found, chosen, kinds)
    assert (said == member[:, kinds]).mean(0) == pytest.approx(found.fitted[chosen, kinds])
    assert (found.fitted >= detectors.majority(member) - 1e-12).all()


@WELL
@given(seed=SEEDS)
def test_areas_agree_with_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    r, labels = rng.integers(0, 9, (50, 2)).astype(float), np.arange(50) % 3
    found = detectors.areas(r, labels[:, None] == np.arange(3))
    assert found == pytest.approx(np.array([[roc_auc_score(labels == c, r[:, d]) for c in range(3)] for d in range(2)]))


def test_a_planted_detector_keeps_its_accuracy_elsewhere_and_noise_does_not() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(600) % 10
    r = rng.standard_normal((600, 50))
    r[:, 7] = -2.0 * (labels == 4) + 0.1 * r[:, 7]  # silent for its class
    member = labels[:, None] == np.arange(10)
    found = detectors.fit(r[:300], member[:300])
    accuracy = detectors.accuracy(r[300:], member[300:], found)
    assert found.fitted[:, 4].argmax() == 7
    assert found.side[7, 4] == -1
    assert accuracy[7, 4] == 1
    others = np.delete(accuracy[:, 4], 7)
    assert others.max() <= 0.92  # the majority has 0.9


# matching


@WELL
@given(seed=SEEDS)
def test_the_matching_is_the_best_of_all_permutations(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.standard_normal((30, 5)), rng.standard_normal((30, 5))
    strength = np.abs(np.corrcoef(one.T, other.T)[:5, 5:])
    best = max(sum(strength[i, p[i]] for i in range(5)) for p in permutations(range(5)))
    found = matching.match(one, other)
    assert matching.held_out(one, other, found).sum() == pytest.approx(best)
    assert matching.correlations(one, other) == pytest.approx(np.corrcoef(one.T, other.T)[:5, 5:])


def test_shuffled_units_of_any_sign_and_scale_are_found_again() -> None:
    one = features(0)
    order, scale = np.random.default_rng(0).permutation(12), np.linspace(-3, 2, 12)
    other = one[:, order] * scale + 1
    found = matching.match(one[:100], other[:100])
    assert (order[found.other] == found.one).all()
    assert matching.held_out(one[100:], other[100:], found) == pytest.approx(1.0)


def test_matches_of_noise_are_nothing_on_other_images() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.standard_normal((200, 40)), rng.standard_normal((200, 40))
    found = matching.match(one[:100], other[:100])
    assert np.abs(matching.correlations(one[:100], other[:100])[found.one, found.other]).mean() > 0.15
    assert abs(matching.held_out(one[100:], other[100:], found).mean()) < 0.05
    assert matching.paired(np.ones((9, 1)), np.ones((9, 1))) == pytest.approx([0.0])  # a constant has no correlation
