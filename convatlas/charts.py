"""The lecture's charts from measured runs, as Vega-Lite: accuracy against MACs, forward time against batch, training.

After Canziani, Paszke and Culurciello, "An Analysis of Deep Neural Network Models for Practical Applications" (2017,
arXiv 1605.07678, figures 2 and 3). Text and axes take the page's own colour (`currentColor`), so one drawing serves
light and dark; a run is told by colour, by shape and by name, never by colour alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import Any

from . import units
from .compare import Comparison, Entry
from .compare.runs import interval
from .layout import Cell, Column

# After Okabe and Ito's set for colour-blind readers, each at a lightness with contrast above 3:1 on white and on black.
COLOURS = ("#0072b2", "#c65400", "#00855f", "#b0589a", "#9a6a00", "#3f86c9", "#7a68c8", "#777777")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
WIDTH, HEIGHT = 680, 380
LARGEST_BUBBLE = 3000  # square pixels
ROOM = 1.4  # factor beyond the outermost values of a logarithmic axis
LABEL_WIDTH = 150  # pixels
FAR = 10  # largest over smallest, from which an axis is logarithmic

Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Chart:
    """A Vega-Lite specification with the words and the table that say the same."""

    name: str
    title: str
    description: str
    spec: dict[str, Any]
    columns: list[Column]
    rows: list[list[Cell]]

    def svg(self) -> str:
        """A static picture of the chart, for pages without scripts and for papers."""
        import vl_convert

        return str(vl_convert.vegalite_to_svg({**self.spec, "width": WIDTH}))


def charts(comparison: Comparison) -> list[Chart]:
    """Every chart that the runs have the figures for."""
    drawn = (accuracy_against_macs(comparison), time_against_batch(comparison), training_curves(comparison))
    return [chart for chart in drawn if chart is not None]


def accuracy_against_macs(comparison: Comparison) -> Chart | None:
    """Accuracy with its interval over MACs; the bubble's area is the number of parameters. None without accuracies."""
    import altair as alt

    entries = [e for e in comparison.entries if e.accuracy]
    if not entries:
        return None
    values = [_accuracy_value(e) for e in entries]
    low, high = min(v["low"] for v in values), max(v["high"] for v in values)
    ends = max(0.0, low - 0.08 * (high - low)), min(100.0, high + 0.08 * (high - low))
    title = f"Top-1 accuracy ({_split(entries)}), %"
    y_scale = alt.Scale(domain=list(ends), nice=False, zero=False)
    y = alt.Y("accuracy:Q", title=title, scale=y_scale)
    macs = [v["macs"] for v in values]
    x = _axis("macs", "Multiply-adds of one image, MACs", macs)
    _place_labels(values, _across(macs), ends)
    largest = max(v["parameters"] for v in values)
    area = alt.Scale(type="linear", domain=[0, largest], range=[0, LARGEST_BUBBLE])
    size = alt.Size(
        "parameters:Q",
        title="Parameters",
        scale=area,
        legend=alt.Legend(values=ticks(largest / 20, largest)[-3:], format="~s", symbolFillColor="transparent"),
    )
    base = alt.Chart(alt.Data(values=values)).encode(x=x, tooltip=tooltip(ACCURACY_FIELDS))
    colour, shape = _marks(entries)
    layers = [
        base.mark_circle(opacity=0.28).encode(y=y, size=size, color=colour),
        base.mark_rule(strokeWidth=1.5).encode(y=alt.Y("low:Q", title=title), y2="high:Q", color=colour),
        base.mark_point(filled=True, size=70, opacity=1).encode(y=y, color=colour, shape=shape),
        base.mark_text(
            align=alt.expr("datum.align"),
            dx=alt.expr("datum.dx"),
            dy=alt.expr("datum.dy"),
            fontSize=12,
            limit=LABEL_WIDTH,
            color="currentColor",
        ).encode(y=y, text="label:N"),
    ]
    best = max(entries, key=lambda e: e.accuracy.top1 if e.accuracy else 0)
    description = (
        f"Bubble chart of {_count(entries)}: top-1 accuracy against multiply-adds of one image. "
        f"The area of a bubble is the number of parameters; bars are 95 % intervals. Most accurate: {_told(best)}."
    )
    columns = [
        Column("run"),
        Column("accuracy"),
        Column("95 % interval"),
        Column("MACs", True),
        Column("parameters", True),
    ]
    rows: list[list[Cell]] = [
        [e.name, units.of(e.accuracy.correct, e.accuracy.images), interval(e.accuracy), e.macs, e.params]
        for e in entries
        if e.accuracy
    ]
    spec = finished(alt.layer(*layers), description)
    return Chart("accuracy-macs", "Accuracy against operations", description, spec, columns, rows)


def time_against_batch(comparison: Comparison) -> Chart | None:
    """Median forward time over batch size, both logarithmic, with the quartiles as a band. None without timings."""
    import altair as alt

    entries = [e for e in comparison.entries if e.timings]
    if not entries:
        return None
    values: list[dict[str, Any]] = [
        {"run": e.name, "batch": t.batch, "ms": t.median_ms, "low": t.low_ms, "high": t.high_ms, "repeats": t.repeats}
        for e in entries
        for t in e.timings
    ]
    batches = sorted({t.batch for e in entries for t in e.timings})
    scale = alt.Scale(type="log", base=2, nice=False)
    x = alt.X("batch:Q", title="Batch size, images (log scale)", scale=scale, axis=alt.Axis(values=batches, format="d"))
    title = "Forward time of a batch, ms"
    times = [v[k] for v in values for k in ("low", "high")]
    y = _axis("ms", title, times)
    y2 = _axis("low", title, times)
    colour, shape = _marks(entries)
    base = alt.Chart(alt.Data(values=values)).encode(x=x, color=colour, tooltip=tooltip(TIME_FIELDS))
    layers = [
        base.mark_area(opacity=0.2).encode(y=y2, y2="high:Q"),
        base.mark_line(strokeWidth=2).encode(y=y),
        base.mark_point(filled=True, size=70, opacity=1).encode(y=y, shape=shape),
    ]
    fastest = min(entries, key=lambda e: e.timings[0].median_ms)
    first = fastest.timings[0]
    description = (
        f"Line chart of {_count(entries)}: median forward time against batch size from {batches[0]} to {batches[-1]}, "
        f"bands from the first to the third quartile. Fastest at batch {first.batch}: {fastest.name} with "
        f"{units.milliseconds(first.median_ms)}."
    )
    columns = [Column("run"), *(Column(c, True) for c in ("batch", "median", "quartiles", "images/s", "repeats"))]
    rows: list[list[Cell]] = [
        [
            e.name,
            t.batch,
            units.milliseconds(t.median_ms),
            f"{units.milliseconds(t.low_ms)} to {units.milliseconds(t.high_ms)}",
            units.count(t.images_per_second),
            t.repeats,
        ]
        for e in entries
        for t in e.timings
    ]
    spec = finished(alt.layer(*layers), description)
    return Chart("time-batch", "Forward time against batch size", description, spec, columns, rows)


def training_curves(comparison: Comparison) -> Chart | None:
    """Error over epochs, of the training images dashed and of the held-out images solid. None without logs."""
    import altair as alt

    entries = [e for e in comparison.entries if e.curve]
    values: list[dict[str, Any]] = [
        {"run": e.name, "epoch": p.epoch, "images": images, "error": 100 * error}
        for e in entries
        for p in e.curve
        for images, error in ((TRAINING, p.train_error), (VALIDATION, p.validation_error))
        if error is not None
    ]
    if not values:
        return None
    colour, shape = _marks(entries)
    dash = alt.StrokeDash(
        "images:N",
        title="Images",
        scale=alt.Scale(domain=[VALIDATION, TRAINING], range=[[1, 0], [5, 4]]),
        legend=alt.Legend(symbolSize=500, symbolStrokeWidth=2),
    )
    base = alt.Chart(alt.Data(values=values)).encode(
        x=alt.X("epoch:Q", title="Epoch", axis=alt.Axis(format="d", values=_epochs(entries))),
        y=_axis("error", "Error, %", [v["error"] for v in values]),
        color=colour,
        tooltip=tooltip(CURVE_FIELDS),
    )
    ends = [
        max((v for v in values if v["run"] == e.name), key=lambda v: (v["images"] == VALIDATION, v["epoch"]))
        for e in entries
    ]
    layers = [
        base.mark_line(strokeWidth=2).encode(strokeDash=dash),
        base.mark_point(filled=True, size=70, opacity=1).encode(shape=shape).properties(data=alt.Data(values=ends)),
    ]
    description = (
        f"Line chart of {_count(entries)}: error over epochs, dashed on training images, solid on held-out images. "
        f"At the end: {', '.join('{run} {error:.1f} % ({images})'.format(**v) for v in ends)}."
    )
    columns = [Column("run"), Column("epoch", True), Column("training error", True), Column("validation error", True)]
    rows: list[list[Cell]] = [
        [
            e.name,
            f"{p.epoch:g}",
            *(units.percent(r) if r is not None else "—" for r in (p.train_error, p.validation_error)),
        ]
        for e in entries
        for p in e.curve
    ]
    spec = finished(alt.layer(*layers), description)
    return Chart("training", "Training", description, spec, columns, rows)


TRAINING, VALIDATION = "training", "validation"
ACCURACY_FIELDS = {
    "run": ("Run", ""),
    "network": ("Network", ""),
    "accuracy": ("Accuracy, %", ".2f"),
    "interval": ("95 % interval", ""),
    "macs": ("MACs", ","),
    "parameters": ("Parameters", ","),
}
TIME_FIELDS = {
    "run": ("Run", ""),
    "batch": ("Batch", "d"),
    "ms": ("Median, ms", ".3r"),
    "low": ("First quartile, ms", ".3r"),
    "high": ("Third quartile, ms", ".3r"),
    "repeats": ("Calls", ","),
}
CURVE_FIELDS = {"run": ("Run", ""), "images": ("Images", ""), "epoch": ("Epoch", ""), "error": ("Error, %", ".2f")}


def _accuracy_value(e: Entry) -> dict[str, Any]:
    assert e.accuracy is not None
    low, high = e.accuracy.interval
    return {
        "run": e.name,
        "network": e.network,
        "accuracy": 100 * e.accuracy.top1,
        "low": 100 * low,
        "high": 100 * high,
        "interval": interval(e.accuracy),
        "macs": e.macs,
        "parameters": e.params,
    }


def _place_labels(values: Sequence[dict[str, Any]], across: Callable[[float], float], y: tuple[float, float]) -> None:
    """Gives each point the place of its name (dx, dy, align) where it meets no other name or point, else no name.

    `across` gives pixels for MACs, `y` are the axis's ends. The width of text is estimated; the legend names every run.
    """
    taken: list[Box] = []
    points = [(across(v["macs"]), HEIGHT * (y[1] - v["accuracy"]) / (y[1] - y[0])) for v in values]
    for v, (px, py) in zip(values, points, strict=True):
        others = [(qx - 6, qy - 6, qx + 6, qy + 6) for qx, qy in points if (qx, qy) != (px, py)]
        length = min(LABEL_WIDTH, 7 * len(v["run"]))
        v |= {"label": "", "align": "left", "dx": 0, "dy": 0}
        for align, dx, dy in (("left", 9, -11), ("right", -9, -11), ("left", 9, 13), ("right", -9, 13)):
            left = px + dx if align == "left" else px + dx - length
            box = (left, py + dy - 7, left + length, py + dy + 7)
            inside = left >= 0 and left + length <= WIDTH - 70
            if inside and not any(_meet(box, other) for other in (*taken, *others)):
                taken.append(box)
                v |= {"label": v["run"], "align": align, "dx": dx, "dy": dy}
                break


def _across(macs: Sequence[float]) -> Callable[[float], float]:
    """Pixels along the axis that `_axis` draws for these MACs."""
    low, high, far = _ends(macs)
    length = WIDTH - 70
    return lambda v: length * (log10(v / low) / log10(high / low) if far else v / high)


def _ends(values: Sequence[float]) -> tuple[float, float, bool]:
    """Where an axis begins and ends, with room beyond the values, and whether it is logarithmic."""
    far = min(values) > 0 and max(values) / min(values) >= FAR
    return (min(values) / ROOM, max(values) * ROOM, True) if far else (0, max(values) * 1.15, False)


def _meet(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _split(entries: Sequence[Entry]) -> str:
    """The split that the accuracies are of; "several" when they differ."""
    splits = {e.data.split if e.data else "unknown images" for e in entries}
    return splits.pop() if len(splits) == 1 else "several splits"


def _count(entries: Sequence[Entry]) -> str:
    return "1 run" if len(entries) == 1 else f"{len(entries)} runs"


def _told(e: Entry) -> str:
    return f"{e.name}, {units.percent(e.accuracy.top1)} with {units.count(e.macs, 'MACs')}" if e.accuracy else e.name


def _axis(field: str, title: str, values: Sequence[float]) -> Any:
    """A quantitative axis, logarithmic where the values go far apart, then with ticks at 1, 2 and 5."""
    import altair as alt

    kind, form = (alt.X, "~s") if field == "macs" else (alt.Y, "~r")
    low, high, far = _ends(values)
    scale = alt.Scale(type="log" if far else "linear", domain=[low, high or 1], nice=False)
    if not far:
        return kind(f"{field}:Q", title=title, scale=scale, axis=alt.Axis(format=form, tickCount=8))
    axis = alt.Axis(values=ticks(low, high), format=form)
    return kind(f"{field}:Q", title=f"{title} (log scale)", scale=scale, axis=axis)


def _epochs(entries: Sequence[Entry]) -> list[int]:
    """Whole epochs for the axis, at most about twelve."""
    last = max(p.epoch for e in entries for p in e.curve)
    step = max(1, round(last / 10))
    return [1, *range(step, last + 1, step)] if step > 1 else list(range(1, last + 1))


def ticks(low: float, high: float) -> list[float]:
    """The 1, 2 and 5 times powers of ten from low to high; powers alone where they are many."""
    powers = range(floor(log10(low)), floor(log10(high)) + 1)
    steps = (1, 2, 5) if len(powers) <= 4 else (1,)
    return [t for p in powers for s in steps if low <= (t := s * 10.0**p) <= high]


def _marks(entries: Sequence[Entry]) -> tuple[Any, Any]:
    """Colour and shape of each run; with 8 colours and 7 shapes the first 56 runs have their own pair."""
    import altair as alt

    names = [e.name for e in entries]
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(names))]
    shapes = [SHAPES[i % len(SHAPES)] for i in range(len(names))]
    return (
        alt.Color("run:N", title=None, legend=alt.Legend(orient="top"), scale=alt.Scale(domain=names, range=colours)),
        alt.Shape("run:N", title=None, legend=alt.Legend(orient="top"), scale=alt.Scale(domain=names, range=shapes)),
    )


def tooltip(fields: dict[str, tuple[str, str]]) -> list[Any]:
    import altair as alt

    return [
        alt.Tooltip(f"{name}:Q", title=title, format=form) if form else alt.Tooltip(f"{name}:N", title=title)
        for name, (title, form) in fields.items()
    ]


def finished(chart: Any, description: str) -> dict[str, Any]:
    """The specification with our look, as wide as its place on a page, and without an address in it."""
    font = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"
    ink = {"labelColor": "currentColor", "titleColor": "currentColor", "labelFont": font, "titleFont": font}
    sizes = {"labelFontSize": 12, "titleFontSize": 13, "titleFontWeight": "normal"}
    line = {"domainColor": "currentColor", "domainOpacity": 0.4, "tickColor": "currentColor", "tickOpacity": 0.4}
    grid = {"gridColor": "currentColor", "gridOpacity": 0.12, "titlePadding": 10, "labelPadding": 6}
    legend = {
        "orient": "bottom",
        "columns": 4,
        "symbolSize": 90,
        "symbolOpacity": 1,
        "labelLimit": 120,
        "titleFontWeight": "bold",
    }
    spec: dict[str, Any] = chart.properties(width="container", height=HEIGHT, description=description).to_dict()
    spec.pop("$schema")
    spec["config"] = {
        "background": "transparent",
        "font": font,
        "axis": {**ink, **sizes, **line, **grid},
        "legend": {**ink, **sizes, **legend},
        "view": {"stroke": None},
        "text": {"font": font},
    }
    return spec
