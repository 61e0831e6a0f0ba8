"""The forms of a network that an evaluation asks: the same answers, sooner."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from eval.batches import Batch, halving
from eval.config import Plan
from eval.memory import Footprint, footprint, free
from eval.speed import in_one_piece, lay_out, reduce, replay
from models.classifier import Classifier
from models.fold import fold
from models.fused import Fused
from models.graphed import Graphed
from models.reduced import Reduced

_FEW = 4  # images that memory is measured on


@dataclass(frozen=True)
class Forms:
    """A network in the forms that it is asked in.

    Attributes:
        classifier: of all questions but those of attacks; its batch norms folded, its channels side by side.
        laid_out: whether its channels lie side by side.
        folded: whether there were batch norms that are part of the layers before them.
        reduced: the same with rounded gradients, for attacks that bear them; None where they are asked for nowhere.
        replayed: the same as CUDA graphs, for all attacks; None where they are asked for nowhere.
        fused: the same in one piece with its gradient, for all attacks; None where it is no row of dense layers.
        footprint: memory that a forward and a gradient take.
        batch: images at once, as the plan says or as they fit into memory.
        unreplayed: what is asked for as CUDA graphs and is not one, and why, in words.
    """

    classifier: Classifier
    laid_out: bool
    folded: bool
    reduced: Reduced | None
    replayed: Graphed | None
    fused: Fused | None
    footprint: Footprint
    batch: Batch
    unreplayed: str = ""

    @property
    def batch_size(self) -> int:
        """Images at once from now on."""
        return self.batch.size

    @property
    def quicker(self) -> Graphed | Fused | None:
        """What answers the same sooner, for all attacks."""
        return self.replayed or self.fused

    def about(self) -> dict[str, object]:
        """What the header of a run says of them."""
        return {
            "folded": self.folded,
            "channels_last": self.laid_out,
            "gradients": "float32" if self.reduced is None else "bfloat16",
            "graphs": self.replayed is not None,
            "fused": self.fused is not None,
            "bytes_per_image": round(self.footprint.image),
            **self.batch.about(),
        }


def plain(classifier: Classifier, x: Tensor, batch_size: int) -> Forms:
    """A network as it is, `x` (B, C, H, W) being images to try it on."""
    return Forms(classifier, False, False, None, None, None, _needed(classifier, x), Batch(classifier.name, batch_size))


def _needed(classifier: Classifier, x: Tensor) -> Footprint:
    """What the network takes, measured on a few of the images `x` (B, C, H, W)."""
    return halving(Batch(classifier.name, _FEW), lambda size: footprint(classifier, x[:size]))


def forms(plan: Plan, classifier: Classifier, x: Tensor, work: int, device: torch.device) -> Forms:
    """What the plan asks for and the network allows.

    Args:
        plan: of the run.
        classifier: the network, which may be laid out anew.
        x: images (B, C, H, W) to try it on, on the device.
        work: multiplications per image.
        device: where it is.
    """
    quick = fold(classifier, x) if plan.fold else classifier
    laid_out = plan.channels_last and lay_out(quick, x)
    reduced = reduce(quick, x, work, plan.precision, plan.channels_last)
    needed = _needed(quick, x)
    replayed, instead = replay(quick, reduced, x) if plan.graphs and device.type == "cuda" else (None, "")
    fused = in_one_piece(quick, reduced, x) if plan.fuse else None
    size = plan.batch_size or needed.fits(free(device) // plan.sharers)
    batch = Batch(classifier.name, size, measured=plan.batch_size is None)
    return Forms(quick, laid_out, quick is not classifier, reduced, replayed, fused, needed, batch, instead)
