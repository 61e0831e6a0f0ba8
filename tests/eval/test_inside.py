"""Looking inside: the study, run small, and what its page says of numbers that are known."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from attacks.pgd import PGD
from eval.data import Data, Samples
from eval.errors import InputError
from eval.records import Run, read_records
from eval.run import run
from eval.studies.cells import Value
from eval.studies.inside import Inside
from eval.studies.inside_maps import attack_section, map_section
from eval.studies.inside_names import Networks
from eval.studies.inside_tables import agreement, check_section, robust_section
from eval.studies.inside_units import class_section, filter_section, roughness, unit_section
from eval.studies.readers import reading
from eval.studies.reading import Reading
from eval.studies.resampled import resampled
from models.convnets import CNN
from models.pretrained import Torchvision

QUICK = (
    *("experiment=intriguing/inside", "debug=quick", "study.images=4", "study.checked=3", "study.units=3"),
    *("study.classes=3", "study.starts=1", "study.steps=4", "study.draws=1", "study.layers=2"),
)
NAMES = ("first-layer", "units-excited", "classes-excited", "maps", "attacked-maps", "randomised-layers")
NET = Networks(("a",), {"a": "a", "a_other": "a from another seed", "a_untrained": "a untrained"})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("inside")


@pytest.fixture
def done(composed, whole) -> tuple[Run, Reading]:
    """The same small run for all tests: what is there already is not done again."""
    about = run(composed(*QUICK), whole, [], Console(quiet=True))
    return about, reading(about, read_records(whole), whole)


def test_every_section_states_claim_measure_null_and_answer(done):
    about, found = done
    assert about.status == "complete"
    assert [section.name for section in found.sections] == [*NAMES, "robust-beside-plain"]
    for section in found.sections:
        for text in (section.claim, section.measured, section.null, section.answer):
            assert text.endswith((".", ":"))
            assert "nan" not in text
        assert any(digit in section.answer for digit in "0123456789")
    assert not any("at chance" in line and "untrained" in line for line in about.warnings)


def test_names_are_used_once_and_pictures_are_pictures(done):
    _, found = done
    names = [t.name for t in found.all_tables] + [c.name for s in found.sections for c in s.curves]
    names += [p.name for s in found.sections for p in s.pictures] + [s.name for s in found.sections]
    assert len(names) == len(set(names))
    images = [image for s in found.sections for p in s.pictures for _, image in p.images]
    assert len(images) > 10
    assert all(i.ndim == 3 and i.shape[0] in (1, 3) and i.min() >= 0 and i.max() <= 1 for i in images)


def test_a_run_goes_on_where_it_was_and_does_not_depend_on_the_batch_size(done, composed, whole, tmp_path):
    kept = {path.name: path.stat().st_mtime_ns for path in (whole / "measured").glob("*.npz")}
    assert len(kept) == 16  # four probes of four networks
    again = run(composed(*QUICK, "batch_size=7"), tmp_path, [], Console(quiet=True))
    other = reading(again, read_records(tmp_path), tmp_path)
    for one, two in zip(done[1].all_tables, other.all_tables, strict=True):
        a, b = (np.array([v.ours for _, row in t.rows for v in row if v is not None]) for t in (one, two))
        np.testing.assert_allclose(a, b, atol=2e-3, err_msg=one.name)
    assert kept == {path.name: path.stat().st_mtime_ns for path in (whole / "measured").glob("*.npz")}


def test_what_an_interrupted_run_left_is_refused_in_one_line(done, whole, tmp_path):
    about, _ = done
    unfinished = dataclasses.replace(about, status="running")
    part = next((whole / "measured").glob("*.npz"))
    part.rename(tmp_path / part.name)
    with pytest.raises(InputError, match="the run has not finished, and what is there is too little"):
        reading(unfinished, read_records(whole), whole)
    (tmp_path / part.name).rename(part)


def data(train: bool = True) -> Data:
    samples = Samples.of(np.zeros((20, 1, 8, 8), np.float32), np.arange(20) % 2, "ab", "all")
    return Data("some", "", samples if train else None, samples)


def test_what_is_trained_on_what():
    trained = Inside(hardened="0.2").cohorts(data(), {"a": CNN()}, 7)
    assert [c.suffix for c in trained] == ["", "_other", "_robust", "_untrained"]
    assert trained[1].seed not in (None, 7)
    assert trained[2].adversary is not None
    assert trained[2].adversary[1].eps == 0.2
    assert trained[2].config.adversary["eps"] == "0.2"
    assert trained[3].untrained
    ready = {"b": Torchvision("squeezenet1_0")}
    assert [c.suffix for c in Inside().cohorts(data(False), ready, 7)] == ["", "_untrained"]
    with pytest.raises(InputError, match="data: must have training samples for a, got none in some"):
        Inside().cohorts(data(False), {"a": CNN()}, 7)


@pytest.mark.parametrize(("trained_on", "passes"), [(1000, 9), (100, 5), (30, 2), (3, 1)])
def test_a_large_data_set_gets_fewer_passes(trained_on, passes):
    trained = Inside(epochs=9, trained_on=trained_on).cohorts(data(), {"a": CNN()}, 7)  # 20 samples
    assert {cohort.config.epochs for cohort in trained} == {passes}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"images": 0}, "images: must be at least 1, got 0"),
        ({"layers": 1}, "layers: must be at least 2"),
        ({"trained_on": 0}, "trained_on: must be at least 1, got 0"),
        ({"unit": -2}, "unit: must be at least 0, got -2"),
        ({"side": 0.0}, r"side: must be in \(0, 1\]"),
        ({"hardened": "9"}, "eps: must be at most 1"),
    ],
)
def test_what_cannot_be_is_refused(fields, says):
    with pytest.raises(InputError, match=says):
        Inside(**fields)


def test_attacks_are_needed_and_must_keep_the_norm():
    with pytest.raises(InputError, match="attack: must name at least one in this study"):
        Inside().trials(data(), {}, 0)
    with pytest.raises(InputError, match=r"attack.pgd: supports the norm"):
        Inside(norm="l0", eps="5").trials(data(), {"pgd": PGD()}, 0)


def test_roughness_is_1_for_independent_weights_and_0_for_constant_ones():
    draw = np.random.default_rng(0)
    assert roughness(draw.normal(size=(400, 3, 7, 7))).mean() == pytest.approx(1, abs=0.02)
    assert roughness(np.ones((2, 1, 3, 3))).tolist() == [0, 0]
    board = np.indices((4, 4)).sum(0) % 2 * 2.0 - 1
    assert roughness(board[None, None]).tolist() == [2]
    assert np.isnan(roughness(np.zeros((1, 1, 3, 3)))).all()
    assert np.isnan(roughness(np.ones((1, 5, 1, 1)))).all()


def test_smooth_filters_are_told_from_rough_ones():
    draw = np.random.default_rng(1)
    smooth, rough = np.ones((20, 1, 5, 5)), draw.normal(size=(20, 1, 5, 5))
    smooth = smooth + 0.1 * rough
    of = {n: {"weights": w, "units": np.array(20)} for n, w in (("a", smooth), ("a_untrained", rough))}
    assert filter_section(of, NET).answer.endswith(": the trained is smoother.")
    swapped = {"a": of["a_untrained"], "a_untrained": of["a"]}
    assert filter_section(swapped, NET).answer.endswith(": the untrained is smoother.")
    same = {"a": of["a"], "a_untrained": of["a"]}
    assert filter_section(same, NET).answer.endswith(": no difference can be told.")
    assert filter_section({"a": {}}, NET) is None


def excited(n: int = 4) -> dict[str, np.ndarray]:
    one = {
        **{"layer": np.array("fc1"), "radius": np.array(0.3), "unit": np.arange(n), "spread": np.full(n, 0.5)},
        **{"made": np.full(n, 3.0), "real": np.full(n, 2.0), "noise": np.full(n, 1.0)},
        **{"image": np.zeros((n, 1, 4, 4), np.uint8), "shown": np.zeros((n, 1, 4, 4), np.uint8)},
        **{"class_unit": np.arange(n), "class_said": np.arange(n)},
        "class_image": np.zeros((n, 1, 4, 4), np.uint8),
        "class_shown": np.zeros((n, 1, 4, 4), np.uint8),
    }
    others = {
        **{"other": np.array(["x", "y"]), "said": np.stack([np.arange(n), np.zeros(n, int)])},
        **{"matched": np.tile(np.arange(n), (2, 1)), "alike": np.full((2, n), 0.75)},
        **{"answers": np.stack([np.eye(n), np.eye(n)]), "answers_real": np.full((2, n), 0.5)},
    }
    return one | others


def test_units_are_told_with_the_best_real_image_and_the_matched_unit():
    of = {}
    for name in NET.labels:
        of[name] = excited() | {"other": np.array([other for other in NET.labels if other != name])}
    section = unit_section(of, NET)
    row = dict(section.tables[0].rows)["a"]
    assert [v.ours for v in row] == [2.0, 1.0, -2.0, 0.75, 1.0, 0.0]
    assert "100.0% (51.0 to 100.0%) of 4 units of fc1 more than any real image, by 2.0" in section.answer
    seen = dict(class_section(of, NET).tables[0].rows)["a"]
    assert [v.ours for v in seen] == [1.0, 1.0, 0.25]
    assert section.answer.endswith(
        "; a itself answers 100.0% (51.0 to 100.0%) of an untrained network's images: no difference can be told."
    )


def test_matched_units_are_told_from_those_of_an_untrained_network_where_their_shares_are_apart():
    def said(null: float) -> str:
        of = {}
        for name in NET.labels:
            others = np.array([other for other in NET.labels if other != name])
            of[name] = excited(40) | {"other": others}
        of["a_untrained"]["answers"] = np.full((2, 40, 40), null)
        return unit_section(of, NET).answer

    assert said(0.0).endswith("untrained network's images: which is less.")
    assert said(1.0).endswith("no difference can be told.")


def mapped(n: int = 10, gain: float = 0.3, kept: float = 0.2) -> dict[str, np.ndarray]:
    ways = np.full((n, 3, 4), 0.5)
    down, up = ways.copy(), ways.copy()
    down[:, :, 0] -= gain
    up[:, :, 0] += gain
    whole = {"label_attacked": kept, "label_noise": 0.9, "said_attacked": -0.5, "said_clean": -0.4, "size": 0.1}
    whole |= {"gradient_attacked": 0.5, "gradient_noise": 0.5}
    return {
        **{"attack": np.array(["pgd"]), "state": np.array(["clean", "pgd:attacked", "pgd:noise"])},
        **{"sample": np.arange(n).astype(str), "label": np.zeros(n, int), "another": np.full(n, 0.1)},
        "partner": np.roll(np.arange(n), 1),
        **{"drop": np.random.default_rng(0).random((n, 3, 3)), "deletion": down, "insertion": up},
        **{"deletion_curve": np.ones((4, 5)), "insertion_curve": np.ones((4, 5))},
        **{name: np.full((n, 1), value) for name, value in whole.items()},
        **{"x": np.ones((2, 1, 4, 4), np.uint8), "x_attacked": np.zeros((2, 1, 4, 4), np.uint8)},
        **{"map": np.zeros((2, 4, 4)), "map_attacked": np.zeros((2, 4, 4))},
    }


def test_answers_about_maps_follow_the_numbers():
    good, bad = {"a": mapped()}, {"a": mapped(gain=0.0, kept=0.95)}
    assert "0.30 (0.30 to 0.30) in deletion and 0.30" in map_section(good, NET).answer
    assert map_section(good, NET).answer.endswith("it knows which pixels matter.")
    assert map_section(bad, NET).answer.endswith("no difference from chance can be told.")
    assert map_section({"a": mapped(gain=-0.1)}, NET).answer.endswith("it is worse than chance.")
    assert attack_section(good, NET).answer.endswith("the attack moves them more than noise does.")
    assert attack_section(bad, NET).answer.endswith("noise moves them more than the attack does.")
    apart = {"a": mapped() | {"label_attacked": 0.9 + np.array([[-0.2], [0.2]] * 5)}}
    assert attack_section(apart, NET).answer.endswith("no difference between the attack and noise can be told.")
    assert "no image was classified correctly" in map_section({"a": {}}, NET).answer.lower()


def test_networks_agree_on_the_images_that_both_were_measured_on():
    one, other = mapped(), mapped()
    other["sample"] = np.array([*map(str, range(5)), *(f"x{i}" for i in range(5))])
    assert agreement({"a": one, "b": other}, "a", "b").tolist() == pytest.approx([1.0] * 5)


def test_a_map_that_stays_is_told_from_one_that_goes():
    def of(cascade: float, left: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
        n = 12
        noise = np.random.default_rng(0).normal(0, 0.02, (n, 2))
        wide = np.linspace(-0.5, 0.5, n)  # so far from image to image that its mean has a wide interval
        kinds = ("occlusion", "gradient")
        return {
            "layer": np.array(["fc2", "fc1"]),
            "left": np.array(left, np.str_),
            "partner": np.roll(np.arange(n), 1),
            **{f"{k}_{way}": cascade + noise for k in kinds for way in ("cascade", "alone")},
            **{f"{k}_{what}": wide for k in kinds for what in ("another", "edges")},
            "first_gradient": np.zeros((3, 4, 4)),
        }

    def said(one: dict[str, np.ndarray]) -> str:
        return check_section({"a": one, "a_other": one}, NET).answer

    assert said(of(0.8)).endswith("more, they keep something.")
    assert said(of(-0.8)).endswith("more, less than two images share.")
    assert said(of(0.0)).endswith("more, no difference can be told.")
    near = of(0.0)
    near["gradient_cascade"] = near["gradient_another"][:, None] + 0.1 + np.zeros((12, 2))  # 0.1 on every image
    assert said(near).endswith("image by image 0.10 (0.10 to 0.10) more, they keep something.")
    assert "With all layers of a drawn again its occlusion maps" in said(of(0.0))
    assert "With all layers of a but p, q drawn again its" in said(of(0.0, ("p", "q")))
    table = check_section({"a": of(0.0, ("p", "q")), "a_other": of(0.0)}, NET).tables[0]
    assert table.note.endswith("In a what cannot be drawn again stays as it was: p, q.")


def test_a_robust_network_differs_only_where_it_does_so_from_another_seed_too():
    labels = {
        "a": "a",
        "a_other": "a from another seed",
        "a_robust": "a trained robustly",
        "a_untrained": "a untrained",
    }
    networks, maps = Networks(("a",), labels), {name: mapped() for name in ("a", "a_other", "a_robust")}

    wide = np.linspace(-0.4, 0.4, 8)  # the same for all networks: a property of the images

    def said(plain: float, other: float, robust: float, first: int = 0) -> str:
        drawn = {
            name: {
                "layer": np.array(["fc1"]),
                "gradient_edges": np.roll(value + wide, -start),
                "sample": np.roll(np.arange(8), -start).astype(str) if start < 8 else np.arange(8, 16).astype(str),
            }
            for name, value, start in zip(maps, (plain, other, robust), (0, 3, first), strict=True)
        }
        section = robust_section(maps, drawn, networks)
        assert section is not None
        return section.answer

    more, apart = said(0.1, 0.6, 0.5), said(0.5, 0.5, 0.5)
    assert "those of a at 0.10" in more
    assert "image by image 0.40 (0.40 to 0.40) more, it does so more, n=8" in more
    assert "image by image -0.10 (-0.10 to -0.10) more, it does so less, n=8" in more
    assert apart.count("image by image 0.00 (0.00 to 0.00) more, no difference can be told, n=8") == 2
    assert said(0.1, 0.1, 0.5, first=8).count("(no image in common)") == 2
    assert "agree with those of a at 1.00 (1.00 to 1.00), those of another seed at 1.00" in said(0.1, 0.1, 0.5)
    assert robust_section(maps, {}, NET) is None


def test_the_bootstrap_covers_what_it_should_and_leaves_out_what_is_not_known():
    draw, hits = np.random.default_rng(3), 0
    for _ in range(100):
        value = resampled(draw.normal(1.0, 2.0, 40))
        hits += value.low <= 1.0 <= value.high
    assert hits >= 88
    assert resampled(np.array([np.nan, 2.0, 2.0])) == Value("number", 2.0, 2.0, 2.0, 2)
    assert resampled(np.array([np.nan])).n == 0
    assert resampled(np.array([0.0, 0.0, 9.0]), np.median).ours == 0
