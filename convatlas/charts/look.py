"""The look that all charts share: colours and shapes of the runs, axes, tooltips, and the run that is lifted out.

Text and axes take the page's own colour (`currentColor`), so one drawing serves light and dark; a run is told by
colour, by shape and by name, never by colour alone.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import floor, log10
from typing import Any

from ..compare import Comparison, Entry, Mark
from ..pages import legible
from ..phrases import phrase

# After Okabe and Ito's set for colour-blind readers, each at a lightness with contrast above 3:1 on white and on black.
COLOURS = ("#0072b2", "#c65400", "#00855f", "#b0589a", "#9a6a00", "#3f86c9", "#7a68c8", "#777777")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
GREY = "#777777"
WIDTH, HEIGHT = 680, 380
ROOM = 1.4  # factor beyond the outermost values of a logarithmic axis
FAR = 10  # largest over smallest, from which an axis is logarithmic
AXIS = 70  # pixels at the left of a plot that its axis takes, about
LABEL_WIDTH = 150  # pixels that a name may take
SHORT = 12  # characters that fit in every place of a name, however wide they are
PHONE = 440  # pixels of plot, below which no names are written into it
DIM = 0.16  # opacity of the others while one run is lifted out
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"
PAPER_FONT = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', 'Noto Sans CJK SC', sans-serif"

HIGHLIGHT = "highlight"  # the signal by which a page names the run to lift out; "" for none
LIT = "lit"  # the run that is lifted out: under the pointer, else the page's, else the one chosen in the legend
HOLLOW = ("catalogue", "published")


@dataclass(frozen=True)
class Style:
    """How one entry looks in every chart."""

    name: str  # as it is shown
    colour: str
    shape: str
    mark: Mark
    listed: bool  # stands in the legend

    @property
    def fill(self) -> str:
        return "transparent" if self.mark in HOLLOW else self.colour

    @property
    def dash(self) -> list[float]:
        return [2, 1.4] if self.mark == "published" else [1, 0]


@dataclass(frozen=True)
class Look:
    """The entries of a comparison with their styles, and the language of all that is written."""

    comparison: Comparison
    language: str = "en"

    @cached_property
    def styles(self) -> dict[str, Style]:
        """By the entry's name. Networks of the catalogue and published ones are grey beside runs, or like the run
        that has the same network; alone, they have colours of their own.
        """
        entries = self.comparison.entries
        own = [e for e in entries if e.mark not in HOLLOW] or list(entries)
        places = {e.name: i for i, e in enumerate(own)}
        by_network = {e.network: i for i, e in reversed(list(enumerate(own)))}
        shown = _shown_names([e.name for e in entries])
        styles = {}
        for e, name in zip(entries, shown, strict=True):
            i = places.get(e.name, by_network.get(e.network))
            colour = GREY if i is None else COLOURS[i % len(COLOURS)]
            shape = "diamond" if i is None else SHAPES[i % len(SHAPES)]
            styles[e.name] = Style(name, colour, shape, e.mark, e.name in places)
        return styles

    def say(self, text: str, **values: Any) -> str:
        return phrase(text, self.language).format(**values)

    def name(self, e: Entry) -> str:
        return self.styles[e.name].name

    def count(self, entries: Sequence[Entry]) -> str:
        n = len(entries)
        if all(e.mark == "run" for e in entries):
            return self.say("1 run") if n == 1 else self.say("{n} runs", n=n)
        return self.say("1 network") if n == 1 else self.say("{n} networks", n=n)

    def split(self, entries: Sequence[Entry]) -> str:
        """The split that the measured accuracies are of; "several" when they differ."""
        splits = {e.data.split if e.data else self.say("unknown images") for e in entries if e.accuracy}
        if len(splits) > 1:
            return self.say("several splits")
        words = {"test": self.say("test"), "validation": self.say("validation"), "train": self.say("train")}
        return words.get(found := splits.pop(), shown_name(found))

    def channel(self, kind: Any, entries: Sequence[Entry], field: str, listed: bool = True) -> Any:
        """A field of each run's style as an encoding; those of one layer make one legend, all listed or none."""
        import altair as alt

        styles = [replace(self.styles[e.name], mark=e.mark) for e in entries]
        names = [s.name for s in styles if s.listed]
        legend = _legend(names) if names and listed else None
        scale = alt.Scale(domain=[s.name for s in styles], range=[getattr(s, field) for s in styles])
        return kind("run:N", title=None, legend=legend, scale=scale)


def marks(entries: Sequence[Entry]) -> tuple[Any, Any]:
    """Colour and shape of each run; with 8 colours and 7 shapes the first 56 runs have their own pair."""
    import altair as alt

    look = Look(Comparison(tuple(entries), (), ()))
    return look.channel(alt.Color, entries, "colour"), look.channel(alt.Shape, entries, "shape")


def shown_name(name: str) -> str:
    """A name that can be seen: control and direction marks spelled out, and all of a name that would look empty."""
    if all(unicodedata.category(c)[0] in "ZCM" for c in name):
        return "".join(f"[U+{ord(c):04X}]" for c in name) or "[]"
    plain = "".join(f"[U+{ord(c):04X}]" if c in "\n\t\ufffe\uffff" else c for c in name)
    whole = str(legible(_Name(plain)).text)  # what is spelled out makes it longer
    return "".join(f"[U+{ord(c):04X}]" if _cut(c, whole) else c for c in whole)


def _legend(names: Sequence[str]) -> Any:
    """The runs above the plot, in as many columns as there is room for."""
    import altair as alt

    column = 34 + max(map(length, names))
    # The width of the place, not of the plot: the plot's changes while it is laid out, and rows that are added then
    # would be cut off. A still picture has no place.
    place = f"containerSize()[0] > 0 ? containerSize()[0] - {AXIS} : width"
    columns = alt.expr(f"max(1, floor(({place}) / {column}))")
    return alt.Legend(orient="top", values=list(names), columns=columns, labelLimit=LABEL_WIDTH)


def length(name: str) -> float:
    """Pixels that a name takes in a plot or a legend, estimated, since no browser is at hand."""
    return min(LABEL_WIDTH, sum(13 if unicodedata.east_asian_width(c) in "WF" else 7 for c in name))


def _cut(c: str, name: str) -> bool:
    """Whether Vega could cut a character in two: it shortens long names between the halves of a UTF-16 pair, and the
    still picture then fails.
    """
    return ord(c) > 0xFFFF and len(name) > SHORT


@dataclass(frozen=True)
class _Name:
    text: str


def _shown_names(names: Sequence[str]) -> list[str]:
    """Names as they are shown, still apart where that makes two alike."""
    shown: list[str] = []
    for name in map(shown_name, names):
        number, apart = 2, name
        while apart in shown:
            number, apart = number + 1, f"{name} ({number})"
        shown.append(apart)
    return shown


# ---- Axes ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Span:
    """From where to where an axis goes, with room beyond the values, and whether it is logarithmic."""

    low: float
    high: float
    log: bool

    def share(self, value: float) -> float:
        """Where on the axis a value stands: 0 at its low end, 1 at its high end."""
        if self.log:
            return log10(value / self.low) / log10(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def span(values: Sequence[float], far: float = FAR) -> Span:
    """The axis for these values; logarithmic where the largest is at least `far` times the smallest."""
    if min(values) > 0 and max(values) / min(values) >= far:
        return Span(min(values) / ROOM, max(values) * ROOM, True)
    return Span(0, max(values) * 1.15 or 1, False)


def axis(channel: Any, field: str, title: str, ends: Span, look: Look, form: str = "~r") -> Any:
    """A quantitative axis, a logarithmic one with ticks at 1, 2 and 5."""
    import altair as alt

    scale = alt.Scale(type="log" if ends.log else "linear", domain=[ends.low, ends.high], nice=False)
    if not ends.log:
        scale.zero = False
        return channel(f"{field}:Q", title=title, scale=scale, axis=alt.Axis(format=form, tickCount=8))
    ruled = alt.Axis(values=ticks(ends.low, ends.high), format=form)
    return channel(f"{field}:Q", title=look.say("{title} (log scale)", title=title), scale=scale, axis=ruled)


def ticks(low: float, high: float) -> list[float]:
    """The 1, 2 and 5 times powers of ten from low to high; powers alone where they are many."""
    powers = range(floor(log10(low)), floor(log10(high)) + 1)
    steps = (1, 2, 5) if len(powers) <= 4 else (1,)
    return [t for p in powers for s in steps if low <= (t := s * 10.0**p) <= high]


# ---- What answers to the pointer -------------------------------------------------------------------------------------


def shine(opacity: float) -> Any:
    """The opacity of a run's marks: `opacity`, and faint while another run is lifted out."""
    import altair as alt

    return alt.expr(f"{LIT} == '' || datum.run == {LIT} ? {opacity} : {DIM * opacity}")


def name_shine() -> Any:
    """The opacity of names in the plot, which have no room on a phone."""
    import altair as alt

    return alt.expr(f"width < {PHONE} ? 0 : {LIT} == '' || datum.run == {LIT} ? 1 : {DIM}")


def tooltip(fields: dict[str, tuple[str, str]]) -> list[Any]:
    import altair as alt

    return [
        alt.Tooltip(f"{name}:Q", title=title, format=form) if form else alt.Tooltip(f"{name}:N", title=title)
        for name, (title, form) in fields.items()
    ]


def answering(spec: dict[str, Any], view: str, legend: bool) -> dict[str, Any]:
    """The specification with the signals `highlight`, for the page to set, and `pointed` and `picked` of its own.

    Those two hold the run under the pointer on `view` and the one chosen in the legend, as {run: [NAME]}. Nothing is
    lifted out until somebody does, so that a still picture shows all runs alike.
    """
    over = {"type": "point", "fields": ["run"], "on": "pointerover", "clear": "pointerout"}
    chosen = "picked.run ? picked.run[0] : ''" if legend else "''"
    params: list[dict[str, Any]] = [
        {"name": HIGHLIGHT, "value": ""},
        {"name": LIT, "expr": f"pointed.run ? pointed.run[0] : {HIGHLIGHT} != '' ? {HIGHLIGHT} : {chosen}"},
        {"name": "pointed", "select": over, "views": [view]},
    ]
    if legend:
        picked = {"type": "point", "fields": ["run"]}
        params.append({"name": "picked", "select": picked, "bind": "legend", "views": [view]})
    return {**spec, "params": params}


def finished(chart: Any, description: str) -> dict[str, Any]:
    """The specification with our look, as wide as its place on a page, and without an address in it."""
    ink = {"labelColor": "currentColor", "titleColor": "currentColor", "labelFont": FONT, "titleFont": FONT}
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
    # Validating against Vega-Lite's schema takes longer than all the rest; the tests do it for every kind of chart.
    whole = chart.properties(width="container", description=description)
    spec: dict[str, Any] = whole.to_dict(validate=False)
    spec.setdefault("height", HEIGHT)
    spec.pop("$schema")
    spec["config"] = {
        "background": "transparent",
        "font": FONT,
        "axis": {**ink, **sizes, **line, **grid},
        "legend": {**ink, **sizes, **legend},
        "view": {"stroke": None},
        "text": {"font": FONT},
    }
    return spec
