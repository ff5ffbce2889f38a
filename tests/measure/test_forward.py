"""The verb: what is measured, what is left out and what is kept; made-up engines stand for real ones."""

import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from convatlas import engines
from convatlas.account import account
from convatlas.errors import MissingExtra, RunFailed, SaveFailed, UnknownName, UsageError
from convatlas.layers import WithHeads, initialise_torch
from convatlas.measure import archive, cases, energy, forward, measure, peak, record
from convatlas.measure.peak import Peak
from convatlas.networks import NETWORKS, build
from convatlas.paper import Network
from convatlas.result import Result, read_results


class Engine:
    """Takes 1 ms an image, and tells what it was asked in `log`."""

    about = "made up"

    def __init__(self, log: list[tuple], name: str, shape: tuple[int, ...], precision: str, threads: int | None):
        self.log, self.name, self.shape, self.precision, self.device = log, name, shape, precision, "cpu"
        self.log.append(("open", name, precision, threads, torch.get_num_threads()))

    def ready(self, images: np.ndarray) -> Callable[[], None]:
        assert images.shape[1:] == self.shape and images.dtype == np.float32
        if self.name == "openvino" and len(images) >= 4:
            raise RuntimeError("std::bad_alloc")

        def call() -> None:
            self.log.append(("call", self.name, len(images)))
            time.sleep(0.001 * len(images))

        return call

    def close(self) -> None:
        self.log.append(("close", self.name))


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """Engines made up: torch, onnxruntime, which takes no lenet5, and openvino, which has memory for 3 images."""
    seen: list[tuple] = []

    def available(engine: str, device: str) -> str:
        return "" if engine in ("torch", "onnxruntime", "openvino") else f"{engine} is not at hand"

    def open_engine(engine: str, net: nn.Module, shape: tuple, *, precision: str, device: str, threads: int) -> Engine:
        assert isinstance(net, nn.Module) and not net.training and device == "cpu"
        if engine == "onnxruntime" and shape == (1, 32, 32):
            raise MissingExtra("onnx", "onnx", "ONNX Runtime")
        return Engine(seen, engine, shape, precision, threads)

    monkeypatch.setattr(engines, "ENGINES", ("eager", "torch", "compile", "onnxruntime", "openvino"), raising=False)
    monkeypatch.setattr(engines, "available", available, raising=False)
    monkeypatch.setattr(engines, "precisions", lambda *_: ("fp32", "bf16"), raising=False)
    monkeypatch.setattr(engines, "open_engine", open_engine, raising=False)
    return seen


QUICK = {"device": "cpu", "seconds": 0.02, "memory": False, "energy": False}


@pytest.mark.usefixtures("log")
def test_a_result_says_what_was_measured_where_and_how() -> None:
    result = measure("lenet5_relu", batches=(2, 1, 2), threads=1, **QUICK)
    net = build("lenet5_relu")
    totals = account(net, (1, 32, 32)).totals
    assert (result.kind, result.network, result.input, result.classes, result.source) == (
        "measurement",
        "lenet5_relu",
        (1, 32, 32),
        10,
        "lenet5_relu",
    )
    assert (result.params, result.macs) == (totals.params, totals.macs)
    assert result.weights_bytes == 4 * sum(p.numel() for p in net.parameters())
    assert (result.machine.device, result.machine.threads, result.engine, result.precision) == (
        "cpu",
        1,
        "torch",
        "fp32",
    )
    assert result.versions["torch"] == torch.__version__.split("+")[0]
    assert [t.batch for t in result.timings] == [1, 2]
    for t in result.timings:
        assert t.batch <= t.low_ms <= t.median_ms <= t.high_ms
        assert (t.peak_bytes, t.joules) == (None, None)
    assert result.method.startswith("forward pass in PyTorch (made up), fp32, evaluation mode, ")
    assert "after warm-up, 2 cases in turns, " in result.method
    assert result.method.endswith("loading and preprocessing are not in it")
    assert (result.energy, result.loading) == ("", None)


def test_all_sources_engines_and_batches_take_turns(log: list[tuple]) -> None:
    found = measure(
        ["lenet5_relu", "resnet20_cifar"], batches=(1, 2), engines=("torch", "openvino"), **QUICK | {"seconds": 0.05}
    )
    cases = [(s, e) for s in ("lenet5_relu", "resnet20_cifar") for e in ("torch", "openvino")]
    assert [(r.source, r.engine) for r in found] == cases
    last_open = max(i for i, entry in enumerate(log) if entry[0] == "open")
    calls = [entry[1:] for entry in log[last_open:] if entry[0] == "call"]
    turns = [a for a, b in zip(calls, [*calls[1:], None], strict=True) if a != b]
    # torch lets the whole process keep memory, so that the others come before it in a round.
    one_round = [(e, b) for e in ("openvino", "torch") for _ in range(2) for b in (1, 2)]
    assert turns[-len(one_round) :] == one_round  # after the warm-up
    assert all("8 cases in turns" in r.method for r in found)
    assert [entry[0] for entry in log[-4:]] == ["close"] * 4


@pytest.mark.usefixtures("log")
def test_what_cannot_run_is_named_and_the_rest_measured() -> None:
    found = measure(
        ["lenet5_relu"], batches=(1,), engines="all", precisions=("fp32", "fp16"), **QUICK | {"seconds": 0.001}
    )
    assert [(r.engine, r.precision) for r in found] == [("torch", "fp32"), ("openvino", "fp32")]
    assert {str(left) for left in found.left_out} == {
        "lenet5_relu, eager fp32: left out, eager is not at hand",
        "lenet5_relu, eager fp16: left out, eager is not at hand",
        "lenet5_relu, compile fp32: left out, compile is not at hand",
        "lenet5_relu, compile fp16: left out, compile is not at hand",
        "lenet5_relu, onnxruntime fp32: left out, ONNX Runtime needs onnx, which is not installed; pip install "
        "'convatlas[onnx]'",
        "lenet5_relu, torch fp16: left out, it has no fp16 on cpu, it has fp32, bf16",
        "lenet5_relu, onnxruntime fp16: left out, it has no fp16 on cpu, it has fp32, bf16",
        "lenet5_relu, openvino fp16: left out, it has no fp16 on cpu, it has fp32, bf16",
    }


@pytest.mark.usefixtures("log")
def test_nothing_measured_is_an_error_with_the_reasons() -> None:
    with pytest.raises(RunFailed) as caught:
        measure("lenet5_relu", engines="eager", **QUICK)
    assert str(caught.value) == ("nothing could be measured: lenet5_relu, eager fp32: left out, eager is not at hand")


def test_out_of_memory_ends_that_curve_and_not_the_command(log: list[tuple]) -> None:
    found = measure(["lenet5_relu"], batches=(1, 2, 4, 8), engines=("openvino", "torch"), **QUICK | {"seconds": 0.001})
    curves = {r.engine: [t.batch for t in r.timings] for r in found}
    assert curves == {"openvino": [1, 2], "torch": [1, 2, 4, 8]}
    ended = {r.engine: r.method.rpartition("; ")[2] for r in found}
    assert ended == {"openvino": "batch 4 did not fit the memory", "torch": "loading and preprocessing are not in it"}
    # Beside torch it had not fitted; so it was tried again alone.
    assert [entry[1] for entry in log if entry[0] == "open"] == ["openvino", "torch", "openvino"]
    assert all("in one of 2 groups, as memory does not hold all at once" in r.method for r in found)


def test_threads_are_the_engines_and_torchs_and_are_put_back(log: list[tuple]) -> None:
    before = torch.get_num_threads()
    result = measure("lenet5_relu", batches=(1,), threads=before + 1, **QUICK)
    assert ("open", "torch", "fp32", before + 1, before + 1) in log
    assert result.machine.threads == before + 1
    assert torch.get_num_threads() == before


def test_cases_beyond_the_memory_are_taken_in_groups(log: list[tuple], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "free_bytes", lambda _: 2)
    found = measure(["lenet5_relu", "resnet20_cifar"], batches=(1,), **QUICK | {"seconds": 0.001})
    assert [entry[0] for entry in log if entry[0] != "call"] == ["open", "close"] * 2
    assert all("1 cases in turns in one of 2 groups, as memory" in r.method for r in found)


def test_groups_keep_the_order_and_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sized:
        def __init__(self, size: int):
            self.size = size

        def need(self) -> int:
            return self.size

    def sizes(budget: int | None, *given: int) -> list[list[int]]:
        return [[c.size for c in group] for group in cases.groups(map(Sized, given), budget)]  # type: ignore[arg-type]

    assert sizes(10, 5, 5, 1, 20, 3) == [[5, 5], [1], [20], [3]]
    assert sizes(None, 5, 50) == [[5, 50]]
    assert sizes(10) == []


@pytest.mark.usefixtures("log")
def test_peaks_come_from_a_process_each_and_a_killed_one_ends_the_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[peak.Case] = []

    def taken(case: peak.Case) -> Peak:
        asked.append(case)
        if case.batch == 4:
            return Peak(reason="the kernel ended its process for want of memory", out_of_memory=True)
        return Peak(10**8 * case.batch, 10**7)

    monkeypatch.setattr(peak, "peak", taken)
    result = measure("lenet5_relu", batches=(1, 2, 4, 8), threads=1, **QUICK | {"memory": True})
    assert asked == [peak.Case("lenet5_relu", "torch", "fp32", "cpu", 1, b) for b in (1, 2, 4)]
    assert [(t.batch, t.peak_bytes) for t in result.timings] == [(1, 10**8), (2, 2 * 10**8)]
    assert result.bare_bytes == 10**7
    assert result.method.endswith(
        "; peak memory of a process of its own that loads the network and makes two calls; batch 4 did not fit the "
        "memory"
    )


@pytest.mark.usefixtures("log")
def test_a_crash_in_the_process_of_its_own_never_reaches_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    crash = Peak(reason="its process ended with SIGSEGV", crashed=True)
    monkeypatch.setattr(peak, "peak", lambda _: crash)
    with pytest.raises(RunFailed, match="left out, batch 1 cannot be run: its process ended with SIGSEGV"):
        measure("lenet5_relu", batches=(1, 2), **QUICK | {"memory": True})


@pytest.mark.usefixtures("log")
def test_no_peak_is_said_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak, "peak", lambda _: Peak(reason="this system has no /proc/self/status"))
    result = measure("lenet5_relu", batches=(1, 2), **QUICK | {"memory": True})
    assert [t.peak_bytes for t in result.timings] == [None, None]
    assert result.method.endswith("peak memory is not measurable here: this system has no /proc/self/status")


class Meter:
    """A counter of energy: 7 W, whatever happens."""

    what, closed = "a made-up counter", False

    def joules(self) -> float:
        return 7 * time.perf_counter()

    def close(self) -> None:
        self.closed = True


@pytest.mark.usefixtures("log")
def test_energy_is_above_idle_by_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = Meter()
    monkeypatch.setattr(energy, "open_counter", lambda _: meter)
    monkeypatch.setattr(energy, "LOAD_SECONDS", 0.05)
    monkeypatch.setattr(energy, "idle", lambda _: energy.Idle(2.0, 3.0))
    result = measure("lenet5_relu", batches=(5, 10), **QUICK | {"energy": True})
    five, ten = (t.joules for t in result.timings)
    assert five == pytest.approx(5 * 0.005, rel=0.3) and ten == pytest.approx(5 * 0.01, rel=0.3)
    assert result.energy.startswith("a made-up counter; calls in a row") and meter.closed


@pytest.mark.usefixtures("log")
def test_without_a_counter_there_is_no_energy_and_not_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "open_counter", lambda _: "no counter")
    result = measure("lenet5_relu", batches=(1,), **QUICK | {"energy": True})
    assert result.energy == "not measurable here: no counter"
    assert result.timings[0].joules is None


@pytest.mark.usefixtures("log")
def test_the_archive_grows_and_slower_cases_are_flagged(tmp_path: Path) -> None:
    first = measure(["lenet5_relu"], batches=(1, 2), archive=tmp_path, **QUICK)
    assert archive.read(tmp_path) == first and first.slower == [()]
    fast = replace(first[0], timings=tuple(replace(t, median_ms=0.5 * t.median_ms) for t in first[0].timings[:1]))
    archive.append(tmp_path, [fast])
    second = measure(["lenet5_relu"], batches=(1, 2), archive=tmp_path, **QUICK)
    assert [s.batch for s in second.slower[0]][:1] == [1]
    assert second.slower[0][0].times == pytest.approx(2, rel=0.4)
    assert len(archive.read(tmp_path)) == 3


def test_the_commit_is_gits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert forward.commit() == ""
    line = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x"]
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(line, check=True)
    head = subprocess.run(["git", "log", "-1", "--format=%H"], capture_output=True, text=True, check=True)
    assert forward.commit() == head.stdout.strip() != ""


@pytest.mark.usefixtures("log")
def test_measuring_leaves_the_random_state_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    measure("lenet5_relu", batches=(1,), **QUICK)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.usefixtures("log")
def test_a_run_folder_is_measured_as_it_was_trained(run_folder: Path) -> None:
    found = measure(run_folder, batches=(1,), **QUICK)
    assert (found.network, found.input, found.classes) == ("resnet20_cifar", (3, 16, 16), 2)
    assert found.weights_bytes == next(run_folder.rglob("*.safetensors")).stat().st_size
    assert "their time was not taken: the data cannot be read any more: " in found.method


@pytest.mark.usefixtures("log")
def test_a_folder_comes_before_a_network_of_its_name(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run_folder.parent)
    assert measure("resnet20_cifar", batches=(1,), **QUICK).classes == 2


def test_a_recorded_result_is_added_to_the_old_ones(run_folder: Path, result: Result) -> None:
    file = run_folder / "results.json"
    record(run_folder, result)
    before = file.read_bytes()
    record(run_folder, replace(result, when="2026-11-24T11:00:00+00:00"))
    assert file.read_bytes().startswith(before)
    file.write_bytes(file.read_bytes().rstrip(b"\n"))
    record(run_folder, result)
    assert [r.when for r in read_results(file)] == [result.when, "2026-11-24T11:00:00+00:00", result.when]


def test_a_refused_write_leaves_the_old_results(
    run_folder: Path, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(run_folder, result)
    before = (run_folder / "results.json").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SaveFailed, match="No space left on device"):
        record(run_folder, result)
    assert (run_folder / "results.json").read_bytes() == before


def test_results_are_kept_in_run_folders_only(tmp_path: Path, result: Result) -> None:
    with pytest.raises(UsageError) as caught:
        record(tmp_path, result)
    assert str(caught.value) == f"{tmp_path} is no run folder (no checkpoints/); results are kept in run folders only"


ENGINES = "compile, eager, onnxruntime, openvino, torch"


@pytest.mark.usefixtures("log")
@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("lenet5_relu", {"batches": (0, 1)}, "batch sizes 0,1; give whole numbers from 1 up, like 1,8,64"),
        ("lenet5_relu", {"batches": ()}, "batch sizes none; give whole numbers from 1 up, like 1,8,64"),
        ("lenet5_relu", {"seconds": 0}, "0 seconds a batch size; give a time above 0"),
        ("lenet5_relu", {"threads": 0}, "0 threads; give a whole number from 1 up"),
        ("lenet5_relu", {"device": "quantum"}, "device 'quantum' cannot be used: "),
        ("lenet5_relu", {"device": "meta"}, "device 'meta' cannot be used: "),
        ("lenet5_relu", {"engines": "tvm"}, f"no engine named 'tvm'; known: {ENGINES}"),
        ("lenet5_relu", {"engines": ()}, "no engine given; give one or more of eager, torch, compile, onnxruntime, "),
        ("lenet5_relu", {"precisions": ("int4",)}, "no precision named 'int4'; known: bf16, fp16, fp32"),
        ("lenet5_relu", {"precisions": ()}, "no precision given; give one or more of fp32, bf16, fp16"),
        (
            "lenet5_relu",
            {"precisions": ("fp32", "bf16")},
            "lenet5_relu in several engines or precisions gives several results; give the source in a list, like "
            "measure(['lenet5_relu'], ...)",
        ),
        ("lenet5_rleu", {}, "no network, run folder or bundle named 'lenet5_rleu'; did you mean lenet5_relu, lenet5?"),
    ],
)
def test_what_cannot_be_measured(source: str, options: dict, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        measure(source, **options)
    assert str(caught.value).startswith(message)


@pytest.mark.usefixtures("log")
def test_a_path_with_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run folder or bundle at") as caught:
        measure(tmp_path / "none")
    assert not isinstance(caught.value, UnknownName)


@pytest.mark.usefixtures("log")
def test_auxiliary_heads_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_heads(**_: object) -> WithHeads:
        modules = {"conv1": nn.Conv2d(3, 4, 3), "aux1": nn.Conv2d(4, 9, 1), "conv2": nn.Conv2d(4, 5, 3)}
        return WithHeads(modules, {"aux1": "conv1"}, 0.3)

    monkeypatch.setitem(NETWORKS, "headed", Network(with_heads, initialise_torch, (3, 8, 8), 5))
    result = measure("headed", batches=(1,), **QUICK)
    assert result.params == 3 * 4 * 9 + 4 + 4 * 5 * 9 + 5
    assert result.macs == 3 * 4 * 9 * 36 + 4 * 5 * 9 * 16
    assert result.weights_bytes == 4 * result.params
