"""Random numbers by counter: against splitmix64's published stream, and as statistics."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas.data import draws


def test_the_stream_is_splitmix64() -> None:
    # The first outputs for seed 1234567, as https://rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64 lists them.
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert draws.bits(1234567, np.arange(5)).tolist() == expected


def test_a_key_is_the_first_output_of_splitmix64() -> None:
    assert draws.key(0) == int(draws.bits(0, np.array([0]))[0])
    assert draws.key(5) == int(draws.bits(0, np.array([5]))[0])


@given(st.lists(st.integers(-(2**70), 2**70), min_size=1, max_size=4), st.integers(0, 500))
def test_an_order_is_a_permutation(path: list[int], n: int) -> None:
    assert sorted(draws.order(draws.key(*path), n).tolist()) == list(range(n))


@given(st.integers(0, 2**32), st.lists(st.integers(0, 10**9), min_size=1, max_size=20))
def test_a_number_does_not_depend_on_its_neighbours(seed: int, index: list[int]) -> None:
    together = draws.uniform(draws.key(seed), np.array(index))
    alone = [draws.uniform(draws.key(seed), np.array([i]))[0] for i in index]
    assert together.tolist() == alone
    assert ((together >= 0) & (together < 1)).all()


@pytest.mark.parametrize("path", [(0, 0, 1), (0, 1, 1), (1, 0, 1), (123, 456, 6), (-1, 0, 3)])
def test_numbers_are_even_and_unrelated(path: tuple[int, ...]) -> None:
    n = 40_000
    u = draws.uniform(draws.key(*path), np.arange(n))
    counts = np.histogram(u, bins=100, range=(0, 1))[0]
    chi2 = ((counts - n / 100) ** 2 / (n / 100)).sum()
    assert 40 < chi2 < 180  # 99 degrees of freedom; the bounds lie beyond five standard deviations
    neighbour_epoch = draws.uniform(draws.key(path[0], path[1] + 1, *path[2:]), np.arange(n))
    for other in (np.roll(u, 1), neighbour_epoch):
        assert abs(np.corrcoef(u, other)[0, 1]) < 5 / np.sqrt(n)
