"""Where the names stand in a plot: beside their points, where they meet no other name and no point; else nowhere.

The width of text is estimated, since no browser is at hand. A name that finds no place is still in the legend, in the
tooltip and in the table.
"""

from collections.abc import Sequence
from typing import Any

from .look import AXIS, HEIGHT, LABEL_WIDTH, WIDTH, Span, length, name_shine

PLOT = WIDTH - AXIS  # pixels between the axes of a chart that is WIDTH wide with its axis
TEXT, TEXT_HEIGHT = 12, 14
POINT = 6  # half a point's side, pixels
# Align, dx, dy in order of preference: beside and above, beside and below, beside; then above and below alone.
PLACES = (
    *(("left", 9, -11), ("right", -9, -11), ("left", 9, 13), ("right", -9, 13)),
    *(("left", 11, 1), ("right", -11, 1), ("center", 0, -17), ("center", 0, 18)),
)

NUDGES = (0, 3, -3, 6, -6, 9, -9)  # pixels

Box = tuple[float, float, float, float]  # left, top, right, bottom


def place_names(
    values: Sequence[dict[str, Any]], x: tuple[str, Span], y: tuple[str, Span], height: int = HEIGHT
) -> None:
    """Gives each point its name's place (label, dx, dy, align); the first of `values` choose first.

    `x` and `y` are the fields of the points with the spans of their axes.
    """
    taken: list[Box] = []
    points = [(PLOT * x[1].share(v[x[0]]), height * (1 - y[1].share(v[y[0]]))) for v in values]
    for v, (px, py) in zip(values, points, strict=True):
        others = [
            (qx - POINT, qy - POINT, qx + POINT, qy + POINT)
            for other, (qx, qy) in zip(values, points, strict=True)
            if other is not v
        ]
        v |= {"label": "", "align": "left", "dx": 0, "dy": 0}
        for align, dx, dy in PLACES:
            box = box_of(v["run"], (px + dx, py + dy), align)
            inside = box[0] >= 0 and box[2] <= PLOT and box[1] >= -8 and box[3] <= height
            if inside and not any(meet(box, other) for other in (*taken, *others)):
                taken.append(box)
                v |= {"label": v["run"], "align": align, "dx": dx, "dy": dy}
                break


def place_ends(values: Sequence[dict[str, Any]], field: str, ends: Span) -> list[dict[str, Any]]:
    """The ends of lines whose names fit to the right of them, a little (dy) above or below; the others go without."""
    kept: list[dict[str, Any]] = []
    taken: list[float] = []
    for v in sorted(values, key=lambda v: -v[field]):
        y = HEIGHT * (1 - ends.share(v[field]))
        for dy in NUDGES:
            if all(abs(y + dy - other) >= TEXT_HEIGHT - 1 for other in taken):
                taken.append(y + dy)
                kept.append({**v, "dy": dy})
                break
    return kept


def reserve(names: Sequence[str]) -> float:
    """Pixels at the right of a plot that names at the ends of lines need."""
    return 14 + max((length(name) for name in names), default=0)


def box_of(name: str, at: tuple[float, float], align: str) -> Box:
    x, y = at
    left = x - length(name) * {"left": 0, "right": 1, "center": 0.5}[align]
    return left, y - TEXT_HEIGHT / 2, left + length(name), y + TEXT_HEIGHT / 2


def meet(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def names_layer(base: Any, y: Any) -> Any:
    """The names that `place_names` placed, as a layer over the points."""
    import altair as alt

    place = {k: alt.expr(f"datum.{k}") for k in ("align", "dx", "dy")}
    text = base.mark_text(
        **place,
        aria=False,
        fontSize=TEXT,
        limit=LABEL_WIDTH,
        baseline="middle",
        color="currentColor",
        opacity=name_shine(),
    )
    return text.encode(y=y, text="label:N")


def ends_layer(values: Sequence[dict[str, Any]], x: Any, y: Any) -> Any:
    """Names at the ends of lines."""
    import altair as alt

    text = alt.Chart(alt.Data(values=list(values))).mark_text(
        align="left",
        dx=9,
        dy=alt.expr("datum.dy"),
        aria=False,
        fontSize=TEXT,
        limit=LABEL_WIDTH,
        baseline="middle",
        color="currentColor",
        opacity=name_shine(),
    )
    return text.encode(x=x, y=y, text="run:N")
