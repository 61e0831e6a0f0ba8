from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import struct
import sys
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest

from eval.data import Torchvision
from eval.data.downloads import SOURCES
from eval.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 28, 28), dtype=np.uint8)


def write_mnist(folder: Path) -> None:
    """Files of the form of MNIST's, 20 + 10 images."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, rows in (("train", slice(0, 20)), ("t10k", slice(20, 30))):
        x = PIXELS[rows]
        (folder / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, *x.shape) + x.tobytes())
        labels = bytes(i % 10 for i in range(len(x)))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, len(x)) + labels)


def offline(*_: object, **__: object) -> None:
    raise URLError("no network")


@pytest.fixture
def no_network(monkeypatch):
    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", offline)
    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", offline)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_files_that_are_there_are_read_without_network(tmp_path, no_network, name):
    write_mnist(tmp_path / SOURCES[name].folder)
    data = Torchvision(name=name, root=str(tmp_path)).load(0)
    assert (len(data.train), len(data.test), data.test.shape) == (20, 10, (1, 28, 28))
    assert (data.test.batch(np.arange(10)).numpy()[:, 0] == PIXELS[20:] / np.float32(255)).all()
    assert data.test.labels.tolist() == list(range(10))
    assert (data.train.ids[19], data.test.ids[0]) == ("train/00019", "test/00000")


def test_cifar_is_read_with_channels_first_after_its_checksums(tmp_path, monkeypatch, no_network):
    folder = tmp_path / SOURCES["cifar10"].folder
    folder.mkdir()
    planes = np.random.default_rng(0).integers(0, 256, (10, 3, 32, 32), dtype=np.uint8)

    def write(name: str, content: dict[str, object]) -> str:
        (folder / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    batch = {"data": planes.reshape(10, -1), "labels": list(range(10))}
    monkeypatch.setattr("torchvision.datasets.CIFAR10.train_list", [["one", write("one", batch)]])
    monkeypatch.setattr("torchvision.datasets.CIFAR10.test_list", [["two", write("two", batch)]])
    meta = {"filename": "meta", "key": "label_names", "md5": write("meta", {"label_names": []})}
    monkeypatch.setattr("torchvision.datasets.CIFAR10.meta", meta)
    data = Torchvision(name="cifar10", root=str(tmp_path)).load(0)
    assert (data.test.batch(np.arange(10)).numpy() == planes / np.float32(255)).all()
    assert data.test.labels.tolist() == list(range(10))
    (folder / "two").write_bytes(b"torn")
    with pytest.raises(InputError, match="use data=digits"):
        Torchvision(name="cifar10", root=str(tmp_path)).load(0)


@pytest.mark.parametrize("name", list(SOURCES))
def test_neither_files_nor_network_gets_one_line_and_leaves_nothing(tmp_path, no_network, name):
    root = tmp_path / "deep" / "data"
    with pytest.raises(InputError, match=r"no network.*use data=digits") as caught:
        Torchvision(name=name, root=str(root)).load(0)
    assert str(root / SOURCES[name].folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "deep").exists()


def test_a_torchvision_of_another_torch_is_told_and_needless_for_arrays(tmp_path, monkeypatch, no_network):
    folder = tmp_path / "modules" / "torchvision"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(folder.parent)
    write_mnist(tmp_path / SOURCES["mnist"].folder)
    with pytest.raises(InputError, match=r"torchvision: must be of the release that belongs to torch \d.*nms.*both"):
        Torchvision(name="mnist", root=str(tmp_path)).load(0)
    write_arrays(tmp_path / "mnist", "train.npz", "test.npz")
    assert "read from arrays" in Torchvision(name="mnist", root=str(tmp_path)).load(0).description


def test_a_torn_file_is_not_read(tmp_path, no_network):
    folder = tmp_path / SOURCES["mnist"].folder
    write_mnist(folder)
    file = folder / "t10k-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"MNIST.*must lie in .*or be downloadable"):
        Torchvision(name="mnist", root=str(tmp_path)).load(0)


def test_a_download_replaces_what_is_torn_and_leaves_no_more_than_the_files(tmp_path, monkeypatch):
    def download(url: str, download_root: str, filename: str, md5: str) -> None:
        write_mnist(Path(download_root))
        Path(download_root, filename).write_bytes(gzip.compress(b""))

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", download)
    folder = tmp_path / SOURCES["mnist"].folder
    write_mnist(folder)
    whole = sorted(p.name for p in folder.iterdir())
    (folder / whole[0]).write_bytes(b"torn")
    data = Torchvision(name="mnist", root=str(tmp_path)).load(0)
    assert len(data.test) == 10
    assert sorted(p.name for p in folder.iterdir()) == whole
    assert [p.name for p in tmp_path.iterdir()] == ["MNIST"]


def write_arrays(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        x = np.random.default_rng(len(name)).integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
        np.savez(folder / name, x=x, y=np.arange(10, dtype=np.uint8))


def test_arrays_stand_in_for_absent_files_and_say_so(tmp_path, no_network):
    write_arrays(tmp_path / "cifar10", "train10.npz", "test10.npz")
    data = Torchvision(name="cifar10", root=str(tmp_path)).load(0)
    assert data.test.shape == (3, 32, 32)
    assert data.test.classes[3] == "cat"
    assert "arrays" in data.description
    assert "10 of test from test10.npz" in data.description


@pytest.mark.parametrize("names", [("test1.npz",), ("train1.npz", "test1.npz", "test2.npz")])
def test_arrays_that_leave_a_choice_are_refused(tmp_path, no_network, names):
    write_arrays(tmp_path / "cifar10", *names)
    with pytest.raises(InputError, match=r"must hold one (train|test)\*\.npz, got \d.*data=arrays"):
        Torchvision(name="cifar10", root=str(tmp_path)).load(0)


def test_arrays_with_a_label_beyond_the_classes_are_refused(tmp_path, no_network):
    write_arrays(tmp_path / "cifar10", "train.npz")
    np.savez(tmp_path / "cifar10" / "test.npz", x=np.zeros((1, 32, 32, 3), np.uint8), y=np.array([10]))
    with pytest.raises(InputError, match=r"test\.npz: labels must be in 0\.\.9"):
        Torchvision(name="cifar10", root=str(tmp_path)).load(0)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError, match=r"name: must be one of mnist, fashion_mnist, cifar10, cifar100, got 'svhn'"):
        Torchvision(name="svhn", root="")


def test_class_names_are_as_many_as_classes():
    assert {name: len(source.classes) for name, source in SOURCES.items()} == {
        "mnist": 10,
        "fashion_mnist": 10,
        "cifar10": 10,
        "cifar100": 100,
    }
    assert all(list(SOURCES[n].classes) == sorted(SOURCES[n].classes) for n in ("mnist", "cifar10", "cifar100"))


@pytest.fixture
def real_root() -> str:
    if "TOASTPROOF_DATA" not in os.environ:
        pytest.skip("needs real data: set TOASTPROOF_DATA")
    return os.environ["TOASTPROOF_DATA"]


def test_real_mnist_is_whole_and_known(real_root, no_network):
    data = Torchvision(name="mnist", root=real_root).load(0)
    assert (len(data.train), len(data.test)) == (60_000, 10_000)
    assert data.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    mean = data.train.store.read(np.arange(60_000)).mean() / 255
    assert mean == pytest.approx(0.1307, abs=5e-5)


def test_real_cifar10_arrays(real_root, no_network):
    data = Torchvision(name="cifar10", root=real_root, limit=500).load(0)
    assert (len(data.train), len(data.test), data.test.shape) == (15_000, 500, (3, 32, 32))
    assert np.bincount(data.test.labels).tolist() == [50] * 10
