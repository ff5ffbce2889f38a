"""What every benchmark shares: both sides in turns within one run, medians with quartiles, and the machine.

Timings on a busy machine wander by a factor of two between runs, so only ratios taken from the same turns are claimed.
"""

import gc
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from statistics import median, quantiles

from convatlas.result import this_machine, versions
from convatlas.units import size


@dataclass(frozen=True)
class Spread:
    """Milliseconds."""

    low: float  # first quartile
    median: float
    high: float  # third quartile

    def __str__(self) -> str:
        return f"{self.median:,.2f} ({self.low:,.2f} to {self.high:,.2f})"


def in_turns(
    sides: dict[str, Callable[[], object]],
    repeats: int,
    warm_up: int = 1,
    around: dict[str, Callable[[], AbstractContextManager[None]]] | None = None,
) -> dict[str, list[float]]:
    """Milliseconds of each call: every side once, then every side again; the garbage of one is not paid by the next.

    What is `around` a side is entered anew in each turn, and the first call in it is not timed: in a loop it stands
    outside and is paid once.
    """
    for side in sides.values():
        for _ in range(warm_up):
            side()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            gc.collect()
            with around[name]() if around and name in around else nullcontext():
                if around:
                    side()
                begin = time.perf_counter()
                side()
                times[name].append(1000 * (time.perf_counter() - begin))
    return times


def spread(values: list[float]) -> Spread:
    low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return Spread(low, median(values), high)


def ratio(slow: list[float], fast: list[float]) -> Spread:
    """How many times longer, turn by turn; here the three figures are plain numbers."""
    return spread([a / b for a, b in zip(slow, fast, strict=True)])


def machine_line(*packages: str) -> str:
    machine = this_machine()
    found = versions(("torch", "torchvision", *packages))
    return f"{machine.processor}, {machine.cores} cores, {size(machine.memory_bytes)}, {machine.system}; " + ", ".join(
        f"{name} {version}" for name, version in found.items()
    )
