"""Destruction rates of Kurakin et al., made small: what is judged, counted naively, and what the numbers say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

from attacks.rng import Rng
from attacks.transformations import named
from eval.errors import InputError
from eval.records import Run, read_records
from eval.run import run
from eval.studies.cells import Table, Value
from eval.studies.idle import idle
from eval.studies.kurakin import _order, findings, read, tables
from eval.studies.physical import Transformed

SMALL = (
    "experiment=cat_to_toaster/physical", "data=digits", "model=[mlp_relu]", "debug.samples=30", "threat.eps=0.2",
    "threat.curve=[0.1]", "study.draws=3", "attack.expectation.attack.steps=15", "attack.pgd.steps=15",
)  # fmt: skip
SINGLE = ["brightness", "contrast", "blur", "noise", "jpeg", "rotation", "perspective"]
LOOKS = [f"print_and_photograph_{i}" for i in range(3)]


@pytest.fixture
def go(composed) -> Callable[..., Run]:
    def made(folder: Path, *overrides: str) -> Run:
        folder.mkdir(parents=True, exist_ok=True)
        return run(composed(*SMALL, *overrides), folder, [], Console(quiet=True))

    return made


def made_of(about: Run, folder: Path) -> list[Table]:
    return tables(about, read_records(folder), about.models[0]["name"])


def texts(found: list[Table]) -> list[str]:
    return [table.frame().to_csv() for table in found]


def test_a_small_run_has_a_row_for_each_method_and_budget_and_a_column_for_each_transformation(go, tmp_path):
    about = go(tmp_path)
    records = read_records(tmp_path)
    by = {table.name: table for table in made_of(about, tmp_path)}

    assert about.status == "complete"
    methods = ["fast", "basic iterative", "least likely class"]
    both = [f"{method}, \u03b5 = {eps}" for method in methods for eps in ("0.1", "0.2")]
    aimed = [*both[4:], "plain (pgd), \u03b5 = 0.2", "by expectation, \u03b5 = 0.2"]
    assert [label for label, _ in by["photographs"].rows] == both
    assert [label for label, _ in by["destruction"].rows] == both
    assert [label for label, _ in by["kept"].rows] == aimed
    assert list(by["destruction"].columns) == [*(t for t in SINGLE if t != "blur"), "print and photograph"]
    assert set(records["role"]) == {"clean", "attack", *SINGLE, *LOOKS, *(f"clean_{role}" for role in SINGLE + LOOKS)}
    assert records.loc[records["role"] != "clean", "in_box"].all()
    assert all(v.paper is None for t in by.values() for _, values in t.rows for v in values)  # these are digits

    lines = findings(about, list(by.values()))
    assert any("the photograph destroys these parts" in line for line in lines)
    assert sum("leaves the target in" in line for line in lines) == 2
    *_, without, note = read(about, records, tmp_path).findings
    assert without == "blur: left out, since no pixel changes by half a level of 8 bits."  # of 8 pixels a side
    assert "simulated" in note
    assert "top five" not in by["photographs"].note  # of 10 classes
    assert "prefiltered" not in by
    assert all("% (" in line for line in lines if "leaves the target in" in line or "destroys these parts" in line)

    # the rates, counted naively, one record at a time
    rows = {(r.attack, r.eps_text, r.role, r.sample): r for r in records.itertuples()}
    ids = sorted(set(records["sample"]))
    for (label, values), name in zip(
        by["destruction"].rows, ["fgsm_untargeted"] * 2 + ["bim_untargeted"] * 2, strict=False
    ):
        eps = label.rpartition(" ")[2]
        for column, roles in (("rotation", ["rotation"]), ("print and photograph", LOOKS)):
            below, above = 0, 0.0
            for sample in ids:
                adv = rows[name, eps, "attack", sample]
                if adv.clean_pred == adv.label and adv.adv_pred != adv.label:
                    below += 1
                    seen = [rows[name, eps, role, sample] for role in roles]
                    above += sum(look.adv_pred == look.label for look in seen) / len(seen)
            value = values[by["destruction"].columns.index(column)]
            assert value.n == below > 0
            assert value.ours == pytest.approx(above / below)
    below, above = 0, 0.0
    for sample in ids:
        adv = rows["pgd", "0.2", "attack", sample]
        if adv.success and adv.clean_pred != adv.target_class:
            below += 1
            above += sum(rows["pgd", "0.2", role, sample].adv_pred == adv.target_class for role in LOOKS) / 3
    kept = dict(by["kept"].rows)["plain (pgd), \u03b5 = 0.2"][-2]
    assert (kept.n, kept.ours) == (below, pytest.approx(above / below))
    right = [rows["pgd", "0.2", "clean_noise", s].adv_pred == rows["pgd", "0.2", "clean_noise", s].label for s in ids]
    assert by["clean"].rows[0][1][by["clean"].columns.index("noise")].ours == pytest.approx(np.mean(right))


def test_the_same_seed_and_another_batch_size_give_the_same_and_an_interrupted_run_goes_on(go, tmp_path):
    small = ("debug.samples=12", "study.draws=2")
    first = texts(made_of(go(tmp_path / "a", *small), tmp_path / "a"))
    assert texts(made_of(go(tmp_path / "b", *small, "batch_size=5"), tmp_path / "b")) == first

    parts = sorted((tmp_path / "a" / "parts").glob("*.parquet"))
    for part in parts[::2]:
        part.unlink()
    kept = {part: part.stat().st_mtime_ns for part in parts[1::2]}
    assert texts(made_of(go(tmp_path / "a", *small), tmp_path / "a")) == first
    assert {part: part.stat().st_mtime_ns for part in kept} == kept


def test_a_crashed_attack_is_left_out_and_the_papers_numbers_stand_beside_those_of_imagenet(go, tmp_path):
    about = go(tmp_path, "debug.samples=8", "threat.eps=8/255", "threat.curve=[]", "study.draws=1")
    crashed = read_records(tmp_path)
    without = read(about, crashed[crashed["attack"] != "pgd"], tmp_path)
    assert not [line for line in without.findings if "pgd" in line or "Unperturbed" in line]

    about.data["classes"] = [str(i) for i in range(1000)]
    by = {table.name: dict(table.rows) for table in made_of(about, tmp_path)}
    fast, least = "fast, \u03b5 = 8/255", "least likely class, \u03b5 = 8/255"
    assert [v.paper for v in by["photographs"][fast]] == pytest.approx([0.304, 0.490, 0.333, 0.400])
    assert [v.paper for v in by["photographs"][least]] == pytest.approx([0, 0.696, 0.863, 0.946])
    assert [v.paper for v in by["prefiltered"][fast]] == pytest.approx([0.146, 0.708])


def test_rates_by_the_top_five_and_of_clear_cases_are_those_counted_naively(go, tmp_path):
    about = go(tmp_path, "threat.curve=[]")
    about.data["classes"] = [str(i) for i in range(60)]  # many enough
    by = {table.name: dict(table.rows) for table in made_of(about, tmp_path)}
    rows = {(r.attack, r.eps_text, r.role, r.sample): r for r in read_records(tmp_path).itertuples()}
    ids = sorted({sample for *_, sample in rows})
    for name, label in (("bim_untargeted", "basic iterative"), ("bim_least_likely", "least likely class")):
        top, clear = [], []
        for sample in ids:
            adv = rows[name, "0.2", "attack", sample]
            looks = [rows[name, "0.2", role, sample].adv_rank for role in LOOKS]
            if adv.clean_rank < 5 <= adv.adv_rank:
                top.append(np.mean([r < 5 for r in looks]))
            if adv.clean_pred == adv.label and adv.adv_rank >= 5 and min(adv.clean_conf, adv.adv_conf) > 0.8:
                clear.append([np.mean([r == 0 for r in looks]), np.mean([r < 5 for r in looks])])
        value = by["photographs"][f"{label}, \u03b5 = 0.2"][3]
        filtered = by["prefiltered"][f"{label}, \u03b5 = 0.2"]
        assert (value.n, value.paper) == (len(top), None)
        assert value.ours == pytest.approx(np.mean(top) if top else np.nan, nan_ok=True)
        assert {v.n for v in filtered} == {len(clear)}
        if clear:
            assert [v.ours for v in filtered] == pytest.approx(np.mean(clear, axis=0))
    assert by["photographs"]["least likely class, \u03b5 = 0.2"][3].n > 0
    assert by["prefiltered"]["least likely class, \u03b5 = 0.2"][0].n > 0


def test_what_a_transformation_makes_is_that_of_the_unit_box_in_any_other():
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    derive, rng = Transformed(named("contrast", 0.3, fixed=True)), Rng.of(0, [], "abc")
    plain, wide = derive(x, x, rng, (0.0, 1.0)), derive(2 * x - 1, 2 * x - 1, rng, (-1.0, 1.0))
    assert torch.allclose(2 * plain - 1, wide, atol=1e-5)
    assert torch.equal(Transformed(derive.transformation, clean=True)(x, 0 * x, rng, (0.0, 1.0)), plain)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["study.draws=0"], "study.draws: must be at least 1, got 0"),
        (["study.untargeted=[]"], "study.untargeted: must name at least one attack"),
        (
            ["study.least_likely=[cw]"],
            r"study.least_likely: must name chosen attacks \(fgsm, bim, pgd, expectation\), got cw",
        ),
        (["study.composition=fax"], "study.composition: transformations: must be of brightness"),
        (["study.transformations.blur=3"], r"study.transformations: blur: must be in \[0, 0.1\]"),
        (["attack=[fgsm,bim,lbfgs]", "study.targeted=[lbfgs]"], "must name attacks that spend a budget, got lbfgs"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(composed, tmp_path, overrides, says):
    with pytest.raises(InputError, match=says):
        run(
            composed(
                "experiment=cat_to_toaster/physical",
                "data=digits",
                "model=[softmax]",
                *overrides,
            ),
            tmp_path,
            [],
            Console(quiet=True),
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["imagenet_squeezenet1_0", "imagenet_mobilenet_v2"])
def test_photos_keep_their_targets_where_plain_perturbations_lose_them(real_data, name):
    """48 photos towards the classes of attribution.csv at 8/255, each looked at 10 times as a photographed print."""
    import importlib.util

    from PIL import Image

    from attacks.expectation import Expectation
    from attacks.goal import Goal
    from attacks.pgd import PGD
    from attacks.threat import ThreatModel, quantize

    spec = importlib.util.spec_from_file_location("nets_of_the_data", real_data / "nets.py")
    assert spec is not None
    assert spec.loader is not None
    nets = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(nets)
    net = getattr(nets, name)().requires_grad_(False)
    photos = real_data / "photos" / "imagenet-mini"
    told = pd.read_csv(photos / "attribution.csv")
    x = torch.stack(
        [torch.from_numpy(np.asarray(Image.open(photos / file)).copy()).permute(2, 0, 1) for file in told["file"]]
    )
    x, ids = x.float() / 255, list(told["file"])
    goal = Goal(torch.tensor(told["label0"]), torch.tensor(told["target0"]))
    print_and_photograph, threat = named("print_and_photograph", 1.0), ThreatModel("linf", 8 / 255)

    def kept(attack, label: str) -> float:
        found = []
        for i in range(0, len(x), 8):
            part = torch.arange(i, i + 8)
            some = [ids[j] for j in part]
            x_adv = quantize(attack(net, x[part], goal[part], threat, rng=Rng.of(0, [label], some)))
            looks = [net(print_and_photograph(x_adv, Rng.of(1, [label, str(k)], some))) for k in range(10)]
            found += torch.stack([goal[part].reached(z) for z in looks]).float().mean(0).tolist()
        return float(np.mean(found))

    assert kept(PGD(steps=40, random_start=False, early_stop=False), "plain") <= 0.5
    assert kept(Expectation(), "expectation") >= 0.8


def told(*rates):
    """The first finding, of rates (low, middle, high) in the paper's order."""
    names = ("fast", "basic iterative", "least likely class")
    values = [Value("share", middle, low, high, 50) for low, middle, high in rates]
    rows = tuple((f"{name}, \u03b5 = 0.1", (None, None, value)) for name, value in zip(names, values, strict=True))
    return _order(Table("photographs", "", "", ("", "", "destroyed"), rows), "0.1")[0].partition("; ")[2]


@pytest.mark.parametrize(
    ("rates", "says"),
    [
        (((0.0, 0.1, 0.2), (0.3, 0.4, 0.5), (0.6, 0.7, 0.8)), "that is the paper's order, beyond the intervals."),
        (((0.0, 0.1, 0.5), (0.2, 0.4, 0.6), (0.1, 0.7, 0.8)), "all intervals overlap, so that this is no order, "),
        (
            ((0.0, 0.1, 0.2), (0.1, 0.4, 0.6), (0.5, 0.7, 0.8)),
            "beyond the intervals: fast less than least likely class, as in the paper; the other intervals overlap.",
        ),
        (
            ((0.6, 0.7, 0.8), (0.0, 0.1, 0.3), (0.2, 0.3, 0.4)),
            "beyond the intervals: basic iterative less than fast, unlike the paper and "
            "least likely class less than fast, unlike the paper; the other intervals overlap.",
        ),
    ],
)
def test_an_order_is_told_as_far_as_the_intervals_allow(rates, says):
    assert told(*rates).startswith(says)


@pytest.mark.parametrize(("most", "expected"), [(0.4 / 255, ["blur"]), (0.6 / 255, [])])
def test_a_transformation_is_left_out_by_what_it_was_measured_to_do(most, expected):
    about = Run.__new__(Run)
    about.__dict__.update(data={"box": [0.0, 1.0]}, config={"study": {"transformations": {"blur": 1.0, "jpeg": 1.0}}})
    rows = [(f"clean_{name}", size, "") for name, size in (("blur", 0.0), ("blur", most), ("jpeg", 0.5))]
    assert idle(about, pd.DataFrame(rows, columns=["role", "linf", "error"])) == expected
    assert idle(about, pd.DataFrame(rows[2:], columns=["role", "linf", "error"])) == []  # nothing known of the blur
