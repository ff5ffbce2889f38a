"""The order in which an epoch goes through shards: mixed, and yet read almost from front to back."""

import numpy as np

from .. import draws

WINDOW = 4  # shards whose images are mixed with one another; ours: 4 GB at 1 GB a shard, what a page cache holds
SHARDS, WITHIN = 1, 2  # what a number is drawn for


class Order:
    """A seeded permutation of shards, cut into windows of at most WINDOW, and each window's images in seeded order.

    `shard` (N,) says in which shard each image lies. Every window is a pure function of (stream, its number), so any
    part of the order can be had without those before it; what is kept is a few numbers a shard and the window that
    was read last, in which the next batch lies too.
    """

    def __init__(self, shard: np.ndarray, stream: int):
        self._stream = stream
        self._last: tuple[int, np.ndarray] | None = None
        count = int(shard.max()) + 1 if len(shard) else 0
        # Images mostly lie in the order of their shards; else a list of them is needed.
        ordered = bool((shard[1:] >= shard[:-1]).all())
        self._members = None if ordered else np.argsort(shard, kind="stable")
        in_order = shard if self._members is None else shard[self._members]
        self._starts = np.searchsorted(in_order, np.arange(count + 1, dtype=shard.dtype))
        sizes = np.diff(self._starts)
        present = np.flatnonzero(sizes)
        turns = present[draws.order(draws.key(stream, SHARDS), len(present))]
        self.windows = np.array_split(turns, -(-len(turns) // WINDOW)) if len(turns) else []
        self._ends = np.cumsum([int(sizes[window].sum()) for window in self.windows], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def part(self, start: int, stop: int) -> np.ndarray:
        """Image numbers at the places start to stop of the order, int64."""
        start, stop = max(start, 0), min(stop, len(self))
        found = [np.zeros(0, np.int64)]
        first = int(np.searchsorted(self._ends, start, side="right"))
        for number in range(first, len(self.windows)):
            begins = int(self._ends[number - 1]) if number else 0
            if begins >= stop:
                break
            found.append(self._window(number)[max(start - begins, 0) : stop - begins])
        return np.concatenate(found)

    def _window(self, number: int) -> np.ndarray:
        if self._last is None or self._last[0] != number:
            self._last = number, self._draw(number)
        return self._last[1]

    def _draw(self, number: int) -> np.ndarray:
        places = np.concatenate([np.arange(self._starts[s], self._starts[s + 1]) for s in self.windows[number]])
        members = places if self._members is None else self._members[places]
        return members[draws.order(draws.key(self._stream, WITHIN, number), len(members))]
