"""What a run took, read from parts whose costs are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eval.errors import InputError
from eval.records import Run, part_file, write_part
from eval.spent import EMPTY, SPREAD, START, Cell, Costs, read
from tests.benchmarks.made_parts import part

LEVELS = (("2/255", 2 / 255), ("8/255", 8 / 255))


def header(models: tuple[str, ...] = ("net",), eps: int = 1, **more) -> Run:
    texts = [{"text": text, "value": value} for text, value in LEVELS[-eps:]]
    config = {"transfer": True, "reuse": True, "run": {"backend": "local", "shard": 10}}
    attack = {"name": "standard", "minimal": False, "stops": False, "stages": [{"name": "apgd", "needs": "weights"}]}
    told = {
        "title": "", "started": "", "command": "", "overrides": [], "config": config, "seed": 0, "versions": {},
        "commit": "", "device": "cpu", "data": {"n": 40}, "attacks": [attack], "threat": {"eps": texts},
        "models": [{"name": m, "trained": None} for m in models], "goal": "untargeted",
        "wall_seconds": {"models": 3.0},
    }  # fmt: skip
    return Run(**(told | more))


def made(folder: Path, about: Run, *parts: tuple[str, dict]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    about.write(folder)
    for name, columns in parts:
        write_part(folder, name, columns)
    return folder


def test_seconds_and_passes_are_means_over_all_samples_by_network_attack_and_budget(tmp_path):
    about = header(("b", "a"), eps=2)
    folder = made(
        tmp_path, about,
        ("0", part(0, np.array([1.0, 3.0]), source="a", targets=("a", "b"), passes=(5, 2))),
        ("1", part(2, np.array([2.0, 0.0, 0.0, 0.0]), source="a", targets=("a", "b"), passes=(9, 4))),
        ("2", part(0, np.array([7.0]), source="a", targets=("a", "b"), eps=LEVELS[0])),
        ("3", part(0, np.array([8.0]), source="b", targets=("b", "a"))),
    )  # fmt: skip
    costs = read(folder)
    assert [(c.source, c.attack, c.text, len(c.samples)) for c in costs.cells] == [
        ("b", "standard", "8/255", 1), ("a", "standard", "2/255", 1), ("a", "standard", "8/255", 2)
    ]  # fmt: skip
    cell = costs.cells[2]
    assert cell.mean(cell.seconds) == pytest.approx(1.0)
    assert cell.mean(cell.passes) == pytest.approx((2 * 7 + 4 * 13) / 6)
    assert cell.mean(cell.rows) == 4  # two networks, and noise beside each
    assert cell.bytes.tolist() == [part_file(folder, name).stat().st_size for name in ("0", "1")]


def test_clean_parts_are_no_cost_and_failed_ones_are_told(tmp_path):
    clean = part(0, np.zeros(5), control=False, attack="none") | {"role": np.full(5, "clean")}
    folder = made(tmp_path, header(), ("0", part(0, np.ones(4))), ("1", clean), ("2-failed", part(4, np.full(4, 99.0))))
    costs = read(folder)
    assert len(costs.cells) == 1
    assert costs.of(costs.cells[0]) == 1.0
    assert costs.failed == 1


def test_what_is_left_of_the_stage_is_the_judgement(tmp_path):
    about = header(wall_seconds={"models": 3.0, "attacks": 10.0})
    costs = read(made(tmp_path, about, ("0", part(0, np.full(4, 2.0)))))
    assert costs.judging == pytest.approx((10.0 - 8.0) / 8)
    assert costs.of(costs.cells[0]) == pytest.approx(10.0 / 4)
    assert costs.start == 3.0


@pytest.mark.parametrize(
    "more",
    [
        {"wall_seconds": {"models": 3.0}},
        {"taken": 1},
        {"wall_seconds": {"attacks": 7.0}},
        {"config": {"run": {"backend": "ray", "shard": 10}}},
    ],
    ids=["it is running", "parts of other runs", "others helped", "workers"],
)
def test_the_judgement_is_not_known_where_this_process_did_not_do_all(tmp_path, more):
    about = header(**({"wall_seconds": {"models": 3.0, "attacks": 10.0}} | more))
    assert read(made(tmp_path, about, ("0", part(0, np.full(4, 2.0))))).judging is None


def test_start_is_not_known_where_networks_were_trained(tmp_path):
    about = header(models=(), wall_seconds={"models": 300.0})
    about.models = [{"name": "net", "trained": {"epochs": 3}}]
    costs = read(made(tmp_path, about, ("0", part(0, np.ones(4)))))
    assert costs.start is None
    assert costs.job(100).start == START
    assert costs.job(100, start=5.0).start == 5.0


def cell(seconds: np.ndarray, samples: float = 10.0, **more) -> Cell:
    n = len(seconds)
    columns = {"samples": np.full(n, samples), "seconds": seconds, "passes": seconds * 100,
               "rows": np.full(n, 2 * samples), "bytes": np.full(n, EMPTY + 1000.0)}  # fmt: skip
    return Cell(**({"source": "net", "attack": "standard", "eps": 0.1, "text": "0.1"} | columns | more))


def costs_of(*cells: Cell, **more) -> Costs:
    given = {"models": 1, "judging": 0.0, "start": 20.0, "chained": frozenset(), "transfer": False, "kept": 0}
    return Costs(cells=cells, **(given | more))


def test_the_interval_holds_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        seconds = rng.gamma(4.0, 25.0, 12)  # twelve parts of ten samples, mean 10 s a sample
        low, high = cell(seconds).interval(seconds)
        held += low <= 10.0 <= high
    assert 930 <= held <= 970


def test_the_interval_is_students_of_the_logarithm():
    three = cell(np.array([80.0, 100.0, 120.0]))  # means 8, 10, 12 a sample: standard error 2 / sqrt(3)
    factor = np.exp(4.302653 * 2 / np.sqrt(3) / 10)
    assert three.interval(three.seconds) == pytest.approx((10 / factor, 10 * factor))


def test_too_few_parts_have_no_interval_and_a_spread_that_is_assumed():
    few = cell(np.array([3.0, 9.0]))
    assert np.isnan(few.interval(few.seconds)).all()
    assert few.spread == SPREAD
    assert np.isnan(costs_of(few).interval()).all()


@pytest.mark.parametrize("shard", [4, 64])
def test_the_spread_of_single_samples_is_found_whatever_the_shard(shard):
    rng = np.random.default_rng(1)
    each = rng.lognormal(0.0, 1.0, (400, shard))  # standard deviation over mean: sqrt(e - 1)
    assert cell(each.sum(1), shard).spread == pytest.approx(np.sqrt(np.e - 1), rel=0.1)


def test_a_device_that_was_timed_takes_the_place_of_the_clock():
    one = cell(np.array([50.0, 70.0, 60.0]))
    costs = costs_of(one, judging=3.0).at(1000.0)
    assert costs.of(costs.cells[0]) == pytest.approx(6.0 * 100 / 1000 + 2 * 2 / 1000)
    assert costs.job(50).lead == pytest.approx(20.0 + 50 / 1000)  # each image once, unperturbed


def test_budgets_that_build_on_one_another_are_one_chain(tmp_path):
    parts = [
        (f"{text[0]}-{start}", part(start, np.full(5, seconds), eps=(text, value)))
        for (text, value), seconds in zip(LEVELS, (3.0, 1.0), strict=True)
        for start in (0, 5, 10)
    ]
    chained = read(made(tmp_path / "reuse", header(eps=2), *parts)).job(100)
    assert [(c.seconds, c.parts) for c in chained.chains] == [(4.0, 2)]
    about = header(eps=2)
    about.config["reuse"] = False
    apart = read(made(tmp_path / "anew", about, *parts)).job(100)
    assert [(c.seconds, c.parts) for c in apart.chains] == [(3.0, 1), (1.0, 1)]
    assert apart.work == chained.work == 400
    shown = read(made(tmp_path / "shown", header(("net", "other"), eps=2), *parts))
    assert shown.chained == frozenset()


def test_other_numbers_of_networks_are_on_average_like_these():
    slow, fast = cell(np.full(3, 30.0), source="slow"), cell(np.full(3, 10.0), source="fast")
    costs = costs_of(slow, fast, models=2)
    assert costs.job(100).work == pytest.approx(400)
    for models in (1, 3, 10):
        job = costs.on(models).job(100)
        assert job.work == pytest.approx(200 * models)
        assert len(job.chains) == models
    shown = replace(costs, transfer=True, judging=0.5)
    rows = [c.mean(c.rows) for c in shown.on(10).cells]
    assert rows == [10.0, 10.0]  # five times as many networks judge


def test_bytes_of_the_records_of_larger_parts_are_foreseen(tmp_path):
    small = [(f"s{i}", part(i * 64, np.ones(64))) for i in range(4)]
    costs = read(made(tmp_path / "small", header(), *small))
    large = made(tmp_path / "large", header(), *[(f"l{i}", part(i * 512, np.ones(512))) for i in range(4)])
    there = sum(part_file(large, f"l{i}").stat().st_size for i in range(4))
    assert costs.disk(2048, 512) == pytest.approx(there, rel=0.1)
    tiny = made(tmp_path / "tiny", header(), *[(f"t{i}", part(i * 4, np.ones(4))) for i in range(4)])
    assert costs.disk(16, 4) == pytest.approx(sum(part_file(tiny, f"t{i}").stat().st_size for i in range(4)), rel=0.1)


def test_a_part_with_next_to_nothing_in_it_is_as_large_as_is_said(tmp_path):
    folder = made(tmp_path, header(), ("0", part(0, np.ones(1), control=False)))
    assert part_file(folder, "0").stat().st_size == pytest.approx(EMPTY, rel=0.1)


def test_a_run_that_has_not_attacked_yet_says_nothing(tmp_path):
    with pytest.raises(InputError, match="must hold parts of an attack, but has none; run it"):
        read(made(tmp_path, header()))
    with pytest.raises(InputError, match=r"holds no run\.json"):
        read(tmp_path / "nowhere")
