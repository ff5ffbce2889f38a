"""Turns, spread and limits of timing; calls that sleep stand for known times."""

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest
import torch

from convatlas.measure import rounds
from convatlas.measure.rounds import Point, images, in_rounds, out_of_memory, spread_words


def silent(_: str) -> None: ...


class Sleeper:
    """Points that take 2 ms an image, and a note of whose turn it was."""

    def __init__(self, *batches: int):
        self.seen: list[int] = []
        self.points = [Point(batch, self.call(batch)) for batch in batches]

    def call(self, batch: int):
        def sleep() -> None:
            self.seen.append(batch)
            time.sleep(0.002 * batch)

        return sleep


def test_a_call_takes_as_long_as_it_sleeps() -> None:
    points = Sleeper(1, 4).points
    in_rounds(points, 0.1, silent)
    one, four = (p.timing() for p in points)
    assert one.low_ms >= 2 and four.low_ms >= 8
    assert four.low_ms / one.low_ms == pytest.approx(4, rel=0.5)
    assert (one.batch, four.batch) == (1, 4)


def test_all_take_turns_so_that_drift_falls_on_all() -> None:
    sleeper = Sleeper(1, 2, 3)
    done = in_rounds(sleeper.points, 0.1, silent)
    turns = [a for a, b in pairwise([*sleeper.seen, 0]) if a != b]
    assert turns == [1, 2, 3] * done


def test_rounds_end_when_every_spread_is_small() -> None:
    points = Sleeper(1, 1).points
    taken = [0.01, 0.0101] * 200  # so many that the real ones do not count
    for point in points:
        point.taken = list(taken)
    assert in_rounds(points, 0.01, silent) == rounds.ENOUGH
    points[1].taken = [0.01, 0.02] * 200
    assert in_rounds(points, 0.01, silent) == rounds.ROUNDS


def test_long_calls_end_the_rounds_early() -> None:
    points = Sleeper(20).points
    points[0].taken = [0.01, 0.05] * 10
    assert in_rounds(points, 0.001, silent) == rounds.FEW


def test_memory_kept_for_one_makes_no_other_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    inside: list[bool] = []
    seen: list[tuple[str, bool]] = []

    @contextmanager
    def returned() -> Iterator[None]:
        inside.append(True)
        yield
        inside.pop()

    def point(name: str, keeps: bool) -> Point:
        return Point(1, lambda: seen.append((name, bool(inside))), keeps=keeps)

    monkeypatch.setattr(rounds, "returned_memory", returned)
    in_rounds([point("torch", True), point("eager", False)], 0.001, silent)
    assert set(seen) == {("torch", False), ("eager", True)} and seen[0] == ("eager", True)
    seen.clear()
    in_rounds([point("eager", False)], 0.001, silent)
    assert set(seen) == {("eager", False)}


def test_after_a_change_of_memory_a_call_is_not_counted() -> None:
    """Each first call of a turn takes longer, as it does where the kernel clears its pages."""
    calls = {True: itertools.count(), False: itertools.count()}
    points = [
        Point(1, lambda k=keeps: time.sleep(0.03 if next(calls[k]) % 2 == 0 else 0.01), keeps=keeps)
        for keeps in (True, False)
    ]
    in_rounds(points, 0.001, silent)
    assert max(t for p in points for t in p.taken) < 0.025


def test_the_first_call_of_a_turn_counts_only_where_it_fills_it() -> None:
    calls = iter([0.02, 0.001, 0.001, 0.02] + [0.001] * 1000)
    point = Point(1, lambda: time.sleep(next(calls)))
    point.slice(0.03)
    assert point.taken[0] < 0.015
    long = Point(1, lambda: time.sleep(0.02))
    long.slice(0.001)
    assert len(long.taken) == 1


def test_median_and_quartiles_are_numpys() -> None:
    taken = list(np.random.default_rng(1).gamma(3, size=37))
    t = Point(8, lambda: None, taken).timing(peak_bytes=5, joules=0.5)
    assert (t.low_ms, t.median_ms, t.high_ms) == pytest.approx(1000 * np.percentile(taken, [25, 50, 75]))
    assert (t.batch, t.repeats, t.peak_bytes, t.joules) == (8, 37, 5, 0.5)
    assert Point(1, lambda: None, [0.5]).timing().high_ms == 500


def test_the_spread_is_said_by_batch_size() -> None:
    steady, wide = Point(1, lambda: None, [1.0, 1.01, 1.02]), Point(2, lambda: None, [1.0, 1.1, 1.2])
    assert wide.spread == pytest.approx(0.1 / 1.1)
    assert spread_words([steady]) == "quartile range at most 5 % of the median at every batch size"
    assert spread_words([steady, wide]) == "quartile range above 5 % of the median when the time ended: batch 2"


def test_warm_up_ends_with_a_steady_call() -> None:
    calls = iter([0.03, 0.02, 0.004, 0.02, 0.004])
    seen: list[float] = []

    def call() -> None:
        seen.append(next(calls))
        time.sleep(seen[-1])

    Point(1, call).warm_up(10)
    assert seen == [0.03, 0.02, 0.004]  # the fourth would be slower than it


def test_warm_up_goes_on_until_a_call_is_steady() -> None:
    calls = iter([0.004, 0.02, 0.03, 0.02, 0.004])
    Point(1, lambda: time.sleep(next(calls))).warm_up(10)
    assert list(calls) == []
    calls = iter([0.004, 0.02, 0.03, 0.02, 0.004])
    Point(1, lambda: time.sleep(next(calls))).warm_up(0.001)
    assert len(list(calls)) == 2


def test_images_are_the_same_for_every_network_of_that_input() -> None:
    before = np.random.get_state()[1].copy()
    torch_before = torch.get_rng_state()
    a, b = images(3, (3, 5, 4)), images(3, (3, 5, 4))
    assert a.dtype == np.float32 and a.shape == (3, 3, 5, 4) and np.array_equal(a, b)
    assert np.array_equal(before, np.random.get_state()[1]) and torch.equal(torch_before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), True),
        (RuntimeError("[ONNXRuntimeError] Failed to allocate memory for requested buffer of size 9"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_a_lack_of_memory_is_known_by_its_words(error: Exception, is_memory: bool) -> None:
    assert out_of_memory(error) == is_memory


def test_torch_says_it_as_we_know_it() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**58)
    assert out_of_memory(caught.value)
