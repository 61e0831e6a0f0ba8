"""What excites units and classes most, and whether it means anything to another network.

For units of a layer and for classes images are made by ascent, at most as far from grey as the median real image.
Beside how much they excite stand the best of the real images and the best of as many images of noise, each as far from
grey as that one. To the other networks of the trial they are shown: what class do they see, and does the unit that
answers real images most like this one answer its image?

Source: A. Nguyen, J. Yosinski and J. Clune, "Deep neural networks are easily fooled: high confidence predictions for
unrecognizable images", CVPR 2015 (arXiv 1412.1897), for images of classes that are none to another's eye; C. Olah, A.
Mordvintsev and L. Schubert, "Feature visualization", Distill 2017, for the images beside the best real ones.
Cost: for each image what `models.visualise` says; two forwards of all samples on every network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from eval.data import Samples
from eval.inside.layer import at_once, chosen, units_of
from eval.trial import Arrays, Probe
from models.classifier import Classifier
from models.errors import ModelError
from models.features import find_layer
from models.spec import derive
from models.visualise import Ascent, excitation, stimuli

MAXIMISED = "maximised"
"""Name of the probe in a run's folder."""
_DOUBLINGS = 20.0  # of noise of deviation 1, at most
_HALVINGS = 30  # of the interval of its scale's exponent: to some 1e-7 of it


@dataclass(frozen=True)
class Maximised:
    """Makes images for units and classes.

    Attributes:
        layer: of the units; None for the last convolution.
        unit: of the layer; None for the first `units`.
        units: how many.
        classes: how many, from the first one that the samples have.
        starts: images a class, from different noise.
        noises: images of noise; None for as many as there are samples.
        ascent: how images are made; where it has no radius, that of real images is taken.
    """

    layer: str | None = None
    unit: int | None = None
    units: int = 16
    classes: int = 10
    starts: int = 1
    noises: int | None = None
    ascent: Ascent = field(default_factory=Ascent)

    def beside(self, others: Mapping[str, Classifier]) -> Probe:
        """The probe of a network, given the others."""
        return _Maximising(self, others)


@dataclass(frozen=True)
class _Maximising:
    probe: Maximised
    others: Mapping[str, Classifier]

    def __call__(
        self, classifier: Classifier, samples: Samples, batch_size: int, device: torch.device, seed: int
    ) -> Arrays:
        """What excites the network.

        Returns:
            `layer` (); `radius` (); `there` () units of the layer; `noises` () images of noise; of n units: `unit`
            (n,), `image` (n, C, H, W) uint8, `made`, `real` and `noise` (n,), what the image, the best of the samples
            and the best of the noise excite, `spread` (n,), the deviation over the samples, `best` (n,) ids, `shown`
            (n, C, H, W) uint8 the best samples; `class_there` () classes of the samples; of m images of some of them
            the same after `class_`, and `class_said` (m,), the network's own prediction. Of the o others `other` (o,)
            names, `said` (o, m) predictions; `matched` (o, n), the unit that is most like this one, -1 without,
            `alike` (o, n), their correlation on samples that they were not matched on, `answers` (o, n, n), what
            that unit says of each image, and `answers_real` (o, n), of its best sample.
        """
        batch_size = at_once(classifier, batch_size)
        probe, x = self.probe, samples.batch(np.arange(min(2, len(samples)))).to(device)
        layer = chosen(classifier, x, probe.layer)
        units = units_of(layer, probe.unit, probe.units)
        known = np.unique(samples.labels)[: probe.classes].tolist()
        ascent = probe.ascent
        if ascent.radius is None:
            ascent = replace(ascent, radius=_radius(samples, classifier.bounds, batch_size))
        real, logits = _responses(classifier, layer.name, samples, batch_size, device)
        noises = len(samples) if probe.noises is None else probe.noises
        made = torch.cat(list(stimuli(classifier, layer.name, units, ascent, seed, batch_size, device)))
        wanted = known * probe.starts
        drawn = [
            torch.cat(list(stimuli(classifier, None, known, ascent, derive(seed, "start", i), batch_size, device)))
            for i in range(probe.starts)
        ]
        ideal = torch.cat(drawn)
        own, said = _batched(classifier, layer.name, made, batch_size), _batched(classifier, None, ideal, batch_size)
        random = _noise(classifier, ascent, noises, seed, batch_size)
        loud, loud_logits = _loudest(classifier, layer.name, random, device)
        found = {
            "layer": np.array(layer.alias or layer.name),
            "radius": np.array(ascent.radius),
            "there": np.array(layer.units),
            "class_there": np.array(len(np.unique(samples.labels))),
            "noises": np.array(noises),
            **_beside(samples, made, units, own, real, loud, classifier.bounds, ""),
            **_beside(samples, ideal, wanted, said, logits, loud_logits, classifier.bounds, "class_"),
            "class_said": said.argmax(1).cpu().numpy(),
            "other": np.array(list(self.others), dtype=np.str_),
        }
        rows = [
            self._other(other, layer.alias or layer.name, units, real, made, ideal, samples, batch_size, device, seed)
            for other in self.others.values()
        ]
        return found | {name: np.stack([row[name] for row in rows]) for name in (rows[0] if rows else ())}

    def _other(
        self,
        other: Classifier,
        layer: str,
        units: list[int],
        real: Tensor,
        made: Tensor,
        ideal: Tensor,
        samples: Samples,
        batch_size: int,
        device: torch.device,
        seed: int,
    ) -> Arrays:
        """What another network says of the images."""
        n = len(units)
        said = _batched(other, None, ideal, batch_size).argmax(1).cpu().numpy()
        nothing = {
            "said": said,
            "matched": np.full(n, -1),
            "alike": np.full(n, np.nan),
            "answers": np.full((n, n), np.nan),
            "answers_real": np.full(n, np.nan),
        }
        try:
            place = find_layer(other, made[:1], layer)
        except ModelError:
            return nothing
        theirs, _ = _responses(other, place.name, samples, batch_size, device)
        if theirs.shape[1] != real.shape[1]:  # another architecture
            return nothing
        mixed = torch.randperm(len(real), generator=torch.Generator().manual_seed(derive(seed, "inside", "split")))
        fit, held = mixed[::2], mixed[1::2]
        matched = _correlation(real[fit][:, units], theirs[fit]).argmax(1)  # (n,)
        alike = _correlation(real[held][:, units], theirs[held]).gather(1, matched[:, None])[:, 0]
        answers = _batched(other, place.name, made, batch_size).cpu()[:, matched].T
        return nothing | {
            "matched": matched.numpy(),
            "alike": alike.numpy(),
            "answers": answers.numpy(),
            "answers_real": theirs[:, matched].amax(0).numpy(),
        }


def _radius(samples: Samples, bounds: tuple[float, float], batch_size: int) -> float:
    """The median over the samples of their root mean square about grey, as a part of the width of the box."""
    grey, width = (bounds[0] + bounds[1]) / 2, bounds[1] - bounds[0]
    sizes = [
        ((samples.batch(index) - grey) / width).flatten(1).square().mean(1).sqrt()
        for index in _indices(samples, batch_size)
    ]
    return float(torch.cat(sizes).median())


def _indices(samples: Samples, batch_size: int) -> list[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    starts = range(0, len(samples), batch_size)
    return [np.arange(start, min(start + batch_size, len(samples))) for start in starts]


@torch.no_grad()
def _responses(
    classifier: Classifier, layer: str, samples: Samples, batch_size: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Of the units (n, U) and the classes (n, K) to all samples, on the CPU."""
    units, logits = [], []
    for index in _indices(samples, batch_size):
        x = samples.batch(index).to(device)
        units.append(excitation(classifier, layer, x).cpu())
        logits.append(classifier(x).cpu())
    return torch.cat(units), torch.cat(logits)


@torch.no_grad()
def _batched(classifier: Classifier, layer: str | None, x: Tensor, batch_size: int) -> Tensor:
    """What images excite, (n, U); logits without a layer."""
    return torch.cat([excitation(classifier, layer, some) for some in torch.split(x, batch_size)])


def _noise(classifier: Classifier, ascent: Ascent, count: int, seed: int, batch_size: int) -> Iterator[Tensor]:
    """Gaussian noise about grey, each image as far from it, inside the box, as those that are made may be.

    Yields:
        (b, C, H, W), the same images whatever the batches are.
    """
    draw = torch.Generator().manual_seed(derive(seed, "inside", "noise"))
    for start in range(0, count, batch_size):
        some = [torch.randn(classifier.input_shape, generator=draw) for _ in range(min(batch_size, count - start))]
        yield _as_far(torch.stack(some), ascent.radius or 0.0, classifier.bounds)


def _as_far(drawn: Tensor, radius: float, bounds: tuple[float, float]) -> Tensor:
    """Grey with noise (B, C, H, W) scaled until, cut off by the box, its root mean square is `radius` of its width.

    The box shrinks what it cuts off, so that the scale has no closed form; it is bisected. None reaches one half.
    """
    low, high = bounds
    least, most = (torch.full((len(drawn), 1, 1, 1), exponent) for exponent in (-_DOUBLINGS, _DOUBLINGS))
    for _ in range(_HALVINGS):
        middle = (least + most) / 2
        size = (drawn * 2.0**middle).clamp(-0.5, 0.5).flatten(1).square().mean(1).sqrt()
        short = (size < radius).view(-1, 1, 1, 1)
        least, most = torch.where(short, middle, least), torch.where(short, most, middle)
    return (low + high) / 2 + (high - low) * (drawn * 2.0**most).clamp(-0.5, 0.5)


@torch.no_grad()
def _loudest(classifier: Classifier, layer: str, images: Iterator[Tensor], device: torch.device) -> tuple[Tensor, ...]:
    """The most that any of the images excites of each unit (U,) and of each class (K,), on the CPU."""
    units, logits = [], []
    for x in images:
        units.append(excitation(classifier, layer, x.to(device)).amax(0).cpu())
        logits.append(classifier(x.to(device)).amax(0).cpu())
    return torch.stack(units).amax(0), torch.stack(logits).amax(0)


def _beside(
    samples: Samples,
    made: Tensor,
    units: list[int],
    own: Tensor,
    real: Tensor,
    noise: Tensor,
    bounds: tuple[float, float],
    prefix: str,
) -> Arrays:
    """Images with what they excite, beside the best samples."""
    best = real[:, units].argmax(0).numpy()
    pick = torch.tensor(units, device=own.device)
    found = {
        "unit": np.array(units),
        "image": eight_bits(made, bounds),
        "made": own.gather(1, pick[:, None])[:, 0].cpu().numpy(),
        "real": real[:, units].amax(0).numpy(),
        "noise": noise[units].numpy(),
        "spread": real[:, units].std(0).numpy(),
        "best": samples.ids[best],
        "shown": eight_bits(samples.batch(best), bounds),
    }
    return {prefix + name: values for name, values in found.items()}


def eight_bits(x: Tensor, bounds: tuple[float, float]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Images in their box as bytes."""
    scaled = (x.cpu() - bounds[0]) * (255.0 / (bounds[1] - bounds[0]))
    return scaled.round().clamp(0, 255).to(torch.uint8).numpy()


def _correlation(one: Tensor, other: Tensor) -> Tensor:
    """Pearson's, of the columns of `one` (n, p) with those of `other` (n, q): (p, q), float64; -1 for constant ones."""
    a, b = (values.double() - values.double().mean(0) for values in (one, other))
    size = a.norm(dim=0)[:, None] * b.norm(dim=0)
    return torch.where(size > 0, a.T @ b / size.clamp(min=1e-300), -1.0)
