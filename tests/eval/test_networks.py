"""What the networks of a run are."""

from __future__ import annotations

import pytest
import torch
from rich.console import Console

from eval.config import read
from eval.intake import load
from eval.networks import Entrant, enter
from eval.records import read_records
from eval.trial import Cohort

NETS = """
import torch
from torch import nn

def normed():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 10)
    )
    for _ in range(20):
        net(torch.rand(64, 1, 8, 8))
    return net

def plain():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
"""
OUTCOMES = ["role", "source", "attack", "eps", "target_model", "sample", "success"]


@pytest.fixture
def runs(small_run, tmp_path):
    """The same run with batch norms folded and without."""
    (tmp_path / "nets.py").write_text(NETS)
    path = f"model.path=[{tmp_path}/nets.py:normed,{tmp_path}/nets.py:plain]"
    return {
        fold: small_run(tmp_path / fold, "model=factory", path, "attack=[fgsm,pgd]", f"fold={fold}")
        for fold in ("true", "false")
    }


def test_folding_changes_no_outcome_and_no_identity(runs, tmp_path):
    folded, loaded = (read_records(tmp_path / fold) for fold in runs)
    assert folded[OUTCOMES].equals(loaded[OUTCOMES])
    assert not folded["adv_conf"].equals(loaded["adv_conf"])  # another network, up to rounding
    for key in ("fingerprint", "parameters", "description"):
        assert [m[key] for m in runs["true"].models] == [m[key] for m in runs["false"].models]


def test_the_header_tells_which_networks_were_folded(runs):
    assert {m["name"]: m["folded"] for m in runs["true"].models} == {"normed": True, "plain": False}
    assert not any(m["folded"] for m in runs["false"].models)


def test_networks_are_trained_before_they_are_folded(small_run, tmp_path):
    arguments = ["model=compact", "model.compact.widths=[4,8]", "attack=[fgsm]"]
    about = small_run(tmp_path, *arguments)
    assert about.models[0]["folded"]
    assert about.models[0]["trained"]["epochs"] >= 1
    again = small_run(tmp_path / "again", *arguments, "fold=false")
    assert again.models[0]["trained"]["checkpoint"] == about.models[0]["trained"]["checkpoint"]
    assert again.models[0]["fingerprint"] == about.models[0]["fingerprint"]


def test_an_untrained_network_is_drawn_anew_and_depends_on_the_seed_alone(composed, tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    plan = read(composed("model=[softmax,factory]", f"model.path={tmp_path}/nets.py:plain"))
    data = load(plan)

    def entered(seed: int) -> dict[str, Entrant]:
        cohort = Cohort(plan.models, None, "_untrained", seed=seed, untrained=True)  # and so no training samples
        found = enter(plan, [cohort], data.test, torch.device("cpu"), Console(quiet=True), tmp_path)
        return {e.name: e for e in found}

    one, same, other = entered(0), entered(0), entered(1)
    assert list(one) == ["softmax_untrained", "plain_untrained"]
    for name, entrant in one.items():
        assert entrant.trained is None
        assert entrant.description.endswith("untrained")
        assert entrant.fingerprint == same[name].fingerprint != other[name].fingerprint
    learnt = plan.models["factory"].build("factory", data.test.shape, 10)["plain"].module[1].weight
    assert not torch.equal(one["plain_untrained"].classifier.network[1].weight, learnt)


@pytest.mark.parametrize("path", ["{0}/nets.py:plain", "[{0}/nets.py:plain,{0}/nets.py:normed]"], ids=["one", "two"])
def test_networks_with_names_of_their_own_take_the_suffix_of_a_second_cohort(composed, tmp_path, path):
    (tmp_path / "nets.py").write_text(NETS)
    plan = read(composed("model=factory", f"model.path={path.format(tmp_path)}"))
    data = load(plan)
    cohorts = [Cohort(plan.models, None), Cohort(plan.models, None, "_untrained", untrained=True)]
    found = enter(plan, cohorts, data.test, torch.device("cpu"), Console(quiet=True), tmp_path)
    own = [name for name in ("plain", "normed") if name in path]
    assert [e.name for e in found] == own + [f"{name}_untrained" for name in own]
    assert len({e.fingerprint for e in found}) == len(found)
