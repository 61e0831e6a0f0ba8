"""Training on pools of adversarial examples, made small: what fills them, what is trained, and what the numbers say."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy import stats
from torch import Tensor

import models.pools
from attacks.fgsm import FGSM
from attacks.lbfgs import LBFGS
from eval.data import Data, Samples
from eval.errors import InputError
from eval.pooling import Filling
from eval.records import Run, read_records
from eval.run import run
from eval.studies.cells import Table
from eval.studies.pool_tables import Kind, chance, findings, holm, networks, over_seeds, read
from eval.studies.pools import Pools
from eval.studies.readers import reading
from eval.studies.reading import Reading
from models.errors import ModelError
from models.paper import MLP
from models.pools import PoolConfig, Pooling

EXPERIMENT = "experiment=intriguing/pools"
SMALL = (
    "debug=quick",
    *("study.seeds=2", "debug.epochs=10", "study.batch_size=32", "study.distorted=10", "study.evaluations=8"),
    *("study.pools=[[0],[2]]", "study.noise=[[2]]", "study.every=40", "study.fresh=32", "study.size=128"),
)


@pytest.fixture
def go(composed) -> Callable[..., tuple[Run, Reading]]:
    def made(folder: Path, *overrides: str) -> tuple[Run, Reading]:
        folder.mkdir(parents=True, exist_ok=True)
        about = run(composed(EXPERIMENT, *overrides), folder, [], Console(quiet=True))
        return about, read(about, read_records(folder), folder)

    return made


def frames(reading: Reading) -> list[str]:
    return [table.frame().to_csv() for table in reading.tables]


def rows(table: Table) -> dict[str, tuple]:
    return dict(table.rows)


def test_a_small_run_fills_every_cell_and_says_what_it_found(go, tmp_path):
    about, reading = go(tmp_path, *SMALL)
    errors, differences, distortions = reading.tables

    assert about.status == "complete"
    labels = ["weight decay alone", "dropout", "pool at input", "pool at hidden 2", "noise at hidden 2"]
    assert list(rows(errors)) == labels == list(rows(distortions))
    assert list(rows(differences)) == labels[1:]
    assert all(v is not None and math.isfinite(v.ours) for t in reading.tables for _, vs in t.rows for v in vs)
    assert all(v.paper is None for t in reading.tables for _, vs in t.rows for v in vs)  # these are digits
    assert all(values[0].ours < 0.5 for values in rows(errors).values())  # they learn
    assert len(about.models) == 10
    assert len(reading.findings) == 5
    base, pool = rows(errors)["weight decay alone"][0].ours, rows(errors)["pool at input"][0].ours
    over_seed, over_image, _ = rows(differences)["pool at input"]
    assert over_seed.ours == pytest.approx(pool - base)
    assert over_image.ours == pytest.approx(pool - base)


def test_the_same_seed_gives_the_same_and_what_was_interrupted_goes_on(go, composed, tmp_path, monkeypatch):
    small = (*SMALL, "study.pools=[[0,2]]", "study.noise=[]", "study.seeds=1")
    _, whole = go(tmp_path / "a", *small, f"paths.checkpoints={tmp_path / 'one'}")
    place = tmp_path / "two"

    from models import train

    keep, seen = train._Fit.keep, []

    def stop(self, result):
        keep(self, result)
        seen.append(result.epoch)
        if self.pools is not None and result.epoch == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(train._Fit, "keep", stop)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "b", *small, f"paths.checkpoints={place}")
    monkeypatch.setattr(train._Fit, "keep", keep)
    finished, begun = len(list(place.glob("*.safetensors"))), list(place.glob("*.partial"))
    _, again = go(tmp_path / "b", *small, f"paths.checkpoints={place}")

    assert (finished, len(begun)) == (2, 1)
    assert len(list(place.glob("*.safetensors"))) == 3
    assert frames(whole) == frames(again)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["study.seeds=0"], "study.seeds: must be at least 1, got 0"),
        (["study.pools=[[3]]"], r"pools.layers: must be in 0..2 for this network, got 3"),
        (["study.pools=[1,2]"], r"study.pools: must be a list of lists of layers, such as \[\[0\],\[1,2\]\], got 1"),
        (["study.pools=null"], r"study.pools: must be a list of lists of layers, \[\] for none, got None"),
        (["study.noise=7"], r"study.noise: must be a list of lists of layers, \[\] for none, got 7"),
        (["study.decay=[1e-5,1e-5]"], r"study.decay: must have 1 value or one for each of the 3 layers of fc100_100"),
        (["study.decay=[-1]"], r"study.decay: must be >= 0, got \[-1.0\]"),
        (["study.dropout=1"], r"study.dropout: must be in \[0, 1\), got 1"),
        (["study.epochs=2", "study.batch_size=100"], "study.epochs: must make at least 10 steps .* got 8"),
        (["study.pools=[[1],[1]]"], "study.pools: must name different layers each"),
        (["study.weight=0"], "study.pools.weight: must be > 0, got 0"),
        (["study.epochs=0"], "study.train.epochs: must be >= 1, got 0"),
        (["model=cnn"], r"study.model: must name a chosen model \(cnn\), got fc100_100"),
        (["model=cnn", "study.model=cnn"], "study.model: must be a perceptron"),
        (["attack=fgsm"], "attack.fgsm: must search for the smallest perturbation"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(go, tmp_path, overrides, says):
    with pytest.raises((InputError, ModelError), match=says) as caught:
        go(tmp_path, "debug=quick", *overrides)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_data_without_a_training_part_are_refused(go, tmp_path):
    file = tmp_path / "one.npz"
    np.savez(file, x=np.random.default_rng(0).integers(0, 255, (30, 8, 8), np.uint8), y=np.arange(30) % 3)
    with pytest.raises(InputError, match="training samples"):
        go(tmp_path / "run", "data=arrays", f"data.test={file}", "data.num_classes=3", "data.test_fraction=1.0")


def test_pools_are_renewed_ten_times_even_in_short_trainings():
    labels = np.arange(60) % 3
    samples = Samples.of(np.zeros((60, 1, 2, 2), np.float32), labels, "abc", "all")
    data, spec = Data("some", "", samples, samples), {"fc100_100": MLP()}
    made = {e: Pools(epochs=e, batch_size=6, every=40, seeds=1).cohorts(data, spec, 0)[-1] for e in (1, 30, 100)}

    assert {e: cohort.pools.config.every for e, cohort in made.items()} == {1: 1, 30: 30, 100: 40}
    assert {e: cohort.pools.renewals for e, cohort in made.items()} == {1: 10, 30: 10, 100: 25}


def test_the_quickest_run_fills_its_pools(go, tmp_path, monkeypatch):
    found: list[Pooling] = []
    start = models.pools.Pools.start

    def remembered(self, view, seed):
        found.append(start(self, view, seed))
        return found[-1]

    monkeypatch.setattr(models.pools.Pools, "start", remembered)
    go(tmp_path, "debug=quick", "study.seeds=1", "study.distorted=2", f"paths.checkpoints={tmp_path / 'own'}")

    assert [len(pooling.pools) for pooling in found] == [1, 1, 1, 2, 3, 2]
    assert all(len(pool) > 100 for pooling in found for pool in pooling.pools)


def _layer() -> torch.nn.Linear:
    """The same one in every process."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return torch.nn.Linear(12, 3)


LAYER = _layer()
SEARCH = LBFGS(evaluations=16, climb=5, steps=8, weights=4, classes=1, patience=0)


def filled(noise: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    points = torch.rand(40, 12, generator=torch.Generator().manual_seed(0))
    labels = LAYER(points).argmax(1)
    pools = Filling(PoolConfig([1]), SEARCH, noise).pools(0)
    with torch.no_grad():
        found, keep = pools.search(LAYER.requires_grad_(False), points, labels, (0.0, 1.0), 5)
    return points, labels, found, keep


def test_the_search_finds_points_of_the_range_that_are_taken_for_another_class():
    _, labels, found, keep = filled(noise=False)
    assert keep.all()
    assert (LAYER(found).argmax(1) != labels).all()
    assert found.min() >= 0
    assert found.max() <= 1


def test_noise_is_as_large_as_the_perturbation_that_it_replaces():
    points, _, found, keep = filled(noise=False)
    same, _, noisy, kept = filled(noise=True)
    assert torch.equal(points, same)
    assert torch.equal(keep, kept)
    torch.testing.assert_close((noisy - points).norm(dim=1), (found - points).norm(dim=1), rtol=0.05, atol=1e-3)
    assert noisy.min() >= 0
    assert noisy.max() <= 1
    assert not torch.allclose(noisy, found, atol=1e-2)


def test_what_fills_the_pools_belongs_to_the_recipe_and_must_be_a_search():
    config = PoolConfig([1])
    fillings = [Filling(config, SEARCH), Filling(config, SEARCH, True), Filling(config, replace(SEARCH, steps=9))]
    assert len({str(filling.pools(0).about()) for filling in fillings}) == 3
    with pytest.raises(InputError, match="must search for the smallest L2 perturbation"):
        Filling(config, FGSM())


def test_an_interval_over_seeds_is_students():
    value = over_seeds("rate", np.array([0.1, 0.2, 0.4]))
    half = 4.302653 * np.std([0.1, 0.2, 0.4], ddof=1) / 3**0.5
    assert (value.ours, value.low, value.high) == pytest.approx((0.7 / 3, 0.7 / 3 - half, 0.7 / 3 + half), rel=1e-5)
    assert math.isnan(over_seeds("rate", np.array([0.1])).low)


def kind(name: str, layers: tuple[int, ...], errors: list[int], size: float) -> Kind:
    missed = np.array([[True] * count + [False] * (100 - count) for count in errors])
    return Kind(name, name, layers, missed, np.array([size, 1.01 * size, 0.99 * size]))


def test_findings_count_what_the_networks_do():
    base = [kind("decay", (), [20, 21, 20], 0.1), kind("dropout", (), [18, 18, 19], 0.1)]
    pools = [kind("pool_0", (0,), [25, 26, 25], 0.2), kind("pool_2", (2,), [11, 10, 11], 0.1)]
    noise = kind("noise_2", (2,), [20, 20, 21], 0.1)
    said = " ".join(findings([*base, *pools, noise], mnist=True))

    assert "1 lower the test error beyond the chance of seeds (pool_2), 1 raise it (pool_0)" in said
    assert "Lowest is pool_2: 10.67%, beside 20.33% with decay and 18.33% with dropout" in said
    assert "as the paper claims, the highest layer helps more" in said
    assert "the direction of the perturbations matters" in said
    assert "with pool_0 2.00 (2.00 to 2.00) times, with pool_2 1.00 (1.00 to 1.00) times that of decay" in said
    assert "corrected likewise, larger with pool_0." in said
    assert "by Holm's method for 4 comparisons" in said
    assert "of 3: dropout in 3, pool_0 in 0, pool_2 in 3, noise_2 in 1" in said
    other = " ".join(findings([*base, *pools[::-1]], mnist=False))
    assert "paper: below" not in other


def test_one_seed_tells_nothing_of_chance():
    made = [("decay", ()), ("dropout", ()), ("pool_0", (0,)), ("pool_2", (2,)), ("noise_2", (2,))]
    alone = [kind(name, layers, [20 + 5 * i], 0.1 * (i + 1)) for i, (name, layers) in enumerate(made)]
    said = " ".join(findings([replace(k, sizes=k.sizes[:1]) for k in alone], mnist=True))

    assert said.startswith("One seed tells nothing of chance")
    assert "one seed cannot tell whether their direction matters" in said
    assert "whether the highest layer helps more than the lowest, as the paper claims, one seed cannot tell" in said
    assert "with pool_0 3.00 times, with pool_2 4.00 times that of decay." in said
    for word in ("beyond the chance", "seeds", "same within", "nan"):
        assert word not in said


def test_too_few_seeds_settle_nothing_and_show_how_wide_their_intervals_are():
    base = [kind("decay", (), [6, 6], 0.1), kind("dropout", (), [6, 6], 0.1)]
    pool, noise = kind("pool_2", (2,), [0, 1], 0.1), kind("noise_2", (2,), [9, 3], 0.1)
    found = [replace(k, sizes=np.array([2, 4] if k is pool else [1, 1])) for k in (*base, pool, noise)]
    said = " ".join(findings(found, mnist=False))

    assert "a difference of -5.50% (-49.97% to +38.97%): the seeds do not settle whether their direction" in said
    assert "with pool_2 3.00 (-9.71 to 15.71) times that of decay" in said
    assert "with none it differs" in said


def test_chance_is_students_and_several_comparisons_are_holms():
    values = np.array([0.1, 0.3, 0.2, 0.4])
    assert chance(values) == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    assert chance(np.full(3, 0.1)) == 0
    assert chance(np.zeros(3)) == 1
    assert math.isnan(chance(np.array([0.1])))
    assert holm([0.01, 0.04, 0.03, 0.005]) == [True, False, False, True]  # Holm's limits: 0.0125, 0.0167, 0.025, 0.05
    assert holm([0.02, 0.02, 0.02]) == [False, False, False]
    assert holm([0.04]) == [True]
    assert holm([math.nan, math.nan]) == [False, False]


def test_the_papers_pools_stand_beside_those_at_every_layer_alone(go, tmp_path):
    small = ("debug=quick", "study.seeds=1", "study.distorted=0", "study.noise=[]")
    about, _ = go(tmp_path, *small, "study.pools=[[0],[2,1,0]]")
    mnist = replace(about, data={**about.data, "name": "MNIST"})

    def papers(pools: list[list[int]]) -> list[float | None]:
        asked = replace(mnist, config={**about.config, "study": {**about.config["study"], "pools": pools}})
        return [values[0].paper for _, values in read(asked, read_records(tmp_path), tmp_path).tables[0].rows]

    assert papers([[0], [2, 1, 0]]) == [*map(pytest.approx, (0.016, 0.013)), None, pytest.approx(0.012)]
    assert papers([[0]])[2] is None


def test_what_an_interrupted_run_left_is_read_or_refused_in_one_line(go, tmp_path):
    about, _ = go(tmp_path, "debug=quick", "study.seeds=1", "study.pools=[[2]]", "study.noise=[]", "study.distorted=4")
    unfinished, records = replace(about, status="failed"), read_records(tmp_path)
    for name in records["target_model"].unique():
        for role in ("clean", "attack"):
            left = records[(records["target_model"] != name) | (records["role"] != role)]
            if role == "clean":
                with pytest.raises(InputError, match="the run has not finished, and what is there is too little"):
                    reading(unfinished, left, tmp_path)
            else:
                assert len(reading(unfinished, left, tmp_path).tables) == 2  # without distortions
    with pytest.raises(LookupError, match="no prediction of fc100_100_decay_0"):
        networks(about, records[:0])
