"""Timing of many cases in turns, so that a drift of the machine falls on all alike.

The method follows the forward-time chart of Canziani, Paszke and Culurciello (2017, arXiv 1605.07678): evaluation
mode, batch sizes in powers of two, a missing point where memory does not suffice.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from statistics import quantiles
from time import perf_counter

import numpy as np
import torch

from ..memory.kept import returned_memory
from ..result import Timing

ROUNDS = 10
ENOUGH = 5  # rounds after which a spread of SPREAD ends them
FEW = 3  # rounds that are enough for cases that have taken PATIENCE times their budget
PATIENCE = 5
SPREAD = 0.05  # quartile range over median
STEADY = 1.1  # warm-up ends with a call that is at most this much slower than the fastest so far
WARM_UP = 3
SEED = 0
WORDS = ("can't allocate memory", "not enough memory", "failed to allocate memory", "bad_alloc", "bad allocation")


@dataclass
class Point:
    """One case at one batch size: the call that is timed, and what the calls so far took, in seconds.

    `keeps`: its engine lets the whole process keep memory between calls, as long as it is open.
    """

    batch: int
    call: Callable[[], None]
    taken: list[float] = field(default_factory=list)
    keeps: bool = False

    @property
    def spread(self) -> float:
        low, middle, high = self._quartiles()
        return (high - low) / middle

    def timing(self, peak_bytes: int | None = None, joules: float | None = None) -> Timing:
        low, middle, high = (1000 * t for t in self._quartiles())
        return Timing(self.batch, middle, low, high, len(self.taken), peak_bytes, joules)

    def _quartiles(self) -> tuple[float, float, float]:
        if len(self.taken) == 1:
            return (self.taken[0],) * 3
        low, middle, high = quantiles(self.taken, n=4, method="inclusive")
        return low, middle, high

    def once(self) -> float:
        begin = perf_counter()
        self.call()
        return perf_counter() - begin

    def warm_up(self, seconds: float) -> None:
        """Calls until one is steady, or `seconds` have passed. A call may raise what `out_of_memory` knows."""
        taken = [self.once()]
        while len(taken) < WARM_UP or (taken[-1] > STEADY * min(taken) and sum(taken) < seconds):
            taken.append(self.once())

    def slice(self, seconds: float) -> None:
        """Calls for `seconds`, at least one. The first after another case counts only where it fills the slice."""
        first = self.once()
        if first >= seconds:
            self.taken.append(first)
            return
        end = perf_counter() + seconds - first
        self.taken.append(self.once())
        while perf_counter() < end:
            self.taken.append(self.once())


def mixed(points: Sequence[Point]) -> bool:
    return len({p.keeps for p in points}) > 1


def as_alone(point: Point, among: Sequence[Point]) -> AbstractContextManager[None]:
    """What a point is run in, so that memory kept for others among them does not make it faster."""
    return returned_memory() if mixed(among) and not point.keeps else nullcontext()


def in_rounds(points: Sequence[Point], seconds: float, progress: Callable[[str], None]) -> int:
    """Gives every point a slice of each round, and returns how many rounds there were.

    They end when every point's quartile range is at most SPREAD of its median, after ROUNDS (`seconds` a point), or
    after PATIENCE times that where single calls are longer than a slice. Those whose engine keeps memory come after the
    others in a round, and a call that is not counted goes before each: it finds memory that is not kept yet.
    """
    sides = [own for keeps in (False, True) if (own := [p for p in points if p.keeps == keeps])]
    end = perf_counter() + PATIENCE * seconds * len(points)
    for done in range(ROUNDS):
        if done >= FEW and perf_counter() > end:
            return done
        if done >= ENOUGH and all(p.spread <= SPREAD for p in points):
            return done
        progress(f"round {done + 1} of at most {ROUNDS}")
        for side in sides:
            with as_alone(side[0], points):
                for point in side:
                    if len(sides) > 1:
                        point.call()
                    point.slice(seconds / ROUNDS)
    return ROUNDS


def spread_words(points: Sequence[Point]) -> str:
    """Which of a case's batch sizes reached the stated spread, and for which the time ended first."""
    wide = [p for p in points if p.spread > SPREAD]
    if not wide:
        return f"quartile range at most {100 * SPREAD:g} % of the median at every batch size"
    named = ", ".join(str(p.batch) for p in wide)
    return f"quartile range above {100 * SPREAD:g} % of the median when the time ended: batch {named}"


def images(batch: int, shape: tuple[int, int, int]) -> np.ndarray:
    """The same random images for every network of that input, drawn apart from the global random state.

    float32 (batch,channels,height,width).
    """
    return np.random.default_rng(SEED).standard_normal((batch, *shape), dtype=np.float32)


def out_of_memory(error: Exception) -> bool:
    """CPU allocators raise a plain RuntimeError, known by its words; accelerators have a class for it."""
    said = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(w in said for w in WORDS)
