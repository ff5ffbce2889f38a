"""Peak memory in a process of its own, against the kernel's other figure for the same process."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from convatlas.measure import peak
from convatlas.measure.peak import Case, Peak
from convatlas.record import from_json, to_json

CASE = Case("lenet5_relu", "torch", "fp32", "cpu", 1, 1)

WAITED = Path(__file__).parents[2] / "benchmarks" / "waited.py"


def kernels(case: Case) -> tuple[Peak, int]:
    """What the process answers, and the most resident memory that the kernel reports of it when it has ended."""
    line, environment = peak.process()
    given = json.dumps([line, environment, to_json(case)])
    done = subprocess.run([sys.executable, "-S", str(WAITED), given], capture_output=True, text=True, check=True)
    said, status, highest = json.loads(done.stdout)
    assert status == 0, done.stderr
    return from_json(Peak, said), highest


@pytest.mark.skipif(not peak.STATUS.exists(), reason="no /proc")
@pytest.mark.parametrize(
    ("source", "engine", "batch"),
    [("lenet5_relu", "torch", 1), pytest.param("alexnet_owt", "eager", 32, marks=pytest.mark.slow)],
)
def test_it_is_the_kernels_own_figure(source: str, engine: str, batch: int) -> None:
    found, highest = kernels(Case(source, engine, "fp32", "cpu", 1, batch))
    assert found.reason == "" and found.peak_bytes is not None and found.bare_bytes is not None
    assert found.peak_bytes == pytest.approx(highest, rel=0.03)
    assert 5e7 < found.bare_bytes < found.peak_bytes


@pytest.mark.slow
@pytest.mark.skipif(not peak.STATUS.exists(), reason="no /proc")
def test_a_larger_batch_takes_what_its_images_take_at_least() -> None:
    small, large = (peak.peak(Case("alexnet_owt", "eager", "fp32", "cpu", 1, b)) for b in (1, 64))
    assert small.peak_bytes is not None and large.peak_bytes is not None
    weights, images, conv1 = 4 * 61_100_840, 4 * 63 * 3 * 224 * 224, 4 * 64 * 64 * 55 * 55
    assert small.bare_bytes is not None and small.peak_bytes - small.bare_bytes > weights
    assert large.peak_bytes - small.peak_bytes > images + conv1 - weights  # loading may take the weights twice


def test_a_mistake_is_the_reason() -> None:
    found = peak.peak(Case("lenet5_rleu", "torch", "fp32", "cpu", 1, 1))
    reason = "no network, run folder or bundle named 'lenet5_rleu'; did you mean lenet5_relu, lenet5?"
    assert found == Peak(reason=reason)


@pytest.mark.skipif(not peak.STATUS.exists(), reason="no /proc")
def test_what_memory_does_not_hold_is_known() -> None:
    """Under a limit on addresses the allocator refuses, as it does where memory ends."""
    line, environment = peak.process()
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30,) * 2); "
    asked = to_json(Case("lenet5_relu", "eager", "fp32", "cpu", 1, 4_000_000))
    done = subprocess.run([*line[:3], limit + line[3]], input=asked, capture_output=True, text=True, env=environment)
    assert from_json(Peak, done.stdout.splitlines()[-1]) == Peak(
        reason="its memory did not suffice", out_of_memory=True
    )


def stand_in(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(peak, "process", lambda: ([sys.executable, "-c", code], dict(os.environ)))


def test_a_process_that_the_kernel_killed_lacked_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "import os; os.kill(os.getpid(), 9)")
    assert peak.peak(CASE) == Peak(reason="the kernel ended its process for want of memory", out_of_memory=True)


def test_a_crash_and_an_error_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, f"import os; os.kill(os.getpid(), {int(signal.SIGSEGV)})")
    assert peak.peak(CASE) == Peak(reason="its process ended with SIGSEGV", crashed=True)
    stand_in(monkeypatch, "raise ValueError('of some kind')")
    assert peak.peak(CASE) == Peak(reason="its process ended with code 1: ValueError: of some kind")


def test_a_process_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak, "SECONDS", 0.3)
    stand_in(monkeypatch, "import time; time.sleep(60)")
    assert peak.peak(CASE) == Peak(reason="its process took more than 0.3 s")


def test_a_librarys_own_words_do_not_disturb_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, f"print('Welcome!'); print({to_json(Peak(5, 4))!r})")
    assert peak.peak(CASE) == Peak(5, 4)


def test_without_proc_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak, "STATUS", tmp_path / "status")
    assert peak.resident("VmHWM") is None
    (tmp_path / "status").write_text("VmPeak:\t  99 kB\nVmHWM:\t   12 kB\nVmRSS:\t    5 kB\n")
    assert (peak.resident("VmHWM"), peak.resident("VmRSS")) == (12 * 1024, 5 * 1024)
