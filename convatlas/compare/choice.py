"""The best measured run under a budget, and what it costs to take it."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from .. import units
from ..errors import BadData, UsageError
from ..layout import Cell, Column, text
from ..record import to_json
from ..result import Accuracy
from .runs import FORWARD_TIME, Comparison, Entry, Missing, images_clash, machines

WORTH = 1.1  # a saving below this ratio is not worth a word


@dataclass(frozen=True)
class Limits:
    """What the classifier may cost and must reach; None sets no limit. A figure that equals its limit fits."""

    max_ms: float | None = None  # median forward time of one batch
    max_mb: float | None = None  # weights, in 10^6 bytes
    min_accuracy: float | None = None  # top-1, as a share of one
    batch: int = 1  # the batch that max_ms is about

    def as_text(self) -> str:
        parts = []
        if self.max_ms is not None:
            parts.append(f"at most {self.max_ms:g} ms at batch {self.batch}")
        if self.max_mb is not None:
            parts.append(f"at most {self.max_mb:g} MB of weights")
        if self.min_accuracy is not None:
            parts.append(f"accuracy at least {100 * self.min_accuracy:g} %")
        return ", ".join(parts)


@dataclass(frozen=True)
class Candidate:
    """One run's figures as the choice sees them."""

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
    pareto: bool = False  # no other run is as good in accuracy, time and size and better in one of them

    @property
    def accuracy(self) -> float:
        return self.correct / self.images

    @property
    def fits(self) -> bool:
        return self.complete and not self.over

    def better(self, other: "Candidate") -> float:
        """Percentage points of accuracy that this one is ahead."""
        return 100 * (self.accuracy - other.accuracy)

    def overlaps(self, other: "Candidate") -> bool:
        return self.low <= other.high and other.low <= self.high


@dataclass(frozen=True)
class GivenUp:
    """A run that is more accurate than the pick, and what keeps it out of the budget."""

    name: str
    points: float  # percentage points above the pick
    why: tuple[str, ...]
    too_close: bool  # the intervals overlap: it may not be better at all


@dataclass(frozen=True)
class TooClose:
    """A run within the budget whose 95 % interval overlaps the pick's."""

    name: str
    points: float  # percentage points below the pick
    saves: str  # what it would save against the pick, in words; "" for nothing


@dataclass(frozen=True)
class Choice:
    limits: Limits
    verdict: str
    pick: str | None
    nearest: str | None  # when nothing fits: the run whose worst excess is the smallest share of its limit
    candidates: tuple[Candidate, ...]  # the runs with an accuracy, best first
    given_up: tuple[GivenUp, ...]
    too_close: tuple[TooClose, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]  # the comparison's
    missing: tuple[Missing, ...]

    @property
    def pareto(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.candidates if c.pareto)

    @property
    def exit_code(self) -> int:
        """1 when no run fits the budget."""
        return 0 if self.pick else 1

    def as_json(self) -> str:
        record: dict[str, Any] = {f: getattr(self, f) for f in self.__dataclass_fields__}
        fits = [c.name for c in self.candidates if c.fits]
        return to_json({**record, "fits": fits, "pareto": self.pareto, "budget": self.limits.as_text()})

    def as_text(self) -> str:
        blocks = [self.verdict, text(*self.table())] if self.candidates else [self.verdict]
        told = [f"- {heading}: {sentence}" for heading, sentence in self.reasons()]
        told += [f"- Warning: {warning}." for warning in self.warnings]
        blocks += ["\n".join(told)] if told else []
        lines = [f"  {m.run}: {m.what}; `{m.command}`" for m in self.missing]
        return "\n\n".join([*blocks, "\n".join(("Not measured:", *lines))] if lines else blocks)

    def table(self) -> tuple[list[Column], list[list[Cell]]]:
        """Columns and rows, a row a candidate."""
        columns = [Column("run"), Column("accuracy"), Column("95 % interval")]
        columns += [Column(f"time, batch {self.limits.batch}", True), Column("weights", True)]
        columns += [Column("budget"), Column("Pareto set")]
        return columns, [self._row(c) for c in self.candidates]

    def _row(self, c: Candidate) -> list[Cell]:
        state = "chosen" if c.name == self.pick else "fits" if c.fits else "over" if c.over else "not measured"
        return [
            c.name,
            units.of(c.correct, c.images),
            f"{100 * c.low:.1f} to {100 * c.high:.1f} %",
            units.milliseconds(c.ms) if c.ms is not None else "—",
            units.size(c.mb * 1e6) if c.mb is not None else "—",
            state,
            "yes" if c.pareto else "no" if None not in (c.ms, c.mb) else "—",
        ]

    def reasons(self) -> list[tuple[str, str]]:
        """What was given up, what is too close to call, and what else to know: a heading and a sentence each."""
        told = []
        for g in self.given_up:
            doubt = "; the 95 % intervals overlap, so it may be no better" if g.too_close else ""
            sentence = f"{g.name} is {g.points:.1f} points more accurate, but {' and '.join(g.why)}{doubt}."
            told.append(("Given up", sentence))
        for t in self.too_close:
            ahead = f"is {t.points:.1f} points behind {self.pick}" if t.points else f"is as accurate as {self.pick}"
            saves = f" It {t.saves}." if t.saves else ""
            sentence = f"{t.name} {ahead}, and the 95 % intervals overlap.{saves}"
            told.append(("Too close to call", sentence))
        if self.too_close:
            told.append(("To decide", "a paired test on the same images, or more images, could tell them apart."))
        return told + [("Note", f"{note}.") for note in self.notes]


def choose(comparison: Comparison, limits: Limits) -> Choice:
    """The most accurate run within the limits (of equals the faster, then the smaller), with all that it costs.

    Raises UsageError for a limit that no figure can have, and BadData where the runs' accuracies (or, with `max_ms`,
    their times) do not mean the same.
    """
    _check(comparison, limits)
    found = [_candidate(e, e.accuracy, limits) for e in comparison.entries if e.accuracy]
    candidates = sorted((replace(c, pareto=_undominated(c, found)) for c in found), key=_order)
    pick = next((c for c in candidates if c.fits), None)
    near = min((c for c in candidates if c.complete), key=lambda c: c.excess, default=None) if pick is None else None
    return Choice(
        limits=limits,
        verdict=_verdict(candidates, pick, near, limits),
        pick=pick.name if pick else None,
        nearest=near.name if near else None,
        candidates=tuple(candidates),
        given_up=tuple(_given_up(candidates, pick)) if pick else (),
        too_close=tuple(_too_close(candidates, pick)) if pick else (),
        notes=tuple(_notes(comparison, pick, limits)),
        warnings=comparison.warnings,
        missing=tuple(_unknown(comparison, limits)),
    )


def _check(comparison: Comparison, limits: Limits) -> None:
    for name, value in (("max_ms", limits.max_ms), ("max_mb", limits.max_mb), ("batch", limits.batch)):
        if value is not None and not value > 0:
            raise UsageError(f"{name} is {value:g}; a limit must be above 0")
    if limits.min_accuracy is not None and not 0 <= limits.min_accuracy <= 1:
        raise UsageError(f"min_accuracy is {limits.min_accuracy:g}; it is a share of one, write 0.9 for 90 %")
    if clash := images_clash(comparison.entries):
        raise BadData(f"cannot choose: {clash}; `convatlas evaluate` each run on the same data")
    timed = machines(comparison.entries)
    if limits.max_ms is not None and len(set(timed)) > 1:
        raise BadData(
            f"cannot choose by time: measured on {' and on '.join(timed)}; `convatlas measure` all on one machine"
        )


def _candidate(e: Entry, accuracy: Accuracy, limits: Limits) -> Candidate:
    timing = e.timing(limits.batch)
    ms = timing.median_ms if timing else None
    mb = e.weights_bytes / 1e6 if e.weights_bytes else None
    shares, over = [0.0], []
    for value, limit, show in ((ms, limits.max_ms, units.milliseconds), (mb, limits.max_mb, _megabytes)):
        if value is not None and limit is not None and value > limit:
            shares.append(value / limit - 1)
            over.append(f"{show(value)} is {show(value - limit)} ({_share(shares[-1])}) over {show(limit)}")
    floor = limits.min_accuracy
    if floor is not None and accuracy.top1 < floor:
        shares.append(1 - accuracy.top1 / floor)
        below = 100 * (floor - accuracy.top1)
        over.append(f"{100 * accuracy.top1:.1f} % right is {below:.1f} points below {100 * floor:g} %")
    complete = (limits.max_ms is None or ms is not None) and (limits.max_mb is None or mb is not None)
    low, high = accuracy.interval
    return Candidate(e.name, accuracy.correct, accuracy.images, low, high, ms, mb, tuple(over), max(shares), complete)


def _megabytes(mb: float) -> str:
    return units.size(mb * 1e6)


def _share(excess: float) -> str:
    return f"{100 * excess:.0f} %" if excess >= 0.01 else "under 1 %"


def _order(c: Candidate) -> tuple[float, float, float, str]:
    """Most accurate first; of equals the faster, then the smaller."""
    return -c.accuracy, inf if c.ms is None else c.ms, inf if c.mb is None else c.mb, c.name


def _undominated(c: Candidate, others: Sequence[Candidate]) -> bool:
    """Whether `c` has all three figures and no other run is at least as good in all and better in one."""
    if c.ms is None or c.mb is None:
        return False
    mine = (-c.accuracy, c.ms, c.mb)
    rest = [(-o.accuracy, o.ms, o.mb) for o in others if o.ms is not None and o.mb is not None]
    return not any(r != mine and all(a <= b for a, b in zip(r, mine, strict=True)) for r in rest)


def _verdict(candidates: Sequence[Candidate], pick: Candidate | None, near: Candidate | None, limits: Limits) -> str:
    count = sum(c.complete for c in candidates)
    of = f"{count} measured runs" if count != 1 else "the one measured run"
    budget = limits.as_text()
    if pick:
        facts = [f"{units.of(pick.correct, pick.images)} right"]
        facts += [f"{units.milliseconds(pick.ms)} at batch {limits.batch}"] if pick.ms is not None else []
        facts += [f"{_megabytes(pick.mb)} of weights"] if pick.mb is not None else []
        within = f" within the budget ({budget})" if budget else ""
        if count == 1:
            return f"The one measured run, {pick.name}, {'is' + within if within else 'gets'}: {', '.join(facts)}."
        return f"Of {of}, {pick.name} is the most accurate{within}: {', '.join(facts)}."
    if near:
        none = f"None of {of} fits" if count > 1 else "The one measured run does not fit"
        return f"{none} the budget ({budget}); the nearest is {near.name}: {' and '.join(near.over)}."
    return f"No run has been measured for {f'the budget ({budget})' if budget else 'its accuracy'}."


def _given_up(candidates: Sequence[Candidate], pick: Candidate) -> Iterable[GivenUp]:
    for c in candidates:
        if c.accuracy > pick.accuracy and c.over:
            yield GivenUp(c.name, c.better(pick), c.over, c.overlaps(pick))


def _too_close(candidates: Sequence[Candidate], pick: Candidate) -> Iterable[TooClose]:
    for c in candidates:
        if c is not pick and c.fits and c.overlaps(pick):
            saves = []
            if c.ms and pick.ms and pick.ms > WORTH * c.ms:
                saves.append(f"is {pick.ms / c.ms:.1f} times as fast")
            if c.mb and pick.mb and pick.mb > WORTH * c.mb:
                saves.append(f"has weights {pick.mb / c.mb:.1f} times smaller")
            yield TooClose(c.name, pick.better(c), " and ".join(saves))


def _notes(comparison: Comparison, pick: Candidate | None, limits: Limits) -> Iterable[str]:
    entry = next((e for e in comparison.entries if pick and e.name == pick.name), None)
    if pick is None or entry is None:
        return
    if limits.min_accuracy is not None and pick.low < limits.min_accuracy:
        floor = f"{100 * limits.min_accuracy:g} %"
        yield f"{pick.name}: its 95 % interval begins at {100 * pick.low:.1f} %, below the asked {floor}"
    timing = entry.timing(limits.batch)
    if timing and limits.max_ms is not None and timing.high_ms > limits.max_ms:
        high = units.milliseconds(timing.high_ms)
        yield f"{pick.name}: a quarter of its calls took {high} or more, though the median keeps the limit"


def _unknown(comparison: Comparison, limits: Limits) -> Iterable[Missing]:
    yield from (m for m in comparison.missing if m.what != FORWARD_TIME)
    for e in comparison.entries:
        if e.timing(limits.batch) is None:
            sizes = ",".join(map(str, sorted({*(t.batch for t in e.timings), limits.batch})))
            command = f"convatlas measure {shlex.quote(e.folder)} --batch {sizes}"
            yield Missing(e.name, f"{FORWARD_TIME} at batch {limits.batch}", command)
