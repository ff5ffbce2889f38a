"""Random numbers as a pure function of where they are used, so that batch size, workers and resuming change nothing.

A counter goes through splitmix64's finaliser (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
OOPSLA 2014); its output passes BigCrush, and any number of the stream can be had without those before it.
"""

import numpy as np

GOLDEN = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio, the step of splitmix64's counter
MASK = 2**64 - 1

# What a number is drawn for: two uses never share a stream.
ORDER, SPLIT, FLIP, SHIFT, AREA, SIDE = range(1, 7)


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


def order(stream: int, n: int) -> np.ndarray:
    """A permutation of 0 ... n-1, int64."""
    return np.argsort(bits(stream, np.arange(n)), kind="stable")


def _mixed(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)
