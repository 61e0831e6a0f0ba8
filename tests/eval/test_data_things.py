from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.goal import Goal
from attacks.pgd import PGD
from attacks.rng import Rng
from attacks.threat import ThreatModel
from eval.data import Things
from eval.data.drawing.pen import Canvas, Pen
from eval.data.drawing.scene import THINGS, picture
from eval.data.things import CLASSES, Pictures
from eval.errors import InputError
from models.compact import Compact
from models.spec import build
from models.train import TrainConfig, fit


def things(**fields: int) -> Things:
    return Things(name="things", root="unused", **fields)


def test_there_are_ten_things_a_cat_a_dog_and_a_toaster_among_them():
    assert len(CLASSES) == 10
    assert {"cat", "dog", "toaster"} <= set(CLASSES)
    assert list(CLASSES) == sorted(CLASSES)


@given(name=st.sampled_from(CLASSES), key=st.text(max_size=8), side=st.integers(16, 80))
@settings(deadline=None, max_examples=150)
def test_any_key_gives_a_picture(name: str, key: str, side: int):
    pixels = picture(name, key, side)
    assert pixels.shape == (3, side, side)
    assert pixels.dtype == np.uint8
    assert pixels.std() > 2


@given(name=st.sampled_from(CLASSES), seed=st.integers(0, 10**9), ink=st.sampled_from([0.0, 0.04]))
@settings(deadline=None, max_examples=150)
def test_a_thing_fills_its_frame_and_little_more(name: str, seed: int, ink: float):
    canvas = Canvas(60)
    THINGS[name](Pen.placed(canvas, 0.5, 0.5, 0.25, 0, 0, 1, ink), Random(seed))  # the frame is the middle half
    rows, columns = np.nonzero(canvas.pixels()[..., 3] > 0.5)
    assert np.ptp(rows) > 12
    assert np.ptp(columns) > 12
    assert min(rows.min(), columns.min()) >= 10
    assert max(rows.max(), columns.max()) <= 49


def test_pictures_are_always_the_same():
    again = Pictures("test", 2, 32).read(np.arange(20))
    assert np.array_equal(Pictures("test", 2, 32).read(np.arange(20)), again)
    backwards = Pictures("test", 2, 32).read(np.arange(20)[::-1])
    assert np.array_equal(backwards[::-1], again)


def test_more_pictures_have_the_fewer_among_them():
    few, many = things(size=32, test_per_class=2).load(0).test, things(size=32, test_per_class=3).load(0).test
    assert many.ids[:20].tolist() == few.ids.tolist()
    assert torch.equal(many.batch(np.arange(20)), few.batch(np.arange(20)))


def test_no_two_pictures_are_alike():
    data = things(size=32, train_per_class=5, test_per_class=5).load(0)
    both = np.concatenate([part.batch(np.arange(50)).flatten(1).numpy() for part in (data.train, data.test)])
    apart = np.abs(both[:, None] - both[None]).mean(2)
    assert apart[~np.eye(100, dtype=bool)].min() > 0.02


def test_the_poses_do_not_depend_on_the_side():
    small, large = (picture("cat", "test/cat/00003", side).astype(float) for side in (32, 64))
    reduced = large.reshape(3, 32, 2, 32, 2).mean((2, 4))
    assert np.corrcoef(small.ravel(), reduced.ravel())[0, 1] > 0.9


def test_parts_are_balanced_apart_and_named():
    data = things(size=16, train_per_class=4, test_per_class=3).load(0)
    assert np.bincount(data.train.labels).tolist() == [4] * 10
    assert np.bincount(data.test.labels).tolist() == [3] * 10
    assert not set(data.train.ids) & set(data.test.ids)
    assert all(
        name.split("/")[1] == CLASSES[label] for name, label in zip(data.test.ids, data.test.labels, strict=True)
    )
    assert data.test.classes == CLASSES


def test_pixels_are_rgb_in_the_unit_interval():
    data = things(size=48, test_per_class=4).load(0)
    batch = data.test.batch(np.arange(40))
    assert batch.shape == (40, 3, 48, 48)
    assert batch.dtype == torch.float32
    assert 0 <= float(batch.min()) < 0.1
    assert 0.9 < float(batch.max()) <= 1


def test_the_description_says_that_it_is_a_stand_in():
    data = things(size=16, test_per_class=3).load(0)
    assert "drawn by Toastproof, a stand-in for photographs" in data.description
    assert "16x16 pixels, 4,000 to train on and 30 held out" in data.description


def test_the_fingerprint_is_that_of_the_fields_whatever_the_seed():
    default = things(size=16).load(0)
    assert things(size=16, limit=None).load(7).test.fingerprint == default.test.fingerprint
    assert default.train.fingerprint != default.test.fingerprint
    assert things(size=17).load(0).test.fingerprint != default.test.fingerprint
    assert things(size=16, test_per_class=99).load(0).test.fingerprint != default.test.fingerprint
    assert things(size=16, train_per_class=99).load(0).test.fingerprint == default.test.fingerprint
    assert things(size=16, limit=50).load(0).test.fingerprint != things(size=16, limit=50).load(1).test.fingerprint


def test_the_fingerprint_is_that_of_the_code_that_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = Pictures("test", 1, 16)
    first = b"".join(before.content(np.arange(10)))
    for module in ("scene", "pets", "utensils", "furniture", "bird_and_fish", "backdrop", "pen", "outline", "colours"):
        assert (Path(picture.__code__.co_filename).parent / f"{module}.py").read_bytes() in first
    assert b"test/cat/00000" in first


def test_a_fingerprint_and_a_limit_draw_nothing_more(monkeypatch: pytest.MonkeyPatch):
    drawn = []
    monkeypatch.setattr("eval.data.drawing.scene.picture", lambda *what: drawn.append(what) or np.zeros((3, 19, 19)))
    data = things(size=19, limit=10).load(0)
    assert data.train.fingerprint != data.test.fingerprint
    assert drawn == []
    data.test.batch(np.arange(10))
    data.test.batch(np.arange(5))
    assert len(drawn) == 10


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"size": 8}, "size: must be in 16..1024 pixels, got 8"),
        ({"size": 5000}, "size: must be in 16..1024 pixels, got 5000"),
        ({"train_per_class": 0}, "train_per_class: must be at least 1 picture, got 0"),
        ({"test_per_class": -1}, "test_per_class: must be at least 1 picture, got -1"),
        ({"limit": 0}, "limit: must be at least 1"),
    ],
)
def test_numbers_out_of_range_are_refused(fields: dict[str, int], said: str):
    with pytest.raises(InputError, match=said):
        things(**fields)


def test_an_unknown_field_is_refused_by_name(command):
    outcome = command(["data=things", "data.colour=red"])
    assert outcome.code == 2
    assert "colour" in outcome.err


def test_few_pictures_and_epochs_teach_a_network_far_more_than_chance():
    data = things(size=32, train_per_class=60, test_per_class=20).load(0)
    network = build(Compact(widths=[16, 32, 64, 64]), "m", data.test.shape, 10, seed=0)["m"]
    fit(network, TrainConfig(epochs=10, batch_size=20), data.train, seed=0)
    logits = network.classifier("m", data.test.shape)(data.test.batch(np.arange(200)))
    assert (logits.argmax(1).numpy() == data.test.labels).mean() > 0.4


@pytest.mark.slow
def test_the_compact_network_knows_97_percent_of_the_held_out_pictures_and_its_cats_become_toasters(composed):
    cfg = composed("data=things", "model=[compact]")
    data = things(epochs=cfg.data.epochs).load(0)
    network = build(Compact(), "m", data.test.shape, 10, seed=0)["m"]
    fit(network, TrainConfig(epochs=cfg.data.epochs), data.train, seed=0)
    classifier = network.classifier("m", data.test.shape)
    predicted = classifier(data.test.batch(np.arange(len(data.test)))).argmax(1).numpy()
    assert (predicted == data.test.labels).mean() >= 0.97

    cats = np.flatnonzero((data.test.labels == CLASSES.index("cat")) & (predicted == data.test.labels))[:20]
    goal = Goal(torch.from_numpy(data.test.labels[cats]), torch.full((20,), CLASSES.index("toaster")))
    rng = Rng.of(0, ["pgd"], data.test.ids[cats].tolist())
    x_adv = PGD()(classifier, data.test.batch(cats), goal, ThreatModel("linf", 8 / 255), rng=rng)
    assert goal.reached(classifier(x_adv)).float().mean() >= 0.8


def test_every_class_has_its_drawing():
    assert tuple(THINGS) == CLASSES
