"""Images by their number, alone and joined."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas.data.stored import Joined, Listed, Paths, Stored
from convatlas.errors import BadImage

ROOT = Path("/set")


def paths(name: str, n: int) -> Paths:
    return Paths(tuple(ROOT / name / f"{i}.png" for i in range(n)), ROOT / name)


class InRow:
    """Images that are read well one after the other, from a start that the stream decides."""

    def __init__(self, numbers: np.ndarray):
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def name(self, number: int) -> str:
        return f"row {self.numbers[number]}"

    def key(self, number: int) -> bytes:
        return b"%d" % self.numbers[number]

    def read(self, number: int) -> bytes:
        return self.key(number)

    def take(self, positions: np.ndarray) -> "InRow":
        return InRow(self.numbers[positions])

    def order(self, stream: int) -> np.ndarray:
        return np.roll(np.arange(len(self)), stream % max(len(self), 1))

    def digest(self) -> str | None:
        return None


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.data())
def test_joined_images_are_those_of_the_parts(sizes: list[int], data: st.DataObject) -> None:
    parts = [paths(f"s{i}", n) for i, n in enumerate(sizes)]
    roles = tuple(f"s{i}" for i in range(len(sizes)))
    joined: Stored = Joined(tuple(parts), roles)
    expected = [path for part in parts for path in part.paths]
    assert [joined.read(i) for i in range(len(joined))] == expected
    assert [joined.key(i).decode() for i in range(len(joined))] == [str(p.relative_to(ROOT)) for p in expected]
    assert [joined.name(i) for i in range(len(joined))] == list(map(str, expected))
    for _ in range(2):  # a part of a part, too
        positions = np.array(data.draw(st.lists(st.integers(0, max(len(expected) - 1, 0)))) if expected else [], int)
        joined, expected = joined.take(positions), [expected[i] for i in positions]
        assert [joined.read(i) for i in range(len(joined))] == expected
        assert joined.order(3) is None


def test_a_number_beyond_the_end() -> None:
    with pytest.raises(IndexError):
        Joined((paths("a", 2),), ("a",)).read(2)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 2**60))
def test_joined_orders_keep_each_parts_own(first: int, second: int, stream: int) -> None:
    parts = (InRow(np.arange(first)), paths("b", second), InRow(np.arange(5)))
    order = Joined(parts, ("a", "b", "c")).order(stream)
    assert order is not None and sorted(order.tolist()) == list(range(first + second + 5))
    row = order[order < first]
    if first:
        assert row.tolist() == np.roll(np.arange(first), -row[0]).tolist()  # still one after the other


def test_joined_digests_stand_for_all_parts_or_for_none() -> None:
    class Summed(InRow):
        def digest(self) -> str:
            return f"{len(self):064x}"

    one, other = Summed(np.arange(3)), Summed(np.arange(4))
    ways = [((one, other), ("a", "b")), ((other, one), ("a", "b")), ((one, other), ("a", "c")), ((one,), ("a",))]
    known = {Joined(parts, roles).digest() for parts, roles in ways}
    assert len(known) == 4 and None not in known
    assert Joined((one, paths("b", 2)), ("a", "b")).digest() is None
    assert Joined((), ()).digest() is None


def test_joined_orders_mix_the_parts() -> None:
    order = Joined((InRow(np.arange(500)), InRow(np.arange(500))), ("a", "b")).order(1)
    assert order is not None
    assert 150 < (order[:500] < 500).sum() < 350


def test_listed_names_are_keys_and_stay_inside() -> None:
    stored = Listed(("a/1.png", "./a/2.png", "../3.png", "/etc/4.png", "a/../../set/5.png", "..x/6.png"), ROOT)
    assert stored.key(0) == b"a/1.png" and stored.key(1) == b"a/2.png"
    assert stored.name(0) == "/set/a/1.png"
    assert [stored.read(i) for i in (0, 4, 5)] == [ROOT / "a/1.png", ROOT / "a/../../set/5.png", ROOT / "..x/6.png"]
    for i, name in ((2, "/set/../3.png"), (3, "/etc/4.png")):
        with pytest.raises(BadImage) as caught:
            stored.read(i)
        assert str(caught.value) == f"{name}: lies outside /set, the list's folder"
    assert stored.take(np.array([3, 0])).names == ("/etc/4.png", "a/1.png")
    assert pickle.loads(pickle.dumps(stored)) == stored
