"""What defences are worth, made small: every network is attacked, and the reading counts what the records hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from eval.errors import InputError
from eval.records import Run, read_records
from eval.run import run
from eval.studies import defended
from eval.studies.cells import overlap, share
from reports.build import write

SMALL = (
    "experiment=cat_to_toaster/defences",
    "model=mlp_relu",
    "attack=[fgsm,pgd,pgd_margin]",
    "study.epochs=4",
    "study.steps=2",
    "study.images=60",
    "attack.pgd.steps=4",
    "attack.pgd_margin.steps=8",
    "attack.pgd_margin.restarts=2",
)


@pytest.fixture
def done(composed, tmp_path) -> tuple[Run, pd.DataFrame, Path]:
    about = run(composed(*SMALL), tmp_path, [], Console(quiet=True))
    return about, read_records(tmp_path), tmp_path


def test_a_small_run_judges_every_defence_weakly_and_strongly(done) -> None:
    about, records, folder = done
    (table,) = defended.read(about, records, folder).tables

    assert [label for label, _ in table.rows] == ["no defence", "adversarial training", "defensive distillation"]
    columns = ("clean", "fgsm", "pgd", "all weak", "pgd_margin", "made for others", "worst case")
    assert table.columns == columns
    for label, values in table.rows:
        by = dict(zip(columns, (v.ours for v in values), strict=True))
        assert all(v.n == 60 for v in values), label
        assert by["worst case"] <= min(by.values()), label
        assert by["all weak"] <= min(by["fgsm"], by["pgd"]), label
        assert by["clean"] > 0.5, label
    names = {m["name"] for m in about.models}
    assert names == {"mlp_relu", "mlp_relu_adversarial", "mlp_relu_teacher", "mlp_relu_distilled"}


def test_the_table_is_what_a_naive_count_gives(done) -> None:
    about, records, folder = done
    (table,) = defended.read(about, records, folder).tables
    mine = records[(records["target_model"] == "mlp_relu_distilled") & (records["role"] == "attack")]
    broken = set()
    for row in mine.to_dict("records"):
        if row["adv_pred"] != row["label"] and row["linf"] <= 0.1 + 1e-5:
            broken.add(row["sample"])
    clean = records[(records["target_model"] == "mlp_relu_distilled") & (records["role"] == "clean")]
    broken |= set(clean.loc[clean["clean_pred"] != clean["label"], "sample"])
    assert table.rows[2][1][-1].ours == pytest.approx(1 - len(broken) / 60)


def test_the_page_and_its_findings(done) -> None:
    about, records, folder = done
    lines = defended.read(about, records, folder).findings
    assert len(lines) == 3
    assert all("after everything that was tried" in line for line in lines)
    assert "defensive distillation" in write(folder).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("study.temperature=1", "temperature: must be > 1, got 1"),
        ("study.weak=[cw]", "study.weak: must name chosen attacks"),
        ("study.images=9999", "study.images: must be at most 450"),
        ("study.eps=zero", "eps: must be a number"),
    ],
)
def test_bad_input_is_one_line(composed, tmp_path, override, says) -> None:
    with pytest.raises(InputError, match=says):
        run(composed(*SMALL, override), tmp_path, [], Console(quiet=True))
    assert not list(tmp_path.iterdir())


def test_only_what_looked_robust_is_called_so() -> None:
    n = 200
    rows = []
    for name, weak, strong in (("a", 0.9, 0.1), ("a_distilled", 0.9, 0.8)):
        for i in range(n):
            base = {"target_model": name, "source": name, "sample": str(i), "label": 0, "clean_pred": 0, "error": ""}
            rows.append({**base, "role": "clean", "attack": "none", "success": False, "eps": 0.0, "linf": 0.0})
            for attack, left in (("fgsm", weak), ("pgd_margin", strong)):
                hit = i >= left * n
                rows.append({**base, "role": "attack", "attack": attack, "success": hit, "eps": 0.1, "linf": 0.1})
    names = [{"name": name} for name in ("a", "a_distilled")]
    attacks = [{"name": "fgsm"}, {"name": "pgd_margin"}]
    about = Run.__new__(Run)
    about.__dict__.update(models=names, attacks=attacks, config={"study": {"weak": ["fgsm"]}})
    frame = pd.DataFrame(rows).assign(adv_pred=np.int64(1))
    first, second = defended.read(about, frame, Path()).findings
    assert "was no robustness" in first
    assert "was no robustness" not in second
    assert second.endswith(
        "Beside no defence that is +0.0 points (-1.0 to +1.0; may be chance) at first sight, and +70.0 points "
        "(+62.9 to +75.7) in the end."
    )
    assert "90.0% (85.1 to 93.4%) after fgsm" in first


def test_a_difference_is_paired() -> None:
    before = np.arange(200) < 100
    after = np.arange(200) < 110
    assert overlap(share(before), share(after))
    assert defended._gain(before, after) == "+5.0 points (+1.8 to +8.1)"
    assert "may be chance" in defended._gain(before, np.roll(before, 100) & (np.arange(200) < 190))


def test_networks_are_compared_on_the_images_that_both_were_tried_on() -> None:
    def outcome(samples: list[str], right: list[bool]) -> defended._Outcome:
        hits = np.array(right)
        return defended._Outcome("m", "m", False, pd.Index(samples), hits, hits, hits)

    plain, other = outcome(["a", "b", "c"], [True, True, False]), outcome(["c", "a"], [False, True])
    assert defended._beside(plain, other).count("+0.0 points") == 2
