"""Names in the plot: none over another, none over a foreign point, none outside."""

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from convatlas.charts.labels import PLOT, box_of, meet, place_ends, place_names
from convatlas.charts.look import HEIGHT, Span, span

Y = Span(80, 100, False)


@given(st.lists(st.tuples(st.integers(1, 10**10), st.floats(81, 99)), min_size=1, max_size=40))
def test_names_meet_no_other_name_and_no_foreign_point(points: list[tuple[int, float]]) -> None:
    values: list[dict[str, Any]] = [
        {"run": f"run {i} 网络", "macs": macs, "accuracy": accuracy} for i, (macs, accuracy) in enumerate(points)
    ]
    x = span([macs for macs, _ in points])
    place_names(values, ("macs", x), ("accuracy", Y))
    at = [(PLOT * x.share(v["macs"]), HEIGHT * (1 - Y.share(v["accuracy"]))) for v in values]
    placed = [
        (i, box_of(v["run"], (at[i][0] + v["dx"], at[i][1] + v["dy"]), v["align"]))
        for i, v in enumerate(values)
        if v["label"]
    ]
    assert all(box[0] >= 0 and box[2] <= PLOT for _, box in placed)
    for n, (i, box) in enumerate(placed):
        assert not any(meet(box, other) for _, other in placed[:n])
        assert not any(box[0] < px < box[2] and box[1] < py < box[3] for j, (px, py) in enumerate(at) if j != i)


def test_a_point_by_itself_has_its_name() -> None:
    values: list[dict[str, Any]] = [{"run": "alone", "macs": 5, "accuracy": 90.0}]
    place_names(values, ("macs", span([5])), ("accuracy", Y))
    assert values[0]["label"] == "alone"


@given(st.lists(st.floats(80.1, 99.9), min_size=1, max_size=30))
def test_names_at_the_ends_of_lines_lie_apart_and_near_their_ends(ends: list[float]) -> None:
    placed = place_ends([{"run": str(i), "ms": v} for i, v in enumerate(ends)], "ms", Y)
    heights = sorted(HEIGHT * (1 - Y.share(v["ms"])) + v["dy"] for v in placed)
    assert placed and all(b - a >= 13 - 1e-9 for a, b in pairwise(heights))
    assert all(abs(v["dy"]) <= 9 for v in placed)
