"""PGD in Linf as other libraries run it, where they are installed: to be timed and judged beside ours.

Each runs as its documentation shows, with `steps` steps of one length from a random start in the ball, on pixels in
[0, 1]. Nothing of them is imported before it is asked for.

Source: Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018 (arXiv 1706.06083).
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.classifier import Classifier


@dataclass(frozen=True)
class Asked:
    """What a library is to do: `steps` of `step`, within `eps`, all in box units."""

    eps: float
    step: float
    steps: int


Run = Callable[[Classifier, Tensor, Tensor, Asked], Tensor]
"""(network, images (B, C, H, W), labels (B,), what) -> candidates (B, C, H, W)."""


def _foolbox(network: Classifier, x: Tensor, labels: Tensor, asked: Asked) -> Tensor:
    foolbox: Any = importlib.import_module("foolbox")
    model = foolbox.PyTorchModel(network, bounds=(0, 1), device=x.device)
    attack = foolbox.attacks.LinfPGD(abs_stepsize=asked.step, steps=asked.steps)
    _, clipped, _ = attack(model, x, foolbox.criteria.Misclassification(labels), epsilons=asked.eps)
    found: Tensor = clipped
    return found


def _torchattacks(network: Classifier, x: Tensor, labels: Tensor, asked: Asked) -> Tensor:
    torchattacks: Any = importlib.import_module("torchattacks")
    found: Tensor = torchattacks.PGD(network, eps=asked.eps, alpha=asked.step, steps=asked.steps)(x, labels)
    return found


def _art(network: Classifier, x: Tensor, labels: Tensor, asked: Asked) -> Tensor:
    evasion: Any = importlib.import_module("art.attacks.evasion")
    estimators: Any = importlib.import_module("art.estimators.classification")
    model = estimators.PyTorchClassifier(
        network, torch.nn.CrossEntropyLoss(), network.input_shape, network.num_classes, clip_values=(0.0, 1.0),
        device_type="gpu" if x.is_cuda else "cpu",
    )  # fmt: skip
    attack = evasion.ProjectedGradientDescent(
        model, norm="inf", eps=asked.eps, eps_step=asked.step, max_iter=asked.steps, num_random_init=1,
        batch_size=len(x), verbose=False,
    )  # fmt: skip
    return torch.as_tensor(attack.generate(x.cpu().numpy(), labels.cpu().numpy()), device=x.device)


def _autoattack(network: Classifier, x: Tensor, labels: Tensor, asked: Asked) -> Tensor:
    autopgd: Any = importlib.import_module("autoattack.autopgd_base")
    attack = autopgd.APGDAttack(
        network, n_iter=asked.steps, norm="Linf", eps=asked.eps, loss="ce", device=x.device, seed=0
    )
    found: Tensor = attack.perturb(x, labels)
    return found


@dataclass(frozen=True)
class Library:
    """A library, and how it runs PGD.

    Attributes:
        label: for readers.
        module: to be imported.
        package: its distribution.
        run: the attack.
    """

    label: str
    module: str
    package: str
    run: Run

    @property
    def version(self) -> str:
        """Of what is installed; empty where it is not."""
        if importlib.util.find_spec(self.module) is None:
            return ""
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:  # a checkout on the path
            return "unknown"

    def __call__(self, network: Classifier, x: Tensor, labels: Tensor, asked: Asked) -> Tensor:
        """Candidates, the same for the same seed of PyTorch; the network's parameters are left frozen."""
        drawn = np.random.get_state()
        np.random.seed(torch.initial_seed() % (1 << 32))  # ART draws from NumPy, the others from PyTorch
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of other people's code
                found = self.run(network, x, labels, asked)
        finally:
            np.random.set_state(drawn)
        network.eval()
        network.requires_grad_(False)
        return found.detach()


LIBRARIES = MappingProxyType(
    {
        "foolbox": Library("Foolbox, PGD", "foolbox", "foolbox", _foolbox),
        "torchattacks": Library("torchattacks, PGD", "torchattacks", "torchattacks", _torchattacks),
        "art": Library("ART, PGD", "art", "adversarial-robustness-toolbox", _art),
        "autoattack": Library("AutoAttack, APGD on the cross-entropy", "autoattack", "autoattack", _autoattack),
    }
)
"""By the names that `study.libraries` takes."""
