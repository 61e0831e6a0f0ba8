"""What README and docs say of the search for the smallest L2 perturbation is what the stored results say."""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks.docs import pages, stored
from tests.benchmarks.peers import DEFAULT
from tests.benchmarks.summary import groups, table

UNDEFENDED = {"mlp", "mnist_lenet5_clean", "cifar10_resnet20"}
AT_LEAST = {"mlp": 50, "mnist_lenet5_clean": 50, "mnist_lenet5_adv": 50, "cifar10_resnet20": 15, "cifar10_resnet4b": 15}
PEERS = ("ddn-1000", "fmn-1000", "alma-1000", "alma-1000-far", "pdgd-500")
GROUPS = groups(stored())
of_each = pytest.mark.parametrize("group", GROUPS, ids=lambda group: f"{group[0].network}-{group[0].goal}")


def test_the_tables_are_those_of_the_stored_results():
    for path, text in pages(stored()).items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run python -m tests.benchmarks.docs"


def test_five_networks_were_measured_for_both_goals():
    assert {(g[0].network, g[0].goal) for g in GROUPS} == {(n, k) for n in AT_LEAST for k in ("untargeted", "targeted")}


@of_each
def test_the_default_finds_what_any_search_finds_at_no_greater_distance_than_ddn(group):
    made = table(group)
    assert made.missed == 0
    lines = {line.row.method: line for line in made.lines}
    assert lines["ddn-1000"].ratio[0] >= 1
    assert lines["scipy-foolbox2"].ratio[0] >= 1
    assert lines["scipy-foolbox2"].row.images == 100


@of_each
def test_the_strong_form_is_within_a_hundredth_of_the_best(group):
    rows = {row.method: row for row in group}
    strong = rows["strong"]
    assert all(strong.reached)
    assert max(strong.forwards, strong.backwards) <= 1000
    for name in PEERS:
        both = np.array(rows[name].reached)
        assert np.array(strong.rms)[both].mean() <= 1.01 * np.array(rows[name].rms)[both].mean(), name


@of_each
def test_the_default_costs_little(group):
    rows = {row.method: row for row in group}
    ours, ddn, scipy = rows[DEFAULT], rows["ddn-1000"], rows["scipy-foolbox2"]
    share = 0.15 if ours.network in UNDEFENDED else 0.4
    assert max(ours.forwards, ours.backwards) <= share * ddn.forwards
    assert scipy.milliseconds >= AT_LEAST[ours.network] * scipy.default_milliseconds
