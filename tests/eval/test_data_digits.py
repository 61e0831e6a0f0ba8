from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits

from eval.data import Digits


def digits(**fields: int) -> Digits:
    return Digits(name="digits", root="unused", **fields)


def test_the_digits_are_those_of_scikit_learn_in_the_unit_interval():
    data = digits().load(0)
    bunch = load_digits()
    index = np.array([int(name.split("/")[1]) for name in data.test.ids])
    batch = data.test.batch(np.arange(450))
    assert torch.equal(batch.squeeze(1) * 16, torch.from_numpy(bunch.images[index]).float())
    assert (data.test.labels == bunch.target[index]).all()
    assert data.test.shape == (1, 8, 8)
    assert (batch.min(), batch.max()) == (0, 1)


def test_the_split_is_of_450_and_the_seeds():
    one, same, other = digits().load(0), digits().load(0), digits().load(1)
    assert (len(one.train), len(one.test)) == (1347, 450)
    assert "450 of 1,797 images" in one.description
    assert not set(one.train.ids) & set(one.test.ids)
    assert one.test.fingerprint == same.test.fingerprint != other.test.fingerprint


def test_limits_are_balanced():
    data = digits(limit=100, train_limit=50).load(3)
    assert np.bincount(data.test.labels).tolist() == [10] * 10
    assert np.bincount(data.train.labels).tolist() == [5] * 10
