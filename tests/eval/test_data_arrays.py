from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from eval.data import Arrays, Data
from eval.errors import InputError

X = np.random.default_rng(0).integers(0, 256, (20, 6, 5, 3), dtype=np.uint8)
Y = np.arange(20) % 4


def load(folder: Path, *, seed: int = 0, spec: dict | None = None, **arrays: np.ndarray) -> Data:
    np.savez(folder / "a.npz", **arrays)
    return Arrays(name="mine", root="nowhere", path=str(folder / "a.npz"), **(spec or {})).load(seed)


def images(data: Data) -> torch.Tensor:
    return data.test.batch(np.arange(len(data.test)))


@pytest.mark.parametrize(
    ("x", "shape"),
    [(X, (3, 6, 5)), (X.transpose(0, 3, 1, 2), (3, 6, 5)), (X[..., 0], (1, 6, 5)), (X[..., :1], (1, 6, 5))],
)
def test_every_layout_becomes_the_same_pixels(tmp_path, x, shape):
    data = load(tmp_path, x_test=x, y_test=Y)
    assert data.test.shape == shape
    expected = torch.from_numpy(X.transpose(0, 3, 1, 2)[:, : shape[0]].copy()).float() / 255
    assert torch.equal(images(data), expected)
    assert data.train is None


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_in_the_unit_interval_are_used_as_they_are(tmp_path, dtype):
    x = (X / 255).astype(dtype)
    assert torch.equal(
        images(load(tmp_path, x_test=x, y_test=Y)), torch.from_numpy(x.astype(np.float32)).permute(0, 3, 1, 2)
    )


def test_an_archive_with_both_parts(tmp_path):
    data = load(tmp_path, x_train=X[:15], y_train=Y[:15], x_test=X[15:], y_test=Y[15:])
    assert (len(data.train), len(data.test)) == (15, 5)
    assert (data.train.ids[0], data.test.ids[4]) == ("train/00000", "test/00004")
    assert data.test.classes == ("0", "1", "2", "3")


def test_an_archive_with_one_part_is_split_by_the_seed(tmp_path):
    one, other = load(tmp_path, x=X, y=Y), load(tmp_path, x=X, y=Y, seed=1)
    assert (len(one.train), len(one.test)) == (16, 4)
    assert sorted([*one.train.ids, *one.test.ids]) == [f"all/{i:05d}" for i in range(20)]
    assert one.test.ids.tolist() != other.test.ids.tolist()
    assert "4 of 20 images, the rest to train on (data.test_fraction)" in one.description
    assert load(tmp_path, x=X, y=Y, spec={"test_fraction": 0.2}).test.fingerprint == one.test.fingerprint
    assert load(tmp_path, x=X, y=Y, spec={"test_fraction": 1}).train is None


def test_two_archives_found_under_the_root(tmp_path, monkeypatch):
    np.savez(tmp_path / "train.npz", x=X[:12], y=Y[:12])
    np.savez(tmp_path / "test.npz", x=X[12:], y=Y[12:, None])
    monkeypatch.chdir(tmp_path.parent)
    data = Arrays(name="mine", root=str(tmp_path), train="train.npz", test="test.npz").load(0)
    assert (len(data.train), len(data.test)) == (12, 8)


def test_classes_are_named_by_the_archive_or_the_configuration(tmp_path):
    names = ["ant", "bee", "cat", "dog"]
    assert load(tmp_path, x=X, y=Y, classes=np.array(names)).test.classes == tuple(names)
    assert load(tmp_path, x=X, y=Y, spec={"classes": list("abcd")}).test.classes == tuple("abcd")
    assert len(load(tmp_path, x=X, y=Y, spec={"num_classes": 9}).test.classes) == 9


FLOAT = (X / 255).astype(np.float32)
NAN = np.where(np.arange(20)[:, None, None, None] == 7, np.nan, FLOAT)


@pytest.mark.parametrize(
    ("arrays", "spec", "message"),
    [
        (
            {"x": X.astype(np.float32), "y": Y},
            {},
            r"x: pixels must lie in \[0, 1\], got max 255 as float32; .*divide by 255",
        ),
        ({"x": FLOAT - 0.5, "y": Y}, {}, r"pixels must lie in \[0, 1\], got min -0.5 .*undo the normalisation"),
        ({"x": NAN, "y": Y}, {}, "got NaN"),
        ({"x": np.where(NAN == NAN, NAN, np.inf), "y": Y}, {}, r"pixels must lie in \[0, 1\], got max inf"),  # noqa: PLR0124
        ({"x": X.astype(np.int64), "y": Y}, {}, r"must be uint8, or floats .*got int64; store x.astype\('uint8'\)"),
        ({"x": X, "y": Y}, {"num_classes": 3}, r"labels must be in 0\.\.2 for 3 classes, got 3 at sample 3"),
        ({"x": X, "y": Y}, {"classes": ["a", "b"]}, r"labels must be in 0\.\.1 for 2 classes, got 2 at sample 2"),
        ({"x": X, "y": Y - 1}, {}, "y: labels must be at least 0, got -1"),
        ({"x": X, "y": Y[:-1]}, {}, "one label an image, got 19 labels of 20 images"),
        (
            {"x": X, "y": np.eye(4)[Y]},
            {},
            r"labels must be integers .*got float64 \(20, 4\); of one-hot: y.argmax\(1\)",
        ),
        ({"x": X, "y": Y.astype(float)}, {}, "labels must be integers"),
        ({"x": X[0, 0], "y": Y}, {}, r"x: must be \(N, H, W\).*got shape \(5, 3\)"),
        ({"x": X[:0], "y": Y[:0]}, {}, r"got shape \(0, 6, 5, 3\)"),
        ({"x": X[:, :3], "y": Y}, {}, r"channels must be clear, got shape \(20, 3, 5, 3\); write data.layout=nhwc"),
        ({"x": np.zeros((20, 9, 9, 9), np.uint8), "y": Y}, {}, "channels must be clear"),
        ({"x": X}, {}, "must hold an array y, but holds x"),
        ({"images": X, "y": Y}, {}, "must hold an array x, but holds images, y"),
        ({"x_train": X, "y_train": Y}, {}, "must hold x_test and y_test"),
        ({"x_train": X, "y_train": Y, "x_test": X[:, :5], "y_test": Y}, {}, r"one shape \(C, H, W\)"),
        ({"x": X, "y": Y}, {"limit": 5}, r"data\.limit: must be in 1\.\.4"),
        ({"x": X, "y": Y}, {"train_limit": 17}, r"data\.train_limit: must be in 1\.\.16"),
        ({"x": X, "y": Y}, {"test_fraction": 0.01}, r"data\.test_fraction: must leave samples on both sides"),
    ],
)
def test_bad_arrays_get_one_line(tmp_path, arrays, spec, message):
    with pytest.raises(InputError, match=message) as caught:
        load(tmp_path, spec=spec, **arrays)
    assert "\n" not in str(caught.value)


def test_a_stated_layout_settles_the_channels(tmp_path):
    nhwc = load(tmp_path, x_test=X[:, :3], y_test=Y, spec={"layout": "nhwc"})
    nchw = load(tmp_path, x_test=X[:, :3], y_test=Y, spec={"layout": "nchw"})
    assert (nhwc.test.shape, nchw.test.shape) == ((3, 3, 5), (3, 5, 3))


class Bomb:
    """Does something when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("unpickled",)


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", x=np.array([Bomb()], dtype=object), y=Y)
    Path("b.npz").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(InputError, match=r"a\.npz: must be a whole \.npz of plain arrays"):
        Arrays(name="mine", root="", path="a.npz").load(0)
    with pytest.raises(InputError, match=r"b\.npz: must be an \.npz archive, but is a pickle, which is never loaded"):
        Arrays(name="mine", root="", path="b.npz").load(0)
    assert not Path("unpickled").exists()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("README.md", "# Geb\u00e4ck\n".encode() * 40, "is a text file; numpy.savez(FILE, x=images, y=labels) writes"),
        ("cat.png", b"\x89PNG\r\n", "is an image; write data=images data.root=FOLDER for a folder of them"),
        ("net.pth", b"\x80\x02", "is a pickle"),
        ("some.bin", bytes(range(255, 128, -1)), "is none; "),
        ("empty.npz", b"", "is empty; "),
    ],
)
def test_a_file_that_is_no_archive_is_told_what_it_is(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=r"must be an \.npz archive, but ") as caught:
        Arrays(name="mine", root=str(tmp_path), test=name).load(0)
    assert says in str(caught.value)
    assert "pickle" not in str(caught.value) or name == "net.pth"


def test_torn_single_and_absent_files_are_named(tmp_path):
    np.savez_compressed(tmp_path / "whole.npz", x=X, y=Y)
    content = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "torn.npz").write_bytes(content[: len(content) // 2])
    damaged = bytearray(content)
    damaged[300:340] = bytes(40)
    (tmp_path / "damaged.npz").write_bytes(damaged)
    np.save(tmp_path / "single.npy", X)
    for name in ("torn.npz", "damaged.npz", "single.npy", "absent.npz"):
        with pytest.raises(InputError, match=name) as caught:
            Arrays(name="mine", root=str(tmp_path), path=name).load(0)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "path: must be"),
        ({"path": "a", "test": "b"}, "path: must be"),
        ({"path": "a", "train": "b"}, "path: must be"),
        ({"train": "b"}, "path: must be"),
        ({"path": "a", "layout": "chw"}, "layout: must be one of auto, nhwc, nchw, got 'chw'"),
        ({"path": "a", "test_fraction": 0}, r"test_fraction: must be in \(0, 1\], got 0"),
        ({"path": "a", "num_classes": 0}, "num_classes: must be at least 1"),
        ({"path": "a", "num_classes": 2, "classes": ["a", "b"]}, "num_classes: must be null"),
        ({"path": "a", "limit": 0}, "limit: must be at least 1, got 0"),
        ({"path": "a", "train_limit": -1}, "train_limit: must be at least 1, got -1"),
        ({"path": "a", "epochs": 0}, "epochs: must be at least 1, got 0"),
    ],
)
def test_bad_fields_are_refused_before_anything_is_read(fields, message):
    with pytest.raises(InputError, match=f"^{message}"):
        Arrays(name="mine", root="", **fields)
