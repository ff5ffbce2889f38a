"""Layers that are answered at their call give the very rows that the long way through their forward gives."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convatlas.account import account
from convatlas.account.leaves import LEAVES

CALL = nn.Module._call_impl


@pytest.fixture(autouse=True)
def left_as_it_was() -> Iterator[None]:
    yield
    assert nn.Module._call_impl is CALL


@contextmanager
def nothing_short(walk: object) -> Iterator[None]:
    yield


NAMES = """alexnet vgg11_bn googlenet resnet50 densenet121 squeezenet1_1 mobilenet_v2 mobilenet_v3_small efficientnet_b0
shufflenet_v2_x1_0 convnext_tiny mnasnet0_5 vit_b_16 swin_t"""


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NAMES.split())
def test_the_short_way_and_the_long_way_agree(name: str, training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import models

    options = {"init_weights": False} if name == "googlenet" else {}
    with torch.device("meta"):
        net = models.get_model(name, weights=None, **options).train(training)
    for i, p in enumerate(net.parameters()):
        p.requires_grad_(i % 5 != 1)
    short = account(net, (2, 3, 224, 224))
    monkeypatch.setitem(account.__globals__, "shortcuts", nothing_short)
    long = account(net, (2, 3, 224, 224))
    for a, b in zip(short.rows, long.rows, strict=True):
        assert a == b
    assert short == long


VARIANTS: list[Callable[[], nn.Module]] = [
    lambda: nn.Conv2d(4, 6, 3, padding="same", dilation=2),
    lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"),
    lambda: nn.Conv2d(4, 8, (1, 3), groups=4, bias=False),
    lambda: nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last),
    lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 6, 3)),
    lambda: nn.BatchNorm2d(4, affine=False),
    lambda: nn.BatchNorm2d(4, track_running_stats=False),
    lambda: nn.BatchNorm2d(4, momentum=None).eval(),
    lambda: nn.BatchNorm2d(4, track_running_stats=False).eval(),
    lambda: nn.ReLU(inplace=True),
    lambda: nn.ReLU6(inplace=True),
    lambda: nn.SiLU(),
    lambda: nn.Sigmoid(),
    lambda: nn.Tanh(),
    lambda: nn.Dropout(0.0),
    lambda: nn.Dropout(0.3, inplace=True),
    lambda: nn.MaxPool2d(3, 2, 1, ceil_mode=True),
    lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False, divisor_override=2),
    lambda: nn.AdaptiveAvgPool2d((1, None)),
    lambda: nn.AdaptiveAvgPool2d(1),
    lambda: nn.Linear(9, 5, bias=False),
]


@pytest.mark.parametrize("make", VARIANTS)
def test_every_layer_both_ways(
    make: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch, kept_by_autograd: Callable[..., int]
) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), make(), nn.ReLU())
    short = account(net, (2, 3, 8, 9))
    assert short.totals.saved_bytes == kept_by_autograd(net, torch.zeros(2, 3, 8, 9))
    monkeypatch.setitem(account.__globals__, "shortcuts", nothing_short)
    assert account(net, (2, 3, 8, 9)) == short


def test_what_is_more_than_torchs_own_layer_takes_the_long_way() -> None:
    class Louder(nn.ReLU):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 2

    called: list[str] = []
    hooked, replaced, before = nn.ReLU(), nn.ReLU(), nn.ReLU()
    hooked.register_forward_hook(lambda m, args, out: called.append("after") or out + 1)
    before.register_forward_pre_hook(lambda m, args: called.append("before"))
    replaced.forward = torch.exp  # type: ignore[method-assign]
    net = nn.Sequential(Louder(), hooked, replaced, before)
    assert [(r.path, r.op) for r in account(net, (3, 4, 4)).rows] == [
        ("0", "relu"), ("0", "mul"), ("1", "relu"), ("1", "add"), ("2", "exp"), ("3", "relu"),
    ]  # fmt: skip
    assert called == ["after", "before"]


def test_changed_layers_functions_and_global_hooks_are_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    with monkeypatch.context() as patch:
        patch.setattr(nn.ReLU, "forward", lambda self, x: torch.tanh(x))
        assert [r.op for r in account(net, (3, 8, 8)).rows] == ["conv2d", "tanh"]
    with monkeypatch.context() as patch:
        patch.setattr(F, "relu", lambda x, inplace: torch.exp(x))
        assert [r.op for r in account(net, (3, 8, 8)).rows] == ["conv2d", "exp"]
    seen: list[str] = []
    handle = nn.modules.module.register_module_forward_hook(lambda m, args, out: seen.append(type(m).__name__))
    try:
        account(net, (3, 8, 8))
    finally:
        handle.remove()
    assert seen == ["Conv2d", "ReLU", "Sequential"]


def test_a_mode_that_a_forward_sets_sees_its_layers() -> None:
    seen: list[str] = []

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(
            self, func: object, types: object, args: tuple = (), kwargs: dict | None = None
        ) -> object:
            seen.append(func.__name__)
            return func(*args, **(kwargs or {}))

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            with Watch():
                return self.relu(x)

    assert [r.op for r in account(Watched(), (3, 4, 4)).rows] == ["relu"]
    assert "relu" in seen


def test_errors_leave_the_call_as_it_was_on_all_threads() -> None:
    class Late(nn.Module):
        def __init__(self, gate: threading.Event, wait: threading.Event) -> None:
            super().__init__()
            self.gate, self.wait, self.relu = gate, wait, nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            self.gate.set()
            assert self.wait.wait(20)
            return self.relu(x)

    entered, go = threading.Event(), threading.Event()
    tables = []
    thread = threading.Thread(target=lambda: tables.append(account(Late(entered, go), (3, 4, 4))))
    thread.start()
    assert entered.wait(20)
    with pytest.raises(Exception, match="got 3 channels"):
        account(nn.Sequential(nn.Conv2d(5, 4, 3)), (3, 8, 8))
    assert nn.Module._call_impl is not CALL  # the other walk is still on
    assert torch.equal(nn.ReLU()(torch.tensor([-1.0, 2.0])), torch.tensor([0.0, 2.0]))
    go.set()
    thread.join()
    assert [r.op for r in tables[0].rows] == ["relu"]
    assert set(LEAVES) >= {nn.Conv2d, nn.BatchNorm2d, nn.ReLU}
