"""Training curves over each other: error over epochs."""

from collections.abc import Sequence
from typing import Any

from .. import units
from ..compare import Comparison, Entry
from ..layout import Cell, Column
from .chart import Chart
from .figures import NONE
from .look import Look, axis, shine, span, tooltip
from .scatter import VALUES, drawn, points


def training_curves(comparison: Comparison, language: str = "en") -> Chart | None:
    """Error over epochs, of the training images dashed and of the held-out images solid. None without logs."""
    look = Look(comparison, language)
    entries = [e for e in comparison.entries if e.curve]
    values = _values(entries, look)
    if not values:
        return None
    held_out = look.say("validation")
    entries = [e for e in entries if any(v["run"] == look.name(e) for v in values)]
    ends = [
        max((v for v in values if v["run"] == look.name(e)), key=lambda v: (v["images"] == held_out, v["epoch"]))
        for e in entries
    ]
    shares = ["{run} {error:.1f} % ({images})".format(**v) for v in ends]
    description = look.say(
        "Line chart of {count}: error over epochs, dashed on training images, solid on held-out images. "
        "At the end: {shares}.",
        count=look.count(entries),
        shares=", ".join(shares),
    )
    columns = [Column(look.say("run")), Column(look.say("epoch"), True)]
    columns += [Column(look.say("training error"), True), Column(look.say("validation error"), True)]
    rows: list[list[Cell]] = [
        [
            look.name(e),
            f"{p.epoch:g}",
            *(units.percent(r) if r is not None else NONE for r in (p.train_error, p.validation_error)),
        ]
        for e in entries
        for p in e.curve
    ]
    spec = drawn(_layers(entries, values, ends, look), values, description)
    return Chart("training", look.say("Training"), description, spec, columns, rows)


def _values(entries: Sequence[Entry], look: Look) -> list[dict[str, Any]]:
    return [
        {"run": look.name(e), "epoch": p.epoch, "images": images, "error": 100 * error}
        for e in entries
        for p in e.curve
        for images, error in ((look.say("training"), p.train_error), (look.say("validation"), p.validation_error))
        if error is not None
    ]


def _layers(
    entries: Sequence[Entry], values: list[dict[str, Any]], ends: list[dict[str, Any]], look: Look
) -> list[Any]:
    import altair as alt

    dash = alt.StrokeDash(
        "images:N",
        title=look.say("Images"),
        scale=alt.Scale(domain=[look.say("validation"), look.say("training")], range=[[1, 0], [5, 4]]),
        legend=alt.Legend(symbolType="stroke", symbolSize=500, symbolStrokeWidth=2),
    )
    errors = span([v["error"] for v in values])
    fields = {
        "run": (look.say("Run"), ""),
        "images": (look.say("Images"), ""),
        "epoch": (look.say("Epoch"), ""),
        "error": (look.say("Error, %"), ".2f"),
    }
    epochs = _epochs(entries)
    x = alt.X(
        "epoch:Q",
        title=look.say("Epoch"),
        axis=alt.Axis(format="d", values=epochs),
    )
    y = axis(alt.Y, "error", look.say("Error, %"), errors, look)
    base = alt.Chart(alt.NamedData(VALUES)).encode(x=x, tooltip=tooltip(fields))
    lines = base.mark_line(aria=False, strokeWidth=2, opacity=shine(1)).encode(
        y=y, strokeDash=dash, color=look.channel(alt.Color, entries, "colour", listed=False)
    )
    at_end = points(base, y, entries, look).properties(data=alt.Data(values=ends))
    return [lines, at_end]


def _epochs(entries: Sequence[Entry]) -> list[int]:
    """Whole epochs for the axis, at most about twelve."""
    last = max(p.epoch for e in entries for p in e.curve)
    step = max(1, round(last / 10))
    return [1, *range(step, last + 1, step)] if step > 1 else list(range(1, last + 1))
