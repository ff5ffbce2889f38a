"""Operations against forward time, and memory against parameters, each with the line of least squares.

After Canziani, Paszke and Culurciello (2017, arXiv 1605.07678, figures 7 and 9): the slope of operations over time is
how many of them this machine does in a second, and that of memory over parameters what a parameter takes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from statistics import StatisticsError, correlation, linear_regression
from typing import Any

from .. import units
from ..compare import Comparison, Curve, Entry
from ..layout import Cell, Column
from ..result import Timing
from . import figures
from .chart import Chart
from .figures import NONE
from .look import Look, Span, axis, span
from .scatter import Dimension, Plot, drawn, scatter

FEWEST = 3  # points, below which any line fits


@dataclass(frozen=True)
class Fit:
    """y = slope x + intercept by least squares; `r2` is the share of y's variance that it explains."""

    slope: float
    intercept: float
    r2: float


def fit(x: Sequence[float], y: Sequence[float]) -> Fit | None:
    """The line of least squares. None for fewer than three points, and where x or y does not vary."""
    if len(x) < FEWEST:
        return None
    try:
        line, r = linear_regression(x, y), correlation(x, y)
    except StatisticsError:
        return None
    return Fit(line.slope, line.intercept, r * r)


def macs_against_time(comparison: Comparison, language: str = "en", batch: int = 1) -> Chart | None:
    """Multiply-adds of one image over its forward time in a batch of that size, by each one's fastest engine.

    None with fewer than two networks that were timed at that size.
    """
    look = Look(comparison, language)
    found = [(e, *f) for e in comparison.entries if e.macs > 0 and (f := figures.fastest(e, batch))]
    if len(found) < 2:
        return None
    values = [_timed(e, c, t, look) for e, c, t in found]
    line = fit([v["each"] for v in values], [v["macs"] for v in values])
    told = (
        look.say("{slope} in a second, R² {r2:.3f}", slope=units.count(1e3 * line.slope, "MACs"), r2=line.r2)
        if line
        else ""
    )
    entries = [e for e, _, _ in found]
    description = look.say(
        "Scatter chart of {count}: multiply-adds of one image against its forward time in a batch of {batch}, by the "
        "fastest engine of each; bars are quartiles. ",
        count=look.count(entries),
        batch=batch,
    ) + _described(line, told, look)
    times = [v[f] for v in values for f in ("first", "each", "third")]
    time = Dimension(
        "each",
        look.say("Forward time of one image in a batch of {n}, ms", n=batch),
        _linear(times),
        interval=("first", "third"),
    )
    macs = Dimension("macs", look.say("Multiply-adds of one image, MACs"), _linear([v["macs"] for v in values]), "~s")
    fields = figures.timing_fields(look) | {
        "macs": (look.say("MACs"), ","),
        "parameters": (look.say("Parameters"), ","),
    }
    plot = Plot(entries, values, time, macs, fields, ("parameters", look.say("Parameters")))
    columns = [Column(look.say("run")), Column(look.say("MACs"), True), *figures.timing_columns(look)]
    rows: list[list[Cell]] = [[look.name(e), e.macs, *figures.timing_cells(c, t, look)] for e, c, t in found]
    rows += _line_row(line, told, len(columns), look)
    spec = drawn(scatter(plot, look, _line(line, time, macs, look)), values, description)
    title = look.say("Operations against forward time, batch {n}", n=batch)
    return Chart(f"macs-time-{batch}", title, description, spec, columns, rows)


def memory_against_parameters(comparison: Comparison, language: str = "en", batch: int = 1) -> Chart | None:
    """Peak memory of the process over the number of parameters, by each one's fastest engine.

    None with fewer than two networks whose memory was measured at that batch size.
    """
    look = Look(comparison, language)
    found = [(e, *f) for e in comparison.entries if (f := figures.fastest(e, batch)) and f[1].peak_bytes and e.params]
    if len(found) < 2:
        return None
    values = [_timed(e, c, t, look) | {"peak": (t.peak_bytes or 0) / 1e6} for e, c, t in found]
    line = fit([v["parameters"] for v in values], [v["peak"] for v in values])
    told = look.say("{slope:.3g} bytes a parameter, R² {r2:.3f}", slope=1e6 * line.slope, r2=line.r2) if line else ""
    entries = [e for e, _, _ in found]
    description = look.say(
        "Scatter chart of {count}: peak memory against parameters with {batch}, by the fastest engine of each. ",
        count=look.count(entries),
        batch=figures.batch_of(batch, look),
    ) + _described(line, told, look)
    parameters = Dimension("parameters", look.say("Parameters"), _linear([v["parameters"] for v in values]), "~s")
    peak = Dimension("peak", look.say("Peak memory, MB"), _linear([v["peak"] for v in values]))
    fields = figures.timing_fields(look) | {
        "peak": (look.say("Peak memory, MB"), ".4r"),
        "parameters": (look.say("Parameters"), ","),
    }
    columns = [Column(look.say("run")), Column(look.say("parameters"), True), *figures.timing_columns(look)]
    rows: list[list[Cell]] = [[look.name(e), e.params, *figures.timing_cells(c, t, look)] for e, c, t in found]
    rows += _line_row(line, told, len(columns), look)
    plot = Plot(entries, values, parameters, peak, fields)
    spec = drawn(scatter(plot, look, _line(line, parameters, peak, look)), values, description)
    title = look.say("Memory against parameters")
    return Chart("memory-parameters", title, description, spec, columns, rows)


def _timed(e: Entry, c: Curve, t: Timing, look: Look) -> dict[str, Any]:
    """A timing's value with the time of one image; the quartiles are of one image too."""
    of_batch = figures.timing_value(e, c, t, look)
    one = {"each": t.median_ms / t.batch, "first": t.low_ms / t.batch, "third": t.high_ms / t.batch}
    return of_batch | one | {"macs": e.macs, "parameters": e.params}


def _described(line: Fit | None, told: str, look: Look) -> str:
    if line is None:
        return look.say("Too few networks for a fitted line.")
    return look.say("Line of least squares: {told}.", told=told)


def _line_row(line: Fit | None, told: str, columns: int, look: Look) -> list[list[Cell]]:
    return [[look.say("line of least squares"), told, *([NONE] * (columns - 2))]] if line else []


def _line(line: Fit | None, x: Dimension, y: Dimension, look: Look) -> list[Any]:
    """The fitted line from one side of the plot to the other, cut off where it leaves the plot."""
    import altair as alt

    if line is None:
        return []
    values = [{x.field: at, y.field: line.slope * at + line.intercept} for at in (x.span.low, x.span.high)]
    mark = alt.Chart(alt.Data(values=values)).mark_line(
        strokeWidth=1.5, strokeDash=[5, 4], color="currentColor", opacity=0.55, clip=True
    )
    return [
        mark.encode(
            x=axis(alt.X, x.field, x.title, x.span, look, x.form),
            y=axis(alt.Y, y.field, y.title, y.span, look, y.form),
        )
    ]


def _linear(values: Sequence[float]) -> Span:
    """An axis from zero, never a logarithmic one, on which the line would be bent."""
    return span(values, inf)
