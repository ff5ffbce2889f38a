"""Whether a new run may take an old one's place: no worse beyond the interval, no slower and no larger than allowed."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import hypot

from .. import units
from ..errors import BadData, UsageError
from ..record import to_json
from ..result import Accuracy, Timing
from .difference import LEVEL, difference, p_told, paired, points_interval, signed
from .entries import Curve, Entry, images_clash, place

DROP, SLOWER, LARGER = 0.0, 1.1, 1.0


@dataclass(frozen=True)
class Allowed:
    """How much worse B may be than A. None: what is usual, and what has no figures does not fail."""

    max_drop: float | None = None  # of top-1 accuracy, as a share of one; usual 0
    max_slower: float | None = None  # times A's median forward time; usual 1.1
    max_larger: float | None = None  # times A's bytes of weights; usual 1
    batch: int = 1  # images in the batch that max_slower is about


@dataclass(frozen=True)
class Check:
    name: str
    passed: bool | None  # None: there are no figures to tell
    asked: bool  # its limit was given, so that it fails without figures
    told: str  # the figures in words

    @property
    def fails(self) -> bool:
        return self.passed is False or (self.passed is None and self.asked)

    @property
    def state(self) -> str:
        return "FAILED" if self.fails else "passed" if self.passed else "not measured"


@dataclass(frozen=True)
class Gate:
    """The three checks of B against A."""

    a: str
    b: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """No check fails, and one at least has figures."""
        return not any(c.fails for c in self.checks) and any(c.passed for c in self.checks)

    @property
    def failed(self) -> str:
        """Which checks fail, in words; "" where none does."""
        if self.passed:
            return ""
        return " and ".join(c.name for c in self.checks if c.fails) or "nothing that can be compared was measured"

    @property
    def exit_code(self) -> int:
        return 0 if self.passed else 1

    def as_text(self) -> str:
        width = max(len(c.name) for c in self.checks)
        lines = [f"  {c.name:<{width}}  {c.state}: {c.told}" for c in self.checks]
        verdict = "passes" if self.passed else f"does not pass ({self.failed})"
        return "\n".join((f"{self.b} against {self.a}: {verdict}", *lines))

    def as_json(self) -> str:
        checks = [{f: getattr(c, f) for f in Check.__dataclass_fields__} | {"fails": c.fails} for c in self.checks]
        return to_json({"a": self.a, "b": self.b, "passed": self.passed, "failed": self.failed, "checks": checks})


def gate(a: Entry, b: Entry, allowed: Allowed) -> Gate:
    """Checks accuracy, forward time and size of B against A's.

    Accuracy fails where the 95 % interval of the difference lies wholly below the allowed drop: paired on the same
    images with McNemar's p below 0.05 where both runs have their answers, else Newcombe's of two separate samples.
    Times are compared on one machine, engine and precision.

    Raises UsageError for a limit that none can have, and BadData where the accuracies are of different images.
    """
    for name, least in (("max_drop", 0.0), ("max_slower", 0.0), ("max_larger", 0.0)):
        value = getattr(allowed, name)
        if value is not None and not value >= least:
            raise UsageError(f"{name} is {value:g}; it must be 0 or more")
    if allowed.max_drop is not None and allowed.max_drop >= 1:
        raise UsageError(f"max_drop is {allowed.max_drop:g}; it is a share of one, write 0.01 for one point")
    if allowed.batch < 1:
        raise UsageError(f"batch is {allowed.batch}; it must be 1 or more")
    if clash := images_clash((a, b)):
        raise BadData(f"cannot compare {a.name} and {b.name}: {clash}; `convatlas evaluate` both on the same data")
    return Gate(a.name, b.name, (_accuracy(a, b, allowed), _time(a, b, allowed), _size(a, b, allowed)))


def _accuracy(a: Entry, b: Entry, allowed: Allowed) -> Check:
    asked, drop = allowed.max_drop is not None, allowed.max_drop or DROP
    lacking = [e.name for e in (a, b) if not e.accuracy]
    if lacking or not a.accuracy or not b.accuracy:
        return Check("accuracy", None, asked, f"no accuracy of {' and of '.join(lacking)}; `convatlas evaluate` them")
    told = f"{units.of(b.accuracy.correct, b.accuracy.images)} right against "
    told += units.of(a.accuracy.correct, a.accuracy.images)
    if paired(a, b):
        d = difference(b, a)
        figures = f"paired difference {signed(d.points)} points, 95 % interval {points_interval(d.low, d.high)}"
        figures += f", {p_told(d.p)}"
        worse = d.high < -drop and d.p < LEVEL
    else:
        low, high = newcombe(b.accuracy, a.accuracy)
        points = signed(100 * (b.accuracy.top1 - a.accuracy.top1))
        figures = f"difference {points} points, 95 % interval {points_interval(low, high)}, not paired"
        worse = high < -drop
    limit = f"; the interval may not lie below {signed(-100 * drop)} points" if worse else ""
    return Check("accuracy", not worse, asked, f"{told}; {figures}{limit}")


def newcombe(a: Accuracy, b: Accuracy) -> tuple[float, float]:
    """95 % interval of A's share right less B's, of two separate samples (Newcombe 1998, method 10)."""
    (low_a, high_a), (low_b, high_b), d = a.interval, b.interval, a.top1 - b.top1
    return d - hypot(a.top1 - low_a, high_b - b.top1), d + hypot(high_a - a.top1, b.top1 - low_b)


def _time(a: Entry, b: Entry, allowed: Allowed) -> Check:
    asked, most = allowed.max_slower is not None, SLOWER if allowed.max_slower is None else allowed.max_slower
    found = next(_alike(a, b, allowed.batch), None)
    if found is None:
        told = f"no times at batch {allowed.batch} on one machine and engine; `convatlas measure` both there"
        return Check("time", None, asked, told)
    curve, old, new = found
    ratio = new.median_ms / old.median_ms
    told = f"{units.milliseconds(new.median_ms)} against {units.milliseconds(old.median_ms)} at batch {allowed.batch} "
    told += f"({curve.engine}, {curve.precision}), {ratio:.3f} times; allowed {most:g}"
    return Check("time", ratio <= most, asked, told)


def _alike(a: Entry, b: Entry, batch: int) -> Iterator[tuple[Curve, Timing, Timing]]:
    """Where both were timed in the same way, in the order of A's curves."""
    for x in a.measured:
        for y in b.measured:
            if (x.engine, x.precision, place(x.machine)) == (y.engine, y.precision, place(y.machine)):
                old, new = x.timing(batch), y.timing(batch)
                if old and new:
                    yield x, old, new


def _size(a: Entry, b: Entry, allowed: Allowed) -> Check:
    asked, most = allowed.max_larger is not None, LARGER if allowed.max_larger is None else allowed.max_larger
    lacking = [e.name for e in (a, b) if not e.weights_bytes]
    if lacking:
        return Check("size", None, asked, f"no size of the weights of {' and of '.join(lacking)}")
    ratio = b.weights_bytes / a.weights_bytes
    told = f"{units.size(b.weights_bytes)} of weights against {units.size(a.weights_bytes)}, {ratio:.3f} times"
    return Check("size", ratio <= most, asked, f"{told}; allowed {most:g}")
