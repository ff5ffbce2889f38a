"""Measurements as tables for a terminal: a table a source, its engines side by side."""

from collections.abc import Callable, Sequence
from itertools import groupby

from .. import units
from ..layout import Cell, Column, text
from ..result import Result, Timing
from .archive import Slower

CLOSE = 1.03  # times the fastest median, up to which an engine counts as as fast
FASTEST, AS_FAST = " *", " ="
LEGEND = "* fastest at this batch size, = as fast (within 3 %)"


def summary(result: Result) -> str:
    """One measurement as a table for a terminal, with the machine and the method under it."""
    return f"{_head(result)}\n\n{_details(result)}\n\n{_foot([result])}"


def summaries(results: Sequence[Result], slower: Sequence[Sequence[Slower]] = ()) -> str:
    """All measurements, those of one source in one table, and below what got slower, the machine and the methods."""
    blocks = []
    for _, of_one in groupby(results, lambda r: (r.source, r.network, r.input)):
        own = list(of_one)
        blocks.append(_head(own[0]))
        blocks += [_details(own[0])] if len(own) == 1 else _side_by_side(own)
    flagged = [f"slower: {slower_words(r, s)}" for r, own in zip(results, slower, strict=False) for s in own]
    return "\n\n".join([*blocks, *(["\n".join(flagged)] if flagged else []), _foot(results)])


def slower_words(result: Result, found: Slower) -> str:
    before, after = units.milliseconds(found.before_ms), units.milliseconds(found.now_ms)
    return (
        f"{_case(result, True)}, batch {found.batch}: {after}, {found.times:.2f} times the {before} of {found.when} "
        "on this machine"
    )


def _head(result: Result) -> str:
    of = f" ({result.source})" if result.source not in ("", result.network) else ""
    shape, macs = units.shape(result.input), units.count(result.macs, "MACs")
    return f"{result.network}{of}, input {shape}: {macs} an image"


def _details(result: Result) -> str:
    names = ["batch", "median", "quartiles", "repeats", "images/s"]
    shown: list[tuple[str, Callable[[Timing], str]]] = []
    if any(t.peak_bytes is not None for t in result.timings):
        shown.append(("peak memory", _peak))
    if any(t.joules is not None for t in result.timings):
        shown.append(("energy an image", _energy))
    columns = [Column(c, True) for c in (*names, *(name for name, _ in shown))]
    rows: list[list[Cell]] = [
        [
            t.batch,
            units.milliseconds(t.median_ms),
            _quartiles(t),
            t.repeats,
            units.count(t.images_per_second),
            *(show(t) for _, show in shown),
        ]
        for t in result.timings
    ]
    return text(columns, rows)


def _side_by_side(results: Sequence[Result]) -> list[str]:
    """A table each of time, memory and energy, as far as they were measured: a row a batch size, a column a case."""
    tables = [_table("forward time: median and quartiles", results, _time), LEGEND]
    if any(t.peak_bytes is not None for r in results for t in r.timings):
        tables.append(_table("peak memory of a process", results, lambda t, _: _peak(t)))
    if any(t.joules is not None for r in results for t in r.timings):
        tables.append(_table("energy of an image above idle", results, lambda t, _: _energy(t)))
    return tables


def _table(title: str, results: Sequence[Result], show: Callable[[Timing, float], str]) -> str:
    """`show` is given a timing and the fastest median at its batch size."""
    columns = [Column("batch", True), *(Column(_case(r), True) for r in results)]
    by_case = [{t.batch: t for t in r.timings} for r in results]
    rows: list[list[Cell]] = []
    for batch in sorted(set().union(*by_case)):
        at = [case.get(batch) for case in by_case]
        fastest = min(t.median_ms for t in at if t is not None)
        rows.append([batch, *("not measured" if t is None else show(t, fastest) for t in at)])
    return f"{title}\n{text(columns, rows)}"


def _time(timing: Timing, fastest: float) -> str:
    close = AS_FAST if timing.median_ms <= CLOSE * fastest else "  "
    mark = FASTEST if timing.median_ms == fastest else close
    return f"{units.milliseconds(timing.median_ms)} ({_quartiles(timing)}){mark}"


def _quartiles(timing: Timing) -> str:
    low, high = units.milliseconds(timing.low_ms), units.milliseconds(timing.high_ms)
    return f"{low} to {high}"


def _peak(timing: Timing) -> str:
    return "not measured" if timing.peak_bytes is None else units.size(timing.peak_bytes)


def _energy(timing: Timing) -> str:
    return "not measured" if timing.joules is None else units.count(timing.joules / timing.batch, "J")


def _case(result: Result, network: bool = False) -> str:
    case = f"{result.engine} {result.precision}"
    return f"{result.source or result.network}, {case}" if network else case


def _foot(results: Sequence[Result]) -> str:
    """Machines, methods, loading and energy, each said once."""
    machines, rest = [], []
    several = len(results) > 1
    for r in results:
        m = r.machine
        machines.append(
            f"{m.processor}, {m.device}, {m.threads} thread{'s' * (m.threads != 1)}, "
            f"torch {r.versions.get('torch', '?')}"
        )
    for method, group in groupby(sorted(results, key=lambda r: r.method), lambda r: r.method):
        of = "; ".join(_case(r, True) for r in group)
        rest.append(f"{of}: {method}" if several else method)
    rest += [_loading(r) for r in results if r.loading is not None]
    rest += [f"energy: {r.energy}" for r in results if r.energy]
    return "\n".join(dict.fromkeys([*machines, *rest]))


def _loading(r: Result) -> str:
    found = r.loading
    assert found is not None
    low, high = units.milliseconds(found.low_ms), units.milliseconds(found.high_ms)
    return (
        f"{r.source}: loading and preprocessing take {units.milliseconds(found.median_ms)} an image "
        f"({low} to {high}) on one thread, {found.of}"
    )
