"""Points with names, bubbles and intervals: what every chart of one figure against another is made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..compare import Entry
from .labels import names_layer, place_names
from .look import GREY, HEIGHT, HOLLOW, Look, Span, answering, axis, finished, shine, ticks, tooltip

LARGEST_BUBBLE = 3000  # square pixels
POINT, SMALL = 70, 30  # square pixels
FEW = 10  # bubbles that may stand as dark as they are
VALUES = "values"  # the name of a chart's data
POINTS = "points"  # the layer that answers to the pointer
OWN: dict[str, Any] = dict.fromkeys(("color", "fill", "stroke", "shape", "strokeDash", "size"), "independent")


def bubbles(base: Any, y: Any, field: str, title: str, sizes: Sequence[float]) -> Any:
    """A disc under each point whose area is proportional to the field; fainter where many lie over each other."""
    import altair as alt

    largest = max(sizes)

    size = alt.Size(
        f"{field}:Q",
        title=title,
        scale=alt.Scale(type="linear", domain=[0, largest], range=[0, LARGEST_BUBBLE]),
        legend=alt.Legend(
            values=ticks(largest / 20, largest)[-3:],
            format="~s" if largest >= 1e5 else "~r",
            symbolFillColor="transparent",
        ),
    )
    return base.mark_circle(aria=False, opacity=shine(0.28 if len(sizes) <= FEW else 0.16)).encode(y=y, size=size)


def points(base: Any, y: Any, entries: Sequence[Entry], look: Look, *, listed: bool = True, told: bool = True) -> Any:
    """A point for each entry: filled where it was measured, hollow where not; `small` values are small.

    Each is `told` to a screen reader by itself, unless there are so many that the table is the better way.
    """
    import altair as alt

    drawn = base.mark_point(
        aria=told, opacity=shine(1), strokeWidth=1.5, size=alt.expr(f"datum.small ? {SMALL} : {POINT}")
    ).encode(
        y=y,
        stroke=look.channel(alt.Stroke, entries, "colour", listed),
        fill=look.channel(alt.Fill, entries, "fill", listed),
        shape=look.channel(alt.Shape, entries, "shape", listed),
        strokeDash=look.channel(alt.StrokeDash, entries, "dash", listed),
    )
    return drawn.properties(name=POINTS)


def key(entries: Sequence[Entry], look: Look) -> list[Any]:
    """A legend of the marks, filled and hollow, where there is more than one of them."""
    import altair as alt

    groups = {
        "measurement": look.say("measured"),
        "catalogue": look.say("catalogue, no accuracy known"),
        "published": look.say("published"),
    }
    present = {"measurement" if e.mark == "run" else e.mark for e in entries}
    marks = [m for m in groups if m in present]
    if len(marks) < 2:
        return []

    def channel(of: Any, painted: Sequence[Any]) -> Any:
        legend = alt.Legend(orient="bottom", symbolType="circle", columns=4, labelLimit=240)
        return of(
            "kind:N", title=None, legend=legend, scale=alt.Scale(domain=[groups[m] for m in marks], range=painted)
        )

    drawn = alt.Chart(alt.Data(values=[{"kind": groups[marks[0]]}])).mark_point(opacity=0)
    return [
        drawn.encode(
            fill=channel(alt.Fill, ["transparent" if m in HOLLOW else GREY for m in marks]),
            stroke=channel(alt.Stroke, [GREY] * len(marks)),
            strokeDash=channel(alt.StrokeDash, [[2, 1.4] if m == "published" else [1, 0] for m in marks]),
        )
    ]


@dataclass(frozen=True)
class Dimension:
    """What an axis shows: a field of the values, its words and its ends; `ends` name the fields of an interval."""

    field: str
    title: str
    span: Span
    form: str = "~r"
    interval: tuple[str, str] | None = None


@dataclass(frozen=True)
class Plot:
    """Points of one figure against another. A value has run and the fields; one without an interval has no bar."""

    entries: Sequence[Entry]
    values: list[dict[str, Any]]
    x: Dimension
    y: Dimension
    fields: dict[str, tuple[str, str]]  # of the tooltip
    bubble: tuple[str, str] | None = None  # field and title


def scatter(plot: Plot, look: Look, beneath: Sequence[Any] = ()) -> list[Any]:
    """The layers of a plot: bubbles, intervals, points, names and a legend of the marks; `beneath` comes first."""
    import altair as alt

    place_names(plot.values, (plot.x.field, plot.x.span), (plot.y.field, plot.y.span))
    x = axis(alt.X, plot.x.field, plot.x.title, plot.x.span, look, plot.x.form)
    y = axis(alt.Y, plot.y.field, plot.y.title, plot.y.span, look, plot.y.form)
    base = alt.Chart(alt.NamedData(VALUES)).encode(tooltip=tooltip(plot.fields))
    coloured = base.encode(color=look.channel(alt.Color, plot.entries, "colour", listed=False))
    layers = list(beneath)
    if plot.bubble:
        field, title = plot.bubble
        layers.append(bubbles(coloured.encode(x=x), y, field, title, [v[field] for v in plot.values]))
    rule = {"strokeWidth": 1.5, "opacity": shine(1), "aria": False}
    if plot.y.interval:
        low, high = plot.y.interval
        known = coloured.transform_filter(f"isValid(datum.{low})")
        layers.append(known.mark_rule(**rule).encode(x=x, y=of_field(y, low), y2=f"{high}:Q"))
    if plot.x.interval:
        low, high = plot.x.interval
        known = coloured.transform_filter(f"isValid(datum.{low})")
        layers.append(known.mark_rule(**rule).encode(y=y, x=of_field(x, low), x2=f"{high}:Q"))
    base = base.encode(x=x)
    return [*layers, points(base, y, plot.entries, look), names_layer(base, y), *key(plot.entries, look)]


def of_field(encoding: Any, field: str) -> Any:
    """The same axis for another field."""
    other = encoding.copy()
    other.shorthand = f"{field}:Q"
    return other


def drawn(
    layers: Sequence[Any], values: list[dict[str, Any]], description: str, height: int = HEIGHT, legend: bool = True
) -> dict[str, Any]:
    """The layers as one specification whose layers keep their own colours, and that answers to the pointer.

    `values` stand in it once, for all the layers that name VALUES.
    """
    import altair as alt

    chart = alt.layer(*layers).resolve_scale(**OWN).properties(height=height)
    return answering(finished(chart, description), POINTS, legend) | {"datasets": {VALUES: values}}
