"""What is read from the measurements: each check fires where it should, and only there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from eval.diagnosis.bracket import Bracket, Proof
from eval.diagnosis.checks import Seen, area, beyond_chance
from eval.diagnosis.questions import QUESTIONS, diagnose, verdict
from eval.diagnosis.reading import diagnoses
from eval.records import Run, read_records, write_measured
from tests.eval.gate_runs import write_run

YES, NO = np.ones(64, bool), np.zeros(64, bool)
ONE = np.arange(64) == 5
RISE = np.linspace(0.0, 1.0, 21)[None] ** 0.2 * np.ones((24, 1))
BRACKET = Bracket(100, 20, 60, 60, (), 30, 2.0, (Proof("bounds of the logits", 20, 0.1),))
HEALTHY = Seen(
    answers={
        "repeat": np.zeros(16), "turned": np.zeros(16, bool), "levels": np.full(16, 10), "alone": np.full(8, 1e-7),
        "probabilities": np.array(False), "autograd": np.array(0), "num_classes": np.array(10),
    },
    slopes={
        "none": np.array(False), "zero": np.zeros(24, bool), "zero_margin": np.zeros(24, bool),
        "slope": np.full((24, 2), 0.8), "unstable": np.full(24, 0.02),
    },
    paths={
        "loss": RISE, "reached": RISE > 0.9, "last": np.ones(24, bool), "unbounded": np.ones(24, bool),
        "grey": np.ones(24, bool),
    },
    searches={
        "pgd": YES, "longer": NO, "again": NO, "targeted": NO, "step": NO, "half": NO, "noise": NO, "scores": NO,
        "sample": np.array([f"test/{i}" for i in range(64)]),
    },
    neighbours={
        "sample": np.array([f"test/{i}" for i in range(64)]), "walk": np.full(64, 3.0), "near": np.arange(64) == 9,
    },
    broader={"turned": np.arange(24) < 10, "noise_0": np.zeros(24, bool), "noise_1": YES[:24], "noise_2": YES[:24]},
    standing=frozenset({"test/900"}),
    late=1,
    tried=1000,
    elsewhere=1,
    scored=("square",),
    accuracy=(950, 1000, 0.14),
    bracket=BRACKET,
    smallest={f"test/{i}": 2.0 for i in range(32)},
)  # fmt: skip


def changed(part: str, **values: object) -> Seen:
    return replace(HEALTHY, **{part: {**getattr(HEALTHY, part), **values}})


FIRES = {
    "bracket": replace(HEALTHY, bracket=replace(BRACKET, broken=("test/7",))),
    "missed": replace(changed("searches", noise=ONE), standing=frozenset({"test/5"})),
    "accuracy": replace(HEALTHY, accuracy=(150, 1000, 0.14)),
    "iterative": changed("searches", step=ONE),
    "monotone": changed("searches", half=ONE),
    "noise": changed("searches", noise=ONE),
    "black_box": changed("searches", scores=ONE),
    "stages": replace(HEALTHY, late=3),
    "elsewhere": replace(HEALTHY, elsewhere=3),
    "neighbour": replace(HEALTHY, standing=frozenset({"test/9"})),
    "impossible": replace(HEALTHY, smallest={"test/1": 3.5, "test/2": 4.0, "test/3": 1.0}),
    "broader": changed("broader", turned=np.arange(24) < 20),
    "more_steps": changed("searches", longer=np.arange(64) < 3),
    "more_restarts": changed("searches", again=np.arange(64) < 3),
    "complete": replace(HEALTHY, scored=()),
    "randomised": changed("answers", repeat=np.full(16, 2e-4)),
    "batch_dependent": changed("answers", alone=np.full(8, 0.01)),
    "probabilities": changed("answers", probabilities=np.array(True)),
    "hard_labels": changed("answers", levels=np.full(16, 2)),
    "dynamic": changed("answers", autograd=np.array(1)),
    "no_gradient": changed("slopes", none=np.array(True)),
    "zero_gradient": changed("slopes", zero=np.arange(24) < 5),
    "slope": changed("slopes", slope=np.full((24, 2), 0.01)),
    "unbounded": changed("paths", unbounded=np.arange(24) > 0),
    "grey": changed("paths", grey=np.arange(24) > 10),
    "rising": changed("paths", loss=np.cos(np.arange(21) * 2.0)[None] + np.zeros((24, 1))),
    "consistent": changed("paths", reached=RISE < 0.9),
    "late": changed("paths", loss=np.linspace(0, 1, 21)[None] ** 3 * np.ones((24, 1))),
    "silent": changed("paths", last=np.arange(24) > 0),
    "unstable": changed("slopes", unstable=np.full(24, 0.3)),
    "few_classes": changed("answers", num_classes=np.array(2)),
}


def test_a_healthy_evaluation_trips_nothing():
    checks = diagnose(HEALTHY)
    assert [c.question.name for c in checks if c.fired] == []
    assert [c.question.name for c in checks if c.fired is None] == []
    assert verdict(checks) == ()


def test_every_question_has_a_name_of_its_own_and_a_case_here():
    names = [q.name for q in QUESTIONS]
    assert len(set(names)) == len(names)
    assert set(names) == set(FIRES)


@pytest.mark.parametrize("name", FIRES)
def test_each_check_fires_where_it_should(name):
    checks = {c.question.name: c for c in diagnose(FIRES[name])}
    assert checks[name].fired
    told = [c.question.name for c in verdict(tuple(checks.values()))]
    assert (name in told) == checks[name].question.fault
    others = {n for n, c in checks.items() if c.fired} - {name}
    allowed = {"missed": {"noise"}, "rising": {"consistent"}, "neighbour": {"missed"}}
    assert others <= allowed.get(name, set())


def test_what_was_not_measured_is_not_held_against_anybody():
    checks = diagnose(Seen())
    assert {c.fired for c in checks} == {None}
    assert verdict(checks) == ()


def test_an_image_that_a_network_is_very_sure_of_is_no_fault_unless_the_margin_is_flat_too():
    one = np.arange(24) == 3
    for values, fires in (({"zero": one}, False), ({"zero": one, "zero_margin": one}, True)):
        fired = {c.question.name: c.fired for c in diagnose(changed("slopes", **values))}
        assert fired["zero_gradient"] is fires


def test_batch_dependence_is_not_asked_of_a_network_that_draws():
    seen = changed("answers", repeat=np.full(16, 0.1), alone=np.full(8, 0.1))
    fired = {c.question.name: c.fired for c in diagnose(seen)}
    assert fired["randomised"]
    assert fired["batch_dependent"] is None


def test_the_area_under_the_curve_is_that_of_scikit_learn():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    score = rng.integers(0, 20, 300).astype(float)
    hit = rng.random(300) < score / 25
    assert area(score, hit) == pytest.approx(roc_auc_score(hit, score))
    assert np.isnan(area(score, np.ones(300, bool)))


def test_a_share_counts_when_chance_does_not_explain_it():
    assert not beyond_chance(0, 0, 0.1)
    assert not beyond_chance(5, 50, 0.1)
    assert beyond_chance(12, 50, 0.1)


@pytest.mark.parametrize(
    ("accuracy", "fires"),
    [
        ((5, 5, 0.6), None),  # all right, of too few to tell
        ((1, 1, 1.0), None),
        ((60, 60, 1.0), None),  # one class alone
        ((9, 10, 0.2), False),
        ((0, 60, 0.15), True),
        ((16, 100, 0.15), True),  # no better than chance, as far as a hundred can tell
        ((16, 99, 0.15), None),
        ((30, 100, 0.15), False),
        ((0, 0, 1.0), None),
    ],
)
def test_accuracy_is_told_from_chance_where_there_are_enough_samples(accuracy, fires):
    (check,) = (c for c in diagnose(replace(HEALTHY, accuracy=accuracy)) if c.question.name == "accuracy")
    assert check.fired is fires


def test_searches_without_a_target_say_nothing_of_attacks_that_have_one():
    seen = replace(changed("searches", noise=ONE), standing=frozenset({"test/5", "test/9"}), targeted=True)
    fired = {c.question.name: c.fired for c in diagnose(seen)}
    assert [fired[name] for name in ("missed", "neighbour", "impossible")] == [None, None, None]


def test_a_flat_cross_entropy_is_no_fault_where_all_that_stands_is_proved():
    flat = {"zero": np.arange(24) < 18}
    settled = replace(BRACKET, certified=60, standing=60, decided=100)
    for known, fires in ((settled, False), (BRACKET, True), (replace(settled, broken=("test/1",)), True)):
        fired = {c.question.name: c.fired for c in diagnose(replace(changed("slopes", **flat), bracket=known))}
        assert fired["zero_gradient"] is fires


def test_what_no_image_was_shown_holds_nothing():
    nothing = {name: values[:0] if values.ndim else values for name, values in HEALTHY.answers.items()}
    fired = {c.question.name: c.fired for c in diagnose(Seen(answers=nothing, slopes={"none": np.array(False)}))}
    assert {
        name: fired[name] for name in ("probabilities", "dynamic", "no_gradient", "zero_gradient")
    } == dict.fromkeys(("probabilities", "dynamic", "no_gradient", "zero_gradient"))


@pytest.mark.parametrize(
    ("blind", "count"),
    [
        ({"square": (0, 2), "geoda": (2, 4)}, 4),
        ({"square": (0, 3), "geoda": (1, 3)}, 3),
        ({"square": (0, 4), "geoda": (498, 502)}, 6),
        ({"square": (0, 2), "geoda": (1, 2)}, 2),
        ({"square": (0, 3)}, 3),
    ],
)
def test_searches_without_gradients_are_counted_by_the_images_that_they_break_together(tmp_path, blind, count):
    fallen = {"pgd": (500, 1000)} | blind
    held = {attack: np.ones(1000, np.uint8) for attack in fallen}
    for attack, (first, last) in fallen.items():
        held[attack][first:last] = 0
    cells = {"none": np.ones(1000, np.uint8)} | {(attack, "8/255"): values for attack, values in held.items()}
    attacks = [{"name": name, "needs": "scores" if name in blind else "weights"} for name in fallen]
    write_run(tmp_path, {"net": cells}, attacks=attacks)
    write_measured(tmp_path, "file", "answers", "net", HEALTHY.answers)

    (found,) = diagnoses(Run.read(tmp_path), read_records(tmp_path), tmp_path)
    (check,) = (c for c in found.checks if c.question.name == "stages")
    assert check.saw == f"{' and '.join(blind)} broke {count} of 1000 images that gradients had not"
    assert check.fired is (count > 2)


def test_what_was_missed_is_counted_among_what_was_left_standing() -> None:
    seen = replace(changed("searches", noise=ONE), standing=frozenset({"test/5", "test/9"}))
    (check,) = (c for c in diagnose(seen) if c.question.name == "missed")
    names = ("pgd", "step", "half", "noise", "scores", "longer", "again", "targeted")
    rows = [list(seen.searches["sample"]).index(s) for s in ("test/5", "test/9")]
    hits = sum(any(seen.searches[n][row] for n in names if n in seen.searches) for row in rows)
    assert check.fired == (hits > 0)
    assert check.saw.startswith(f"{hits} of 2 images left standing")  # not of all that were searched
    assert len(seen.searches["sample"]) > 2


def test_nothing_is_missed_where_nothing_was_left_standing() -> None:
    (check,) = (c for c in diagnose(replace(HEALTHY, standing=frozenset())) if c.question.name == "missed")
    assert check.fired is False
    assert "left none of the images standing" in check.saw
