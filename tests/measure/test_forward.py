"""Forward times: their order, spread and limits; networks that sleep stand for known times."""

import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from convatlas import files, weights
from convatlas.account import account
from convatlas.classifier import Spec
from convatlas.data import Preprocess
from convatlas.errors import SaveFailed, UnknownName, UsageError
from convatlas.layers import WithHeads, initialise_torch
from convatlas.measure import forward, measure, record, summary
from convatlas.networks import NETWORKS, build
from convatlas.paper import Network
from convatlas.record import to_json
from convatlas.result import read_results

QUICK = 0.05
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def result() -> object:
    return measure("lenet5_relu", batches=(2, 1, 2), device="cpu", seconds=QUICK)


class Sleeper(nn.Module):
    """Takes 2 ms an image, and notes the batch sizes that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(len(images))
        time.sleep(0.002 * len(images))
        return images


class Glutton(nn.Module):
    """Asks for more memory than there is from batch 4 on."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.empty(2**58) if len(images) >= 4 else images


def curve(net: nn.Module, seconds: float, sizes: tuple[int, ...]) -> forward._Curve:
    found = forward._Curve(net, (1, 2, 2), CPU, seconds)
    found.run(sizes, lambda _: None)
    return found


def test_a_result_says_what_was_measured_where_and_how(result) -> None:
    net = build("lenet5_relu")
    totals = account(net, (1, 32, 32)).totals
    assert (result.kind, result.network, result.input, result.classes) == (
        "measurement",
        "lenet5_relu",
        (1, 32, 32),
        10,
    )
    assert (result.params, result.macs) == (totals.params, totals.macs)
    assert result.weights_bytes == 4 * sum(p.numel() for p in net.parameters())
    assert (result.machine.device, result.machine.threads) == ("cpu", torch.get_num_threads())
    assert result.versions["torch"] == torch.__version__.split("+")[0]
    assert [t.batch for t in result.timings] == [1, 2]
    for t in result.timings:
        assert 0 < t.low_ms <= t.median_ms <= t.high_ms and t.repeats >= forward.FEW
    assert result.method.startswith(
        "forward pass in PyTorch eager, float32, contiguous, evaluation mode, fixed random input"
    )
    assert result.method.endswith("loading and preprocessing are not in it")


def test_the_summary_shows_every_batch_and_the_machine(result) -> None:
    shown = summary(result)
    assert shown.startswith("lenet5_relu, input 1x32x32: ")
    assert [line.split()[0] for line in shown.splitlines()[4:6]] == ["1", "2"]
    assert result.machine.processor in shown and shown.endswith(result.method)


def test_a_sleeping_network_takes_as_long_as_it_sleeps() -> None:
    timings = {t.batch: t for t in curve(Sleeper(), 0.1, (1, 4)).timings()}
    for batch, t in timings.items():
        assert t.low_ms >= 2 * batch
    assert timings[4].low_ms / timings[1].low_ms == pytest.approx(4, rel=0.5)
    assert min(t.repeats for t in timings.values()) >= forward.ROUNDS


def test_batch_sizes_take_turns_so_that_drift_falls_on_all() -> None:
    net = Sleeper()
    curve(net, 0.1, (1, 2, 3))
    turns = [a for a, b in pairwise([*net.seen, 0]) if a != b]
    assert turns == [1, 2, 3] * (1 + forward.ROUNDS)  # the warm-up, then the rounds


def test_a_slow_network_is_called_a_few_times_only() -> None:
    found = curve(Sleeper(), 0.001, (20,))
    assert found.rounds == forward.FEW
    assert found.timings()[0].repeats == forward.FEW


def test_out_of_memory_ends_the_curve_and_not_the_command() -> None:
    found = curve(Glutton(), 0.01, (1, 2, 4, 8))
    assert [t.batch for t in found.timings()] == [1, 2]
    assert found.method().endswith("loading and preprocessing are not in it; batch 4 did not fit the memory")


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        curve(nn.Linear(3, 3), 0.01, (1,))


def test_measuring_leaves_the_random_state_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    measure("lenet5_relu", batches=(1,), device="cpu", seconds=0.01)
    assert torch.equal(torch.get_rng_state(), before)


def test_three_channels_are_laid_out_channels_last() -> None:
    class Layout(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            assert images.is_contiguous(memory_format=torch.channels_last)
            assert not torch.is_grad_enabled()
            return images

    found = forward._Curve(Layout(), (3, 4, 4), CPU, 0.01)
    found.run((2,), lambda _: None)
    assert "channels_last" in found.method()


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run folder as a training leaves it: two classes, at half the network's own size."""
    folder = tmp_path / "resnet20_cifar"
    preprocess = Preprocess(3, 16, 16, "stretch", 1.0, (0.5,) * 3, (0.25,) * 3, "bilinear")
    spec = Spec("resnet20_cifar", ("a", "b"), preprocess)
    (folder / "checkpoints").mkdir(parents=True)
    files.write_folder(
        folder / "checkpoints" / "step-000000001", lambda step: weights.save(spec.build(), step / "model.safetensors")
    )
    (folder / "checkpoints" / "best").write_text("step-000000001\n")
    (folder / "config.json").write_text(f'{{"spec": {to_json(spec)}}}')
    return folder


def test_a_run_folder_is_measured_as_it_was_trained(run_folder: Path) -> None:
    found = measure(run_folder, batches=(1,), device="cpu", seconds=0.01)
    assert (found.network, found.input, found.classes) == ("resnet20_cifar", (3, 16, 16), 2)
    assert found.weights_bytes == next(run_folder.rglob("*.safetensors")).stat().st_size


def test_a_folder_comes_before_a_network_of_its_name(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run_folder.parent)
    assert measure("resnet20_cifar", batches=(1,), device="cpu", seconds=0.01).classes == 2


def test_a_recorded_result_is_added_to_the_old_ones(run_folder: Path, result) -> None:
    file = run_folder / "results.json"
    record(run_folder, result)
    before = file.read_bytes()
    record(run_folder, replace(result, when="2026-11-24T10:00:00+00:00"))
    assert file.read_bytes().startswith(before)
    file.write_bytes(file.read_bytes().rstrip(b"\n"))
    record(run_folder, result)
    assert [r.when for r in read_results(file)] == [result.when, "2026-11-24T10:00:00+00:00", result.when]


def test_a_refused_write_leaves_the_old_results(run_folder: Path, result, monkeypatch: pytest.MonkeyPatch) -> None:
    record(run_folder, result)
    before = (run_folder / "results.json").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SaveFailed, match="No space left on device"):
        record(run_folder, result)
    assert (run_folder / "results.json").read_bytes() == before


def test_results_are_kept_in_run_folders_only(tmp_path: Path, result) -> None:
    with pytest.raises(UsageError) as caught:
        record(tmp_path, result)
    assert str(caught.value) == f"{tmp_path} is no run folder (no checkpoints/); results are kept in run folders only"


@pytest.mark.parametrize(
    ("source", "settings", "message"),
    [
        ("lenet5_relu", {"batches": (0, 1)}, "batch sizes 0,1; give whole numbers from 1 up, like 1,8,64"),
        ("lenet5_relu", {"batches": ()}, "batch sizes none; give whole numbers from 1 up, like 1,8,64"),
        ("lenet5_relu", {"seconds": 0}, "0 seconds a batch size; give a time above 0"),
        ("lenet5_relu", {"device": "quantum"}, "device 'quantum' cannot be used: "),
        ("lenet5_relu", {"device": "meta"}, "device 'meta' cannot be used: "),
        ("lenet5_rleu", {}, "no network, run folder or bundle named 'lenet5_rleu'; did you mean lenet5_relu, lenet5?"),
    ],
)
def test_what_cannot_be_measured(source: str, settings: dict, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        measure(source, **settings)
    assert str(caught.value).startswith(message)


def test_a_path_with_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run folder or bundle at") as caught:
        measure(tmp_path / "none")
    assert not isinstance(caught.value, UnknownName)


def test_auxiliary_heads_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_heads(**_: object) -> WithHeads:
        modules = {"conv1": nn.Conv2d(3, 4, 3), "aux1": nn.Conv2d(4, 9, 1), "conv2": nn.Conv2d(4, 5, 3)}
        return WithHeads(modules, {"aux1": "conv1"}, 0.3)

    monkeypatch.setitem(NETWORKS, "headed", Network(with_heads, initialise_torch, (3, 8, 8), 5))
    result = measure("headed", batches=(1,), device="cpu", seconds=0.01)
    assert result.params == 3 * 4 * 9 + 4 + 4 * 5 * 9 + 5
    assert result.macs == 3 * 4 * 9 * 36 + 4 * 5 * 9 * 16
    assert result.weights_bytes == 4 * result.params
