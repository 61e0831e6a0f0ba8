from __future__ import annotations

import pytest
import torch

from tests.benchmarks.memory import LiveStorage, Peak, fit, peak


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


def test_memory_grows_with_the_history_and_with_nothing_else():
    cpu = torch.device("cpu")
    few, more = (peak(m, False, 8, 600, cpu, 12).floats for m in (4, 8))
    assert more >= few + 8
    assert peak(4, False, 16, 1200, cpu, 12).floats == pytest.approx(few, rel=0.05)


def test_the_line_through_peaks_on_a_line():
    slope, constant, off = fit([Peak(m, False, 2.0 * m + 7) for m in (4, 8, 16)])
    assert (slope, constant, off) == pytest.approx((2, 7, 0))
