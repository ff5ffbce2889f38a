"""Intervals, results on disk, and the machine's fingerprint."""

from math import sqrt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas.result import (
    Z95,
    Accuracy,
    DataStamp,
    Machine,
    Result,
    Timing,
    command,
    lines,
    now,
    read_results,
    this_machine,
    versions,
    wilson,
)

MACHINE = Machine("a processor", 2, 8_000_000_000, "Linux x86_64", "cpu", 2)
RESULT = Result(
    kind="evaluation",
    network="lenet5",
    input=(1, 32, 32),
    classes=10,
    params=61_706,
    macs=416_520,
    machine=MACHINE,
    versions={"torch": "2.14.1"},
    when="2026-11-24T10:00:00+00:00",
    command="convatlas evaluate runs/lenet5 digits",
    method="each image once",
    data=DataStamp("digits", "test", 360, "ab" * 32),
    accuracy=Accuracy(354, 360, 360, 1),
    timings=(Timing(1, 0.5, 0.4, 0.6, 100),),
)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, Statistics in Medicine 17, table I, method 3 (score)
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_intervals_that_newcombe_prints(k: int, n: int, low: float, high: float) -> None:
    assert wilson(k, n) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_ends_where_the_observed_share_is_z_standard_errors_away(pair: tuple[int, int]) -> None:
    k, n = pair
    for end in wilson(k, n):
        if 1e-9 < end < 1 - 1e-9:  # beyond lies only rounding
            assert abs(end - k / n) == pytest.approx(Z95 * sqrt(end * (1 - end) / n), rel=1e-6, abs=1e-12)


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_mirrors_with_it(pair: tuple[int, int]) -> None:
    k, n = pair
    low, high = wilson(k, n)
    other_low, other_high = wilson(n - k, n)
    assert 0 <= low <= k / n + 1e-12 and k / n - 1e-12 <= high <= 1
    assert (low, high) == (pytest.approx(1 - other_high), pytest.approx(1 - other_low))


def test_no_images_say_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def test_results_come_back_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    file.write_text(lines([RESULT, RESULT]))
    assert read_results(file) == [RESULT, RESULT]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    file.write_text(lines([RESULT]) + lines([RESULT]).replace('"params":61706', '"params":"many"'))
    with pytest.raises(ValueError) as caught:
        read_results(file)
    assert str(caught.value) == f"{file}, line 2: Expected `int`, got `str` - at `$.params`"


def test_rates() -> None:
    assert Timing(8, 2.0, 1.9, 2.1, 10).images_per_second == 4000
    assert (RESULT.accuracy.top1, RESULT.accuracy.top5) == (354 / 360, 1.0)


def test_the_machine_and_versions_are_this_ones() -> None:
    import os

    import torch

    here = this_machine("cpu", 2)
    assert here.cores == len(os.sched_getaffinity(0))
    assert here.memory_bytes == pytest.approx(_kernel_memory(), rel=0.01)
    assert versions(["torch", "no-such-package"])["torch"] == torch.__version__.split("+")[0]
    assert "no-such-package" not in versions(["torch", "no-such-package"])


def _kernel_memory() -> int:
    line = next(x for x in Path("/proc/meminfo").read_text().splitlines() if x.startswith("MemTotal"))
    return 1024 * int(line.split()[1])


def test_the_command_can_be_typed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/x/convatlas/__main__.py", "train", "lenet5", "my photos", "--out", "a;b"])
    assert command() == "convatlas train lenet5 'my photos' --out 'a;b'"
    assert now().endswith("+00:00")
