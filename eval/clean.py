"""What networks say of the unperturbed samples, and what becomes of a network that fails."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from eval.batches import Batch, in_batches
from eval.data import Data, Samples
from eval.device import drawing
from eval.judge import predict, rank
from models.classifier import Classifier
from models.errors import ModelError
from models.foreign import told


@dataclass(frozen=True)
class Clean:
    """What a network says of the unperturbed samples, each (n,).

    Attributes:
        prediction: the likeliest class.
        confidence: its probability.
        least_likely: the least likely class.
        rank: classes before the label.
    """

    prediction: Tensor
    confidence: Tensor
    least_likely: Tensor
    rank: Tensor

    def to(self, device: torch.device) -> Clean:
        """The same on a device."""
        return Clean(*(getattr(self, field.name).to(device) for field in fields(self)))


@contextmanager
def forward_of(name: str) -> Iterator[None]:
    """Tell a failure inside a network, which is somebody else's code, in one line.

    Raises:
        ModelError: the network raised something.
    """
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"model {name}: forward must not fail, got {told(error)}") from error


def named(data: Data, classifier: Classifier, batch_size: int | Batch, device: torch.device) -> Data:
    """Data without labels, labelled by what a network says."""
    labels = clean_pass(classifier, data.test, batch_size, device).prediction.cpu().numpy()
    return replace(data, test=data.test.relabelled(labels), unlabelled=False)


def clean_pass(classifier: Classifier, samples: Samples, batch_size: int | Batch, device: torch.device) -> Clean:
    """Predictions for all samples.

    Args:
        classifier: the network.
        samples: the samples.
        batch_size: images at once, to begin with; a `Batch` keeps to fewer where memory runs out.
        device: that the network is on.

    Raises:
        ModelError: a logit is not finite, or one image does not fit into memory.
    """
    batch = batch_size if isinstance(batch_size, Batch) else Batch(classifier.name, batch_size)

    def once(part: slice) -> tuple[Tensor, ...]:
        index = np.arange(len(samples))[part]
        x = samples.batch(index).to(device)
        with forward_of(classifier.name):
            logits, prediction, confidence = predict(classifier, x)
        if bool((prediction < 0).any()):
            row = int((prediction < 0).nonzero()[0])
            raise ModelError(
                f"model {classifier.name}: logits must be finite, got {logits[row].tolist()[:3]}... for "
                f"{samples.ids[index[row]]}; check its weights and normalisation"
            )
        labels = torch.as_tensor(samples.labels[index], device=logits.device)
        return prediction, confidence, logits.argmin(dim=1), rank(logits, labels)

    parts = in_batches(batch, len(samples), once)
    return Clean(*(torch.cat(column) for column in zip(*parts, strict=True)))


class Once:
    """Clean passes of a run: a network is asked about the same samples once, whatever is tried on them.

    Args:
        seed: of networks that draw.
        device: that the networks are on.
        known: what is known already, as `known` tells it.
    """

    def __init__(self, seed: int, device: torch.device, known: Mapping[tuple[str, str], Clean] | None = None) -> None:
        self.device = device
        self._seed = seed
        self._known = {place: clean.to(device) for place, clean in (known or {}).items()}

    @property
    def known(self) -> dict[tuple[str, str], Clean]:
        """What has been asked so far, on the CPU, by the name of the network and the fingerprint of the samples."""
        return {place: clean.to(torch.device("cpu")) for place, clean in self._known.items()}

    def __call__(self, name: str, classifier: Classifier, samples: Samples, batch_size: int | Batch) -> Clean:
        """What the network of that name says of all samples.

        Raises:
            ModelError: a logit is not finite.
        """
        place = name, samples.fingerprint
        if place not in self._known:
            with drawing(self.device, self._seed, "clean", name):
                self._known[place] = clean_pass(classifier, samples, batch_size, self.device)
        return self._known[place]
