"""Accuracy by itself and per million parameters, against operations and against forward time.

After Canziani, Paszke and Culurciello, "An Analysis of Deep Neural Network Models for Practical Applications" (2017,
arXiv 1605.07678, figures 1, 2 and 10): accuracy, accuracy over operations, information density.
"""

from collections.abc import Sequence
from typing import Any

from .. import units
from ..compare import Comparison
from ..layout import Cell, Column
from ..result import Timing
from . import figures
from .bars import bars
from .chart import Chart
from .figures import NONE, Known
from .look import Look, Span, span
from .scatter import Dimension, Plot, drawn, scatter


def accuracy_bars(comparison: Comparison, language: str = "en") -> Chart | None:
    """Top-1 accuracy of each entry that has one, the best first, with Wilson's 95 % intervals. None without any."""
    look = Look(comparison, language)
    known = _sorted(figures.accuracies(comparison.entries))
    if not known:
        return None
    values = [figures.accuracy_value(k, look) for k in known]
    for k, v in zip(known, values, strict=True):
        v |= {"value": v["accuracy"], "outer": v.get("high", v["accuracy"]), "end": units.percent(k.top1)}
    best = known[0]
    description = look.say(
        "Bar chart of {count}: top-1 accuracy, sorted, with 95 % intervals where it was measured. "
        "Most accurate: {best} with {accuracy}.",
        count=look.count([k.entry for k in known]),
        best=look.name(best.entry),
        accuracy=units.percent(best.top1),
    )
    columns = [Column(c) for c in _accuracy_columns(look)]
    rows = [figures.accuracy_cells(k, look) for k in known]
    title, fields = _accuracy_title(known, look), figures.accuracy_fields(look, known)
    spec = bars(known, values, title, fields, description, look, share=True)
    return Chart("accuracy", look.say("Accuracy"), description, spec, columns, rows)


def accuracy_per_parameter(comparison: Comparison, language: str = "en") -> Chart | None:
    """Percentage points of top-1 accuracy per million parameters, the densest first. None without accuracies.

    Canziani's "information density". The interval is that of the accuracy, divided alike.
    """
    look = Look(comparison, language)
    known = [k for k in figures.accuracies(comparison.entries) if k.entry.params > 0 and k.top1 > 0]
    if not known:
        return None
    known.sort(key=lambda k: (-_density(k, k.top1), k.entry.name))
    values = [figures.accuracy_value(k, look) for k in known]
    for k, v in zip(known, values, strict=True):
        v["value"] = _density(k, k.top1)
        v |= {end: _density(k, share) for end, share in (("low", k.low), ("high", k.high)) if share is not None}
        v |= {"outer": v.get("high", v["value"]), "end": _points(v["value"])}
    best = known[0]
    description = look.say(
        "Chart of {count}: percentage points of top-1 accuracy per million parameters, sorted, with 95 % intervals "
        "where it was measured. Densest: {best} with {density}.",
        count=look.count([k.entry for k in known]),
        best=look.name(best.entry),
        density=values[0]["end"],
    )
    columns = [Column(c) for c in _accuracy_columns(look)]
    columns += [Column(look.say("parameters"), True), Column(look.say("points per million"), True)]
    columns.append(Column(look.say("95 % interval of it"), True))
    rows = [
        [*figures.accuracy_cells(k, look), k.entry.params, v["end"], _density_range(k, look)]
        for k, v in zip(known, values, strict=True)
    ]
    fields = figures.accuracy_fields(look, known) | {"end": (look.say("Points per million parameters"), "")}
    title = look.say("Points of accuracy per million parameters")
    spec = bars(known, values, title, fields, description, look)
    return Chart("density", look.say("Accuracy per million parameters"), description, spec, columns, rows)


def accuracy_against_macs(comparison: Comparison, language: str = "en") -> Chart | None:
    """Accuracy with its interval over MACs; the bubble's area is the number of parameters. None without accuracies.

    Networks of the catalogue without an accuracy stand on the lower edge, so that their operations can be seen.
    """
    look = Look(comparison, language)
    known = [k for k in figures.accuracies(comparison.entries) if k.entry.macs > 0]
    if not known:
        return None
    values = [figures.accuracy_value(k, look) for k in known]
    ends = _accuracy_span(values)
    bare = [e for e in comparison.entries if e.mark == "catalogue" and e.printed_top1 is None and e.macs > 0]
    for e in bare:
        on_edge = figures.accuracy_value(Known(e, 0.0), look)
        values.append({**on_edge, "accuracy": ends.low, "told": NONE, "small": True})
    entries = [*(k.entry for k in known), *bare]
    best = max(known, key=lambda k: k.top1)
    description = look.say(
        "Bubble chart of {count}: top-1 accuracy against multiply-adds of one image. The area of a bubble is the "
        "number of parameters; bars are 95 % intervals. Most accurate: {best}, {accuracy} with {macs}.",
        count=look.count(entries),
        best=look.name(best.entry),
        accuracy=units.percent(best.top1),
        macs=units.count(best.entry.macs, "MACs"),
    )
    macs = Dimension("macs", look.say("Multiply-adds of one image, MACs"), span([e.macs for e in entries]), "~s")
    accuracy = Dimension("accuracy", _accuracy_title(known, look), ends, interval=("low", "high"))
    bubble = ("parameters", look.say("Parameters"))
    plot = Plot(entries, values, macs, accuracy, figures.accuracy_fields(look, known), bubble)
    columns = [Column(c) for c in _accuracy_columns(look)]
    columns += [Column(look.say("MACs"), True), Column(look.say("parameters"), True)]
    rows: list[list[Cell]] = [[*figures.accuracy_cells(k, look), k.entry.macs, k.entry.params] for k in known]
    rows += [[look.name(e), figures.kind(e, look), NONE, NONE, NONE, e.macs, e.params] for e in bare]
    spec = drawn(scatter(plot, look), values, description)
    return Chart("accuracy-macs", look.say("Accuracy against operations"), description, spec, columns, rows)


def accuracy_against_time(comparison: Comparison, language: str = "en", batch: int = 1) -> Chart | None:
    """Accuracy over the forward time of one batch by each one's fastest engine, with intervals both ways.

    The bubble's area is the peak memory where all have it, else the number of parameters. None without accuracies that
    have a time.
    """
    look = Look(comparison, language)
    found = figures.timed_accuracies(comparison.entries, batch)
    if not found:
        return None
    known, entries = [k for k, _, _ in found], [k.entry for k, _, _ in found]
    values = [
        {**figures.accuracy_value(k, look), **figures.timing_value(k.entry, c, t, look), "peak": _mb(t)}
        for k, c, t in found
    ]
    weighed = all(t.peak_bytes for _, _, t in found)
    bubble = ("peak", look.say("Peak memory, MB")) if weighed else ("parameters", look.say("Parameters"))
    best = max(found, key=lambda f: f[0].top1)
    description = look.say(
        "Bubble chart of {count}: top-1 accuracy against the forward time of {batch}, by the fastest engine of each. "
        "The area of a bubble is the {bubble}; bars are 95 % intervals and quartiles. "
        "Most accurate: {best}, {accuracy} in {time}.",
        count=look.count(entries),
        batch=figures.batch_of(batch, look),
        bubble=look.say("peak memory") if weighed else look.say("number of parameters"),
        best=look.name(best[0].entry),
        accuracy=units.percent(best[0].top1),
        time=units.milliseconds(best[2].median_ms),
    )
    title = look.say("Forward time of {batch}, ms", batch=figures.batch_of(batch, look))
    times = span([v for _, _, t in found for v in (t.low_ms, t.median_ms, t.high_ms)])
    time = Dimension("ms", title, times, interval=("first", "third"))
    accuracy = Dimension("accuracy", _accuracy_title(known, look), _accuracy_span(values), interval=("low", "high"))
    fields = figures.accuracy_fields(look, known) | figures.timing_fields(look)
    plot = Plot(entries, values, time, accuracy, fields, bubble)
    columns = [Column(c) for c in _accuracy_columns(look)] + figures.timing_columns(look)
    rows = [[*figures.accuracy_cells(k, look), *figures.timing_cells(c, t, look)] for k, c, t in found]
    spec = drawn(scatter(plot, look), values, description)
    return Chart("accuracy-time", look.say("Accuracy against forward time"), description, spec, columns, rows)


def _sorted(known: Sequence[Known]) -> list[Known]:
    return sorted(known, key=lambda k: (-k.top1, k.entry.name))


def _density(k: Known, share: float) -> float:
    return 100 * share / (k.entry.params / 1e6)


def _points(value: float) -> str:
    """Three significant digits without a prefix: 1020 points are no "1.02 k"."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _density_range(k: Known, look: Look) -> str:
    if k.low is None or k.high is None:
        return NONE
    low, high = (_points(_density(k, share)) for share in (k.low, k.high))
    return look.say("{low} to {high}", low=low, high=high)


def _mb(t: Timing) -> float | None:
    return t.peak_bytes / 1e6 if t.peak_bytes else None


def _accuracy_columns(look: Look) -> list[str]:
    return [
        look.say("run"),
        look.say("kind"),
        look.say("accuracy"),
        look.say("95 % interval"),
        look.say("protocol"),
    ]


def _accuracy_title(known: Sequence[Known], look: Look) -> str:
    if all(k.published for k in known):
        return look.say("Published top-1 accuracy, %")
    if any(k.published for k in known):
        return look.say("Top-1 accuracy, %")
    return look.say("Top-1 accuracy ({split}), %", split=look.split([k.entry for k in known]))


def _accuracy_span(values: Sequence[dict[str, Any]]) -> Span:
    """From a little below the lowest interval to a little above the highest."""
    low = min(v.get("low", v["accuracy"]) for v in values)
    high = max(v.get("high", v["accuracy"]) for v in values)
    room = 0.08 * (high - low) or 1.0
    return Span(max(0.0, low - room), min(100.0, high + room), False)
