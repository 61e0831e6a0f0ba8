from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.data import Samples, balanced, in_turn, limited, split
from eval.data.subset import of_classes
from eval.errors import InputError

label_lists = st.lists(st.integers(0, 5), min_size=2, max_size=120).map(lambda v: np.array(v, dtype=np.int64))
seeds = st.integers(0, 2**32)


def make(labels: np.ndarray) -> Samples:
    return Samples.of(np.zeros((len(labels), 1, 1, 1), dtype=np.uint8), labels, [str(k) for k in range(6)], "s")


@settings(deadline=None)
@given(label_lists, seeds, st.data())
def test_balanced_takes_the_limit_in_order_with_classes_within_one(labels, seed, data):
    limit = data.draw(st.integers(1, len(labels)))
    index = balanced(labels, limit, seed)
    assert len(index) == limit
    assert (np.diff(index) > 0).all()
    counts = np.bincount(labels[index], minlength=6)
    available = np.bincount(labels, minlength=6)
    unfinished = counts[counts < available]
    assert counts.max() - unfinished.min(initial=counts.max()) <= 1


@settings(deadline=None)
@given(label_lists, seeds)
def test_a_smaller_limit_is_part_of_a_larger_one(labels, seed):
    larger = balanced(labels, len(labels) - 1, seed)
    assert set(balanced(labels, max(1, len(labels) // 2), seed)) <= set(larger)


@settings(deadline=None)
@given(label_lists, seeds, st.floats(0.02, 0.98))
def test_split_is_a_partition_that_keeps_order_and_proportions(labels, seed, fraction):
    total = round(len(labels) * fraction)
    if not 0 < total < len(labels):
        with pytest.raises(InputError, match="test_fraction"):
            split(make(labels), fraction, seed)
        return
    rest, part = split(make(labels), fraction, seed)
    assert len(part) == total
    assert sorted([*rest.ids, *part.ids]) == sorted(make(labels).ids)
    assert (np.diff(rest.rows) > 0).all()
    assert (np.diff(part.rows) > 0).all()
    exact = np.bincount(labels, minlength=6) * total / len(labels)
    assert (np.abs(np.bincount(part.labels, minlength=6) - exact) < 1).all()


def test_subsets_depend_on_the_seed_and_on_nothing_else():
    labels = np.arange(300) % 6
    np.random.seed(1)
    first = balanced(labels, 60, 7), split(make(labels), 0.3, 7)[1].ids
    state = np.random.get_state()[1].copy()
    np.random.seed(2)
    second = balanced(labels, 60, 7), split(make(labels), 0.3, 7)[1].ids
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    assert (first[0] != balanced(labels, 60, 8)).any()
    assert (first[1] != split(make(labels), 0.3, 8)[1].ids).any()
    np.random.seed(1)
    assert (np.random.get_state()[1] == state).all()


def test_every_sample_has_its_chance():
    labels = np.arange(40) % 4
    seen = np.concatenate([balanced(labels, 8, seed) for seed in range(60)])
    assert len(np.unique(seen)) == 40


def test_split_gives_the_floor_to_a_share_that_floats_would_round_down():
    # 100 * 29 / 100 is 28.999999999999996 when computed as 100 * 0.29.
    _, part = split(make(np.repeat([0, 1], 100)), 0.29, 0)
    assert np.bincount(part.labels).tolist() == [29, 29]


@pytest.mark.parametrize("limit", [0, -1, 11])
def test_a_limit_beyond_the_samples_is_refused_with_the_remedy(limit):
    with pytest.raises(InputError, match=r"data\.train_limit: must be in 1\.\.10.*data\.train_limit=null"):
        limited(make(np.zeros(10, dtype=np.int64)), limit, 0, "data.train_limit")


def test_a_negative_seed_is_refused():
    with pytest.raises(InputError, match="seed: must be at least 0, got -1"):
        split(make(np.arange(6)), 0.5, -1)


def test_no_limit_keeps_all():
    samples = make(np.arange(6))
    assert limited(samples, None, 0, "data.limit") is samples


def test_the_samples_of_some_classes_keep_their_labels_ids_and_order():
    samples = make(np.array([3, 0, 5, 3, 1, 0]))
    chosen = of_classes(samples, (0, 3))

    assert chosen.labels.tolist() == [3, 0, 3, 0]
    assert chosen.ids.tolist() == [samples.ids[i] for i in (0, 1, 3, 5)]
    assert chosen.classes == samples.classes
    with pytest.raises(InputError, match="at least one sample"):
        of_classes(samples, (2,))


@settings(deadline=None)
@given(label_lists, seeds)
def test_classes_take_turns_until_one_is_left(labels, seed):
    order = in_turn(labels, seed)
    assert sorted(order.tolist()) == list(range(len(labels)))
    said = labels[order]
    for n in range(1, len(said) + 1):
        counts, available = np.bincount(said[:n], minlength=6), np.bincount(labels, minlength=6)
        unfinished = counts[counts < available]
        assert counts.max() - unfinished.min(initial=counts.max()) <= 1
    for i in np.flatnonzero(said[1:] == said[:-1]):
        assert len(set(said[i:].tolist())) == 1
    for limit in (1, len(labels) // 2, len(labels)):
        assert np.array_equal(balanced(labels, max(1, limit), seed), np.sort(order[: max(1, limit)]))


@settings(deadline=None)
@given(label_lists, seeds, st.data())
def test_a_part_takes_turns_as_well_and_keeps_the_order_of_the_whole(labels, seed, data):
    among = np.array(data.draw(st.lists(st.booleans(), min_size=len(labels), max_size=len(labels))))
    order, whole = in_turn(labels, seed, among), in_turn(labels, seed)
    assert sorted(order.tolist()) == np.flatnonzero(among).tolist()
    for kind in range(6):
        own = [i for i in whole if labels[i] == kind and among[i]]
        assert [i for i in order if labels[i] == kind] == own
    counts = np.bincount(labels[order[: len(order) // 2]], minlength=6)
    available = np.bincount(labels[among], minlength=6)
    unfinished = counts[counts < available]
    assert counts.max() - unfinished.min(initial=counts.max()) <= 1


def test_the_order_within_and_among_classes_is_drawn_by_the_seed():
    labels = np.repeat(np.arange(6), 4)
    orders = {tuple(in_turn(labels, seed)) for seed in range(20)}
    assert len(orders) == 20
    assert len({tuple(labels[list(order[:6])]) for order in orders}) > 10
    assert {order[0] % 4 for order in orders} == {0, 1, 2, 3}
    with pytest.raises(InputError, match="seed: must be at least 0"):
        in_turn(labels, -1)
