"""Predicted peaks against the CPU allocator's own allocations, and against sums by hand."""

import copy
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from convatlas.account import account
from convatlas.errors import BadInput, UnknownName
from convatlas.memory import Memory, fit, memory, read_memory
from convatlas.memory.step import Plan

OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda p, **more: torch.optim.SGD(p, 0.01, weight_decay=1e-4, **more),
    "momentum": lambda p, **more: torch.optim.SGD(p, 0.01, momentum=0.9, weight_decay=1e-4, **more),
    "adam": lambda p, **more: torch.optim.Adam(p, 0.01, weight_decay=1e-4, **more),
}
KINDS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Small(nn.Module):
    """A convolution, a residual connection, two branches that are joined, and a layer with most of the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(inplace=True))
        self.second = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32))
        self.left, self.right = nn.Conv2d(32, 24, 1), nn.Conv2d(32, 40, 5, padding=2)
        self.head = nn.Linear(64 * 16, 100)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = F.relu(x + self.second(x))
        x = torch.cat([self.left(x), self.right(x)], 1)
        return self.head(F.avg_pool2d(x, x.shape[-1] // 4).flatten(1))


def total(tensors: Iterable[Any]) -> int:
    return sum(t.nbytes for t in tensors if isinstance(t, Tensor))


def highest(call: Callable[[], object]) -> int:
    """The largest running sum of the CPU allocator's allocations and releases."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        call()
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def measured(
    net: nn.Module, x: Tensor, precision: str = "float32", optimiser: str = "momentum", foreach: bool | None = None
) -> tuple[int, int, int]:
    """Peaks of the second training step and of inference, and the bytes of the optimiser's state."""
    kind = KINDS.get(precision, torch.float32)
    net, x, y = copy.deepcopy(net).to(kind).train(), x.to(kind), torch.zeros(len(x), dtype=torch.int64)
    stepper = OPTIMISERS[optimiser](net.parameters(), foreach=foreach)

    def cast() -> Any:
        return torch.autocast("cpu", torch.bfloat16) if precision == "amp" else nullcontext()

    def train() -> None:
        with cast():
            loss = F.cross_entropy(net(x), y)
        loss.backward()
        stepper.step()

    def infer() -> None:
        with torch.no_grad(), cast():
            net(x)

    train()
    stepper.zero_grad(set_to_none=True)
    held = total([*net.parameters(), *net.buffers(), x, y])
    state = total(t for s in stepper.state.values() for t in s.values())
    training = held + state + highest(train)
    stepper.zero_grad(set_to_none=True)
    net.eval()
    return training, held + highest(infer), state


def assert_near(net: nn.Module, x: Tensor, tolerance: float = 0.02, **options: Any) -> None:
    given = torch.empty_like(x, device="meta")
    found = memory(net, given, batches=(len(x),), **options)
    training, inference, state = measured(net, x, **options)
    assert found.peaks[0].training == pytest.approx(training, rel=tolerance)
    assert found.peaks[0].inference == pytest.approx(inference, rel=tolerance)
    assert found.optimiser_state == state


@pytest.fixture(autouse=True)
def one_thread() -> Iterable[None]:
    """torch chooses the CPU's kernels by the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# ---- Against the allocator -------------------------------------------------------------------------------------------


def torchvision_net(name: str) -> nn.Module:
    from torchvision import models

    options = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
    return models.get_model(name, weights=None, **options)


@pytest.mark.parametrize(("name", "batch"), [("resnet18", 4), ("googlenet", 4)])
def test_peaks_of_known_networks(name: str, batch: int) -> None:
    assert_near(torchvision_net(name), torch.randn(batch, 3, 64, 64))


@pytest.mark.slow
@pytest.mark.parametrize("batch", [4, 16])
@pytest.mark.parametrize("name", ["vgg16", "googlenet", "resnet50", "densenet121"])
def test_peaks_of_large_networks(name: str, batch: int) -> None:
    assert_near(torchvision_net(name), torch.randn(batch // 2 if name == "vgg16" else batch, 3, 224, 224))


@pytest.mark.parametrize("precision", ["float32", "bfloat16", pytest.param("float16", marks=pytest.mark.slow), "amp"])
def test_peaks_by_precision(precision: str) -> None:
    assert_near(Small(), torch.randn(16, 3, 32, 32), precision=precision)


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_peaks_by_optimiser(optimiser: str, foreach: bool) -> None:
    """A batch of two: what is highest is the optimiser's own step."""
    net = nn.Sequential(Small(), nn.Linear(100, 1000), *(nn.Linear(1000, 1000, bias=False) for _ in range(2)))
    assert_near(net, torch.randn(2, 3, 8, 8), optimiser=optimiser, foreach=foreach)


def test_peaks_with_channels_last_in_memory() -> None:
    assert_near(torchvision_net("resnet18"), torch.randn(4, 3, 64, 64).to(memory_format=torch.channels_last))


class Branches(nn.Module):
    """Gradients of one map come from two sides, while little else lives."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(4, 2000), nn.Linear(2000, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.head(x.add_(x.roll(1, 1)))


def test_gradients_of_one_tensor_are_added_in_place() -> None:
    assert_near(Branches(), torch.randn(500, 4), tolerance=0.002)


# ---- By hand ---------------------------------------------------------------------------------------------------------


def two_layers() -> nn.Module:
    return nn.Sequential(nn.Linear(10, 20, bias=False), nn.Sigmoid(), nn.Linear(20, 5, bias=False))


def test_a_small_network_by_hand() -> None:
    """10 to 20 to 5 in floats. Inference holds images, labels (never used) and at most two maps at once."""
    found = memory(two_layers(), (7, 10), batches=(100,), optimiser="sgd", weight_decay=False)
    assert (found.weights, found.buffers, found.gradients, found.optimiser_state) == (1200, 0, 1200, 0)
    peak = found.peaks[0]
    assert peak.input == 100 * (10 * 4 + 8)
    hidden, logits, loss = 100 * 20 * 4, 100 * 5 * 4, 4
    assert peak.inference == 1200 + peak.input + 2 * hidden
    kept = hidden + 2 * logits + loss  # sigmoid's result; logits and their logarithms of softmax
    assert peak.kept == pytest.approx(kept, abs=8)
    # The sigmoid's gradient: the hidden map, its gradient, and that of the map before; softmax's are gone by then.
    backward = 1200 + peak.input + logits + 3 * hidden + 400
    assert peak.training == pytest.approx(backward, abs=16)
    assert peak.training_at == "backward of 1"


@pytest.mark.parametrize("name", ["small", "resnet18"])
def test_what_is_kept_is_what_the_account_says_autograd_saves(name: str) -> None:
    """Beside it live the logits, their logarithms of softmax, the loss and its weight."""
    net = Small() if name == "small" else torchvision_net(name)
    net.train()
    found = memory(net, (3, 64, 64), batches=(5,))
    image, classes = 3 * 64 * 64 * 4, 100 if name == "small" else 1000
    saved = account(net, (5, 3, 64, 64)).totals.saved_bytes
    buffers = sum(b.nbytes for n, b in net.named_buffers() if "running" in n)  # saved, but there before
    kept = found.peaks[0].kept
    assert kept == pytest.approx(saved - buffers - 5 * image + 2 * 5 * classes * 4, abs=64)
    assert sum(5 * layer.each + layer.fixed for layer in found.layers) == kept
    assert sum(5 * stage.each + stage.fixed for stage in found.stages()) == kept


def test_every_batch_is_on_the_lines_of_two() -> None:
    plan = Plan(Small(), (3, 32, 32), "float32", "momentum", True, False)
    for training in (True, False):
        lines = plan.lines(training)
        assert [lines.peak(n) for n in (2, 5, 16, 40)] == [plan.tape(n, training).peak() for n in (2, 5, 16, 40)]


# ---- fit -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_the_largest_batch_fits_and_one_more_does_not(training: bool) -> None:
    budget = 40_000_000
    best = fit(Small(), (3, 32, 32), budget, training=training)
    peaks = memory(Small(), (3, 32, 32), batches=(best, best + 1)).peaks
    low, high = [p.training if training else p.inference for p in peaks]
    assert best > 1
    assert low <= budget < high
    assert best.reason == ""


def test_nothing_fits() -> None:
    """Weights, gradients, two moments and two counters; the first layer decayed and its denominator twice."""
    best = fit(two_layers(), (1, 10), 5000, optimiser="adam")
    assert best == 0
    assert 4 * 1200 + 2 * 4 + max(3 * 800, 3 * 400 + 800) + (10 * 4 + 8) + 5 * 4 + 4 == 7280
    assert best.reason == "a batch of 1 takes 7.28 kB in the optimiser's step, and the budget is 5.00 kB"


# ---- Contracts -------------------------------------------------------------------------------------------------------


def test_the_network_and_the_random_state_are_left_alone() -> None:
    net = nn.Sequential(Small(), nn.Dropout(0.5)).eval()
    net(torch.randn(2, 3, 32, 32)).sum().backward()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    gradients = [p.grad for p in net.parameters()]
    state = torch.get_rng_state()
    memory(net, (3, 32, 32), batches=(2,), precision="bfloat16")
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(v, before[k]) and v.dtype == before[k].dtype for k, v in net.state_dict().items())
    assert [id(p.grad) for p in net.parameters()] == [id(g) for g in gradients]
    assert not any(m.training or m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_frozen_parameters_have_no_gradients_and_no_state() -> None:
    net = Small()
    whole = memory(net, (3, 32, 32), batches=(8,))
    net.first.requires_grad_(False)
    part = memory(net, (3, 32, 32), batches=(8,))
    frozen = total(net.first.parameters())
    assert part.gradients == part.optimiser_state == whole.gradients - frozen
    assert part.peaks[0].kept < whole.peaks[0].kept


@pytest.mark.parametrize("how", ["as_text", "as_markdown", "as_html"])
def test_shown(how: str) -> None:
    found = memory(Small(), (3, 32, 32), batches=(4, 2), name="<small>")
    shown = getattr(found, how)()
    name = "&lt;small&gt;" if how == "as_html" else "<small>"
    assert f"Memory of {name}, input 3x32x32, float32, optimiser momentum" in shown
    assert all(word in shown for word in ("training peak", "first", "head", "Convention: a step is forward"))


def test_json_comes_back() -> None:
    found = memory(Small(), [(3, 32, 32)], batches=(2, 4), optimiser=None)
    assert read_memory(found.as_json()) == found
    assert isinstance(found, Memory)
    assert [p.batch for p in found.peaks] == [2, 4]


class Reading(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: memory(Small(), (3, 32, 32), batches=(0,)),
            BadInput,
            "batch 0 is no size; give a whole number above zero",
        ),
        (
            lambda: fit(Small(), (3, 32, 32), -1),
            BadInput,
            "budget_bytes -1 is no size; give a whole number above zero",
        ),
        (
            lambda: memory(Small(), (3, 32, 32), precision="float23"),  # type: ignore[arg-type]
            UnknownName,
            "no precision named 'float23'; did you mean float32, float16, bfloat16?",
        ),
        (
            lambda: memory(Small(), (3, 32, 32), optimiser="adan"),  # type: ignore[arg-type]
            UnknownName,
            "no optimiser named 'adan'; did you mean adam?",
        ),
    ],
)
def test_errors(call: Callable[[], object], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message


def test_a_forward_that_reads_values_is_refused() -> None:
    with pytest.raises(BadInput) as caught:
        memory(Reading(), (3, 8, 8))
    assert "reads the values" in str(caught.value)
    assert "\n" not in str(caught.value)
