"""The drawn charts: what stands on them, and that eyes of every kind can tell the runs apart."""

import re
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas import charts
from convatlas.compare import Comparison, Entry, Epoch
from convatlas.result import Accuracy, DataStamp, Machine, Timing

MACHINE = Machine("Processor X", 2, 8_000_000_000, "Linux x86_64", "cpu", 2)


def entry(name: str, correct: int, params: int, macs: int, ms: float) -> Entry:
    return Entry(
        name=name,
        folder=f"runs/{name}",
        network=f"{name}_net",
        input=(1, 32, 32),
        classes=("a", "b"),
        params=params,
        macs=macs,
        weights_bytes=4 * params,
        recipe="lenet",
        recipe_fields={},
        epochs=2,
        seconds=80,
        source="digits",
        split_rule="",
        accuracy=Accuracy(correct, 360, 360),
        data=DataStamp("digits", "test", 360, "ab" * 32),
        timings=tuple(Timing(b, ms * b, 0.9 * ms * b, 1.2 * ms * b, 50) for b in (1, 2, 4)),
        machine=MACHINE,
        sources=(),
        curve=(Epoch(1, 0.4, 0.5), Epoch(2, 0.2, 0.3)),
        unreadable=0,
    )


RUNS = Comparison((entry("small", 340, 50_000, 400_000, 0.1), entry("large", 355, 800_000, 40_000_000, 3.0)), (), ())
BARE = Comparison(tuple(replace(e, accuracy=None, data=None, timings=(), curve=()) for e in RUNS.entries), (), ())


def values(spec: dict) -> list[dict]:
    return spec["data"]["values"] if "data" in spec else spec["layer"][0]["data"]["values"]


def test_every_chart_has_words_a_table_and_axes_with_units() -> None:
    drawn = charts.charts(RUNS)
    assert [c.name for c in drawn] == ["accuracy-macs", "time-batch", "training"]
    for chart in drawn:
        assert chart.spec["description"] == chart.description
        assert "2 runs" in chart.description
        assert {row[0] for row in chart.rows} == {"small", "large"}
        assert "$schema" not in chart.spec and "http" not in str(chart.spec)
    words = [chart.svg() for chart in drawn]
    assert "Top-1 accuracy (test), %" in words[0] and "Multiply-adds of one image, MACs (log scale)" in words[0]
    assert "Forward time of a batch, ms (log scale)" in words[1] and "Batch size, images (log scale)" in words[1]
    assert "Error, %" in words[2] and "Epoch" in words[2]
    for svg in words:
        assert ">small</text>" in svg and ">large</text>" in svg


def test_runs_without_figures_give_no_chart() -> None:
    assert charts.charts(BARE) == []


def test_the_points_are_the_figures_of_the_runs() -> None:
    chart = charts.accuracy_against_macs(RUNS)
    assert chart is not None
    for point, e in zip(values(chart.spec), RUNS.entries, strict=True):
        assert e.accuracy is not None
        low, high = e.accuracy.interval
        assert point["accuracy"] == pytest.approx(100 * e.accuracy.top1)
        assert (point["low"], point["high"]) == (pytest.approx(100 * low), pytest.approx(100 * high))
        assert (point["macs"], point["parameters"]) == (e.macs, e.params)
    chart = charts.time_against_batch(RUNS)
    assert chart is not None
    assert [(p["run"], p["batch"], p["ms"]) for p in values(chart.spec)] == [
        (e.name, t.batch, t.median_ms) for e in RUNS.entries for t in e.timings
    ]


def test_a_bubbles_area_is_proportional_to_the_parameters() -> None:
    chart = charts.accuracy_against_macs(RUNS)
    assert chart is not None
    bubbles = re.findall(r'aria-roledescription="circle"[^>]*d="M([\d.]+),0A', chart.svg())
    small, large = sorted(float(radius) for radius in bubbles)
    assert (large / small) ** 2 == pytest.approx(800_000 / 50_000, rel=0.01)


def test_one_run_and_equal_figures_can_be_drawn() -> None:
    one = replace(RUNS, entries=RUNS.entries[:1])
    perfect = replace(RUNS, entries=tuple(replace(e, accuracy=Accuracy(360, 360, 360)) for e in RUNS.entries))
    done = replace(RUNS, entries=tuple(replace(e, curve=(Epoch(1, 0.0, None),)) for e in RUNS.entries))
    for compared in (one, perfect, done):
        for chart in charts.charts(compared):
            assert "NaN" not in chart.svg() and "undefined" not in chart.svg()


def test_names_are_drawn_as_text() -> None:
    hostile = '<script>"alert(1)"</script> {{7*7}} datum.x שלום'
    compared = replace(RUNS, entries=(replace(RUNS.entries[0], name=hostile), RUNS.entries[1]))
    for chart in charts.charts(compared):
        svg = chart.svg()
        assert "<script" not in svg and "{{7*7}}" in svg and "&lt;script&gt;" in svg


@pytest.mark.parametrize("colour", charts.COLOURS)
@pytest.mark.parametrize("page", ["#ffffff", "#111418"])
def test_marks_stand_out_from_light_and_dark_pages(colour: str, page: str) -> None:
    light, dark = sorted((luminance(colour), luminance(page)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 3  # WCAG 2.2, success criterion 1.4.11


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_many_runs_have_their_own_pair_of_colour_and_shape() -> None:
    entries = [replace(RUNS.entries[0], name=str(i)) for i in range(56)]
    colour, shape = charts._marks(entries)
    pairs = zip(colour.to_dict()["scale"]["range"], shape.to_dict()["scale"]["range"], strict=True)
    assert len(set(pairs)) == 56


@given(st.lists(st.tuples(st.integers(1, 10**10), st.integers(300, 360)), min_size=1, max_size=12))
def test_the_names_on_the_chart_meet_no_other_name(points: list[tuple[int, int]]) -> None:
    entries = [entry(f"run{i}", correct, 1000, macs, 1.0) for i, (macs, correct) in enumerate(points)]
    found = [charts._accuracy_value(e) for e in entries]
    across, high, low = charts._across([v["macs"] for v in found]), 100.0, 80.0
    charts._place_labels(found, across, (low, high))
    boxes = []
    for v in (v for v in found if v["label"]):
        x, y = across(v["macs"]) + v["dx"], charts.HEIGHT * (high - v["accuracy"]) / (high - low) + v["dy"]
        length = 7 * len(v["run"])
        left = x - length if v["align"] == "right" else x
        boxes.append((left, y - 7, left + length, y + 7))
    assert boxes and all(box[0] >= 0 and box[2] <= charts.WIDTH for box in boxes)
    for i, a in enumerate(boxes):
        assert not any(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for b in boxes[:i])


@given(st.floats(1e-6, 1e9), st.floats(10, 1e8))
def test_ticks_are_inside_rising_and_round(low: float, ratio: float) -> None:
    ticks = charts.ticks(low, low * ratio)
    assert ticks and all(low <= t <= low * ratio for t in ticks)
    assert all(a < b for a, b in pairwise(ticks))
    assert all(f"{t:.0e}"[0] in "125" and f"{t:.3e}"[1:5] == ".000" for t in ticks)
