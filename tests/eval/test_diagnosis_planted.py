"""Networks broken on purpose trip the checks that are theirs, and healthy ones none."""

from __future__ import annotations

import pytest
from rich.console import Console

from eval.diagnosis.reading import NO_SIGN, NOT_TRUSTED, diagnoses
from eval.records import read_records
from eval.run import run

FAULTS = {
    "argmax": {"hard_labels", "no_gradient"},
    "batch_dependent": {"batch_dependent"},
    "clipped": {"zero_gradient", "hard_labels"},
    "detach": {"slope"},
    "jpeg": {"no_gradient"},
    "k_winners": {"black_box"},
    "logit_scale": {"zero_gradient"},
    "noise": {"randomised"},
    "purifying": {"dynamic", "no_gradient"},
    "quantised": {"zero_gradient"},
    "random_resize": {"randomised"},
    "rejecting": {"unbounded"},
    "shattered": {"slope"},
    "softmax_twice": {"probabilities"},
    "stateful": {"randomised"},
    "thermometer": {"no_gradient"},
    "wrong_gradient": {"slope"},
}
"""What each must trip; more may fire."""

QUICK = ("argmax", "batch_dependent", "logit_scale", "noise", "quantised", "softmax_twice")
HEALTHY = (
    "softmax", "mlp", "mlp_relu", "cnn", "paper/fc10_1e-4", "paper/fc10_1e-2", "paper/fc100_100", "paper/fc200_200",
    "paper/ae400", "paper/maxout240",
)  # fmt: skip


def diagnosed(composed, folder, models, *overrides: str):
    chosen = f"model=[{','.join(models)}]"
    cfg = composed("experiment=diagnose", chosen, *overrides)
    about = run(cfg, folder, [], Console(quiet=True))
    return {d.model: d for d in diagnoses(about, read_records(folder), folder)}


def names(diagnosis) -> set[str]:
    return {check.question.name for check in diagnosis.against}


def test_some_faults_trip_their_checks_at_once(composed, tmp_path):
    found = diagnosed(
        composed, tmp_path, [f"planted/{name}" for name in QUICK], "train.epochs=8",
        "study.images=8", "study.traced=8", "study.queries=20", "study.draws=10", "study.proved=2",
    )  # fmt: skip
    for name in QUICK:
        assert FAULTS[name] <= names(found[f"planted_{name}"]), name
        assert found[f"planted_{name}"].verdict.startswith(NOT_TRUSTED)


@pytest.mark.slow
def test_every_fault_trips_its_checks(composed, tmp_path):
    found = diagnosed(composed, tmp_path, [f"planted/{name}" for name in FAULTS])
    for name, expected in FAULTS.items():
        assert expected <= names(found[f"planted_{name}"]), name


@pytest.mark.slow
@pytest.mark.parametrize("train", ["standard", "adversarial"])
def test_healthy_networks_trip_none(composed, tmp_path, train):
    found = diagnosed(composed, tmp_path, HEALTHY, f"train={train}")
    assert len(found) == 10
    assert {name: d.verdict for name, d in found.items()} == dict.fromkeys(found, NO_SIGN)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "data", "threat"),
    [
        ("mnist_lenet5_clean", "mnist", "linf_0_1"),
        ("mnist_lenet5_adv", "mnist", "linf_0_3"),
        ("mnist_trades_smallcnn", "mnist", "linf_0_3"),
        ("cifar10_resnet20", "cifar10", "linf_8_255"),
        ("cifar10_resnet4b", "cifar10", "linf_8_255"),
    ],
)
def test_known_networks_trip_none(real_data, composed, tmp_path, network, data, threat):
    source = (
        ["data=mnist", f"paths.data={real_data}"]
        if data == "mnist"
        else ["data=arrays", f"data.test={real_data / 'cifar10' / 'test1000.npz'}", "data.num_classes=10"]
    )
    found = diagnosed(
        composed, tmp_path, ["factory"], *source, f"threat={threat}", f"model.path={real_data / 'nets.py'}:{network}"
    )
    assert [d.verdict for d in found.values()] == [NO_SIGN]
