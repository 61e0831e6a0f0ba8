from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from eval.data import Samples
from eval.data.samples import ArrayStore
from eval.errors import InputError

CLASSES = ("a", "b", "c")


def some(dtype: type = np.uint8, n: int = 6) -> Samples:
    pixels = np.random.default_rng(0).integers(0, 256, (n, 2, 3, 4), dtype=np.uint8)
    values = pixels if dtype is np.uint8 else (pixels / 255).astype(np.float32)
    return Samples.of(values, np.arange(n) % 3, CLASSES, "test")


def test_a_batch_of_bytes_is_divided_by_255_exactly():
    samples = Samples.of(np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16), [0], ["a"], "test")
    batch = samples.batch(np.array([0]))
    assert batch.dtype == torch.float32
    assert torch.equal(batch.flatten(), torch.arange(256, dtype=torch.float32) / 255)


def test_a_batch_of_floats_is_used_as_it_is():
    samples = some(np.float32)
    assert torch.equal(samples.batch(np.array([4, 1])), torch.from_numpy(samples.store.read(np.array([4, 1]))))


def test_select_keeps_ids_labels_and_pixels_together():
    chosen = some().select(np.array([5, 0, 3])).select(np.array([2, 0]))
    assert chosen.ids.tolist() == ["test/00003", "test/00005"]
    assert chosen.labels.tolist() == [0, 2]
    assert torch.equal(chosen.batch(np.array([0, 1])), some().batch(np.array([3, 5])))


def test_samples_cannot_be_changed():
    samples = some()
    before = samples.batch(np.arange(6)).clone()
    samples.batch(np.arange(6)).zero_()
    assert torch.equal(samples.batch(np.arange(6)), before)
    for array in (samples.labels, samples.ids, samples.rows, samples.store.pixels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = array[1]


def test_a_callers_labels_may_change_afterwards():
    labels = np.array([0, 1])
    samples = Samples.of(np.zeros((2, 1, 1, 1), dtype=np.uint8), labels, CLASSES, "test")
    labels[0] = 2
    assert samples.labels.tolist() == [0, 1]


def test_the_fingerprint_is_that_of_the_content():
    samples = some()
    assert samples.fingerprint == some().fingerprint
    assert len(samples.fingerprint) == 64
    copied = Samples.of(samples.store.read(np.array([2, 3])), [2, 0], CLASSES, "test")
    renamed = Samples(samples.ids[[2, 3]], copied.labels, CLASSES, copied.store, copied.rows)
    assert samples.select(np.array([2, 3])).fingerprint == renamed.fingerprint


def test_the_fingerprint_changes_with_any_part():
    samples = some()
    pixels = samples.store.read(np.arange(6))
    pixels[5, 1, 2, 3] ^= 1
    labels = samples.labels.copy()
    labels[0] = 2
    others = [
        Samples.of(pixels, samples.labels, CLASSES, "test"),
        Samples.of(samples.store.pixels, labels, CLASSES, "test"),
        Samples.of(samples.store.pixels, samples.labels, CLASSES, "train"),
        Samples.of(samples.store.pixels.reshape(6, 1, 6, 4), samples.labels, CLASSES, "test"),
        samples.select(np.arange(5)),
        samples.select(np.array([1, 0, 2, 3, 4, 5])),
        some(np.float32),
    ]
    assert len({samples.fingerprint, *(other.fingerprint for other in others)}) == 8


def test_the_fingerprint_does_not_depend_on_how_much_is_hashed_at_once(monkeypatch):
    whole = some().fingerprint
    monkeypatch.setattr("eval.data.samples._CHUNK", 60)
    assert some().fingerprint == whole


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_beyond_the_classes_are_refused(label):
    with pytest.raises(InputError, match=rf"labels must be in 0\.\.2 for 3 classes, got {label} at sample 1"):
        Samples.of(np.zeros((2, 1, 1, 1), dtype=np.uint8), [0, label], CLASSES, "test")


def test_counts_that_differ_are_refused():
    with pytest.raises(InputError, match="as many, got 3, 2 and 3"):
        Samples.of(np.zeros((3, 1, 1, 1), dtype=np.uint8), [0, 1], CLASSES, "test")


def test_no_samples_are_refused():
    with pytest.raises(InputError, match="at least one sample"):
        Samples.of(np.zeros((0, 1, 1, 1), dtype=np.uint8), [], CLASSES, "test")


def test_the_store_says_its_size():
    store = ArrayStore(np.zeros((4, 3, 2, 1), dtype=np.uint8))
    assert (len(store), store.shape) == (4, (3, 2, 1))


def test_specifications_import_without_torch():
    code = "import sys, eval.data; sys.exit('torch' in sys.modules or 'PIL' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
