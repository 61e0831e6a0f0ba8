"""How far a network's classes are proved to hold: bounds that no attack can undercut.

Two proofs of each sample: by the gains of the layers, multiplied (`models.spectral`), and by intervals or linear bounds
of the logits (`models.bounds`), the tightest that the allowed work reaches. A network that computes what no bound is
known of, or something else than its layers say, is left alone, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from attacks.threat import parse_eps
from eval.data import Samples
from eval.errors import InputError
from eval.trial import Arrays
from models.bounds import METHODS, Prover, cost
from models.classifier import Classifier
from models.graph import read
from models.rounding import rounding
from models.spectral import gains, radii
from models.steps import Graph, NoBoundError

PROOFS = ("norms", "bounds")
"""By the gains of the layers; by intervals and linear bounds."""

_ALIKE = 1e-3  # of the range of the logits, by which the steps may differ from the network, whatever explains it


@dataclass(frozen=True)
class Below:
    """Proves that samples keep their class.

    Attributes:
        norm: of the radii.
        eps: text of the budget.
        images: samples, at most: the first of them.
        proofs: which of `PROOFS`.
        work: multiplications that the norms may take, and the bounds on all samples, at most.
        tries: radii that are tried of each sample, the first of them eps and a little.
    """

    norm: str = "linf"
    eps: str = "8/255"
    images: int = 100
    proofs: tuple[str, ...] = PROOFS
    work: float = 3e10
    tries: int = 6

    def __post_init__(self) -> None:
        unknown = set(self.proofs) - set(PROOFS)
        if unknown:
            raise InputError(f"certify: must be some of {', '.join(PROOFS)}, got {', '.join(sorted(unknown))}")

    @torch.no_grad()
    def __call__(
        self, classifier: Classifier, samples: Samples, batch_size: int, device: torch.device, seed: int
    ) -> Arrays:
        """What is proved.

        Returns:
            Per sample (n,): `sample`, its id; `right` bool, whether it is classified correctly; `norms` and `bounds`,
            up to which radius in box units each proof holds, 0 where nothing is proved; each is missing where it is
            not possible, and `norms_refused` or `bounds_refused` () says why. `method` () and `tries` (), of the
            bounds; `layers` (L,), `kinds` (L,) and `gains` (L,), of the layers.
        """
        del device, seed  # in float64 on the CPU, and nothing is random
        n = min(self.images, len(samples))
        labels = torch.tensor(samples.labels[:n])
        parts = [np.arange(start, min(start + batch_size, n)) for start in range(0, n, batch_size)]
        x = torch.cat([samples.batch(index) for index in parts])
        where = classifier.mean.device
        said = torch.cat([classifier(x[i].to(where)).cpu() for i in map(torch.from_numpy, parts)])
        right = said.argmax(1) == labels
        found: Arrays = {"sample": np.asarray(samples.ids[:n], dtype=str), "right": right.numpy()}
        try:
            graph = read(classifier)
            for i in map(torch.from_numpy, parts):
                _check(graph, x[i].double(), said[i].double())
        except NoBoundError as reason:
            return found | {f"{proof}_refused": np.array(str(reason)) for proof in self.proofs}
        known = torch.zeros(n, dtype=torch.float64)
        if "norms" in self.proofs:
            found |= self._norms(graph, x, labels, parts)
            known = torch.tensor(found.get("norms", known.numpy()))
        if "bounds" in self.proofs:
            found |= self._bounds(graph, classifier, x.double(), labels, right, known)
        return found

    def _norms(self, graph: Graph, x: torch.Tensor, labels: torch.Tensor, parts: list[np.ndarray]) -> Arrays:
        try:
            layers = gains(graph, self.work)
        except NoBoundError as reason:
            return {"norms_refused": np.array(str(reason))}
        far = [radii(graph, layers, x[i].double(), labels[i], self.norm) for i in map(torch.from_numpy, parts)]
        return {
            "norms": torch.cat(far).numpy(),
            "layers": np.array([layer.name for layer in layers]),
            "kinds": np.array([layer.kind for layer in layers]),
            "gains": np.array([layer.gain for layer in layers]),
        }

    def _bounds(
        self,
        graph: Graph,
        classifier: Classifier,
        x: torch.Tensor,
        labels: torch.Tensor,
        right: torch.Tensor,
        known: torch.Tensor,
    ) -> Arrays:
        chosen = self._affordable(graph, int(right.sum()))
        if chosen is None:
            each = cost(graph, METHODS[0])
            return {"bounds_refused": np.array(f"{each:.1e} multiplications a sample exceed the work that is allowed")}
        method, tries = chosen
        low, high = classifier.bounds
        beyond = parse_eps(self.eps) * (1 + 2e-5) + 2e-5 * (high - low)  # whatever an attack may call within the budget
        eps = torch.full_like(known, beyond)[right]
        radius = torch.zeros_like(known)
        held = known[right]
        if method == METHODS[-1]:  # what the cheaper one proves need not be tried again
            cheaper = Prover(graph, self.norm, classifier.bounds, METHODS[-2])
            held = cheaper.largest(x[right], eps, labels[right], held, self.tries)
        prover = Prover(graph, self.norm, classifier.bounds, method)
        radius[right] = prover.largest(x[right], eps, labels[right], held, tries)
        return {"bounds": radius.numpy(), "method": np.array(method), "tries": np.array(tries)}

    def _affordable(self, graph: Graph, images: int) -> tuple[str, int] | None:
        """The tightest method, and with how many tries, that does not exceed the work."""
        before = cost(graph, METHODS[-2]) * self.tries
        for method in reversed(METHODS):
            for tries in (self.tries, 1):
                each = cost(graph, method) * tries + (before if method == METHODS[-1] else 0)
                if each * images <= self.work:
                    return method, tries
        return None


def _check(graph: Graph, x: torch.Tensor, said: torch.Tensor) -> None:
    """Refuse steps that compute something else than the network, which says these logits (B, K) of images x.

    Raises:
        NoBoundError: theirs differ by more than float32 explains.
    """
    values = graph.forward(x)
    extent = float(said.max() - said.min())
    apart = (values[-1] - said).abs()
    explained = rounding(graph, [(value, value) for value in values]).clamp(max=_ALIKE * max(extent, 1e-30))
    if not bool((apart <= explained).all()):
        raise NoBoundError(
            f"its logits differ from those of its layers, by up to {float(apart.max()):.2g}, more than rounding "
            "explains: it does something else"
        )
