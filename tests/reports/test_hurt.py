from __future__ import annotations

import re

import pandas as pd
import pytest

from eval.group_metrics import per_sample
from eval.metrics import Threat, outcomes
from eval.records import Run, read_records
from reports.build import write
from reports.dumbbells import Dumbbell, dumbbells
from reports.hurt import hurt
from reports.measure import Measure

GROUPS = [("dark", "light", "")[i % 3] for i in range(300)]


@pytest.fixture
def grouped(tmp_path, make_run):
    return make_run(tmp_path, n=300, models=("mlp",), examples=False, groups=GROUPS)


def section(page: str) -> str:
    return page.split('<section id="classes">')[1].split("</section>", maxsplit=1)[0]


def read_csv(path):
    return pd.read_csv(path, keep_default_na=False)


def test_groups_have_their_own_chart_and_table(grouped):
    said = section(write(grouped).read_text())
    assert "<h3>By skin</h3>" in said
    assert "100 samples are of no group, and left out." in said
    groups = read_csv(grouped / "groups.csv")
    assert groups[["group", "n"]].to_numpy().tolist() == [["dark", 100], ["light", 100]]
    assert (grouped / "figures" / "hurt-group-0.svg").exists()


def test_without_groups_there_are_classes_alone(tmp_path, make_run):
    folder = make_run(tmp_path, n=300, models=("mlp",), examples=False)
    assert "<h3>By" not in section(write(folder).read_text())
    assert not (folder / "groups.csv").exists()


def test_disparities_are_written_and_agree_with_the_classes(grouped):
    write(grouped)
    table = read_csv(grouped / "disparity.csv").set_index("by")
    classes = read_csv(grouped / "classes.csv")
    robust = classes["robust_accuracy"]
    assert table.loc["class", "robust"] == pytest.approx(robust.max() - robust.min())
    assert table.loc["class", "least_robust"] == pytest.approx(robust.min())
    lowest = classes.loc[robust.idxmin(), "class"]
    assert table.loc["class", "worst"].startswith(lowest)
    assert table.loc["group", "n"] == 200
    assert (table["low_robust"] <= table["robust"]).all()
    lost = classes["clean_accuracy"] - classes["robust_accuracy"]
    pd.testing.assert_series_equal(classes["boundary_error"], lost, check_names=False)


def test_the_chart_shows_the_least_robust_first(grouped):
    said = section(write(grouped).read_text())
    chart = said.split('id="hurt-class-0"')[1].split("</svg>")[0]
    shares = [float(x) for x in re.findall(r"robust ([\d.]+)%", chart)]
    assert len(shares) == 5
    assert shares == sorted(shares)


@pytest.mark.parametrize("attack_hits", [True, False])
def test_a_group_that_is_hurt_beyond_proportion_is_flagged(grouped, attack_hits):
    run, records = Run.read(grouped), read_records(grouped)
    threat = Threat.of(run)
    samples = per_sample(records, outcomes(records, threat), threat).assign(judged=True)
    samples["robust"] = samples["right"] & ((samples["group"] != "dark") | (not attack_hits))
    found, _ = hurt(run, samples, lambda table: table, Measure.of("untargeted"))
    flags = " ".join(found[1].networks[0][1])
    assert ("The attack makes the groups more unequal, by 86.0 points" in flags) is attack_hits
    assert ("dark is left with 0.0%, less than half of the mean of all groups" in flags) is attack_hits
    note = found[1].charts[0].note
    assert ("The worst is dark, beyond what chance explains." in note) is attack_hits


def test_names_of_classes_are_escaped(grouped):
    said = section(write(grouped).read_text())
    assert "<script>alert(1)</script>" not in said
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in said


def test_a_chart_places_shares_on_one_axis():
    svg = dumbbells("x", [Dumbbell("a", 1.0, 0.0, 0.0, 0.5, True, "n")], ("clean", "robust"), (0.5, "mean"), 0)
    left, right = (float(x) for x in re.findall(r'class="lost" x1="([\d.]+)" x2="([\d.]+)"', svg)[0])
    middle = float(re.findall(r'class="mark" x1="([\d.]+)"', svg)[0])
    assert left < middle < right
    assert middle == pytest.approx((left + right) / 2, abs=0.1)
