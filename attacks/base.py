"""What an attack is, and all that it knows of a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, cast, runtime_checkable

from torch import Tensor

from attacks.goal import Goal
from attacks.rng import Rng
from attacks.threat import ThreatModel

Logits = Callable[[Tensor], Tensor]
"""A network: images (B, C, H, W) in box units -> logits (B, K)."""


@runtime_checkable
class Metered(Protocol):
    """A network that counts forwards and backwards per sample, and so must know whose row is whose."""

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W)."""

    def rows(self, index: Tensor) -> Logits:
        """The same network, for a batch whose row i is row `index[i]` of this one's batch."""


def rows(logits: Logits, index: Tensor) -> Logits:
    """The network for a batch that holds only the rows `index` (b,) of the present one (repeats allowed).

    An attack that lets samples leave the batch, or that places several restarts side by side, calls this so that
    a meter can go on attributing costs to samples. Networks without a meter are returned as they are.
    """
    view = getattr(logits, "rows", None)  # to ask a protocol at run time takes ten times as long
    found: Logits = logits if view is None else view(index)
    return found


class View:
    """Some rows of a network that must know whose row is whose.

    Attributes:
        run: images (b, C, H, W) and their samples (b,) -> logits (b, K).
        index: the samples (b,).
    """

    def __init__(self, run: Callable[[Tensor, Tensor], Tensor], index: Tensor) -> None:
        self.run = run
        self.index = index

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (b, K) of the images (b, C, H, W) of these samples."""
        return self.run(x, self.index)

    def rows(self, index: Tensor) -> Logits:
        """The same for some of them."""
        return View(self.run, self.index[index])


@runtime_checkable
class HasStandIn(Protocol):
    """A network that may offer another one, to follow the gradients of in its place."""

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W)."""

    def stand_in(self) -> Logits | None:
        """A differentiable network that answers much as this one does, for the same batch; None for none."""


def stand_in(logits: Logits) -> Logits | None:
    """What the network offers to follow the gradients of in its place, if anything."""
    return logits.stand_in() if isinstance(logits, HasStandIn) else None


@runtime_checkable
class Rough(Protocol):
    """A network whose answers are rounded where a gradient is wanted, and its own where none is (`torch.no_grad`)."""

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W)."""

    def exact(self) -> Logits | None:
        """The network as it is, gradients included, for the same batch; None where this is it."""


State = Mapping[str, Tensor]
"""What a search knows of its R rows, by name: tensors (R, ...), and such without rows, ()."""
Step = Callable[[Logits, State], None]
"""One step of a search, written into its state; hashable, and the same as another one that compares equal."""


class Recording(Protocol):
    """A step that is replayed.

    Attributes:
        state: of the search, written to before and read after; its memory is used again by the next recording.
    """

    @property
    def state(self) -> State:
        """Tensors of R rows."""

    def replay(self) -> None:
        """Do the step."""


def record(logits: Logits, step: Step, state: State) -> Recording | None:
    """The step as a recording whose state is a copy of this one; None where the network replays no steps."""
    offered = getattr(logits, "record", None)
    found: Recording | None = None if offered is None else offered(step, state)
    return found


Pull = Callable[[Tensor], Tensor]
"""From a cotangent (B, K), the derivative of something by the logits, to its gradient (B, C, H, W) by the images."""


class Differentiated(Protocol):
    """A network that has its gradient at hand, without autograd."""

    @property
    def offers_vjp(self) -> bool:
        """Whether `vjp` may be asked."""

    def vjp(self, x: Tensor) -> tuple[Tensor, Pull]:
        """Logits (B, K) of images (B, C, H, W), not to be written to before the gradient is there, and the way back."""


def differentiated(logits: Logits) -> Differentiated | None:
    """The network, where it has its gradient at hand; None where autograd has to find it."""
    if not hasattr(type(logits), "offers_vjp"):  # of its own: what wraps a network may hand on all that it has not
        return None
    found = cast(Differentiated, logits)
    return found if found.offers_vjp else None


def bears_rounding(attack: object) -> bool:
    """Whether a search may ask a `Rough` network: it lets samples leave by what is confirmed, and ends exactly."""
    return bool(getattr(attack, "bears_rounding", False))


def is_rough(logits: Logits) -> bool:
    """Whether answers that come with a gradient are rounded."""
    return exact(logits) is not logits


def exact(logits: Logits) -> Logits:
    """The network as it is, gradients included."""
    ask = getattr(logits, "exact", None)
    found: Logits | None = None if ask is None else ask()
    return logits if found is None else found


class Attack(Protocol):
    """A perturbation search. Its fields are its hyper-parameters; its state is local to the call.

    Promises: the result lies inside the box; inside the ball too, unless the attack is `minimal`; `x` and the
    network are untouched; row i of the result depends on row i of the arguments alone.
    """

    @property
    def norms(self) -> frozenset[str]:
        """Norms that the search supports: of the ball, or (`minimal`) the norm that it minimises."""

    @property
    def minimal(self) -> bool:
        """True for a search for the smallest adversarial perturbation, which is given no budget."""

    def __call__(self, logits: Logits, x: Tensor, goal: Goal, threat: ThreatModel, *, rng: Rng) -> Tensor:
        """Candidates (B, C, H, W) in box units for the images `x` (B, C, H, W)."""
