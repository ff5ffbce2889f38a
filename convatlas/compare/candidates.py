"""The figures of each run as a choice sees them: which limits it breaks, and which runs no other beats."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf

from .. import units
from ..result import Accuracy
from .entries import Curve, Entry

COMMON = ("torch", "fp32")  # engine and precision that need no word


@dataclass(frozen=True)
class Limits:
    """What the classifier may cost and must reach; None sets no limit. A figure that equals its limit fits."""

    max_ms: float | None = None  # median forward time of one batch
    max_mb: float | None = None  # weights, in 10^6 bytes
    min_accuracy: float | None = None  # top-1, as a share of one
    batch: int = 1  # images in the batch that max_ms, max_joule and max_memory_mb are about
    max_joule: float | None = None  # energy of one batch, above idle
    max_memory_mb: float | None = None  # largest memory of a process that classifies one batch, in 10^6 bytes

    def as_text(self) -> str:
        at = f"at batch {self.batch}"
        parts = []
        if self.max_ms is not None:
            parts.append(f"at most {self.max_ms:g} ms {at}")
        if self.max_joule is not None:
            parts.append(f"at most {self.max_joule:g} J a batch {at}")
        if self.max_memory_mb is not None:
            parts.append(f"at most {self.max_memory_mb:g} MB of memory {at}")
        if self.max_mb is not None:
            parts.append(f"at most {self.max_mb:g} MB of weights")
        if self.min_accuracy is not None:
            parts.append(f"accuracy at least {100 * self.min_accuracy:g} %")
        return ", ".join(parts)

    @property
    def of_a_machine(self) -> bool:
        """Whether a limit is about a figure that depends on the machine."""
        return not (self.max_ms is None and self.max_joule is None and self.max_memory_mb is None)


@dataclass(frozen=True)
class Candidate:
    """One run's figures as the choice sees them, with the engine and precision that suit the limits best."""

    name: str
    correct: int
    images: int
    low: float  # Wilson's 95 % interval, as shares of one
    high: float
    ms: float | None  # median forward time at the limits' batch; None: not measured
    mb: float | None
    over: tuple[str, ...]  # the limits that it breaks, in words
    excess: float  # the largest share by which it breaks one; 0 for none
    complete: bool  # has every figure that the limits ask for
    pareto: bool = False  # no other run is as good in accuracy, time and size (and energy) and better in one of them
    engine: str = ""  # that ms, joules and memory_mb are of; "" where nothing was measured at that batch
    precision: str = ""
    joules: float | None = None
    memory_mb: float | None = None

    @property
    def accuracy(self) -> float:
        return self.correct / self.images

    @property
    def fits(self) -> bool:
        return self.complete and not self.over

    @property
    def way(self) -> str:
        """ "onnxruntime, bf16"; "" for what is common."""
        return "" if (self.engine, self.precision) in (COMMON, ("", "")) else f"{self.engine} in {self.precision}"

    def better(self, other: "Candidate") -> float:
        """Percentage points of accuracy that this one is ahead."""
        return 100 * (self.accuracy - other.accuracy)

    def overlaps(self, other: "Candidate") -> bool:
        return self.low <= other.high and other.low <= self.high


def candidate(e: Entry, accuracy: Accuracy, limits: Limits) -> Candidate:
    """Of the engines that were measured at the limits' batch, the fastest that keeps them; else the nearest to them."""
    timed: list[Curve | None] = [c for c in e.measured if c.timing(limits.batch)]
    found = [_with(e, accuracy, limits, curve) for curve in timed or [None]]
    return min(found, key=lambda c: (not c.complete, c.excess, inf if c.ms is None else c.ms))


def _with(e: Entry, accuracy: Accuracy, limits: Limits, curve: Curve | None) -> Candidate:
    timing = curve.timing(limits.batch) if curve else None
    ms = timing.median_ms if timing else None
    joules = timing.joules if timing else None
    memory = timing.peak_bytes / 1e6 if timing and timing.peak_bytes is not None else None
    mb = e.weights_bytes / 1e6 if e.weights_bytes else None
    asked = (
        (ms, limits.max_ms, units.milliseconds, ""),
        (joules, limits.max_joule, _joules, ""),
        (memory, limits.max_memory_mb, megabytes, " of memory"),
        (mb, limits.max_mb, megabytes, ""),
    )
    shares, over = [0.0], []
    for value, limit, show, of in asked:
        if value is not None and limit is not None and value > limit:
            shares.append(value / limit - 1)
            over.append(f"{show(value)}{of} is {show(value - limit)} ({_share(shares[-1])}) over {show(limit)}")
    floor = limits.min_accuracy
    if floor is not None and accuracy.top1 < floor:
        shares.append(1 - accuracy.top1 / floor)
        below = 100 * (floor - accuracy.top1)
        over.append(f"{100 * accuracy.top1:.1f} % right is {below:.1f} points below {100 * floor:g} %")
    low, high = accuracy.interval
    return Candidate(
        name=e.name,
        correct=accuracy.correct,
        images=accuracy.images,
        low=low,
        high=high,
        ms=ms,
        mb=mb,
        over=tuple(over),
        excess=max(shares),
        complete=all(value is not None for value, limit, _, _ in asked if limit is not None),
        engine=curve.engine if curve else "",
        precision=curve.precision if curve else "",
        joules=joules,
        memory_mb=memory,
    )


def megabytes(mb: float) -> str:
    return units.size(mb * 1e6)


def _joules(joules: float) -> str:
    return units.count(joules, "J")


def _share(excess: float) -> str:
    return f"{100 * excess:.0f} %" if excess >= 0.01 else "under 1 %"


def order(c: Candidate) -> tuple[float, float, float, str]:
    """Most accurate first; of equals the faster, then the smaller."""
    return -c.accuracy, inf if c.ms is None else c.ms, inf if c.mb is None else c.mb, c.name


def undominated(candidates: Sequence[Candidate]) -> set[str]:
    """Names of those with accuracy, time and size that no other beats: as good in all of them and better in one.

    Energy counts too where all of them have it.
    """
    whole = [c for c in candidates if c.ms is not None and c.mb is not None]
    axes = all(c.joules is not None for c in whole)
    points: dict[tuple[float, ...], list[str]] = {}
    for c in whole:
        points.setdefault(tuple(_figures(c, axes)), []).append(c.name)
    front: list[tuple[float, ...]] = []
    # Whatever beats a point comes before it in this order, so it is enough to look at the front so far.
    for point in sorted(points):
        if not any(all(a <= b for a, b in zip(f, point, strict=True)) for f in front):
            front.append(point)
    return {name for point in front for name in points[point]}


def _figures(c: Candidate, energy: bool) -> Iterator[float]:
    """Less is better."""
    assert c.ms is not None and c.mb is not None
    yield from (-c.accuracy, c.ms, c.mb)
    if energy and c.joules is not None:
        yield c.joules
