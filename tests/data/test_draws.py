"""Random numbers by counter: against splitmix64's published stream, and as statistics."""

import tracemalloc

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


@given(st.integers(0, 2**63), st.integers(1, 700))
def test_a_computed_order_is_a_permutation(stream: int, n: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draws, "STORED", 0)
        order = draws.Permutation(stream, n)
        assert len(order) == n and sorted(order.part(0, n).tolist()) == list(range(n))
        cut = n // 3
        assert [*order.part(0, cut), *order.part(cut, n + 5)] == order.part(0, n).tolist()


def test_a_stored_order_is_the_order() -> None:
    order = draws.Permutation(5, 1000)
    assert np.array_equal(order.part(0, 1000), draws.order(5, 1000))
    assert np.array_equal(order.part(10, 20), draws.order(5, 1000)[10:20])


@pytest.mark.parametrize("n", [10**7 + 1, 2**24, 10**9, 2**31 + 5])
def test_an_order_too_long_to_store_takes_no_memory_and_repeats_no_number(n: int) -> None:
    tracemalloc.start()
    try:
        order = draws.Permutation(draws.key(3), n)
        parts = [order.part(start, start + 20_000) for start in (0, n // 3, n - 20_000)]
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()
    drawn = np.concatenate(parts)
    assert drawn.dtype == np.int64 and drawn.min() >= 0 and drawn.max() < n
    assert len(np.unique(drawn)) == 60_000
    chi2 = ((np.histogram(drawn, 100, (0, n))[0] - 600) ** 2 / 600).sum()
    assert 40 < chi2 < 180  # 99 degrees of freedom
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 5 / np.sqrt(60_000)
    other = draws.Permutation(draws.key(4), n).part(0, 20_000)
    assert abs(np.corrcoef(other, parts[0])[0, 1]) < 5 / np.sqrt(20_000)


def test_a_computed_order_is_even_over_all_permutations() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draws, "STORED", 0)
        found: dict[tuple[int, ...], int] = {}
        for seed in range(6000):
            order = tuple(draws.Permutation(draws.key(seed), 4).part(0, 4).tolist())
            found[order] = found.get(order, 0) + 1
    assert len(found) == 24
    assert sum((n - 250) ** 2 / 250 for n in found.values()) < 23 + 6 * np.sqrt(46)  # 23 degrees of freedom


def test_normal_numbers() -> None:
    n = 100_000
    z = draws.normal(draws.key(1), np.arange(n))
    assert abs(z.mean()) < 5 / np.sqrt(n) and z.std() == pytest.approx(1, abs=5 / np.sqrt(2 * n))
    for bound, share in ((1, 0.682689), (2, 0.954500), (3, 0.997300)):  # of the normal distribution
        assert (np.abs(z) < bound).mean() == pytest.approx(share, abs=5 * np.sqrt(share * (1 - share) / n))


def test_one_number_is_the_first_of_its_stream() -> None:
    path = (7, 3, draws.MIXING, 1)
    assert 0 <= draws.uniform_at(*path) < 1
    u = np.array([draws.uniform_at(0, step, draws.MIXING) for step in range(5000)])
    assert np.abs(np.sort(u) - np.linspace(0, 1, 5000)).max() < 2.2 / np.sqrt(5000)  # Kolmogorov's test


def test_a_generator_is_of_its_own() -> None:
    state = np.random.get_state()[1].copy()  # type: ignore[index,union-attr]
    one, same, other = (draws.generator(0, 1, use).random(5).tolist() for use in (2, 2, 3))
    assert one == same != other
    assert np.array_equal(np.random.get_state()[1], state)  # type: ignore[index]
