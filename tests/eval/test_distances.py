"""The smallest perturbations made small: the pool is the best of all, and the reading counts what the records hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from attacks.fab import FAB
from attacks.foolbox import Foolbox
from attacks.lbfgs import LBFGS
from attacks.pgd import PGD
from eval.data import Digits
from eval.errors import InputError
from eval.optimality import optimality
from eval.records import Run, read_records
from eval.run import run
from eval.studies import nearness
from eval.studies.distances import Distances
from eval.studies.known_pool import COLUMNS, nearest, read_pool
from reports.build import write

DATA = Digits(name="digits", root="nowhere").load(0)
SMALL = (
    "experiment=distances",
    "model=mlp_relu",
    "train.epochs=3",
    "attack=[lbfgs,fab,foolbox/ddn,foolbox/fmn_l0]",
    "study.norms=[l2,linf,l0]",
    "study.images=30",
    "attack.fab.steps=8",
    "attack.fab.targets=3",
    "attack.lbfgs.evaluations=60",
    "attack.foolbox_ddn.options.steps=10",
    "attack.foolbox_fmn_l0.options.steps=60",
)


def go(composed, folder: Path, *overrides: str) -> tuple[Run, pd.DataFrame, Path]:
    folder.mkdir(exist_ok=True)
    about = run(composed(*SMALL, *overrides), folder, [], Console(quiet=True))
    return about, read_records(folder), folder


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("distances")


@pytest.fixture
def done(composed, place) -> tuple[Run, pd.DataFrame, Path]:
    return go(composed, place / "run")  # the second time it is only read


def naive(records: pd.DataFrame, norm: str, attack: str | None = None) -> dict[str, float]:
    """The smallest distance of each image, of one attack or of all."""
    found: dict[str, float] = {}
    for row in records[records["role"] == "attack"].to_dict("records"):
        if attack is None or row["attack"] == attack:
            size = 0.0 if row["clean_pred"] != row["label"] else row[norm] if row["success"] else np.inf
            found[row["sample"]] = min(found.get(row["sample"], np.inf), size)
    return found


def test_each_search_runs_in_the_norms_that_it_supports(done) -> None:
    about, records, _ = done
    assert about.status == "complete"
    attacked = records[records["role"] == "attack"]
    ran = {(r["attack"], r["norm"]) for r in attacked[["attack", "norm"]].to_dict("records")}
    by_norm = {("fab_l2", "l2"), ("fab_linf", "linf")}
    assert ran == by_norm | {("lbfgs", "l2"), ("foolbox_ddn", "l2"), ("foolbox_fmn_l0", "l0")}
    assert np.isinf(attacked["eps"]).all()


def test_tables_and_pool_are_what_a_naive_count_gives(done) -> None:
    about, records, folder = done
    said = nearness.read(about, records, folder)
    assert [t.name for t in said.tables] == ["distances-l2", "distances-linf", "distances-l0"]
    pool = said.csv["pool"]
    assert list(pool.columns) == COLUMNS
    for table in said.tables:
        norm = table.name.removeprefix("distances-")
        best = naive(records, norm)
        assert pool[pool["norm"] == norm].set_index("sample")["distance"].to_dict() == pytest.approx(best)
        right = [s for s, d in best.items() if d > 0]
        for name, values in table.rows:
            by = dict(zip(table.columns, values, strict=True))
            mine = best if name == "pool" else naive(records, norm, name)
            hit = [mine[s] for s in right if np.isfinite(mine[s])]
            assert by["found"].ours == pytest.approx(len(hit) / len(right))
            assert by["median"].ours == pytest.approx(np.median(hit))
            assert by["mean"].ours == pytest.approx(np.mean(hit))
            if name == "pool":
                assert by["optimality"] is None
                continue
            order = list(best)
            xi = optimality(np.array([mine[s] for s in order]), np.array([best[s] for s in order]))
            assert by["optimality"].ours == pytest.approx(xi)
            assert by["optimality"].low <= xi <= by["optimality"].high
            assert by["nearest"].ours == pytest.approx(np.mean([mine[s] <= 1.01 * best[s] for s in right]))
            costs = records[(records["attack"] == name) & records["sample"].isin(right)]
            assert by["backwards"].ours == pytest.approx(costs["backwards"].mean())


def test_curves_lie_above_that_of_the_pool(done) -> None:
    about, records, folder = done
    said = nearness.read(about, records, folder)
    for chart in said.curves:
        *others, (name, pool) = chart.lines
        assert name == "pool"
        assert pool[-1, 1] == 0.0  # everything was broken
        for _, line in others:
            assert np.trapezoid(line[:, 1], line[:, 0]) >= np.trapezoid(pool[:, 1], pool[:, 0]) - 1e-9


def test_the_page_and_the_stored_pool(done) -> None:
    about, records, folder = done
    page = write(folder).read_text(encoding="utf-8")
    assert "Smallest perturbations in Linf" in page
    stored = read_pool(folder / "pool.csv")
    said = nearness.read(about, records, folder)
    pd.testing.assert_series_equal(stored["distance"], said.csv["pool"]["distance"])
    assert len(said.findings) == 3
    assert "the only search in this norm" in said.findings[2]


def test_a_better_pool_lowers_optimality(done) -> None:
    about, records, folder = done
    before = nearness.read(about, records, folder)
    better = before.csv["pool"].assign(attack="oracle", distance=lambda p: p["distance"] / 2)
    better.to_csv(folder / "better.csv", index=False)
    config = {**about.config, "study": {**about.config["study"], "pool": str(folder / "better.csv")}}
    after = nearness.read(replace(about, config=config), records, folder)
    for old, new in zip(before.tables, after.tables, strict=True):
        for (name, values), (_, now) in zip(old.rows[:-1], new.rows[:-1], strict=True):
            assert now[4].ours < values[4].ours, name
    assert set(after.csv["pool"].query("distance > 0")["attack"]) == {"oracle"}
    assert "the pool that was given" in after.findings[0]


def test_a_pool_of_other_networks_changes_nothing(done) -> None:
    about, records, folder = done
    before = nearness.read(about, records, folder)
    before.csv["pool"].assign(weights="another", distance=0.01).to_csv(folder / "other.csv", index=False)
    config = {**about.config, "study": {**about.config["study"], "pool": str(folder / "other.csv")}}
    after = nearness.read(replace(about, config=config), records, folder)
    pd.testing.assert_frame_equal(after.csv["pool"], before.csv["pool"])


def test_failures_of_all_and_the_nearest_of_pools() -> None:
    row = {"network": "a", "weights": "w", "data": "d", "norm": "l2"}
    one = pd.DataFrame([{**row, "sample": s, "distance": d, "attack": "one"} for s, d in (("0", 1.0), ("1", np.inf))])
    two = pd.DataFrame([{**row, "sample": s, "distance": d, "attack": "two"} for s, d in (("0", 2.0), ("2", 3.0))])
    both = nearest([one, two]).set_index("sample")
    assert both["distance"].to_dict() == {"0": 1.0, "1": np.inf, "2": 3.0}
    assert both["attack"].to_dict() == {"0": "one", "1": "one", "2": "two"}


def test_trials_are_one_a_norm_and_as_large_as_asked() -> None:
    attacks = {"fab": FAB(), "lbfgs": LBFGS(), "fmn": Foolbox("fmn_linf")}
    found = Distances(images=20).trials(DATA, attacks, 0)
    assert [t.norm for t in found] == ["l2", "linf", "l1"]
    assert [list(t.attacks) for t in found] == [["fab_l2", "lbfgs"], ["fab_linf", "fmn"], ["fab_l1"]]
    assert all(len(t.samples) == 20 for t in found)
    assert list(Distances(norms=["l1"]).trials(DATA, {"fab": FAB()}, 0)[0].attacks) == ["fab"]


@pytest.mark.parametrize(
    ("fields", "attacks", "message"),
    [
        ({"norms": ["l3"]}, {}, "norms: must be one or more of l0, l1, l2, linf, each once"),
        ({"images": 0}, {}, "images: must be at least 1, got 0"),
        ({}, {}, "attack: must name at least one"),
        ({}, {"pgd": PGD()}, "attack.pgd: must search for the smallest perturbation"),
        ({"norms": ["l1"]}, {"lbfgs": LBFGS()}, r"study.norms: must have a norm of attack.lbfgs \(l2\), got l1"),
        ({"pool": "nowhere.csv"}, {"fab": FAB()}, "study.pool: must be a pool.csv that this experiment wrote"),
    ],
)
def test_bad_input_is_one_line(fields, attacks, message) -> None:
    with pytest.raises(InputError, match=message):
        Distances(**fields).trials(DATA, attacks, 0)


def test_files_that_are_no_pools_are_refused(tmp_path) -> None:
    (tmp_path / "a.csv").write_text("network,distance\na,1\n")
    with pytest.raises(InputError, match=r"must have the columns .* lacks weights"):
        read_pool(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text(",".join(COLUMNS) + "\na,w,d,0,l2,-1,fab\n")
    with pytest.raises(InputError, match="distances must be >= 0"):
        read_pool(tmp_path / "b.csv")


@pytest.mark.slow
def test_the_best_search_of_each_norm_comes_within_a_fiftieth_of_the_pool_on_four_networks(
    composed, real_data, tmp_path
):
    """Ours and Foolbox's searches are the pool: two networks on 100 digits, two known ones on 40 MNIST images."""
    searches = "attack=[lbfgs,lbfgs/strong,fab,foolbox/ddn,foolbox/fmn_linf,foolbox/deepfool]"
    shared = ("experiment=distances", searches, "study.norms=[l2,linf]", "attack.fab.restarts=2")
    known = ["mnist_lenet5_clean", "mnist_lenet5_adv"]
    mnist = (
        "data=mnist", f"data.root={real_data}", "study.images=40", "model=factory",
        f"model.path=[{','.join(f'{real_data}/nets.py:{name}' for name in known)}]",
    )  # fmt: skip
    found: dict[tuple[str, str], list[float]] = {}
    for place, overrides in (("digits", ("study.images=100",)), ("mnist", mnist)):
        folder = tmp_path / place
        folder.mkdir()
        about = run(composed(*shared, *overrides), folder, [], Console(quiet=True))
        assert about.status == "complete"
        records = read_records(folder)
        pool = nearness.read(about, records, folder).csv["pool"]
        for (norm, network), best in pool.groupby(["norm", "network"]):
            for attack in ("fab_linf",) if norm == "linf" else ("lbfgs", "lbfgs_strong", "fab_l2"):
                own = naive(records[records["source"] == network], norm, attack)
                if own:
                    ids = sorted(own)
                    nearest_known = best.set_index("sample")["distance"].loc[ids].to_numpy()
                    xi = optimality(np.array([own[i] for i in ids]), nearest_known)
                    found.setdefault((norm, attack), []).append(xi)
    for key, values in found.items():
        print(*key, [round(v, 3) for v in values], round(float(np.mean(values)), 4))
        assert len(values) == 4
    for norm in ("l2", "linf"):
        assert max(np.mean(v) for (n, _), v in found.items() if n == norm) >= 0.98
