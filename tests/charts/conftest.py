"""Entries with made-up figures: runs, measured, built and published networks, and what a drawn chart holds."""

from dataclasses import replace
from typing import Any

from convatlas.charts import Chart
from convatlas.compare import Comparison, Curve, Entry, Epoch
from convatlas.result import Accuracy, DataStamp, Machine, Timing

MACHINE = Machine("Processor X", 2, 8_000_000_000, "Linux x86_64", "cpu", 2)
BATCHES = (1, 2, 4, 16)
HOSTILE = '<script>"alert(1)"</script> {{7*7}} {run} datum.x שלום'


def timings(ms: float, params: int, joules: float | None = 0.5) -> tuple[Timing, ...]:
    return tuple(
        Timing(
            b, ms * b, 0.9 * ms * b, 1.2 * ms * b, 50, 200_000_000 + 4 * params + 1_000_000 * b, joules and joules * b
        )
        for b in BATCHES
    )


def entry(name: str, correct: int, params: int, macs: int, ms: float, **other: Any) -> Entry:
    """A run with two engines; the second is half as fast."""
    times = timings(ms, params)
    curves = (
        Curve("torch", "fp32", times, MACHINE, "2026-01-01", 190_000_000, "counter Y"),
        Curve("openvino", "fp32", timings(2 * ms, params), MACHINE, "2026-01-01", 195_000_000, "counter Y"),
    )
    made = Entry(
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
        timings=times,
        machine=MACHINE,
        sources=(),
        curve=(Epoch(1, 0.4, 0.5), Epoch(2, 0.2, 0.3)),
        unreadable=0,
        curves=curves,
    )
    return replace(made, **other)


def bare(e: Entry, mark: str, **other: Any) -> Entry:
    """What is known of a network that was not trained here."""
    fields = {"accuracy": None, "data": None, "timings": (), "curves": (), "machine": None, "curve": ()}
    return replace(e, mark=mark, **(fields | other))  # type: ignore[arg-type]


SMALL, MIDDLE, LARGE = (
    entry("small", 300, 50_000, 400_000, 0.1),
    entry("middle", 340, 300_000, 9_000_000, 0.8),
    entry("large", 355, 800_000, 40_000_000, 3.0),
)
RUNS = Comparison((SMALL, MIDDLE, LARGE), (), ())
PRINTED = bare(entry("paper", 1, 600_000, 20_000_000, 1), "published", printed_top1=0.625, protocol="Table 1: one crop")
BUILT = bare(entry("built", 1, 500_000, 10_000_000, 1), "catalogue")
MEASURED = bare(
    entry("paper here", 1, 600_000, 20_000_000, 1.5, network="paper_net"),
    "measurement",
    timings=timings(1.5, 600_000),
    curves=(Curve("torch", "fp32", timings(1.5, 600_000), MACHINE, "2026-01-01"),),
    machine=MACHINE,
)
MIXED = Comparison((*RUNS.entries, PRINTED, BUILT, MEASURED), (), ())
NOTHING = Comparison(tuple(bare(e, "run") for e in RUNS.entries), (), ())


def values(chart: Chart | None) -> list[dict[str, Any]]:
    assert chart is not None
    found: list[dict[str, Any]] = chart.spec["datasets"]["values"]
    return found


def of_run(chart: Chart | None, name: str) -> dict[str, Any]:
    return next(v for v in values(chart) if v["run"] == name)
