"""Forward time, memory and energy against the batch size: a line for each run and engine, both axes logarithmic.

After Canziani, Paszke and Culurciello (2017, arXiv 1605.07678, figures 3 to 6).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from .. import units
from ..compare import Comparison, Curve, Entry
from ..layout import Cell, Column
from ..result import Timing
from . import figures
from .chart import Chart
from .figures import NONE
from .labels import ends_layer, place_ends, reserve
from .look import PHONE, Look, axis, shine, span, tooltip
from .scatter import VALUES, drawn, of_field, points

LINES = (
    *([1, 0], [6, 4], [2, 2.5], [9, 3, 2, 3], [12, 4], [4, 2, 1, 2, 1, 2], [1.5, 5], [8, 2]),
    *([3, 6], [14, 3, 3, 3], [5, 1.5], [10, 8]),
)
MANY = 100  # points, from which a screen reader is given the table alone
Line = tuple[Entry, Curve, tuple[Timing, ...]]


def time_against_batch(comparison: Comparison, language: str = "en") -> Chart | None:
    """Median forward time over batch size, with the quartiles as bars. None without timings."""
    look = Look(comparison, language)
    lines = _lines(comparison.entries, lambda t: t.median_ms)
    if not lines:
        return None
    first = min(t.batch for _, _, timings in lines for t in timings)
    timed = [(e, t) for e, _, timings in lines for t in timings if t.batch == first]
    fast, time = min(timed, key=lambda pair: pair[1].median_ms)
    description = look.say(
        "Line chart of {count}: median forward time against batch size from {first} to {last}, bars from the first to "
        "the third quartile. Fastest at batch {first}: {fast} with {time}.",
        **_facts(lines, look),
        fast=look.name(fast),
        time=units.milliseconds(time.median_ms),
    )
    graph = Graph(lines, "ms", look.say("Forward time of a batch, ms"), {}, ("first", "third"))
    columns = [Column(look.say("run")), *figures.timing_columns(look)]
    rows = [[look.name(e), *figures.timing_cells(c, t, look)] for e, c, timings in lines for t in timings]
    spec = _drawn(graph, description, look)
    return Chart("time-batch", look.say("Forward time against batch size"), description, spec, columns, rows)


def memory_against_batch(comparison: Comparison, language: str = "en") -> Chart | None:
    """Peak memory of the process over batch size; a dotted rule is the process without the network. None without."""
    look = Look(comparison, language)
    lines = _lines(comparison.entries, lambda t: t.peak_bytes)
    if not lines:
        return None
    first = min(t.batch for _, _, timings in lines for t in timings)
    peaks = [(e, t.peak_bytes or 0) for e, _, timings in lines for t in timings if t.batch == first]
    least, peak = min(peaks, key=lambda pair: pair[1])
    bare = _bare(lines)
    description = look.say(
        "Line chart of {count}: peak memory against batch size from {first} to {last}. Least at batch {first}: {least} "
        "with {peak}.",
        **_facts(lines, look),
        least=look.name(least),
        peak=units.size(peak),
    )
    if bare:
        told = ", ".join(f"{units.size(size)} ({name})" for name, size in bare.items())
        description += look.say(" Dotted: the process without a network, {told}.", told=told)
    graph = Graph(
        lines, "peak", look.say("Peak memory, MB"), {"peak": (look.say("Peak memory, MB"), ".4r")}, None, bare
    )
    columns = [Column(look.say("run")), *figures.timing_columns(look)]
    columns.insert(-1, Column(look.say("without the network"), True))
    rows: list[list[Cell]] = []
    for e, c, timings in lines:
        for t in timings:
            *cells, machine = figures.timing_cells(c, t, look)
            rows.append([look.name(e), *cells, units.size(c.bare_bytes) if c.bare_bytes else NONE, machine])
    spec = _drawn(graph, description, look)
    return Chart("memory-batch", look.say("Memory against batch size"), description, spec, columns, rows)


def energy_against_batch(comparison: Comparison, language: str = "en") -> Chart | None:
    """Energy of one image over batch size, above idle, where a counter gave it. None where none did."""
    look = Look(comparison, language)
    lines = _lines(comparison.entries, lambda t: t.joules)
    if not lines:
        return None
    each = [(e, t, (t.joules or 0) / t.batch) for e, _, timings in lines for t in timings]
    least, at, joules = min(each, key=lambda found: found[2])
    description = look.say(
        "Line chart of {count}: energy of one image against batch size from {first} to {last}. Least: {least} with "
        "{joules} J at batch {batch}.",
        **_facts(lines, look),
        least=look.name(least),
        joules=units.count(joules),
        batch=at.batch,
    )
    fields = {"joules": (look.say("Energy of one image, J"), ".3r"), "counter": (look.say("Counter"), "")}
    graph = Graph(lines, "joules", look.say("Energy of one image, J"), fields)
    columns = [Column(look.say("run")), Column(look.say("engine")), Column(look.say("batch"), True)]
    columns += [Column(look.say("energy of one image"), True), Column(look.say("of the batch"), True)]
    columns += [Column(look.say("counter")), Column(look.say("machine"))]
    rows: list[list[Cell]] = [
        [
            *(look.name(e), figures.engine(c), t.batch),
            *(f"{units.count(j)} J" for j in ((t.joules or 0) / t.batch, float(t.joules or 0))),
            *(figures.counter(c), figures.machine(c.machine, look)),
        ]
        for e, c, timings in lines
        for t in timings
    ]
    spec = _drawn(graph, description, look)
    return Chart("energy-batch", look.say("Energy against batch size"), description, spec, columns, rows)


def _lines(entries: Sequence[Entry], figure: Callable[[Timing], float | None]) -> list[Line]:
    """Each entry's curves with the timings that have the figure."""
    found = [(e, c, tuple(t for t in c.timings if figure(t))) for e in entries for c in e.measured]
    return [line for line in found if line[2]]


def _facts(lines: Sequence[Line], look: Look) -> dict[str, Any]:
    batches = [t.batch for _, _, timings in lines for t in timings]
    entries = list({e.name: e for e, _, _ in lines}.values())
    return {"count": look.count(entries), "first": min(batches), "last": max(batches)}


def _bare(lines: Sequence[Line]) -> dict[str, int]:
    """By engine, the memory of its process without a network; a median, since each run's was measured anew."""
    sizes: dict[str, list[int]] = {}
    for _, c, _ in lines:
        if c.bare_bytes:
            sizes.setdefault(figures.engine(c), []).append(c.bare_bytes)
    return {name: int(median(found)) for name, found in sizes.items()}


# ---- Drawing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Graph:
    """Lines of a field over batch size."""

    lines: list[Line]
    field: str
    title: str
    fields: dict[str, tuple[str, str]]  # of the tooltip, beside the timing's
    interval: tuple[str, str] | None = None
    bare: dict[str, int] | None = None  # bytes of the process without a network, by engine


def _drawn(graph: Graph, description: str, look: Look) -> dict[str, Any]:
    import altair as alt

    values = [_value(e, c, t, look) for e, c, timings in graph.lines for t in timings]
    entries = list({e.name: e for e, _, _ in graph.lines}.values())
    bare = {name: size / 1e6 for name, size in (graph.bare or {}).items()}
    spread = [v[f] for v in values for f in (graph.field, *(graph.interval or ()))]
    ends = span([*spread, *bare.values()])
    named = place_ends(_ends(graph, values, look), graph.field, ends)
    x = _batch_axis(values, reserve([v["run"] for v in named]), look)
    y = axis(alt.Y, graph.field, graph.title, ends, look)
    fields = figures.timing_fields(look) | graph.fields
    base = alt.Chart(alt.NamedData(VALUES)).encode(x=x, tooltip=tooltip(fields))
    coloured = base.encode(color=look.channel(alt.Color, entries, "colour", listed=False))
    engines = list(dict.fromkeys(v["engine"] for v in values))
    layers = _rules(bare, graph.field, y, look) if bare else []
    line = coloured.mark_line(aria=False, strokeWidth=2, opacity=shine(1)).encode(y=y, detail="engine:N")
    layers.append(line.encode(strokeDash=_dashes(engines, look)) if len(engines) > 1 else line)
    if graph.interval:
        low, high = graph.interval
        rule = coloured.mark_rule(aria=False, strokeWidth=1.5, opacity=shine(1))
        layers.append(rule.encode(y=of_field(y, low), y2=f"{high}:Q"))
    layers += [points(base, y, entries, look, told=len(values) <= MANY), ends_layer(named, x, y)]
    return drawn(layers, values, description)


def _value(e: Entry, c: Curve, t: Timing, look: Look) -> dict[str, Any]:
    more: dict[str, Any] = {}
    if t.peak_bytes:
        more["peak"] = t.peak_bytes / 1e6
    if t.joules:
        more |= {"joules": t.joules / t.batch, "counter": figures.counter(c)}
    return figures.timing_value(e, c, t, look) | more


def _ends(graph: Graph, values: Sequence[dict[str, Any]], look: Look) -> list[dict[str, Any]]:
    """The last point of each entry's first line, which bears its name."""
    firsts = {look.name(e): figures.engine(c) for e, c, _ in reversed(graph.lines)}
    mine = [[v for v in values if (v["run"], v["engine"]) == pair] for pair in firsts.items()]
    last = [max(points, key=lambda v: v["batch"]) for points in mine]
    widest = max(v["batch"] for v in values)
    return [v for v in last if v["batch"] == widest]  # the name of a shorter line would stand among the others


def _batch_axis(values: Sequence[dict[str, Any]], room: float, look: Look) -> Any:
    """Batch sizes to the base of two, with pixels at the right for the names; none on a phone."""
    import altair as alt

    batches = sorted({v["batch"] for v in values})
    low, high = batches[0] / 1.15, batches[-1] * 1.15
    far = f"{low} * pow({high / low}, width / (width - {room}))"
    scale = alt.Scale(
        type="log", base=2, nice=False, domainMin=low, domainMax=alt.expr(f"width < {PHONE} ? {high} : {far}")
    )
    title = look.say("{title} (log scale)", title=look.say("Batch size, images"))
    return alt.X("batch:Q", title=title, scale=scale, axis=alt.Axis(values=batches, format="d"))


def _dashes(engines: Sequence[str], look: Look) -> Any:
    import altair as alt

    patterns = [LINES[i % len(LINES)] for i in range(len(engines))]
    legend = alt.Legend(orient="bottom", symbolType="stroke", symbolSize=500, symbolStrokeWidth=2, columns=4)
    scale = alt.Scale(domain=list(engines), range=patterns)
    return alt.StrokeDash("engine:N", title=look.say("Engine"), scale=scale, legend=legend)


def _rules(bare: dict[str, float], field: str, y: Any, look: Look) -> list[Any]:
    """Dotted rules at the memory of the process without a network, by engine; the lowest is named."""
    import altair as alt

    words = look.say("process without a network")
    values = [{"what": f"{words}, {name}", field: size} for name, size in bare.items()]
    tip = [alt.Tooltip("what:N", title=look.say("Memory")), alt.Tooltip(f"{field}:Q", title="MB", format=".4r")]
    rule = alt.Chart(alt.Data(values=values)).mark_rule(strokeDash=[1, 4], strokeWidth=1.5, color="currentColor")
    lowest = [{"what": words, field: min(bare.values())}]
    text = alt.Chart(alt.Data(values=lowest)).mark_text(
        align="left", baseline="top", dx=2, dy=4, fontSize=11, color="currentColor", opacity=0.8
    )
    return [rule.encode(y=y, tooltip=tip), text.encode(x=alt.value(0), y=y, text="what:N")]
