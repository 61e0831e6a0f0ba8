"""What the page of edge fingerprints says of records made by hand: both sides of each verdict, and counts by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from eval.studies.cells import Value
from eval.studies.edge_tables import _ablation, _clear, _crossed, _filters, _learnt, _lesson, _points, _said, _span
from eval.studies.edges_names import EDGES, PAIR, VARIANTS

N = 40
ENDINGS = ("", *VARIANTS)


def run(draws: int) -> Any:
    """The header of a run with that many draws of random filters."""
    return SimpleNamespace(
        config={"study": {"network": "f", "draws": draws}},
        attacks=[{"name": "pgd"}],
        data={"classes": ["0", "1"]},
        threat={"headline": "0.1"},
        seed=0,
    )


def records(right: dict[str, int]) -> pd.DataFrame:
    """Of each network the clean images and the attacked ones, the first of `N` images right, as many as are said."""
    rows = []
    for name, count in right.items():
        for i in range(N):
            said = 0 if i < count else 1
            base = {"sample": str(i), "label": 0, "source": name, "target_model": name, "clean_pred": said, "error": ""}
            rows.append(base | {"role": "clean", "attack": "", "adv_pred": said})
            rows += [base | {"role": role, "attack": "pgd", "adv_pred": 1} for role in ("attack", "control")]
    return pd.DataFrame(rows)


def said(edges: int, learnt: int, drawn: tuple[int, ...]) -> tuple[str, dict[str, tuple[Value, ...]]]:
    right = {f"f{ending}": 20 for ending in ENDINGS} | {"f": edges, "f_random_learnt": learnt}
    right |= {f"f_random_{i}": count for i, count in enumerate(drawn)}
    section = _ablation(run(len(drawn)), records(right), {})
    return section.answer, dict(section.tables[0].rows)


def test_written_down_filters_stand_beside_the_mean_of_all_draws() -> None:
    answer, rows = said(30, 20, (10, 14, 12, 8))
    assert "right in 75.0%" in answer
    assert "4 draws of random ones in 27.5% in the mean, from 20.0% to 35.0%: a difference of 47.5 points (" in answer
    assert "written-down ones are better. One network" in answer
    assert rows[EDGES][0].ours == 0.75
    random = rows["8 random filters, nothing learnt, mean of 4 draws"]
    assert random[0].ours == pytest.approx(0.275)
    assert random[2].ours == 0
    by_draw, by_image = np.array([10, 14, 12, 8]) / N, np.zeros(N)
    for count in (10, 14, 12, 8):
        by_image += (np.arange(N) < count) / 4
    half = math.sqrt(by_draw.var(ddof=1) / 4 + by_image.var(ddof=1) / N)
    assert random[0].high - random[0].ours > 1.96 * half


@pytest.mark.parametrize(
    ("edges", "drawn", "says"),
    [
        (30, (10, 14, 12, 8), "written-down ones are better"),
        (10, (30, 34, 32, 28), "random ones are better"),
        (20, (20, 24, 22, 18), "no difference can be told"),
        (26, (2, 38, 6, 34), "no difference can be told"),  # images alone would say that 6 of 40 are a difference
        (30, (10,), "too few to tell"),
    ],
)
def test_filters_are_better_only_beyond_what_draws_and_images_explain(edges: int, drawn: Any, says: str) -> None:
    assert f", {says}. One network" in said(edges, 20, drawn)[0]


@pytest.mark.parametrize(
    ("learnt", "says"),
    [
        (38, "20.0 points (6.3 to 31.8) beyond the written-down ones on the same images: that network is better."),
        (22, "that network is worse."),
        (31, "no difference can be told."),
    ],
)
def test_what_was_learnt_is_told_of_one_network(learnt: int, says: str) -> None:
    assert f"{says} The mean image" in said(30, learnt, (10, 14))[0]


@pytest.mark.parametrize(
    ("bare", "says"),
    [
        (
            20,
            "50.0% (35.2 to 64.8%): the written-down ones add 25.0 points (10.1 to 37.5) to that: the filters help.",
        ),
        (38, "the filters do worse than none."),
        (29, "that the filters help cannot be told."),
    ],
)
def test_the_mean_image_without_filters_stands_in_the_answer(bare: int, says: str) -> None:
    right = {f"f{ending}": 20 for ending in ENDINGS} | {"f": 30, "f_pixels": bare, "f_random_0": 10, "f_random_1": 14}
    answer = _ablation(run(2), records(right), {}).answer
    assert f"{says} Under pgd the mean image" in answer
    assert answer.endswith(
        "in 0.0% (0.0 to 8.8%), which is 0.0 points (-4.7 to 4.7) more: that the filters help cannot be told."
    )


@pytest.mark.parametrize(("bare", "kept", "says"), [(0, 20, "filters help"), (20, 0, "the filters do worse than none")])
def test_what_filters_do_under_attack_is_told_for_itself(bare: int, kept: int, says: str) -> None:
    right = {f"f{ending}": 20 for ending in ENDINGS} | {"f_random_0": 20, "f_random_1": 20}
    rows = records(right)
    place = rows["sample"].astype(int)
    for name, count in (("f", kept), ("f_pixels", bare)):
        rows.loc[(rows["role"] == "attack") & (rows["source"] == name) & (place < count), "adv_pred"] = 0
    answer = _ablation(run(2), rows, {}).answer
    assert answer.endswith(f"{says}.")
    assert "is right in 50.0% (35.2 to 64.8%): the written-down ones add 0.0 points" in answer


@pytest.mark.parametrize(
    ("bare", "says"),
    [(10, "the filters help."), (38, "the filters do worse than none."), (29, "that the filters help cannot be told.")],
)
def test_the_lesson_stands_beside_the_mean_image_without_filters(bare: int, says: str) -> None:
    right = {f"f{ending}": 28 for ending in PAIR} | {"f_pair_pixels": bare}
    header = run(0)
    header.config["study"]["pair"] = [0, 1]
    header.config["model"] = {"f": {"places": 4}}
    header.data |= {"name": "digits", "shape": [1, 8, 8]}
    answer = _lesson(header, records(right)).answer
    assert f"without any filter, {bare / N:.1%}" in answer
    assert "(n=40): filters as in the lesson add " in answer
    assert answer.endswith(says)


def test_one_draw_is_told_without_an_interval_over_draws() -> None:
    answer, rows = said(30, 20, (10,))
    assert "50.0 points (one draw, no interval), too few to tell" in answer
    assert rows["8 random filters, nothing learnt, mean of 1 draws"][0].ours == 0.25


def test_differences_are_in_points_and_clear_ones_above_zero() -> None:
    values = [Value("excess", ours, ours - 0.02, ours + 0.02, 9) for ours in (0.05, 0.01, -0.05)]
    assert _points(values[0]) == "5.0 points (3.0 to 7.0)"
    assert [_filters(v) for v in values] == [
        "written-down ones are better", "no difference can be told", "random ones are better",
    ]  # fmt: skip
    assert [_learnt(v) for v in values] == [
        "that network is better", "no difference can be told", "that network is worse",
    ]  # fmt: skip
    assert _clear(values) == 1
    assert _span(values) == "-5.0 to 5.0 points"


def crossed(fooled: dict[tuple[str, str], int], noise: dict[tuple[str, str], int]) -> str:
    """The answer about a template `f` and two networks: of `N` images the first are fooled, as many as are said."""
    header = run(0)
    names = ("f", "a", "b")
    header.models = [{"name": name} for name in names]
    header.data |= {"name": "made"}
    rows = []
    for i in range(N):
        base = {"sample": str(i), "label": 0, "clean_pred": 0, "error": ""}
        for target in names:
            rows.append(base | {"source": target, "target_model": target, "role": "clean", "attack": "", "adv_pred": 0})
            for source in names:
                for role, found in (("attack", fooled), ("control", noise)):
                    pair = {"source": source, "target_model": target, "role": role, "attack": "pgd"}
                    rows.append(base | pair | {"adv_pred": int(i < found.get((source, target), 0))})
    return _crossed(header, pd.DataFrame(rows), "pgd").answer


TO, BACK = (("a", "f"), ("b", "f")), (("f", "a"), ("f", "b"))


@pytest.mark.parametrize("pairs", [TO, BACK, (("a", "b"), ("b", "a"))])
@pytest.mark.parametrize(
    ("fooled", "noise", "says"),
    [
        ((30, 20), (0, 0), "clearly in 2 of 2 cases: the claim stands here"),
        ((30, 1), (0, 0), "clearly in 1 of 2 cases: the claim stands here in 1 of 2 cases"),
        ((30, 0), (0, 20), "clearly in 1 of 2 cases: the claim stands here in 1 of 2 cases, in 1 it does not"),
        ((1, 0), (0, 1), "clearly in 0 of 2 cases: whether the claim stands here cannot be told"),
        ((0, 0), (20, 20), "clearly in 0 of 2 cases: the claim does not stand here"),
    ],
)
def test_transfer_has_a_verdict_in_each_direction(pairs: Any, fooled: Any, noise: Any, says: str) -> None:
    answer = crossed(dict(zip(pairs, fooled, strict=True)), dict(zip(pairs, noise, strict=True)))
    to, back, learnt = (part.partition(", clearly")[2] for part in answer.partition(". Its own")[0].split("; "))
    open_ = " in 0 of 2 cases: whether the claim stands here cannot be told"
    wanted = [says.removeprefix("clearly") if pairs == one else open_ for one in (TO, BACK)]
    assert [to, back] == wanted
    assert learnt == (open_ if pairs in (TO, BACK) else says.removeprefix("clearly"))


def test_a_template_without_other_networks_has_no_verdict() -> None:
    header = run(0)
    header.models = [{"name": "f"}]
    header.data |= {"name": "made"}
    answer = _crossed(header, records({"f": 30}), "pgd").answer
    assert answer.startswith("There is no other network to show examples to, so that whether the claim stands here ")
    few = [Value("excess", 0.5, 0.4, 0.6, 9)]
    assert _said(few, few, []).endswith("50.0 points to theirs, clearly in 1 of 1 cases: the claim stands here")
