"""Threads give the answers in order, bounded, and let errors through."""

import threading
import time

import pytest

from convatlas.data.parallel import cores, in_order


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_answers_come_in_the_items_order(workers: int) -> None:
    def slow(i: int) -> int:
        time.sleep(0.002 * (i % 3 == 0))
        return i * i

    assert list(in_order(slow, range(40), workers)) == [i * i for i in range(40)]


def test_no_more_items_are_taken_than_a_few_a_worker() -> None:
    taken = []

    def items() -> object:
        for i in range(1000):
            taken.append(i)
            yield i

    answers = in_order(lambda i: i, items(), 2)  # type: ignore[arg-type]
    next(answers)
    assert len(taken) <= 8
    answers.close()  # type: ignore[attr-defined]


def test_an_error_reaches_the_caller_and_ends_the_threads() -> None:
    def work(i: int) -> int:
        if i == 5:
            raise ValueError("five")
        return i

    before = threading.active_count()
    with pytest.raises(ValueError, match="five"):
        list(in_order(work, range(100), 2))
    assert threading.active_count() == before
    assert cores() >= 1
