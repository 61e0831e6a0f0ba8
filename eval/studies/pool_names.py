"""What the networks of `eval.studies.pools` are called, for those who train them and those who read. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence

DECAY, DROPOUT, NOISE = "decay", "dropout", "noise"


def kinds(pools: Sequence[Sequence[int]], noise: Sequence[Sequence[int]]) -> dict[str, list[int]]:
    """The layers with a pool, none for those without, by the kind of network, in the order of the tables."""
    made: dict[str, list[int]] = {DECAY: [], DROPOUT: []}
    made |= {f"pool{_joined(layers)}": list(layers) for layers in pools}
    return made | {f"{NOISE}{_joined(layers)}": list(layers) for layers in noise}


def suffix(kind: str, number: int) -> str:
    """Of the name of the network of a kind with the seed of that number."""
    return f"_{kind}_{number}"


def label(kind: str, layers: Sequence[int]) -> str:
    """A kind as people read it."""
    if not layers:
        return {DECAY: "weight decay alone", DROPOUT: "dropout"}[kind]
    hidden = [layer for layer in layers if layer]
    places = ["input"] if 0 in layers else []
    if hidden:
        places.append(f"hidden {' and '.join(map(str, hidden))}")
    what = "noise" if kind.startswith(NOISE) else "pool"
    return f"{what}{'s' if len(layers) > 1 and what == 'pool' else ''} at {', '.join(places)}"


def _joined(layers: Sequence[int]) -> str:
    return "".join(f"_{layer}" for layer in layers)
