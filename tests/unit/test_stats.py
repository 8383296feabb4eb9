"""Numbers: counted as things happen, handed out as snapshots that do not change."""

import dataclasses

import pytest

from asyncpool.pool.stats import BOUNDS, Counters, Durations


def test_each_duration_is_in_one_bucket():
    """A duration belongs to the first bucket whose bound it does not exceed; what exceeds all is in the last."""
    durations = Durations()
    for seconds in (0.0, BOUNDS[0], BOUNDS[0] * 1.001, BOUNDS[-1], BOUNDS[-1] * 2, 1e9):
        durations.add(seconds)
    counts = durations.snapshot().counts
    assert counts[:2] == (2, 1)
    assert counts[-2:] == (1, 2)
    assert sum(counts) == 6


def test_a_histogram_adds_up():
    """Its count is that of its durations, its total their sum, and it has one bucket more than bounds."""
    durations = Durations()
    for number in range(100):
        durations.add(number / 10)
    histogram = durations.snapshot()
    assert 100 == histogram.count == sum(histogram.counts)
    assert pytest.approx(histogram.total) == 495.0
    assert len(histogram.bounds) + 1 == len(histogram.counts)
    assert sorted(histogram.bounds) == list(histogram.bounds)


def test_a_snapshot_does_not_change():
    """What was handed out stays as it was, and cannot be changed by who has it."""
    durations = Durations()
    before = durations.snapshot()
    durations.add(1.0)
    assert before.count == 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.total = 3.0


def test_outcomes_are_counted_apart():
    """Each outcome has its own number; one that never happened has none."""
    counters = Counters()
    for outcome in ("ok", "ok", "crashed"):
        counters.count(outcome)
    assert counters.outcomes == {"ok": 2, "crashed": 1}
