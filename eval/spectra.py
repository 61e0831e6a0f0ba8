"""What a network can do to the length of a change: norms of its layers, their product, ratios found, radii proved.

    ||f(x) - f(y)|| <= L ||x - y||,    r(x) = (z_y - max over k /= y of z_k) / (sqrt(2) L)

L is bounded from above by the layers (`models.network_norm`), and from below by the largest ratio of a search over
pairs: in each step the direction goes to what lengthens it more (a power iteration of the Jacobian), and the image to
where that is more, while the two come closer. Both are in float64, in which the network is copied.

Source: Szegedy et al., "Intriguing properties of neural networks", ICLR 2014 (arXiv 1312.6199v4), section 4.3; Tsuzuku,
Sato and Sugiyama, "Lipschitz-margin training", NeurIPS 2018 (arXiv 1802.04034), for the radius.
Cost: that of `models.network_norm`, a forward a sample, and for each pair `steps` forwards and backwards of two.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from attacks.goal import Goal
from attacks.pgd import PGD
from attacks.rng import Rng
from attacks.threat import ThreatModel
from eval.data import Samples, in_turn
from eval.errors import InputError
from eval.speed import multiplications
from eval.trial import Arrays
from models import spectral
from models.classifier import Classifier
from models.graph import read
from models.layer_norms import DRAWN
from models.network_norm import LayerNorm, NetworkNorm, network_norm
from models.steps import NoBoundError

SPECTRA = "spectra"
"""Name of the probe in a run's folder."""

_FARTHEST, _NEAREST = 0.1, 1e-4  # RMS between the two of a pair, first and last, as a part of the box
_STRIDE = 0.02  # RMS of the first step of the image, as a part of the box
_ATTACK_RMS = 0.05  # RMS of the budget of the attack whose pairs are measured, as a part of the box
_PAIRS_AT_ONCE = 8
_LEAST_PAIRS, _MOST_PAIRS = 2, 32
_PAIR_WORK = 4e11  # multiplications that the search over pairs may take, if their number is not given
_WORK = 3e11  # multiplications that certificates may take besides


@dataclass(frozen=True)
class Spectra:
    """Measures networks.

    Attributes:
        pairs: samples, balanced by class, from which a search over pairs starts; None for 32, or fewer of a large
            network, at least 2.
        steps: of that search.
        attack_steps: of the PGD whose pairs are measured too.
    """

    pairs: int | None = None
    steps: int = 60
    attack_steps: int = 20

    def __post_init__(self) -> None:
        for key in ("pairs", "steps", "attack_steps"):
            if getattr(self, key) is not None and getattr(self, key) < 1:
                raise InputError(f"{key}: must be at least 1, got {getattr(self, key)}")

    def __call__(
        self, classifier: Classifier, samples: Samples, batch_size: int, device: torch.device, seed: int
    ) -> Arrays:
        """What the network can do.

        Returns:
            Of each layer (L,): `layer`, `kind`, `weight`, `input` (texts), `low`, `high`, `printed`, `total`, `how`,
            and `singular` (L, 256), descending, NaN after the last; `product` (); `reason` () why it is infinite; of
            each sample (n,) `sample`, its id, `lead` of the label's logit in float64, negative where another is
            predicted, `radius` that follows from the product, and `tight`, a certificate by `models.spectral`, NaN
            where it supports none; ratios of the pairs (m,): `random`, `attack` and `found`.
        """
        doubled = doubled_copy(classifier, device)
        x = samples.batch(np.arange(2) % len(samples)).to(device)
        found = network_norm(classifier, x)
        index = np.arange(len(samples))
        parts = np.array_split(index, max(1, math.ceil(len(index) / batch_size)))
        lead = np.concatenate([_lead(doubled, samples, part, device) for part in parts])
        proved = np.maximum(lead, 0.0) / (math.sqrt(2) * found.total)
        return {
            **_layers(found),
            "product": np.array(found.total),
            "reason": np.array(found.reason),
            "sample": samples.ids,
            "lead": lead,
            "radius": proved if math.isfinite(found.total) else np.full(len(lead), np.nan),
            "tight": self._tight(classifier, samples, parts),
            **self._ratios(classifier, doubled, samples, device, seed),
        }

    def _tight(self, classifier: Classifier, samples: Samples, parts: list[np.ndarray]) -> np.ndarray:
        """Radii (n,) that are proved for float32 too, where the network is one of those."""
        try:
            graph = read(classifier)
            known = spectral.gains(graph, _WORK)
        except NoBoundError:
            return np.full(len(samples), np.nan)
        labels = torch.tensor(samples.labels)
        held = [spectral.radii(graph, known, samples.batch(part).double(), labels[part], "l2") for part in parts]
        return torch.cat(held).numpy()

    def _ratios(
        self, classifier: Classifier, doubled: Classifier, samples: Samples, device: torch.device, seed: int
    ) -> Arrays:
        rows: dict[str, list[Tensor]] = {"random": [], "attack": [], "found": []}
        number = self.pairs
        if number is None:
            work = 6 * self.steps * multiplications(classifier, samples.batch(np.arange(1)).to(device))
            number = min(_MOST_PAIRS, max(_LEAST_PAIRS, int(_PAIR_WORK // work)))
        chosen = in_turn(samples.labels, seed)[:number]
        for start in range(0, len(chosen), _PAIRS_AT_ONCE):
            index = chosen[start : start + _PAIRS_AT_ONCE]
            x = samples.batch(index).to(device)
            rng = Rng.of(seed, ["spectra"], [str(i) for i in samples.ids[index]], device)
            low, high = classifier.bounds
            unit = (high - low) * math.sqrt(x[0].numel())  # the length of RMS 1 of the box
            near = x.double()
            direction = rng.normal(*x.shape[1:]).double()
            rows["random"].append(ratio(doubled, near, near + _scaled(direction, _NEAREST * unit)))
            goal = Goal(torch.as_tensor(samples.labels[index], device=device))
            threat = ThreatModel("l2", _ATTACK_RMS * unit, classifier.bounds)
            moved = PGD(steps=self.attack_steps, early_stop=False)(classifier, x, goal, threat, rng=rng.fold(1))
            rows["attack"].append(ratio(doubled, near, moved.double()))
            rows["found"].append(torch.maximum(self._climb(doubled, near, direction, unit), rows["attack"][-1]))
        return {name: torch.cat(parts).cpu().numpy() for name, parts in rows.items()}

    def _climb(self, network: Classifier, x: Tensor, direction: Tensor, unit: float) -> Tensor:
        """The largest ratio (B,) on the way from each x (B, C, H, W) and a direction to others."""
        best = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        low, high = network.bounds
        for step in range(self.steps):
            done = step / max(1, self.steps - 1)
            apart = unit * _FARTHEST * (_NEAREST / _FARTHEST) ** done
            at = x.detach().requires_grad_()
            to = (x + _scaled(direction, apart)).detach().requires_grad_()
            with torch.enable_grad():
                value = (network(to) - network(at)).norm(dim=1)
            from_x, from_y = torch.autograd.grad(value.sum(), (at, to))
            best = torch.maximum(best, (value / (to - at).flatten(1).norm(dim=1)).detach())
            direction = torch.where(_length(from_y) > 0, from_y, direction)
            up = from_x + from_y
            x = (x + _scaled(up, unit * _STRIDE * (1 - done))).clamp(low, high)
        return best


def doubled_copy(classifier: Classifier, device: torch.device) -> Classifier:
    """A copy that computes in float64.

    Raises:
        InputError: it cannot.
    """
    try:
        doubled = copy.deepcopy(classifier).to(device).double()
        one = torch.zeros(1, *classifier.input_shape, dtype=torch.float64, device=device)
        with torch.no_grad():
            out = doubled.network(doubled.normalised(one))
    except Exception as error:  # the network is the user's code, and may do anything in another precision
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"model.{classifier.name}: must compute in float64 when asked to by .double(), got {type(error).__name__}: "
            f"{first}; let its constants follow the dtype of its input"
        ) from error
    if out.dtype != torch.float64:
        raise InputError(
            f"model.{classifier.name}: must compute in float64 when asked to by .double(), got logits of {out.dtype}; "
            "let its constants follow the dtype of its input"
        )
    return doubled


@torch.no_grad()
def ratio(network: Classifier, x: Tensor, y: Tensor) -> Tensor:
    """||f(x) - f(y)|| / ||x - y|| of pairs (B, C, H, W): (B,); 0 where they are the same."""
    apart = (x - y).flatten(1).norm(dim=1)
    return torch.where(apart > 0, (network(x) - network(y)).norm(dim=1) / apart.clamp(min=1e-300), 0.0)


def _length(x: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1)
    return length.view(-1, 1, 1, 1)


def _scaled(x: Tensor, length: float) -> Tensor:
    """Of that length each, or 0 where it was."""
    return x * (length / _length(x).clamp(min=1e-300))


@torch.no_grad()
def _lead(doubled: Classifier, samples: Samples, index: np.ndarray, device: torch.device) -> np.ndarray:
    logits = doubled(samples.batch(index).to(device).double())
    labels = torch.as_tensor(samples.labels[index], device=device)[:, None]
    others = logits.scatter(1, labels, -torch.inf).amax(1)
    lead: np.ndarray = (logits.gather(1, labels)[:, 0] - others).cpu().numpy()
    return lead


def _layers(found: NetworkNorm) -> Arrays:
    known = [layer for layer in found.layers if layer.norm is not None]
    singular = np.full((len(known), DRAWN), np.nan)
    for i, layer in enumerate(known):
        assert layer.norm is not None
        singular[i, : len(layer.norm.singular)] = layer.norm.singular.numpy()
    norms = [layer.norm for layer in known if layer.norm is not None]
    return {
        "layer": _texts([layer.name for layer in known]),
        "kind": _texts([layer.kind for layer in known]),
        "weight": _texts([_weight(layer) for layer in known]),
        "input": _texts(["\u00d7".join(map(str, layer.shape)) for layer in known]),
        "how": _texts([norm.how for norm in norms]),
        "low": np.array([norm.low for norm in norms]),
        "high": np.array([norm.high for norm in norms]),
        "printed": np.array([norm.printed for norm in norms]),
        "total": np.array([layer.total for layer in known]),
        "singular": singular,
        "unknown": _texts([f"{layer.name} ({layer.kind})" for layer in found.layers if layer.norm is None]),
    }


def _texts(values: list[str]) -> np.ndarray:
    return np.array(values, dtype=str) if values else np.zeros(0, dtype="<U1")


def _weight(layer: LayerNorm) -> str:
    """As `96x3x11x11 s4`."""
    size = "\u00d7".join(map(str, layer.weight))
    return size + (f" s{layer.stride}" if layer.stride > 1 else "") if size else ""
