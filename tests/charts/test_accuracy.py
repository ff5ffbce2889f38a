"""Charts of accuracy: figures and intervals as SciPy has them, published ones apart, areas as they should be."""

import re
from dataclasses import replace

import pytest
from scipy.stats import binomtest

from convatlas.charts import accuracy_against_macs, accuracy_against_time, accuracy_bars, accuracy_per_parameter
from convatlas.compare import Comparison

from .conftest import BUILT, LARGE, MIDDLE, MIXED, PRINTED, RUNS, SMALL, of_run, values


def wilson(correct: int, images: int) -> tuple[float, float]:
    found = binomtest(correct, images).proportion_ci(method="wilson")
    return 100 * found.low, 100 * found.high


def test_bars_are_sorted_with_wilson_s_intervals_and_published_ones_have_none() -> None:
    chart = accuracy_bars(MIXED)
    assert [v["run"] for v in values(chart)] == ["large", "middle", "small", "paper"]
    for e in (SMALL, MIDDLE, LARGE):
        assert e.accuracy is not None
        v = of_run(chart, e.name)
        assert v["value"] == pytest.approx(100 * e.accuracy.correct / 360)
        assert (v["low"], v["high"]) == pytest.approx(wilson(e.accuracy.correct, 360))
    paper = of_run(chart, "paper")
    assert paper["value"] == 62.5 and "low" not in paper and paper["protocol"] == "Table 1: one crop"
    assert chart is not None
    assert [row[:5] for row in chart.rows][-1] == ["paper", "published", "62.5 %", "—", "Table 1: one crop"]
    assert chart.rows[0][3] == "96.8 to 99.4 %"
    assert "Most accurate: large with 98.6 %." in chart.description


def test_a_bar_is_as_long_as_its_figure_and_a_published_one_is_hollow() -> None:
    chart = accuracy_bars(MIXED)
    assert chart is not None
    svg = chart.svg()
    bars = re.findall(r'aria-roledescription="bar" d="M0,0h([\d.]+)v[^"]*"([^>]*)', svg)
    lengths = [float(length) for length, _ in bars]
    assert [length / lengths[0] for length in lengths] == pytest.approx([1, 340 / 355, 300 / 355, 0.625 * 360 / 355])
    assert ' fill="' not in bars[-1][1] and 'stroke-dasharray="2' in bars[-1][1]
    assert all(' fill="#' in style for _, style in bars[:-1])
    assert ">measured</text>" in svg and ">published</text>" in svg
    only = accuracy_bars(RUNS)
    assert only is not None and ">measured</text>" not in only.svg()


def test_points_are_at_the_figures_of_the_runs() -> None:
    chart = accuracy_against_macs(RUNS)
    for e in RUNS.entries:
        v = of_run(chart, e.name)
        assert e.accuracy is not None
        assert v["accuracy"] == pytest.approx(100 * e.accuracy.correct / 360)
        assert (v["macs"], v["parameters"]) == (e.macs, e.params)


def test_a_point_stands_where_the_logarithm_of_its_macs_is() -> None:
    chart = accuracy_against_macs(RUNS)
    assert chart is not None
    marks = re.findall(
        r'aria-label="([^"]*)"[^>]*aria-roledescription="point" transform="translate\(([\d.]+),', chart.svg()
    )
    at = {label.split("Run: ")[1].split(";")[0]: float(x) for label, x in marks}
    from math import log

    share = log(MIDDLE.macs / SMALL.macs) / log(LARGE.macs / SMALL.macs)
    assert (at["middle"] - at["small"]) / (at["large"] - at["small"]) == pytest.approx(share, abs=1e-3)


def test_a_bubbles_area_is_proportional_to_the_parameters() -> None:
    chart = accuracy_against_macs(Comparison((SMALL, LARGE), (), ()))
    assert chart is not None
    discs = re.findall(r'<path [^>]*d="M([\d.]+),0A[^>]*fill="(?:#0072b2|#c65400)"[^>]*opacity="0.28"', chart.svg())
    small, large = sorted(map(float, discs))
    assert (large / small) ** 2 == pytest.approx(800_000 / 50_000, rel=0.01)


def test_networks_of_the_catalogue_stand_on_the_lower_edge_and_never_with_an_accuracy() -> None:
    chart = accuracy_against_macs(MIXED)
    assert chart is not None
    built = of_run(chart, "built")
    axis = next(layer["encoding"]["y"] for layer in chart.spec["layer"] if layer.get("name") == "points")
    assert built["accuracy"] == axis["scale"]["domain"][0] and built["told"] == "—" and built["small"]
    assert next(row for row in chart.rows if row[0] == "built")[1:4] == ["catalogue, no accuracy known", "—", "—"]
    assert accuracy_against_macs(Comparison((BUILT,), (), ())) is None


def test_accuracy_against_time_takes_the_fastest_engine_with_intervals_both_ways() -> None:
    chart = accuracy_against_time(RUNS)
    v = of_run(chart, "middle")
    assert (v["engine"], v["ms"], v["batch"]) == ("torch", 0.8, 1)
    assert (v["first"], v["third"]) == pytest.approx((0.72, 0.96))
    assert (v["low"], v["high"]) == pytest.approx(wilson(340, 360))
    assert chart is not None and "peak memory" in chart.description
    swapped = replace(MIDDLE, curves=tuple(reversed(MIDDLE.curves)))
    assert of_run(accuracy_against_time(Comparison((swapped,), (), ())), "middle")["engine"] == "torch"


def test_a_lower_precision_does_not_stand_for_the_accuracy_of_the_full_one() -> None:
    fast = replace(
        MIDDLE.curves[0], precision="bf16", timings=tuple(replace(t, median_ms=0.01) for t in MIDDLE.timings)
    )
    both = replace(MIDDLE, curves=(*MIDDLE.curves, fast))
    assert of_run(accuracy_against_time(Comparison((both,), (), ())), "middle")["ms"] == 0.8
    alone = replace(MIDDLE, curves=(fast,))
    assert of_run(accuracy_against_time(Comparison((alone,), (), ())), "middle")["engine"] == "torch bf16"


def test_a_measured_network_takes_the_published_accuracy_of_the_same_network_alone() -> None:
    chart = accuracy_against_time(MIXED)
    assert {v["run"] for v in values(chart)} == {"small", "middle", "large", "paper here"}
    here = of_run(chart, "paper here")
    assert (here["accuracy"], here["ms"], here["kind"]) == (62.5, 1.5, "published") and "low" not in here
    other = replace(PRINTED, input=(3, 224, 224))
    elsewhere = tuple(other if e is PRINTED else e for e in MIXED.entries)
    assert "paper here" not in {v["run"] for v in values(accuracy_against_time(replace(MIXED, entries=elsewhere)))}


def test_information_density_is_accuracy_over_millions_of_parameters() -> None:
    chart = accuracy_per_parameter(MIXED)
    for e in (SMALL, MIDDLE, LARGE):
        assert e.accuracy is not None
        v = of_run(chart, e.name)
        millions = e.params / 1e6
        assert v["value"] == pytest.approx(100 * e.accuracy.correct / 360 / millions)
        assert (v["low"], v["high"]) == pytest.approx([end / millions for end in wilson(e.accuracy.correct, 360)])
    assert of_run(chart, "paper")["value"] == pytest.approx(62.5 / 0.6)
    assert [v["run"] for v in values(chart)] == ["small", "middle", "large", "paper"]
    assert chart is not None and "Densest: small with 1,667." in chart.description


def test_densities_that_lie_near_are_bars_from_zero() -> None:
    near = Comparison((MIDDLE, LARGE), (), ())
    chart = accuracy_per_parameter(near)
    assert chart is not None
    x = next(layer for layer in chart.spec["layer"] if layer.get("name") == "points")
    assert x["mark"]["type"] == "bar" and x["encoding"]["x"]["scale"]["domain"][0] == 0
