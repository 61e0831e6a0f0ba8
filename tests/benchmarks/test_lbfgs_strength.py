"""The strong form of our L-BFGS beside the best of what others find with as many evaluations or more.

`pytest -m slow tests/benchmarks -s` prints the figures.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks.measure import Measurement, measure
from tests.benchmarks.networks import load
from tests.benchmarks.peers import DEFAULT, methods

pytestmark = pytest.mark.slow

PEERS = ["ddn-1000", "fmn-1000", "alma-1000", "alma-1000-far", "pdgd-500"]
IMAGES = {"mlp": 100, "mnist_lenet5_clean": 40, "mnist_lenet5_adv": 40, "cifar10_resnet20": 20}


@pytest.mark.parametrize("kind", ["untargeted", "targeted"])
@pytest.mark.parametrize("network", IMAGES)
def test_no_search_with_as_many_evaluations_finds_much_less(real_data, network, kind):
    subject = load(network, IMAGES[network])
    goal = subject.goal(kind, 0)
    default, strong, *peers = methods([DEFAULT, "strong", *PEERS])
    if missing := next((p.missing for p in peers if p.missing), ""):
        pytest.skip(missing)
    ours = {m.name: measure(m, subject.network, subject.x, goal, 0) for m in (default, strong)}
    assert all(all(found.reached) for found in ours.values())
    assert max(ours["strong"].forwards, ours["strong"].backwards) <= 1000
    theirs = {peer.name: measure(peer, subject.network, subject.x, goal, 0) for peer in peers}
    assert over(ours[DEFAULT], theirs["ddn-1000"]) <= 1  # closest on cifar10_resnet20, targeted: 0.998 on 364 images
    ratios = {name: over(ours["strong"], found) for name, found in theirs.items()}
    print(f"{network}, {kind}: the strong form over " + ", ".join(f"{name} {r:.4f}" for name, r in ratios.items()))
    assert max(ratios.values()) <= 1.01


def over(ours: Measurement, theirs: Measurement) -> float:
    """Mean RMS of one over that of the other, on the images on which the other succeeds as well."""
    both = np.array(theirs.reached)
    return float(np.array(ours.rms)[both].mean() / np.array(theirs.rms)[both].mean())
