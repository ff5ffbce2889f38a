"""Random numbers as a pure function of where they are used, so that batch size, workers and resuming change nothing.

A counter goes through splitmix64's finaliser (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
OOPSLA 2014); its output passes BigCrush, and any number of the stream can be had without those before it.
"""

from typing import Protocol

import numpy as np

GOLDEN = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio, the step of splitmix64's counter
MASK = 2**64 - 1
STORED = 10**7  # a longer permutation is computed part by part
ROUNDS = 6  # of its Feistel network; four make a permutation that chance cannot be told from (Luby and Rackoff 1988)

# What a number is drawn for: two uses never share a stream.
ORDER, SPLIT, FLIP, SHIFT, AREA, SIDE, COLOUR, PCA, AFFINE, ELASTIC, RANDAUGMENT, MIXING, BALANCE, ROUND = range(1, 15)


def key(*path: int) -> int:
    """A stream's key from whole numbers such as (seed, epoch, use)."""
    state = 0
    for part in path:
        state = _mixed((state + GOLDEN * ((part & MASK) + 1)) & MASK)
    return state


def bits(stream: int, index: np.ndarray) -> np.ndarray:
    """64 random bits for each index of a stream. (N,) whole numbers -> (N,) uint64."""
    z = np.asarray(index).astype(np.uint64).reshape(-1)
    z = np.uint64(stream) + np.uint64(GOLDEN) * (z + np.uint64(1))
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def uniform(stream: int, index: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1) with 53 random bits. (N,) whole numbers -> (N,) float64."""
    return (bits(stream, index) >> np.uint64(11)) * 2.0**-53


def normal(stream: int, index: np.ndarray) -> np.ndarray:
    """Numbers from N(0, 1), of two uniform ones each (Box and Muller 1958). (N,) whole numbers -> (N,) float64."""
    radius, angle = uniform(key(stream, 0), index), uniform(key(stream, 1), index)
    return np.sqrt(-2 * np.log1p(-radius)) * np.cos(2 * np.pi * angle)


def uniform_at(*path: int) -> float:
    """One number in [0, 1)."""
    return (key(*path) >> 11) * 2.0**-53


def generator(*path: int) -> np.random.Generator:
    """numpy's generator of a stream, for distributions that are not written here."""
    return np.random.Generator(np.random.Philox(key=key(*path)))


def order(stream: int, n: int) -> np.ndarray:
    """A permutation of 0 ... n-1, int64."""
    return np.argsort(bits(stream, np.arange(n)), kind="stable")


class Parts(Protocol):
    """An order that is too long to be stored, or better made where it is read."""

    def __len__(self) -> int: ...

    def part(self, start: int, stop: int) -> np.ndarray:
        """The numbers at positions start ... stop-1, int64."""


def part(order: np.ndarray | Parts, start: int, stop: int) -> np.ndarray:
    """The numbers at positions start ... stop-1 of an order of either kind, int64."""
    return order[start:stop] if isinstance(order, np.ndarray) else order.part(start, stop)


class Permutation:
    """A permutation of 0 ... n-1 that is read part by part.

    Up to ten million numbers it is `order`, made at the first reading. A longer one is computed where it is read, in
    no more memory than the part: a Feistel network on the next power of two, gone through again while the number that
    comes out is n or more (cycle walking; Black and Rogaway 2002, "Ciphers with arbitrary finite domains").
    """

    def __init__(self, stream: int, n: int):
        self.stream, self.n = stream, n
        self._stored: np.ndarray | None = None

    def __len__(self) -> int:
        return self.n

    def part(self, start: int, stop: int) -> np.ndarray:
        """The numbers at positions start ... stop-1, int64."""
        if self.n <= STORED:
            if self._stored is None:
                self._stored = order(self.stream, self.n)
            return self._stored[start:stop]
        numbers = self._through(np.arange(start, min(stop, self.n), dtype=np.uint64))
        while len(outside := np.flatnonzero(numbers >= self.n)):
            numbers[outside] = self._through(numbers[outside])
        return numbers.astype(np.int64)

    def _through(self, numbers: np.ndarray) -> np.ndarray:
        """Once through the network: a permutation of 0 ... 2^width - 1, whatever the halves' functions are."""
        width = (self.n - 1).bit_length()
        low = np.uint64(width // 2)
        masks = np.uint64(2 ** (width // 2) - 1), np.uint64(2 ** (width - width // 2) - 1)
        halves = [numbers & masks[0], numbers >> low]
        for i in range(ROUNDS):
            one, other = i % 2, 1 - i % 2
            halves[one] = halves[one] ^ (bits(key(self.stream, ROUND, i), halves[other]) & masks[one])
        return halves[0] | (halves[1] << low)


class Balanced:
    """Draws with replacement, every class that has an image equally likely, read part by part.

    labels (N,) whole numbers; there are as many draws as images.
    """

    def __init__(self, stream: int, labels: np.ndarray):
        self.stream = stream
        self.sorted = np.argsort(labels, kind="stable")
        _, self.first, self.images = np.unique(labels[self.sorted], return_index=True, return_counts=True)

    def __len__(self) -> int:
        return len(self.sorted)

    def part(self, start: int, stop: int) -> np.ndarray:
        """The images drawn at positions start ... stop-1, int64."""
        at = np.arange(start, min(stop, len(self)))
        which = (uniform(key(self.stream, BALANCE, 0), at) * len(self.first)).astype(np.int64)
        within = (uniform(key(self.stream, BALANCE, 1), at) * self.images[which]).astype(np.int64)
        return self.sorted[self.first[which] + within]


def _mixed(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)
