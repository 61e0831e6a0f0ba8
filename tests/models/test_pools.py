"""Pools of perturbed activations: what is in them, which layers learn from them, and fits that are interrupted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.errors import ModelError
from models.history import Progress
from models.paper import MLP
from models.pools import Logits, Pool, PoolConfig, Pools, cut
from models.recipe import TrainConfig
from models.spec import Network, build
from models.store import load_or_fit
from models.train import Source, fit
from models.weights import fingerprint

RECIPE = TrainConfig(epochs=4, batch_size=16, lr=0.02, val_fraction=0.2)
LEARNT = replace(RECIPE, epochs=30)
SPEC = MLP(widths=[16, 12], dropout=0.2)
CONFIG = PoolConfig([0, 1, 2], size=40, fresh=20, every=3, batch=8, weight=0.5)


def new(spec: MLP = SPEC) -> Network:
    return build(spec, "m", (1, 8, 8), 3, seed=0)["m"]


def uphill(
    logits: Logits, points: Tensor, labels: Tensor, reach: tuple[float, float], call: int
) -> tuple[Tensor, Tensor]:
    """Signed-gradient steps inside the range until the answer is wrong, from a start that the call decides."""
    noise = torch.rand(points.shape, generator=torch.Generator().manual_seed(call))
    x = (points + 0.01 * noise).clamp(*reach)
    for _ in range(30):
        leaf = x.detach().requires_grad_()
        with torch.enable_grad():
            answer = logits(leaf)
            (gradient,) = torch.autograd.grad(F.cross_entropy(answer, labels, reduction="sum"), leaf)
        right = (answer.argmax(1) == labels).view(-1, *[1] * (x.ndim - 1))
        x = torch.where(right, (x + 0.05 * gradient.sign()).clamp(*reach), x)
    return x, logits(x).argmax(1) != labels


def fitted(source: Source, pools: Pools | None, recipe: TrainConfig = RECIPE, **options: Any) -> Network:
    network = new()
    fit(network, recipe, source, seed=0, pools=pools, **options)
    return network


def test_what_enters_a_pool_is_taken_for_another_class_by_the_layers_above(blobs: Source) -> None:
    network = fitted(blobs, None, LEARNT)
    view = network.classifier("m", (1, 8, 8))
    pooling = Pools(CONFIG, uphill).start(view, 0)
    x, y = blobs.batch(np.arange(20)), torch.from_numpy(blobs.labels[:20])
    for step in range(3):
        due = pooling.renews(x, y, step)
        assert due == (step == 2)
    pooling.renew(2)
    for part, pool, shape in zip(pooling.cuts, pooling.pools, [(1, 8, 8), (16,), (12,)], strict=True):
        assert pool.points is not None
        assert pool.points.shape == (len(pool), *shape)
        assert len(pool) > 10
        assert pool.labels is not None
        assert part.above(pool.points).argmax(1).ne(pool.labels).all()
        assert pool.points.min() >= 0
        assert pool.points.max() <= 1


def test_the_parts_of_a_network_are_the_network(blobs: Source) -> None:
    view = replace(new(), mean=(0.3,), std=(0.5,)).classifier("m", (1, 8, 8))
    x = blobs.batch(np.arange(9))
    for part in cut(view, [0, 1, 2]):
        torch.testing.assert_close(part.above(part.below(x)), view(x))


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_the_layers_below_learn_nothing_from_a_pool(blobs: Source, layer: int) -> None:
    network = fitted(blobs, None, LEARNT)
    view = network.classifier("m", (1, 8, 8))
    pooling = Pools(replace(CONFIG, layers=[layer]), uphill).start(view, 0)
    pooling.renews(blobs.batch(np.arange(20)), torch.from_numpy(blobs.labels[:20]), 2)
    pooling.renew(2)
    view.requires_grad_(True).zero_grad()
    pooling.loss(3).backward()  # type: ignore[no-untyped-call]
    linear = [m for m in network.module.modules() if isinstance(m, nn.Linear)]
    assert [m.weight.grad is not None for m in linear] == [k >= layer for k in range(3)]


def test_the_loss_is_the_mean_over_pools_at_the_points_that_were_drawn(blobs: Source) -> None:
    view = fitted(blobs, None, LEARNT).classifier("m", (1, 8, 8))
    pooling = Pools(CONFIG, uphill).start(view, 0)
    assert float(pooling.loss(0)) == 0  # nothing to learn from yet
    pooling.renews(blobs.batch(np.arange(20)), torch.from_numpy(blobs.labels[:20]), 2)
    pooling.renew(2)
    total = 0.0
    for layer, part, pool in zip(CONFIG.layers, pooling.cuts, pooling.pools, strict=True):
        points, labels = pool.draw(CONFIG.batch, pooling._generator("draw", layer, 7))
        logits = part.above(points)
        total += sum(float(z.logsumexp(0) - z[k]) for z, k in zip(logits, labels, strict=True)) / CONFIG.batch
    assert float(pooling.loss(7)) == pytest.approx(CONFIG.weight * total / 3, rel=1e-5)


def test_a_pool_that_stays_empty_is_an_error(blobs: Source) -> None:
    def fruitless(
        logits: Logits, points: Tensor, labels: Tensor, reach: tuple[float, float], call: int
    ) -> tuple[Tensor, Tensor]:
        return points, torch.zeros(len(points), dtype=torch.bool)

    often = replace(CONFIG, layers=[1], every=1)
    for renewals in (10, 12):
        with pytest.raises(ModelError, match=f"pools.layers: the pool of layer 1 stayed empty in {renewals} renewals"):
            fitted(blobs, Pools(often, fruitless, renewals), LEARNT)


def test_a_full_pool_gives_up_random_points_for_new_ones() -> None:
    """Beside a list that is filled, then overwritten in random places."""
    pool, naive = Pool(7), [-1.0] * 0
    for time in range(6):
        fresh = torch.arange(3.0) + 10 * time
        pool.renew(fresh[:, None], fresh.long(), torch.Generator().manual_seed(time))
        places = torch.randperm(7, generator=torch.Generator().manual_seed(time)).tolist()
        for value in fresh.tolist():
            if len(naive) < 7:
                naive.append(value)
            else:
                naive[places.pop(0)] = value
        assert pool.points is not None
        assert pool.labels is not None
        assert pool.points[:, 0].tolist() == naive
        assert pool.labels.tolist() == [int(v) for v in naive]
    assert len({int(v) // 10 for v in naive}) > 2  # some are older than the last time


@pytest.mark.parametrize("after", [1, 2])
def test_an_interrupted_fit_ends_with_the_same_weights(blobs: Source, tmp_path: Path, after: int) -> None:
    def stop(report: Progress) -> None:
        if report.epoch == after and report.batch == 2:
            raise KeyboardInterrupt

    pools, state = Pools(CONFIG, uphill), tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        fitted(blobs, pools, store=state, progress=stop)
    resumed, undisturbed = fitted(blobs, pools, store=state), fitted(blobs, pools)
    assert fingerprint(resumed.module) == fingerprint(undisturbed.module)
    assert fingerprint(resumed.module) != fingerprint(fitted(blobs, None).module)


def test_a_pool_that_weighs_next_to_nothing_changes_next_to_nothing(blobs: Source) -> None:
    with_pools = fitted(blobs, Pools(replace(CONFIG, weight=1e-12), uphill), replace(RECIPE, optimizer="sgd"))
    without = fitted(blobs, None, replace(RECIPE, optimizer="sgd"))
    # dropout draws other units where more is drawn, so only the mean course can be the same
    for a, b in zip(with_pools.module.parameters(), without.module.parameters(), strict=True):
        assert (a - b).abs().mean() < 0.05


def test_checkpoints_of_other_pools_have_other_names_and_those_without_keep_theirs(
    blobs: Source, tmp_path: Path
) -> None:
    def key(pools: Pools | None) -> str:
        options: dict[str, Any] = {"name": "m", "data": "d", "input_shape": (1, 8, 8), "seed": 0, "pools": pools}
        return load_or_fit(new(), SPEC, replace(RECIPE, epochs=1), blobs, root=tmp_path, **options).key

    recipes = [CONFIG, replace(CONFIG, weight=0.6), replace(CONFIG, search={"kind": "noise"})]
    keys = [key(None), *(key(Pools(config, uphill)) for config in recipes)]
    assert len(set(keys)) == 4
    assert "pools" not in (tmp_path / f"{keys[0]}.safetensors").read_bytes()[:4000].decode("latin1")


@pytest.mark.parametrize(
    ("layers", "spec", "says"),
    [
        ([3], SPEC, r"pools.layers: must be in 0..2 for this network, got 3"),
        ([1], MLP(widths=[16], activation="relu", decay=[0.0]), "layer 1 must be bounded, such as a sigmoid, got ReLU"),
        ([], SPEC, "pools.layers: must be different layers"),
        ([1, 1], SPEC, "pools.layers: must be different layers"),
    ],
)
def test_layers_that_cannot_have_a_pool_are_refused(blobs: Source, layers: list[int], spec: MLP, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        fit(new(spec), RECIPE, blobs, seed=0, pools=Pools(replace(CONFIG, layers=layers), uphill))


def test_a_network_that_is_no_sequence_is_refused() -> None:
    class Wrapped(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :3]

    with pytest.raises(ModelError, match=r"must be a torch.nn.Sequential, .* got Wrapped"):
        cut(Network(Wrapped(), 3, "").classifier("m", (1, 8, 8)), [0])
