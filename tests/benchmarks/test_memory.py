from __future__ import annotations

import pytest
import torch

from eval.memory import LiveStorage
from tests.benchmarks.memory import Peak, fit, peak


def test_the_watch_sees_what_lives_at_the_same_time():
    x = torch.zeros(1000)
    with LiveStorage() as watch:
        a = x + 1
        b = a * 2
        assert watch.live == 8000
        del a
        c = b[:500].add_(1)  # a view of b
        assert watch.live == 4000
        x.add_(1)  # not made here
    assert watch.peak == 8000
    assert c.shape == (500,)


@pytest.mark.parametrize("finishing", [False, True])
def test_memory_is_two_numbers_a_pair_and_a_constant(finishing):
    peaks = [peak(m, finishing, 16, 1200, torch.device("cpu"), 24) for m in (4, 8, 16)]
    slope, constant, off = fit(peaks)
    assert slope == pytest.approx(2, abs=0.2)
    assert constant < 13
    assert off < 0.5


def test_memory_does_not_depend_on_the_problem():
    cpu = torch.device("cpu")
    assert peak(4, False, 16, 1200, cpu, 12).floats == pytest.approx(peak(4, False, 8, 600, cpu, 12).floats, rel=0.05)


def test_the_line_through_peaks_on_a_line():
    slope, constant, off = fit([Peak(m, False, 2.0 * m + 7) for m in (4, 8, 16)])
    assert (slope, constant, off) == pytest.approx((2, 7, 0))
