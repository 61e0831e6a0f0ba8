"""The command that measures a GPU, made small and on the CPU."""

from __future__ import annotations

import json

import pytest
import torch

from tests.benchmarks.gpu import DRAWN, KNOWN, main, problem, wide_resnet
from tests.benchmarks.networks import NETWORKS

SMALL = ["--device", "cpu", "--no-tests", "--networks", "mnist_cnn", "--images", "8", "--steps", "10", "--rounds", "2"]


def test_it_times_every_lever_and_keeps_the_newest(tmp_path, capsys):
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            main([*SMALL, "--out", str(tmp_path / "pgd.json")])
        assert ended.value.code == 0
    (one,) = json.loads((tmp_path / "pgd.json").read_text())
    assert (one["network"], one["images"], one["steps"], one["eps"]) == ("mnist_cnn", 8, 10, "0.3")
    labels = [row["label"] for row in one["rows"]]
    assert labels[:3] == ["floor: 10 forwards and gradients", "every step", "samples leave"]
    assert one["rows"][0]["ratio"] == [1, 1, 1]
    assert all(row["ratio"][1] <= row["ratio"][0] <= row["ratio"][2] for row in one["rows"])
    assert all(0 <= row["robust"] <= 1 for row in one["rows"])
    said = capsys.readouterr().out
    assert all(label in said for label in labels[1:])
    assert "times as fast" in said


def test_the_wide_network_is_that_of_the_paper():
    network = wide_resnet()
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(36.5e6, rel=0.01)  # its table 4
    assert sum(isinstance(m, torch.nn.Conv2d) and m.kernel_size == (3, 3) for m in network.modules()) == 25
    assert wide_resnet(10, 1)(torch.rand(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("name", ["mnist_cnn", "resnet18"])
def test_drawn_networks_have_the_labels_that_they_give(name):
    classifier, samples, _ = problem(name, 4)
    x = torch.as_tensor(samples.batch([0, 1, 2, 3]))
    assert (classifier(x).argmax(1).numpy() == samples.labels).all()
    assert classifier(x).abs().max() < 1000
    assert not any(p.requires_grad for p in classifier.parameters())


def test_the_known_networks_are_those_of_the_other_benchmarks():
    assert set(KNOWN) <= set(NETWORKS)
    assert not set(KNOWN) & set(DRAWN)
