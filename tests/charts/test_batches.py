"""Time, memory and energy over the batch size: the figures as measured, one line a run and engine."""

from dataclasses import replace

import pytest

from convatlas.charts import energy_against_batch, memory_against_batch, time_against_batch
from convatlas.compare import Comparison

from .conftest import BATCHES, LARGE, RUNS, SMALL, values


def test_there_is_a_point_for_every_run_engine_and_batch() -> None:
    chart = time_against_batch(RUNS)
    expected = [
        (e.name, c.engine, t.batch, t.median_ms, t.low_ms, t.high_ms)
        for e in RUNS.entries
        for c in e.curves
        for t in c.timings
    ]
    found = [(v["run"], v["engine"], v["batch"], v["ms"], v["first"], v["third"]) for v in values(chart)]
    assert found == expected
    assert chart is not None and len(chart.rows) == len(expected)
    assert chart.rows[0] == [
        *("small", "torch", 1, "0.100 ms", "0.0900 ms to 0.120 ms", "10.0 k", 50),
        *("201 MB", "Processor X, 2 threads"),
    ]
    assert "Fastest at batch 1: small with 0.100 ms." in chart.description


def layers(chart: object, kind: str) -> list[dict]:
    return [layer for layer in chart.spec["layer"] if layer["mark"]["type"] == kind]  # type: ignore[attr-defined]


def test_engines_are_told_by_dashes_where_there_is_more_than_one() -> None:
    both = layers(time_against_batch(RUNS), "line")[0]["encoding"]
    assert both["strokeDash"]["scale"]["domain"] == ["torch", "openvino"]
    assert len({tuple(dash) for dash in both["strokeDash"]["scale"]["range"]}) == 2
    one = Comparison(tuple(replace(e, curves=e.curves[:1]) for e in RUNS.entries), (), ())
    assert "strokeDash" not in layers(time_against_batch(one), "line")[0]["encoding"]


def test_both_axes_are_logarithmic_and_batches_to_the_base_of_two() -> None:
    for chart in (time_against_batch(RUNS), memory_against_batch(RUNS), energy_against_batch(RUNS)):
        encoding = layers(chart, "line")[0]["encoding"]
        assert encoding["x"]["scale"]["type"] == "log" and encoding["x"]["scale"]["base"] == 2
        assert encoding["x"]["axis"]["values"] == list(BATCHES)


def test_old_results_without_engines_are_drawn() -> None:
    old = Comparison((replace(LARGE, curves=()),), (), ())
    assert [v["ms"] for v in values(time_against_batch(old))] == [t.median_ms for t in LARGE.timings]


def test_memory_is_in_megabytes_with_the_process_without_a_network() -> None:
    chart = memory_against_batch(RUNS)
    assert [v["peak"] for v in values(chart)][:4] == [pytest.approx(200.2 + b) for b in BATCHES]
    rules = layers(chart, "rule")[0]["data"]["values"]
    assert [(r["what"], r["peak"]) for r in rules] == [
        ("process without a network, torch", 190),
        ("process without a network, openvino", 195),
    ]
    assert chart is not None
    assert "Least at batch 1: small with 201 MB." in chart.description
    assert chart.description.endswith("Dotted: the process without a network, 190 MB (torch), 195 MB (openvino).")
    assert chart.rows[0][-2] == "190 MB"


def test_energy_is_of_one_image_and_only_where_a_counter_gave_it() -> None:
    silent = replace(SMALL, curves=tuple(replace(c, timings=SMALL_WITHOUT) for c in SMALL.curves))
    chart = energy_against_batch(replace(RUNS, entries=(silent, LARGE)))
    assert {v["run"] for v in values(chart)} == {"large"}
    assert {v["joules"] for v in values(chart)} == {0.5} and {v["counter"] for v in values(chart)} == {"counter Y"}
    assert chart is not None and chart.rows[3][2:6] == [16, "0.500 J", "8.00 J", "counter Y"]
    assert energy_against_batch(replace(RUNS, entries=(silent,))) is None


SMALL_WITHOUT = tuple(replace(t, joules=None) for t in SMALL.timings)
