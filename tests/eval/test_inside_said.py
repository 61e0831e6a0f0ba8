"""What the page of `eval.studies.inside` says of numbers that are known: both sides of each verdict."""

from __future__ import annotations

import numpy as np
import pytest

from eval.studies.cells import Value
from eval.studies.inside_maps import attack_section, map_section
from eval.studies.inside_names import Networks
from eval.studies.inside_tables import agreement, check_section, robust_section
from eval.studies.inside_units import _foreign, _matched, class_section, filter_section, roughness, unit_section

NET = Networks(("a",), {"a": "a", "a_other": "a from another seed", "a_untrained": "a untrained"})


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
        **{"there": np.array(2 * n), "class_there": np.array(n), "noises": np.array(30)},
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
    assert "100.0% (51.0 to 100.0%) of the first 4 of 8 units of fc1 more than any real image, by 2.0" in section.answer
    assert (
        ": they do look like it to the other trained ones, against the first claim; of those"
        in class_section(of, NET).answer
    )
    seen = dict(class_section(of, NET).tables[0].rows)["a"]
    assert [v.ours for v in seen] == [1.0, 1.0, 0.25]
    assert section.answer.endswith(
        "; a itself answers 100.0% (51.0 to 100.0%) of an untrained network's images, beside those 100.0% (51.0 to "
        "100.0%) of the trained one's: no difference can be told."
    )


def test_matched_units_are_told_from_those_of_an_untrained_network_where_their_shares_are_apart():
    def said(null: float, own: float | None = None) -> str:
        of = {}
        for name in NET.labels:
            others = np.array([other for other in NET.labels if other != name])
            of[name] = excited(40) | {"other": others}
        of["a_untrained"]["answers"] = np.full((2, 40, 40), null)
        if own is not None:
            of["a"]["answers"] = np.full((2, 40, 40), own)
        return unit_section(of, NET).answer

    assert said(0.0).endswith("of the trained one's: which is less.")
    assert said(1.0).endswith("no difference can be told.")
    assert said(1.0, own=0.0).endswith("of the trained one's: which is more.")


def test_the_matched_unit_is_told_from_what_was_made_for_others():
    def share(low: float, high: float) -> Value:
        return Value("share", (low + high) / 2, low, high, 20)

    assert _matched(share(0.33, 0.77), share(0.08, 0.29)) == "more of its partner's"
    assert _matched(share(0.08, 0.29), share(0.33, 0.77)) == "fewer of its partner's"
    assert _matched(share(0.3, 0.6), share(0.2, 0.5)) == "no difference can be told"
    assert _foreign([share(0.7, 1.0), share(0.6, 1.0)]).endswith("to the other trained ones, against the first claim")
    assert _foreign([share(0.7, 1.0), share(0.1, 0.4)]).endswith("as the first claim says")
    assert _foreign([share(0.7, 1.0), share(0.4, 0.8)]).endswith("cannot be told")
    assert not _foreign([])


def test_starts_of_a_class_are_not_taken_for_more_classes():
    n, starts = 10, 3
    of = {}
    for name in NET.labels:
        one = excited(n) | {"other": np.array([other for other in NET.labels if other != name])}
        wanted = np.tile(np.arange(n), starts)
        none = np.where(np.arange(n) < 4, -1, np.arange(n))  # six of ten classes are seen, whichever the start
        one |= {"class_unit": wanted, "class_said": wanted, "said": np.stack([np.tile(none, starts), wanted])}
        of[name] = one | {f"class_{kind}": np.zeros((starts * n, 1, 4, 4), np.uint8) for kind in ("image", "shown")}
    section = class_section(of, NET)
    row = dict(section.tables[0].rows)["a"]
    assert [v.n for v in row] == [10] * 3
    assert (row[1].ours, row[1].low, row[1].high) == pytest.approx(
        (0.6, 0.3127, 0.8318), abs=1e-4
    )  # Wilson's of 6 of 10
    assert row[0].low == pytest.approx(0.7225, abs=1e-4)
    assert section.measured.startswith("3 images, from different noise, for each of all 10 classes, for each network")
    of["a"]["class_there"] = np.array(43)
    assert "each of the first 10 of the 43 classes that the images have" in class_section(of, NET).measured
    sheets = dict(section.pictures[0].images)
    assert sheets["a"].shape[1:] == (starts * 5 - 1, n * 5 - 1)  # all of them, a column a class
    assert sheets["a: the best real images"].shape[1:] == (4, n * 5 - 1)


def test_what_is_not_on_a_sheet_is_said_and_which_units_are_looked_at():
    of = {}
    for name in NET.labels:
        of[name] = excited(50) | {"other": np.array([other for other in NET.labels if other != name])}
    section = unit_section(of, NET)
    assert [label for label, _ in section.pictures[0].images][:2] == [
        "a, the first 40 of 50",
        "a: the best real images, the first 40 of 50",
    ]
    assert "An image for each of the first 50 of 100 units of fc1 of each network" in section.measured
    assert "the best of 30 images of noise, as many as real ones" in section.null
    assert "0.50 from it in the median" in section.measured  # black images are half the box from grey
    of["a"]["unit"] = np.arange(50) + 7
    assert "An image for each of unit 7, 8," in unit_section(of, NET).measured
    of["a"]["there"] = np.array(50)
    assert "of all 50 units of fc1 more than any real image" in unit_section(of, NET).answer


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


def with_success_on(n: int) -> dict[str, np.ndarray]:
    """Maps of ten images, of which the attack fooled the network on `n`."""
    one = mapped()
    names = (
        "label_attacked",
        "label_noise",
        "said_attacked",
        "said_clean",
        "size",
        "gradient_attacked",
        "gradient_noise",
    )
    there = np.arange(10)[:, None] < n
    return one | {name: np.where(there, one[name], np.nan) for name in names}


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_few_images_are_no_verdict(n):
    said = attack_section({"a": with_success_on(n)}, NET).answer
    assert f"a rank correlation of 0.20 (n={n}, no interval) with what they were (on {n} images)" in said
    assert said.endswith(": too few to tell.")
    assert map_section({"a": mapped(n)}, NET).answer.endswith(": too few to tell.")


def test_six_images_are_enough_where_they_agree():
    assert attack_section({"a": with_success_on(6)}, NET).answer.endswith("the attack moves them more than noise does.")
    assert attack_section({"a": with_success_on(0)}, NET).answer == "No attack succeeded."


def test_maps_that_matter_by_one_measure_alone_are_told_so():
    one, other = mapped(), mapped()
    one["insertion"][:] = 0.5
    assert map_section({"a": one}, NET).answer.endswith("by one of the two it knows which pixels matter.")
    other["insertion"][:, :, 0] = 0.4
    assert map_section({"a": other}, NET).answer.endswith("matter, by the other it is worse than chance.")


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
