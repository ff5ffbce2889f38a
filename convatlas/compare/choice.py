"""The best measured run under a budget, and what it costs to take it."""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .. import units
from ..errors import BadData, UsageError
from ..layout import Cell, Column, text
from ..record import to_json
from ..uncollected import uncollected
from .candidates import Candidate, Limits, candidate, megabytes, order, undominated
from .comparison import Comparison, missing_text
from .difference import Difference, difference, p_told, paired, points_interval
from .entries import FORWARD_TIME, Entry, Missing, images_clash, machines

WORTH = 1.1  # a saving below this ratio is not worth a word
SHOWN = 20  # candidates and reasons of one kind in a text; all are in the JSON


@dataclass(frozen=True)
class GivenUp:
    """A run that is more accurate than the pick, and what keeps it out of the budget."""

    name: str
    points: float  # percentage points above the pick
    why: tuple[str, ...]
    too_close: bool  # it may not be better at all: by a paired test, else since the intervals overlap
    p: float | None = None  # of the paired test; None: the two have no answers to the same images


@dataclass(frozen=True)
class TooClose:
    """A run within the budget that is not known to be worse: by a paired test, else since the intervals overlap."""

    name: str
    points: float  # percentage points below the pick
    saves: str  # what it would save against the pick, in words; "" for nothing
    images: int = 0  # of the paired test; 0: the two have no answers to the same images
    p: float | None = None
    low: float | None = None  # 95 % interval of the difference, as shares of one
    high: float | None = None


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
        blocks = [self.verdict]
        if self.candidates:
            columns, rows = self.table()
            blocks.append(text(columns, rows[:SHOWN]))
        if len(self.candidates) > SHOWN:
            blocks.append(f"{len(self.candidates) - SHOWN:,} more runs are in the JSON.")
        told = [f"- {heading}: {sentence}" for heading, sentence in self.reasons()]
        told += [f"- Warning: {warning}." for warning in self.warnings]
        blocks += ["\n".join(told)] if told else []
        return "\n\n".join([*blocks, missing_text(self.missing)] if self.missing else blocks)

    def table(self) -> tuple[list[Column], list[list[Cell]]]:
        """Columns and rows, a row a candidate; engine, energy and memory have a column where they matter."""
        at = f"batch {self.limits.batch}"
        columns = [Column("run"), Column("accuracy"), Column("95 % interval"), Column(f"time, {at}", True)]
        columns += [Column("engine")] if self._engines else []
        columns += [Column(f"energy, {at}", True)] if self._energy else []
        columns += [Column(f"memory, {at}", True)] if self.limits.max_memory_mb is not None else []
        columns += [Column("weights", True), Column("budget"), Column("Pareto set")]
        return columns, [self._row(c) for c in self.candidates]

    @property
    def _engines(self) -> bool:
        return any(c.way for c in self.candidates)

    @property
    def _energy(self) -> bool:
        return self.limits.max_joule is not None or any(c.joules is not None for c in self.candidates)

    def _row(self, c: Candidate) -> list[Cell]:
        state = "chosen" if c.name == self.pick else "fits" if c.fits else "over" if c.over else "not measured"
        row: list[Cell] = [c.name, units.of(c.correct, c.images), f"{100 * c.low:.1f} to {100 * c.high:.1f} %"]
        row.append(units.milliseconds(c.ms) if c.ms is not None else "—")
        row += [f"{c.engine}, {c.precision}" if c.engine else "—"] if self._engines else []
        if self._energy:
            row.append(units.count(c.joules, "J") if c.joules is not None else "—")
        if self.limits.max_memory_mb is not None:
            row.append(megabytes(c.memory_mb) if c.memory_mb is not None else "—")
        row.append(megabytes(c.mb) if c.mb is not None else "—")
        return [*row, state, "yes" if c.pareto else "no" if None not in (c.ms, c.mb) else "—"]

    def reasons(self) -> list[tuple[str, str]]:
        """What was given up, what is too close to call, and what else to know: a heading and a sentence each."""
        told = [("Given up", _given_up_text(g)) for g in self.given_up[:SHOWN]]
        told += _more("Given up", len(self.given_up))
        told += [("Too close to call", self._too_close_text(t)) for t in self.too_close[:SHOWN]]
        told += _more("Too close to call", len(self.too_close))
        if any(t.p is None for t in self.too_close):
            told.append(("To decide", "a paired test on the same images, or more images, could tell them apart."))
        return told + [("Note", f"{note}.") for note in self.notes]

    def _too_close_text(self, t: TooClose) -> str:
        ahead = f"is {t.points:.1f} points behind {self.pick}" if t.points else f"is as accurate as {self.pick}"
        saves = f" It {t.saves}." if t.saves else ""
        if t.p is None or t.low is None or t.high is None:
            return f"{t.name} {ahead}, and the 95 % intervals overlap.{saves}"
        figures = f"95 % interval {points_interval(t.low, t.high)} points, {p_told(t.p)}"
        return f"{t.name} {ahead}, and a paired test on {t.images:,} images cannot tell them apart ({figures}).{saves}"


def _given_up_text(g: GivenUp) -> str:
    why = "the 95 % intervals overlap" if g.p is None else f"a paired test cannot tell them apart ({p_told(g.p)})"
    doubt = f"; {why}, so it may be no better" if g.too_close else ""
    return f"{g.name} is {g.points:.1f} points more accurate, but {' and '.join(g.why)}{doubt}."


def _more(heading: str, count: int) -> list[tuple[str, str]]:
    return [(heading, f"{count - SHOWN:,} more, which the JSON names.")] if count > SHOWN else []


def choose(comparison: Comparison, limits: Limits) -> Choice:
    """The most accurate run within the limits (of equals the faster, then the smaller), with all that it costs.

    Of each run the fastest engine that keeps the limits counts. What is too close to call is decided by a paired test
    where two runs have answers to the same images, else by whether the intervals overlap.

    Raises UsageError for a limit that no figure can have and where there is no run to choose; BadData where the runs'
    accuracies (or, with a limit on time, energy or memory, their machines) are not the same.
    """
    with uncollected():
        return _choose(comparison, limits)


def _choose(comparison: Comparison, limits: Limits) -> Choice:
    entries = {e.name: e for e in comparison.entries if e.accuracy}
    _check(comparison, list(entries.values()), limits)
    found = [candidate(e, e.accuracy, limits) for e in entries.values() if e.accuracy]
    alike = len(set(machines(entries.values()))) < 2
    best = undominated(found) if alike else set()
    candidates = sorted((replace(c, pareto=True) if c.name in best else c for c in found), key=order)
    pick = next((c for c in candidates if c.fits), None)
    near = min((c for c in candidates if c.complete), key=lambda c: c.excess, default=None) if pick is None else None
    return Choice(
        limits=limits,
        verdict=_verdict(candidates, pick, near, limits),
        pick=pick.name if pick else None,
        nearest=near.name if near else None,
        candidates=tuple(candidates),
        given_up=tuple(_given_up(candidates, pick, entries)) if pick else (),
        too_close=tuple(_too_close(candidates, pick, entries, alike)) if pick else (),
        notes=tuple(_notes(entries[pick.name], pick, limits)) if pick else (),
        warnings=comparison.warnings,
        missing=tuple(_unknown(comparison, limits)),
    )


def _check(comparison: Comparison, judged: Sequence[Entry], limits: Limits) -> None:
    for name in ("max_ms", "max_mb", "max_joule", "max_memory_mb", "batch"):
        value = getattr(limits, name)
        if value is not None and not value > 0:
            raise UsageError(f"{name} is {value:g}; a limit must be above 0")
    if limits.min_accuracy is not None and not 0 <= limits.min_accuracy <= 1:
        raise UsageError(f"min_accuracy is {limits.min_accuracy:g}; it is a share of one, write 0.9 for 90 %")
    if not judged and not any(e.mark == "run" for e in comparison.entries):
        raise UsageError(
            "nothing to choose from: no accuracy was measured of any of these; give run folders too, which "
            "`convatlas train NETWORK DATA --out RUN` makes"
        )
    if clash := images_clash(judged):
        raise BadData(f"cannot choose: {clash}; `convatlas evaluate` each run on the same data")
    timed = list(dict.fromkeys(machines(judged)))
    if limits.of_a_machine and len(timed) > 1:
        what = "time" if limits.max_ms is not None else "energy" if limits.max_joule is not None else "memory"
        raise BadData(
            f"cannot choose by {what}: measured on {' and on '.join(timed)}; `convatlas measure` all on one machine"
        )


def _verdict(candidates: Sequence[Candidate], pick: Candidate | None, near: Candidate | None, limits: Limits) -> str:
    count = sum(c.complete for c in candidates)
    of = f"{count:,} measured runs" if count != 1 else "the one measured run"
    budget = limits.as_text()
    if pick:
        facts = [f"{units.of(pick.correct, pick.images)} right"]
        way = f" with {pick.way}" if pick.way else ""
        facts += [f"{units.milliseconds(pick.ms)} at batch {limits.batch}{way}"] if pick.ms is not None else []
        facts += [f"{units.count(pick.joules, 'J')} a batch"] if pick.joules is not None else []
        if limits.max_memory_mb is not None and pick.memory_mb is not None:
            facts.append(f"{megabytes(pick.memory_mb)} of memory")
        facts += [f"{megabytes(pick.mb)} of weights"] if pick.mb is not None else []
        within = f" within the budget ({budget})" if budget else ""
        if count == 1:
            return f"The one measured run, {pick.name}, {'is' + within if within else 'gets'}: {', '.join(facts)}."
        return f"Of {of}, {pick.name} is the most accurate{within}: {', '.join(facts)}."
    if near:
        none = f"None of {of} fits" if count > 1 else "The one measured run does not fit"
        return f"{none} the budget ({budget}); the nearest is {near.name}: {' and '.join(near.over)}."
    return f"No run has been measured for {f'the budget ({budget})' if budget else 'its accuracy'}."


def _test(a: Entry, b: Entry) -> Difference | None:
    return difference(a, b) if paired(a, b) else None


def _given_up(candidates: Sequence[Candidate], pick: Candidate, entries: dict[str, Entry]) -> Iterator[GivenUp]:
    for c in candidates:
        if c.accuracy > pick.accuracy and c.over:
            test = _test(entries[c.name], entries[pick.name])
            close = not test.decided if test else c.overlaps(pick)
            yield GivenUp(c.name, c.better(pick), c.over, close, test.p if test else None)


def _too_close(
    candidates: Sequence[Candidate], pick: Candidate, entries: dict[str, Entry], alike: bool
) -> Iterator[TooClose]:
    """`alike`: the times are of one machine."""
    for c in candidates:
        if c is pick or not c.fits:
            continue
        test = _test(entries[pick.name], entries[c.name])
        if test.decided if test else not c.overlaps(pick):
            continue
        saves = []
        if alike and c.ms and pick.ms and pick.ms > WORTH * c.ms:
            saves.append(f"is {pick.ms / c.ms:.1f} times as fast")
        if c.mb and pick.mb and pick.mb > WORTH * c.mb:
            saves.append(f"has weights {pick.mb / c.mb:.1f} times smaller")
        told = (test.images, test.p, test.low, test.high) if test else (0, None, None, None)
        yield TooClose(c.name, pick.better(c), " and ".join(saves), *told)


def _notes(e: Entry, pick: Candidate, limits: Limits) -> Iterable[str]:
    if limits.min_accuracy is not None and pick.low < limits.min_accuracy:
        floor = f"{100 * limits.min_accuracy:g} %"
        yield f"{pick.name}: its 95 % interval begins at {100 * pick.low:.1f} %, below the asked {floor}"
    used = [c for c in e.measured if (c.engine, c.precision) == (pick.engine, pick.precision)]
    timing = used[0].timing(limits.batch) if used else None
    if timing and limits.max_ms is not None and timing.high_ms > limits.max_ms:
        high = units.milliseconds(timing.high_ms)
        yield f"{pick.name}: a quarter of its calls took {high} or more, though the median keeps the limit"
    if pick.precision not in ("", "fp32"):
        yield f"{pick.name}: its time is in {pick.precision}, its accuracy was measured in fp32 and may differ"


def _unknown(comparison: Comparison, limits: Limits) -> Iterator[Missing]:
    yield from (m for m in comparison.missing if m.what != FORWARD_TIME)
    at = f"at batch {limits.batch}"
    for e in comparison.entries:
        if e.mark != "run" and e.accuracy is None:
            yield Missing(e.name, "accuracy", f"convatlas train {e.network} DATA")
            continue
        timed = [t for c in e.measured if (t := c.timing(limits.batch))]
        sizes = ",".join(map(str, sorted({*(t.batch for t in e.timings), limits.batch})))
        command = f"convatlas measure {shlex.quote(e.folder)} --batch {sizes}"
        if not timed:
            yield Missing(e.name, f"{FORWARD_TIME} {at}", command)
            continue
        if limits.max_joule is not None and all(t.joules is None for t in timed):
            why = next((f" ({c.energy})" for c in e.measured if c.energy), "")
            yield Missing(e.name, f"energy {at}{why}", command)
        if limits.max_memory_mb is not None and all(t.peak_bytes is None for t in timed):
            yield Missing(e.name, f"peak memory {at}", command)
