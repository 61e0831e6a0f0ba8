from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from scipy import stats

from attacks.rng import Rng

IDS = [f"test/{i:05d}" for i in range(2000)]

KEYS = [1623657830195061243, 1183816797995291646]
FOLDED = [-7142525197920897072, 6355966285405582154]
UNIFORM = [[0.24116164445877075, 0.4835268259048462], [0.3916616439819336, 0.6523644924163818]]
INTEGERS = [402, 887]
NORMAL = [-0.622259, 1.144949, 0.054445, -0.924251]


def streams(seed: int = 0, *labels: str) -> Rng:
    return Rng.of(seed, labels, IDS)


def reference(key: int, count: int) -> list[int]:
    """The 64 bits of each draw, in Python's whole numbers."""
    mask = (1 << 64) - 1

    def mix(z: int) -> int:
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)

    return [mix((mix(key & mask) + j * 0x9E3779B97F4A7C15) & mask) for j in range(1, count + 1)]


@pytest.mark.parametrize("part", [1, 18, 1 << 16])
def test_bits_are_those_of_splitmix64(monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    monkeypatch.setattr("attacks.rng._PART", part)
    rng = streams()[torch.tensor([0, 5, 77])]
    for key, draws in zip(rng.keys.tolist(), rng.uniform(9).tolist(), strict=True):
        assert draws == [(bits >> 40) * 2.0**-24 for bits in reference(key, 9)]


def test_splitmix64_itself_gives_the_published_numbers() -> None:
    """The first outputs for the seed 1234567: the reference's mix is the right one."""
    mask, state, out = (1 << 64) - 1, 1234567, []
    for _ in range(3):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        out.append(z ^ (z >> 31))
    assert out == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_keys_are_hashes_of_seed_labels_and_sample() -> None:
    digest = hashlib.blake2b(b"7\x1fpgd\x1flinf\x1etest/00000", digest_size=8).digest()
    key = Rng.of(7, ["pgd", "linf"], ["test/00000"]).keys
    assert key.tolist() == [int.from_bytes(digest, "little", signed=True)]


def test_known_answers_stay() -> None:
    """Stored records name no generator: these numbers may never change."""
    rng = Rng.of(0, ["pgd"], ["a", "b"])
    assert rng.keys.tolist() == KEYS
    assert rng.fold(3, 1).keys.tolist() == FOLDED
    assert rng.uniform(2).tolist() == UNIFORM
    assert rng.integers(1000).tolist() == INTEGERS
    assert rng.normal(2).flatten().tolist() == pytest.approx(NORMAL, abs=1e-6)


def test_uniform_is_uniform() -> None:
    u = streams().uniform(20)
    assert u.dtype == torch.float32
    assert u.min() >= 0
    assert u.max() < 1
    assert stats.kstest(u.flatten().numpy(), "uniform").pvalue > 1e-3
    for row in u[:5]:
        assert len(set(row.tolist())) == 20


def test_normal_is_normal() -> None:
    z = streams().normal(50)
    assert z.isfinite().all()
    assert stats.kstest(z.flatten().numpy(), "norm").pvalue > 1e-3
    n = z.numel()
    assert abs(z.mean()) < 4 / n**0.5
    assert abs(z.var() - 1) < 4 * (2 / n) ** 0.5
    assert abs((z**4).mean() - 3) < 4 * (96 / n) ** 0.5


def test_integers_are_uniform() -> None:
    drawn = streams().integers(7)
    assert stats.chisquare(torch.bincount(drawn, minlength=7).numpy()).pvalue > 1e-3


def test_positions_and_samples_are_uncorrelated() -> None:
    u = streams().uniform(40).double().numpy()
    for table, count in ((u, 40), (u[:40].T, 40)):
        off = np.corrcoef(table, rowvar=False)[~np.eye(count, dtype=bool)]
        assert np.abs(off).max() < 6 / len(table) ** 0.5


@pytest.mark.parametrize("index", [torch.tensor([3]), torch.tensor([7, 1, 7]), torch.arange(2000) % 3 == 0])
def test_row_has_the_same_bits_in_any_batch(index: torch.Tensor) -> None:
    rng = streams()
    for draw in (
        lambda r: r.uniform(3, 4),
        lambda r: r.normal(3, 4),
        lambda r: r.integers(9),
        lambda r: r.fold(5).keys,
    ):
        assert torch.equal(draw(rng[index]), draw(rng)[index])


def test_seed_label_and_sample_each_change_the_stream() -> None:
    base = streams(0, "pgd")
    for other in (streams(1, "pgd"), streams(0, "fgsm"), streams(0, "pgd", "linf"), streams(0)):
        assert not set(base.keys.tolist()) & set(other.keys.tolist())
    assert len(set(base.keys.tolist())) == len(IDS)


def test_folds_are_distinct_and_uncorrelated() -> None:
    rng = streams()
    folds = [rng, rng.fold(0), rng.fold(1), rng.fold(0, 1), rng.fold(1, 0), rng.fold(0).fold(0), rng.fold(10**9)]
    keys = [set(f.keys.tolist()) for f in folds]
    assert len(set.union(*keys)) == len(folds) * len(IDS)
    first = np.stack([f.uniform(1)[:, 0].double().numpy() for f in folds])
    assert np.abs(np.corrcoef(first)[~np.eye(len(folds), dtype=bool)]).max() < 6 / len(IDS) ** 0.5


def test_fold_of_two_labels_is_two_folds() -> None:
    assert torch.equal(streams().fold(3, 4).keys, streams().fold(3).fold(4).keys)


def test_draws_leave_no_trace() -> None:
    rng, state = streams(), torch.get_rng_state()
    first = rng.uniform(5)
    rng.normal(5)
    assert torch.equal(rng.uniform(5), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_shapes_are_those_asked_for() -> None:
    rng = streams()[torch.arange(3)]
    assert rng.uniform(2, 4, 5).shape == (3, 2, 4, 5)
    assert rng.normal(2, 1).shape == (3, 2, 1)
    assert rng.integers(3).shape == (3,)
    assert len(rng) == 3
    assert len(Rng.of(0, [], [])) == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_bits_are_the_same_on_a_gpu() -> None:
    host, device = streams(), Rng.of(0, [], IDS, "cuda")
    assert torch.equal(device.uniform(30).cpu(), host.uniform(30))
    assert torch.equal(device.integers(99).cpu(), host.integers(99))
    assert torch.allclose(device.normal(30).cpu(), host.normal(30), atol=1e-6)
