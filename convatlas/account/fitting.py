"""The input that fits, for a clash that the input's size decides: looked for with a few more walks."""

from collections.abc import Callable, Sequence
from math import inf

from ..units import shape as times
from .field import Shape

PROBES = 12
GROWTH = 4
LARGEST = 4096  # pixels a side
Probe = Callable[[list[Shape]], float | None]


def fitting(shapes: Sequence[Shape], gap: float, probe: Probe) -> str | None:
    """Words on an input with which the network works, or None.

    `probe` says how much too large the network finds what depends on the input: 0 where it fits, below 0 where it is
    too small, -inf where a window does not fit, None where something else goes wrong.
    """
    maps = [s for s in shapes if len(s) > 3 or (len(s) == 3 and gap == -inf)]
    if not maps:
        return None
    first = min(n for s in maps for n in s[2:])
    seen: dict[int, float] = {first: gap}

    def sized(side: int) -> list[Shape]:
        """Grown, only what is smaller grows; shrunk, all in proportion."""
        return [
            s if len(s) < 3 else (*s[:2], *(max(n, side) if side > first else round(n * side / first) for n in s[2:]))
            for s in shapes
        ]

    def tried(side: int) -> float | None:
        if side not in seen:
            found = probe(sized(side)) if len(seen) <= PROBES and side <= LARGEST else None
            if found is None:
                return None
            seen[side] = found
        return seen[side]

    low, high = _bounds(first, gap, tried)
    while high and high - low > 1:
        middle = (low + high) // 2
        found = tried(middle)
        if found is None:
            break
        low, high = (middle, high) if found < 0 else (low, middle)
    return _told(seen, low, sized)


def _bounds(first: int, gap: float, tried: Callable[[int], float | None]) -> tuple[int, int]:
    """A side that is too small and one that is not; the second is 0 where there is none."""
    if gap > 0:
        return (0, first) if tried(max(first // 2, 1)) != gap else (0, 0)
    low, side = first, first * GROWTH
    while (found := tried(side)) is not None:
        if found >= 0:
            return low, side
        if found == gap != -inf:
            break  # it does not depend on the input
        low, side = side, side * GROWTH
    return low, 0


def _told(seen: dict[int, float], low: int, sized: Callable[[int], list[Shape]]) -> str | None:
    works = [side for side, gap in seen.items() if gap == 0]
    if works:
        best = min(works)
        shown = " and ".join(times(s[2:] if len(s) > 2 else s) for s in sized(best))
        return f"the smallest input that works is {shown}" if low == best - 1 else f"an input of {shown} works"
    passes = [side for side, gap in seen.items() if gap > -inf]
    if passes and min(seen.values()) == -inf:
        return f"an input of {' and '.join(times(s[2:]) for s in sized(min(passes)))} is large enough here"
    return None
