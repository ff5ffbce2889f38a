"""What a terminal shows of measurements."""

from dataclasses import replace

from convatlas.measure import summaries, summary
from convatlas.measure.archive import Slower
from convatlas.result import Loading, Result, Timing


def lines(text: str) -> list[str]:
    """Lines, whatever the width of their columns."""
    return [" ".join(line.split()) for line in text.splitlines()]


def test_one_case_shows_every_batch_and_the_machine(result: Result) -> None:
    shown = lines(summary(result))
    assert shown[0] == "lenet5_relu, input 1x32x32: 417 kMACs an image"
    assert shown[2] == "batch median quartiles repeats images/s"
    assert shown[4] == "1 2.00 ms 1.90 ms to 2.20 ms 50 500"
    assert shown[5] == "8 10.0 ms 9.00 ms to 12.0 ms 30 800"
    assert shown[-2:] == ["Processor X, cpu, 2 threads, torch 2.14.1", "by hand"]


def test_memory_energy_and_loading_are_shown_where_measured(result: Result) -> None:
    timings = (Timing(1, 2.0, 1.9, 2.2, 50, 350_000_000, 0.02), Timing(8, 10.0, 9.0, 12.0, 30))
    full = replace(
        result, timings=timings, energy="by a counter", loading=Loading(0.5, 0.4, 0.7, 64, "64 images"), source="runs/a"
    )
    shown = lines(summary(full))
    assert shown[0] == "lenet5_relu (runs/a), input 1x32x32: 417 kMACs an image"
    assert shown[4].endswith("350 MB 0.0200 J") and shown[5].endswith("not measured not measured")
    assert (
        "runs/a: loading and preprocessing take 0.500 ms an image (0.400 ms to 0.700 ms) on one thread, 64 images"
        in (shown)
    )
    assert shown[-1] == "energy: by a counter"


def test_engines_stand_side_by_side_with_the_fastest_marked(result: Result) -> None:
    onnx = replace(
        result,
        engine="onnxruntime",
        timings=(Timing(1, 1.95, 1.9, 2.0, 50, 2 * 10**8), Timing(16, 5.0, 5.0, 5.0, 9, 3 * 10**8)),
    )
    slow = replace(result, engine="eager", timings=(Timing(1, 2.1, 2.0, 2.2, 50), Timing(8, 9.0, 8.0, 12.0, 30)))
    shown = lines(summaries([result, onnx, slow]))
    assert shown[2] == "forward time: median and quartiles"
    assert shown[3] == "batch torch fp32 onnxruntime fp32 eager fp32"
    time_1 = "1 2.00 ms (1.90 ms to 2.20 ms) = 1.95 ms (1.90 ms to 2.00 ms) * 2.10 ms (2.00 ms to 2.20 ms)"
    time_8 = "8 10.0 ms (9.00 ms to 12.0 ms) not measured 9.00 ms (8.00 ms to 12.0 ms) *"
    assert shown[5:7] == [time_1, time_8]
    assert shown[9] == "* fastest at this batch size, = as fast (within 3 %)"
    assert shown[11] == "peak memory of a process"
    assert shown[14] == "1 not measured 200 MB not measured"
    assert "energy of an image above idle" not in shown
    by_hand = "lenet5_relu, torch fp32; lenet5_relu, onnxruntime fp32; lenet5_relu, eager fp32: by hand"
    assert shown[-2:] == ["Processor X, cpu, 2 threads, torch 2.14.1", by_hand]


def test_each_source_has_its_table(result: Result) -> None:
    other = replace(result, network="lenet5", source="lenet5", method="otherwise")
    shown = lines(summaries([result, replace(result, engine="eager"), other]))
    assert [line for line in shown if "an image" in line] == [
        "lenet5_relu, input 1x32x32: 417 kMACs an image",
        "lenet5, input 1x32x32: 417 kMACs an image",
    ]
    assert shown[-2:] == [
        "lenet5_relu, torch fp32; lenet5_relu, eager fp32: by hand",
        "lenet5, torch fp32: otherwise",
    ]


def test_what_got_slower_is_said(result: Result) -> None:
    shown = summaries([result], [(Slower(8, 8.0, 10.0, "2026-11-20T10:00:00+00:00"),)])
    times = "10.0 ms, 1.25 times the 8.00 ms of 2026-11-20T10:00:00+00:00 on this machine"
    assert f"slower: lenet5_relu, torch fp32, batch 8: {times}" in shown.splitlines()
