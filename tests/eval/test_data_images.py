from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from eval.data import Images
from eval.data.images import natural
from eval.errors import InputError


def paint(file: Path, value: int, size: tuple[int, int] = (6, 4)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 0, 0)).save(file)


def fill(folder: Path, count: int = 10, classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    for k, name in enumerate(classes):
        for i in range(count):
            paint(folder / name / f"{i}.png", 100 * k + i)
    return folder


def images(folder: Path, **fields: object) -> Images:
    return Images(name="pets", root=str(folder), **fields)


def test_a_folder_is_split_by_the_seed_with_pixels_beside_their_names(tmp_path):
    data = images(fill(tmp_path)).load(0)
    assert (len(data.train), len(data.test)) == (16, 4)
    assert np.bincount(data.test.labels).tolist() == [2, 2]
    assert not set(data.train.ids) & set(data.test.ids)
    assert data.test.classes == ("cat", "dog")
    assert data.test.shape == (3, 4, 6)
    for part in (data.train, data.test):
        red = (part.batch(np.arange(len(part)))[:, 0, 0, 0] * 255).round().int().tolist()
        assert [f"{part.classes[v // 100]}/{v % 100}.png" for v in red] == part.ids.tolist()
    assert data.test.ids.tolist() != images(tmp_path).load(1).test.ids.tolist()


@pytest.mark.parametrize(("parts", "used"), [(("train", "test"), "test"), (("train", "val"), "val")])
def test_sub_folders_divide(tmp_path, parts, used):
    for part in parts:
        fill(tmp_path / part, 3)
    data = images(tmp_path).load(0)
    assert data.train.ids[0] == "train/cat/0.png"
    assert data.test.ids.tolist() == [f"{used}/{c}/{i}.png" for c in ("cat", "dog") for i in range(3)]


def test_test_is_preferred_to_val_and_train_may_be_absent(tmp_path):
    fill(tmp_path / "val", 2)
    fill(tmp_path / "test", 3)
    data = images(tmp_path).load(0)
    assert data.train is None
    assert len(data.test) == 6


def test_all_may_be_test_samples(tmp_path):
    data = images(fill(tmp_path), test_fraction=1).load(0)
    assert data.train is None
    assert data.test.ids.tolist() == [f"{c}/{i}.png" for c in ("cat", "dog") for i in range(10)]


def test_a_fifth_is_tested_on_by_default_and_the_description_says_how_many(tmp_path):
    data = images(fill(tmp_path)).load(0)
    assert "4 of 20 images, the rest to train on (data.test_fraction)" in data.description
    assert images(tmp_path, test_fraction=0.2).load(0).test.fingerprint == data.test.fingerprint
    assert "5 of 20 images" in images(tmp_path, test_fraction=0.25).load(0).description
    assert "of 20" not in images(tmp_path, test_fraction=1).load(0).description


def test_folders_may_be_named_by_class_number(tmp_path):
    fill(tmp_path, 2, ("007", "12", "2"))
    (tmp_path / "3").mkdir()
    data = images(tmp_path, num_classes=1000, test_fraction=1).load(0)
    assert data.test.classes == tuple(map(str, range(1000)))
    assert data.test.labels.tolist() == [2, 2, 7, 7, 12, 12]
    assert data.test.ids[2] == "007/0.png"


def test_class_numbers_are_split_and_limited_as_names_are(tmp_path):
    fill(tmp_path, 10, ("3", "7"))
    data = images(tmp_path, num_classes=9, limit=2).load(0)
    assert (len(data.train), data.test.labels.tolist()) == (16, [3, 7])


def test_parts_with_class_numbers_need_not_have_the_same(tmp_path):
    fill(tmp_path / "train", 2, ("0", "1"))
    fill(tmp_path / "test", 2, ("1", "4"))
    data = images(tmp_path, num_classes=5).load(0)
    assert data.train.classes == data.test.classes == ("0", "1", "2", "3", "4")
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([0, 0, 1, 1], [1, 1, 4, 4])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cat", r"cat: must be named by a class number in 0\.\.4 \(data\.num_classes=5\), got 'cat'; rename it"),
        ("-1", r"-1: must be named by a class number in 0\.\.4"),
        ("5", r"5: must be named by a class number in 0\.\.4 .*got 5; .*a larger data\.num_classes"),
        ("01", "must be the only folder of class 1"),
    ],
)
def test_a_folder_that_is_no_class_number_is_refused(tmp_path, name, message):
    fill(tmp_path, 2, ("1", name))
    refuse(tmp_path, message, num_classes=5)


def test_class_numbers_without_any_image_are_refused(tmp_path):
    (tmp_path / "1").mkdir()
    refuse(tmp_path, "must hold at least one image in a sub-folder", num_classes=5)


def test_order_is_natural_and_depth_does_not_matter(tmp_path):
    for name in ("10.png", "9.png", "b/2.PNG", "b/1.png"):
        paint(tmp_path / "class10" / name, 1)
        paint(tmp_path / "class9" / name, 1)
    data = images(tmp_path, test_fraction=1).load(0)
    assert data.test.classes == ("class9", "class10")
    assert data.test.ids[:4].tolist() == [f"class9/{n}" for n in ("9.png", "10.png", "b/1.png", "b/2.PNG")]


def test_no_two_names_share_a_place_in_natural_order():
    names = ["a1", "a01", "a", "1", "01a", "", "a1b10", "a1b9"]
    assert len({repr(natural(name)) for name in names}) == len(names)


def test_what_is_no_image_is_left_out(tmp_path):
    fill(tmp_path, 2)
    for name in ("notes.txt", ".hidden.png", "Thumbs.db"):
        (tmp_path / "cat" / name).write_bytes(b"")
    (tmp_path / ".git").mkdir()
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "readme.md").write_text("")
    assert len(images(tmp_path, test_fraction=1).load(0).test) == 4


def test_size_and_channels(tmp_path):
    paint(tmp_path / "cat" / "a.png", 255, (30, 20))
    paint(tmp_path / "dog" / "b.png", 255, (9, 50))
    data = images(tmp_path, size=8, channels=1, test_fraction=1).load(0)
    assert data.test.shape == (1, 8, 8)
    assert torch.equal(data.test.batch(np.arange(2)), torch.full((2, 1, 8, 8), 76 / 255))
    assert "8x8" in data.description


def test_limits(tmp_path):
    fill(tmp_path, 20)
    data = images(tmp_path, limit=4, train_limit=6).load(0)
    assert np.bincount(data.test.labels).tolist() == [2, 2]
    assert np.bincount(data.train.labels).tolist() == [3, 3]
    whole = images(tmp_path).load(0)
    assert set(data.test.ids) < set(whole.test.ids)
    with pytest.raises(InputError, match=r"data\.limit: must be in 1\.\.8"):
        images(tmp_path, limit=9).load(0)


def test_only_what_a_run_uses_is_decoded(tmp_path):
    fill(tmp_path, 20)
    used = images(tmp_path, limit=4, train_limit=4).load(0)
    kept = {*used.train.ids, *used.test.ids}
    for file in tmp_path.rglob("*.png"):
        if file.relative_to(tmp_path).as_posix() not in kept:
            file.write_bytes(b"")
    again = images(tmp_path, limit=4, train_limit=4).load(0)
    assert again.test.fingerprint == used.test.fingerprint


def test_pixels_are_the_same_with_and_without_room_in_memory(tmp_path, monkeypatch):
    fill(tmp_path)
    kept = images(tmp_path).load(0).test
    monkeypatch.setattr("eval.data.images._MEMORY", 100)
    lazy = images(tmp_path).load(0).test
    assert (len(kept.store.decoded), len(lazy.store.decoded)) == (4, 1)
    assert torch.equal(kept.batch(np.arange(4)), lazy.batch(np.arange(4)))
    assert kept.fingerprint == lazy.fingerprint


def test_the_fingerprint_is_over_bytes_and_shape(tmp_path):
    fill(tmp_path, 2)
    first = images(tmp_path, test_fraction=1).load(0).test.fingerprint
    assert images(tmp_path, test_fraction=1).load(0).test.fingerprint == first
    assert images(tmp_path, test_fraction=1, size=4).load(0).test.fingerprint != first
    paint(tmp_path / "dog" / "1.png", 7)
    assert images(tmp_path, test_fraction=1).load(0).test.fingerprint != first


def test_a_broken_image_is_named_with_the_remedy(tmp_path):
    fill(tmp_path)
    (tmp_path / "dog" / "3.png").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"dog/3\.png: must be a readable image.*data\.skip_broken=true") as caught:
        images(tmp_path).load(0)
    assert "\n" not in str(caught.value)


def test_broken_images_are_skipped_on_request_and_told(tmp_path):
    fill(tmp_path)
    for i in (3, 4, 5, 10):
        (tmp_path / "dog" / f"{i}.png").write_bytes(b"broken")
    data = images(tmp_path, skip_broken=True, test_fraction=1).load(0)
    assert len(data.test) == 17
    assert data.warnings == ("data: 4 broken images skipped: dog/3.png, dog/4.png, dog/5.png, ...",)
    assert data.test.batch(np.arange(17)).shape == (17, 3, 4, 6)


def test_skipped_images_do_not_count_for_the_limit(tmp_path):
    fill(tmp_path)
    chosen = images(tmp_path, limit=4, test_fraction=1).load(0).test.ids
    (tmp_path / chosen[0]).write_bytes(b"broken")
    data = images(tmp_path, limit=4, test_fraction=1, skip_broken=True).load(0)
    assert np.bincount(data.test.labels).tolist() == [2, 2]
    assert chosen[0] not in data.test.ids
    assert len(data.warnings) == 1


def test_a_folder_of_nothing_but_broken_images_is_refused(tmp_path):
    for i in range(3):
        paint(tmp_path / "cat" / f"{i}.png", 0)
        (tmp_path / "cat" / f"{i}.png").write_bytes(b"")
    with pytest.raises(InputError, match="must be a readable image"):
        images(tmp_path, skip_broken=True, test_fraction=1).load(0)


def refuse(folder: Path, message: str, **fields: object) -> None:
    with pytest.raises(InputError, match=message) as caught:
        images(folder, **fields).load(0)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_absent_empty_or_without_classes_is_refused(tmp_path):
    refuse(tmp_path / "absent", r"data\.root: must be a folder .*absent")
    refuse(tmp_path, "must hold one sub-folder a class, got none")


def test_images_outside_of_the_classes_are_not_passed_over(tmp_path):
    paint(tmp_path / "a.png", 0)
    refuse(tmp_path, r"a\.png: images must lie in .*/<class>/")
    fill(tmp_path)
    refuse(tmp_path, r"a\.png: images must lie in .*/<class>/")
    (tmp_path / "a.png").rename(tmp_path / "cat" / "a.png")
    fill(tmp_path / "parts" / "test")
    paint(tmp_path / "parts" / "test" / "b.jpg", 0)
    refuse(tmp_path / "parts", r"b\.jpg: images must lie in .*test/<class>/")


def test_an_image_that_pillow_has_no_decoder_for_is_named(tmp_path):
    fill(tmp_path)
    (tmp_path / "cat" / "phone.HEIC").write_bytes(b"\x00\x00\x00\x18ftypheic")
    refuse(tmp_path, r"phone\.HEIC: must be a readable image", test_fraction=1)


def test_a_class_without_images_is_refused(tmp_path):
    fill(tmp_path)
    (tmp_path / "emu").mkdir()
    (tmp_path / "emu" / "notes.txt").write_text("")
    refuse(tmp_path, "emu: must hold at least one image")


def test_sizes_that_differ_are_refused_with_the_remedy(tmp_path):
    fill(tmp_path)
    paint(tmp_path / "dog" / "7.png", 0, (6, 5))
    refuse(tmp_path, r"7\.png: must have the size of 0\.png, 6x4, got 6x5; write data\.size=PIXELS", test_fraction=1)


def test_parts_of_different_sizes_are_refused(tmp_path):
    fill(tmp_path / "train")
    paint(tmp_path / "test" / "cat" / "a.png", 0, (5, 5))
    refuse(tmp_path, "train and test images must have one size")


def test_divisions_that_leave_a_doubt_are_refused(tmp_path):
    fill(tmp_path / "train", 2)
    refuse(tmp_path, "must hold test or val beside train")
    fill(tmp_path / "test", 2, ("cat", "emu"))
    refuse(tmp_path, "classes must be those of .*train, got emu besides")
    fill(tmp_path / "test", 2)
    paint(tmp_path / "extra" / "a.png", 0)
    refuse(tmp_path, "must hold either classes or train/test, got extra beside them")


def test_a_class_may_be_called_train(tmp_path):
    fill(tmp_path, 5, ("plane", "train"))
    assert images(tmp_path).load(0).test.classes == ("plane", "train")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"channels": 4}, "channels: must be 1"),
        ({"size": 0}, "size: must be at least 1"),
        ({"num_classes": 0}, "num_classes: must be at least 1, got 0"),
        ({"test_fraction": 1.5}, "test_fraction: must be in"),
    ],
)
def test_bad_fields_are_refused_before_anything_is_read(fields, message):
    with pytest.raises(InputError, match=f"^{message}"):
        images(Path("absent"), **fields)
