"""Bars of a figure, sorted, with its interval: filled where it was measured, hollow and broken where published."""

from collections.abc import Sequence
from typing import Any

from ..compare import Entry
from .figures import Known
from .look import Look, Span, axis, shine, span, tooltip
from .scatter import POINTS, VALUES, drawn, key, of_field, points

STEP = 26  # pixels from bar to bar
LABEL = 170  # pixels of a name
FIELDS = ("value", "low", "high")


def bars(
    known: Sequence[Known],
    values: list[dict[str, Any]],
    title: str,
    fields: dict[str, tuple[str, str]],
    description: str,
    look: Look,
    share: bool = False,
) -> dict[str, Any]:
    """One bar a value from zero, in the order given.

    `values` have run, value, outer (where the text `end` stands) and, where measured, low and high.
    A `share` is of a hundred. Other values that lie far apart become points on a logarithmic axis in place of bars,
    which would have to begin at zero.
    """
    import altair as alt

    entries = [k.entry for k in known]
    spread = [v[f] for v in values for f in FIELDS if f in v]
    ends = span(spread)
    if share or not ends.log:
        ends = Span(0, 112 if share else max(spread) * 1.15 or 1, False)
    x = axis(alt.X, "value", title, ends, look)
    if share:
        x.axis = alt.Axis(format="~r", values=list(range(0, 101, 20)))
    row = alt.Y(
        "run:N", title=None, sort=[v["run"] for v in values], axis=alt.Axis(labelLimit=LABEL, ticks=False, domain=False)
    )
    base = alt.Chart(alt.NamedData(VALUES)).encode(y=row, tooltip=tooltip(fields))
    measured = base.transform_filter("isValid(datum.low)")
    low = of_field(x, "low")
    tick = measured.mark_tick(aria=False, thickness=1.5, size=8, color="currentColor", opacity=shine(0.9))
    caps = [] if ends.log else [tick.encode(x=low), tick.encode(x=of_field(x, "high"))]
    layers = [
        points(base.encode(x=x), row, entries, look, listed=False) if ends.log else _bars(base, x, entries, look),
        measured.mark_rule(aria=False, strokeWidth=1.5, color="currentColor", opacity=shine(0.9)).encode(
            x=low, x2="high:Q"
        ),
        *caps,
        base.mark_text(
            align="left", dx=8, fontSize=12, baseline="middle", color="currentColor", opacity=shine(1)
        ).encode(x=of_field(x, "outer"), text="end:N"),
        *key(entries, look),
    ]
    spec = drawn(layers, values, description, height=STEP * len(values), legend=False)
    spec["config"]["axisX"] = {"titleAnchor": "end"}  # a long title has room under the names
    return spec


def _bars(base: Any, x: Any, entries: Sequence[Entry], look: Look) -> Any:
    import altair as alt

    mark = base.mark_bar(opacity=shine(0.85), strokeWidth=1.5, height={"band": 0.62}, cornerRadiusEnd=2)
    return mark.encode(
        x=x,
        stroke=look.channel(alt.Stroke, entries, "colour", listed=False),
        fill=look.channel(alt.Fill, entries, "fill", listed=False),
        strokeDash=look.channel(alt.StrokeDash, entries, "dash", listed=False),
    ).properties(name=POINTS)
