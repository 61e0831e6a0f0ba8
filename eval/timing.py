"""How long PGD takes beside its floor: ours, lever by lever, as other libraries run it, and whatever else was chosen.

The floor is that of the network as it came, in float32, on images perturbed at random as a search begins with them:
`eval.floor`; flat backgrounds go through rectifiers and pools a quarter faster. Everything is run once to warm up, and
what it made is judged by that network; then the clock runs, all in turns. The levers are added one to the other:

    every step    our loop, each sample to its last step
    folded        batch norms are part of the layers before them
    laid out      on a CPU, the channels of a pixel side by side
    graphs        on a GPU, replayed as CUDA graphs: `models.graphed`
    in one piece  on a CPU, a network of dense layers with its gradient: `models.fused`
    16 bits       searched in bfloat16 (channels side by side), every success asked again in float32: `models.reduced`
    leaving       samples leave once they are broken

Of channels_last, fuse and precision, what a run turns off is not measured. The form is marked that a run has by its own
settings where samples leave, if it is among these.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attacks.base import Attack, Logits
from attacks.goal import Goal
from attacks.pgd import PGD
from attacks.rng import Rng
from attacks.threat import ThreatModel, parse_eps, unlimited
from eval.data import Samples
from eval.device import drawing, rounded
from eval.floor import floor, in_turns
from eval.judge import judge
from eval.libraries import LIBRARIES, Asked, Library
from eval.meter import Meter
from eval.speed import in_one_piece, lay_out, multiplications, reduce, replay, rounds
from eval.trial import Arrays
from models.classifier import Classifier
from models.fold import fold
from models.reduced import Reduced

TIMING = "timing"
"""Name of the probe in a run's folder."""
FLOOR, LEVER, DEFAULT, LIBRARY, ATTACK = "floor", "lever", "default", "library", "attack"
_LAID_OUT = ", laid out"
_ROUNDED = ", TF32"
_LENGTH = 2.5  # eps / steps: the usual length of a step

Search = Callable[[Any], Tensor]


@dataclass(frozen=True)
class Contender:
    """What is timed.

    Attributes:
        kind: `floor`, `lever`, `default` (what a run does by its settings), `library` or `attack`.
        label: for readers.
        network: that it asks.
        search: makes candidates (n, C, H, W) for it.
        threat: that they are judged by.
        version: of a library.
    """

    kind: str
    label: str
    network: nn.Module
    search: Search
    threat: ThreatModel
    version: str = ""

    @property
    def counted(self) -> bool:
        """Whether it says whose row is whose, so that its cost can be counted by sample."""
        return self.kind in (LEVER, DEFAULT, ATTACK)


@dataclass(frozen=True)
class Timing:
    """Times PGD and what is beside it.

    Attributes:
        norm: of the budget.
        eps: text of the budget.
        steps: of PGD, and of the floor.
        rounds: how often each is timed.
        attacks: more searches, by name.
        libraries: names in `eval.libraries.LIBRARIES`; those that are not installed are left out, and all are where the
            norm is not `linf`.
        channels_last, fuse, precision: of the run; levers that they turn off are left out.
        graphs: of the run; they are measured all the same.
    """

    norm: str = "linf"
    eps: str = "8/255"
    steps: int = 40
    rounds: int = 5
    attacks: tuple[tuple[str, Attack], ...] = ()
    libraries: tuple[str, ...] = tuple(LIBRARIES)
    channels_last: bool = True
    fuse: bool = True
    precision: str = "auto"
    graphs: bool = False

    def __call__(
        self, classifier: Classifier, samples: Samples, batch_size: int, device: torch.device, seed: int
    ) -> Arrays:
        """What was measured; all samples make one batch.

        Returns:
            `label` and `kind` (m,) of the contenders, the floor first; `seconds` (m, rounds); `held` (m, n), which
            samples they leave standing; `forwards` and `backwards` (m,), the mean of a sample, NaN for libraries;
            `version` (m,) of libraries, else empty; `missing`, the libraries that were asked for and are not installed.
        """
        x = samples.batch(np.arange(len(samples))).to(device)
        goal = Goal(torch.as_tensor(samples.labels.copy(), device=device))
        rng = Rng.of(seed, ["attack", TIMING], samples.ids.tolist(), device)
        plain = copy.deepcopy(classifier).to(memory_format=torch.contiguous_format)
        found = self._contenders(plain, x, goal, rng, seed)
        held, costs = [], []
        for one in found:
            meter = Meter(one.network, len(x), device)
            x_adv = one.search(meter if one.counted else one.network)
            missed = ~judge(plain, x, x_adv, goal, one.threat)["success"]
            held.append(missed & ~goal.reached(plain(x)))
            counts = meter.per_sample() if one.counted else (np.array(np.nan), np.array(np.nan))
            costs.append([self.steps, self.steps] if one.kind == FLOOR else [float(c.mean()) for c in counts])
        calls = {one.label: partial(one.search, one.network) for one in found}
        seconds = in_turns(calls, self.rounds, device)
        return {
            "label": np.array([one.label for one in found]),
            "kind": np.array([one.kind for one in found]),
            "seconds": np.stack([seconds[one.label] for one in found]),
            "held": torch.stack(held).cpu().numpy(),
            "forwards": np.array(costs, dtype=np.float64)[:, 0],
            "backwards": np.array(costs, dtype=np.float64)[:, 1],
            "version": np.array([one.version for one in found]),
            "missing": np.array(
                [LIBRARIES[name].label for name in self._asked(plain) if not LIBRARIES[name].version], dtype=np.str_
            ),
        }

    def _asked(self, plain: Classifier) -> tuple[str, ...]:
        """The libraries that are asked for: of those, all have PGD in Linf on pixels in [0, 1]."""
        return self.libraries if self.norm == "linf" and plain.bounds == (0.0, 1.0) else ()

    def _contenders(self, plain: Classifier, x: Tensor, goal: Goal, rng: Rng, seed: int) -> list[Contender]:
        """All that is timed on the images `x`, the floor first."""
        threat = ThreatModel(self.norm, parse_eps(self.eps), plain.bounds)
        whole, leaving = (PGD(steps=self.steps, early_stop=stops) for stops in (False, True))

        def ours(attack: Attack, within: ThreatModel = threat) -> Search:
            return lambda network: attack(network, x, goal, within, rng=rng)

        start = threat.random_start(x, rng)

        def least(network: Logits) -> Tensor:
            floor(network, start, self.steps)
            return x

        found = [Contender(FLOOR, f"floor: {self.steps} forwards and gradients", plain, least, threat)]
        networks, default = self._levers(plain, x)
        quick = [network for network in networks.values() if not isinstance(network, Reduced)][-1]
        left = (plain, quick, list(networks.values())[-1], default)  # as it came, all in float32, and with 16 bits
        for lever, network in networks.items():
            found.append(Contender(LEVER, f"every step{lever}", network, ours(whole), threat))
            if network in left:
                kind = DEFAULT if network is default else LEVER
                found.append(Contender(kind, f"samples leave{lever}", network, ours(leaving), threat))
        for name, attack in self.attacks:
            within = unlimited(self.norm, plain.bounds) if attack.minimal else threat
            found.append(Contender(ATTACK, name, quick, ours(attack, within), within))
        asked = Asked(threat.eps, _LENGTH * threat.eps / self.steps, self.steps)
        for name in self._asked(plain):
            library = LIBRARIES[name]
            for rough in [False, *([True] if x.is_cuda else [])] if library.version else []:
                search = partial(_as_a_library, library, rough, seed, x=x, labels=goal.labels, asked=asked)
                label = library.label + (_ROUNDED if rough else "")
                found.append(Contender(LIBRARY, label, plain, search, threat, library.version))
        return found

    def _levers(self, plain: Classifier, x: Tensor) -> tuple[dict[str, nn.Module], nn.Module | None]:
        """The network with each lever that it allows added to those before, by what is added, and a run's own form."""
        found: dict[str, nn.Module] = {"": plain}
        last, told = plain, ""
        if (folded := fold(plain, x)) is not plain:
            last, told = folded, ", folded"
            found[told] = folded
        laid_out = copy.deepcopy(last)
        if self.channels_last and lay_out(laid_out, x):
            last, told = laid_out, told + _LAID_OUT
            found[told] = last
        default: nn.Module | None = last
        reduced = None if self.precision == "float32" else reduce(last, x, 0, "bfloat16", self.channels_last)
        if x.is_cuda and (replayed := replay(last, reduced, x)[0]) is not None:
            told += ", graphs"
            found[told] = replayed
            default = replayed if self.graphs else default
        if self.fuse and (fused := in_one_piece(last, reduced, x)) is not None:
            told += ", in one piece"
            default = found[told] = fused
        if reduced is not None:
            found[f"{told}, 16 bits"] = reduced
            if rounds(multiplications(plain, x), self.precision, x.device):
                default = reduced if self.graphs or not x.is_cuda else None  # there it is replayed as well
        return found, default


def _as_a_library(library: Library, rough: bool, seed: int, network: Classifier, **asked: Any) -> Tensor:
    """What a library makes, with TF32 if it is `rough`, as PyTorch lets convolutions on a GPU by default."""
    device = asked["x"].device
    with rounded(device, rough), drawing(device, seed, library.label):
        return library(network, **asked)
