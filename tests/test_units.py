"""Numbers as people read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas import units


@pytest.mark.parametrize(
    ("n", "unit", "text"),
    [
        (25557032, "", "25.6 M"),
        (3857973248, "MACs", "3.86 GMACs"),
        (102228128, "B", "102 MB"),
        (999_999, "B", "1.00 MB"),
        (999, "", "999"),
        (0, "", "0"),
        (512, "B", "512 B"),
        (1_000_000_000_000, "", "1.00 T"),
    ],
)
def test_count(n: int, unit: str, text: str) -> None:
    assert units.count(n, unit) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [("24GB", 24 * 10**9), ("8 GiB", 8 * 2**30), ("1.5MB", 1_500_000), ("512B", 512), ("0.1kB", 100)],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert units.read_size(text) == size


@pytest.mark.parametrize("text", ["24", "GB", "24gb", "-1GB", "1e9B", "1.GB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        units.read_size(text)


@given(st.integers(1000, 10**15))
def test_a_prefix_loses_no_more_than_three_digits_lose(n: int) -> None:
    number, prefix = units.count(n).split()
    scale = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}[prefix]
    assert float(number.replace(",", "")) * scale == pytest.approx(n, rel=0.00501)


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=5))
def test_shape_round_trip(dims: list[int]) -> None:
    assert units.read_shape(units.shape(tuple(dims))) == tuple(dims)


@pytest.mark.parametrize("text", ["", "3x", "3x0x2", "a", "3x-1", "3,4"])
def test_what_is_no_shape_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        units.read_shape(text)


def test_times() -> None:
    assert units.seconds(0.0123) == "12.3 ms"
    assert units.seconds(59.96) == "60.0 s"
    assert units.seconds(245) == "4 min 05 s"
    assert units.seconds(7800) == "2 h 10 min"
    assert units.milliseconds(12.345) == "12.3 ms"
    assert units.milliseconds(0.0936) == "0.0936 ms"


def test_k_of_n() -> None:
    assert units.of(354, 360) == "354 of 360 (98.3 %)"
    assert units.of(0, 0) == "0 of 0 (none)"
