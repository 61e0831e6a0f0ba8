"""Eights and ones of MNIST, told apart as in the lesson."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from eval.data import Torchvision
from eval.studies.edges import Edges
from eval.studies.edges_names import BOTH, EACH
from models.fingerprint import Fingerprint
from models.spec import build
from models.train import TrainConfig, fit

ROOT = os.environ.get("TOASTPROOF_DATA", "")


@pytest.mark.slow
@pytest.mark.skipif(not ROOT, reason="TOASTPROOF_DATA must name the folder of MNIST")
def test_eights_and_ones_are_told_apart_as_often_as_in_the_lesson():
    kept, held = Edges()._halves(Torchvision(name="mnist", root=ROOT).load(0))
    assert len(held) == 2 * EACH
    x, right = held.batch(np.arange(len(held))), {}
    for standardise in ("templates", "both", "none"):
        spec = replace(Fingerprint(classes=[8, 1]), standardise=standardise)
        network = build(spec, "f", (1, 28, 28), 10, seed=0)["f"]
        fit(network, TrainConfig(val_fraction=0.0), kept, seed=0)
        with torch.no_grad():
            found = torch.cat([network.module(part).argmax(1) for part in torch.split(x, 250)]).numpy()
        right[standardise] = (found == held.labels).mean()

    assert right["templates"] == pytest.approx(BOTH / 100, abs=0.011)  # two standard errors of the difference
    assert right["both"] == right["templates"]
    assert right["none"] > right["both"] + 0.01
