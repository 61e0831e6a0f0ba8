"""Parts as a run writes them, made up: what a search took is given, all else is drawn."""

from __future__ import annotations

from typing import Any

import numpy as np

from eval.records import COLUMNS

Columns = dict[str, np.ndarray[Any, Any]]


def part(
    start: int,
    seconds: np.ndarray[Any, Any],
    *,
    source: str = "net",
    attack: str = "standard",
    eps: tuple[str, float] = ("8/255", 8 / 255),
    passes: tuple[int, int] = (60, 40),
    targets: tuple[str, ...] = (),
    control: bool = True,
) -> Columns:
    """The records of the samples from number `start` on.

    Args:
        start: of the first sample.
        seconds: (n,) that each took.
        source: the network that was attacked.
        attack: by name.
        eps: the budget, as text and as a number.
        passes: forwards and backwards of each sample.
        targets: the networks that judge; the source alone if none is named.
        control: whether noise is judged beside each perturbation.
    """
    n, (text, value) = len(seconds), eps
    rng = np.random.default_rng([start, n])
    blocks = []
    for target in targets or (source,):
        for role in ("attack", "control") if control else ("attack",):
            own = role == "attack" and target == source
            labels, hit = rng.integers(0, 1000, n), rng.random(n) < 0.7
            given: dict[str, Any] = {
                "sample": [f"val/{start + i:08d}.jpeg" for i in range(n)], "label": labels, "group": "",
                "target_class": -1, "source": source, "target_model": target, "role": role, "attack": attack,
                "norm": "linf", "eps": value, "eps_text": text, "clean_pred": labels,
                "clean_conf": rng.random(n), "clean_rank": 0, "adv_pred": np.where(hit, labels + 1, labels),
                "adv_conf": rng.random(n), "adv_rank": hit.astype(int), "success": hit, "success_8bit": hit,
                "in_box": True, "in_budget": True, "l0": rng.integers(1, 150_528, n).astype(float),
                "l1": rng.random(n) * 900, "l2": rng.random(n) * 3, "linf": value, "rms": rng.random(n) * value,
                "forwards": passes[0] * own, "backwards": passes[1] * own, "seconds": seconds * own,
                "stage": np.where(hit, "apgd", ""), "error": "",
            }  # fmt: skip
            blocks.append({c: np.full(n, v) if np.ndim(v) == 0 else np.asarray(v) for c, v in given.items()})
    return {column: np.concatenate([block[column] for block in blocks]) for column in COLUMNS}
