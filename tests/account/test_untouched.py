"""An account leaves the network, its hooks, the random states and torch's settings as they were, even in an error."""

import gc
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.overrides import _get_current_function_mode_stack

from convatlas.account import account
from convatlas.errors import BadInput


def snapshot(net: nn.Module) -> dict[str, Any]:
    return {
        "training": [m.training for m in net.modules()],
        "state": {k: (id(v), v._version, v.clone()) for k, v in net.state_dict(keep_vars=True).items()},
        "grad": {k: (p.requires_grad, p.grad, p.grad_fn) for k, p in net.named_parameters()},
        "attributes": {n: {k: id(v) for k, v in m.__dict__.items()} for n, m in net.named_modules()},
        "hooks": [
            {k: list(v.items()) for k, v in m.__dict__.items() if k.endswith(("hooks", "with_kwargs", "always_called"))}
            for m in net.modules()
        ],
        "global hooks": {k: dict(v) for k, v in vars(hooks).items() if k.startswith("_global") and isinstance(v, dict)},
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "modes": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), len(_get_current_function_mode_stack())),
        "defaults": (torch.get_default_dtype(), torch.get_default_device(), gc.isenabled()),
    }


def same(a: Any, b: Any) -> bool:
    if isinstance(a, (Tensor, np.ndarray)):
        return bool((a == b).all())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@contextmanager
def unchanged(net: nn.Module) -> Iterator[None]:
    before = snapshot(net)
    yield
    after = snapshot(net)
    assert [k for k in before if not same(before[k], after[k])] == []


class Restless(nn.Module):
    """Does in its forward all that a forward may do to its module and to the world."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(4))
        self.scale = nn.Parameter(torch.ones(4, 1, 1))
        self.seen: list[Tensor] = []
        self.cache: dict[str, Tensor] = {"kept": torch.ones(4)}
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.mean = 0.9 * self.mean
        self.mean.copy_(self.mean + 1)
        self.scale.data.clamp_(0, 0.5)
        with torch.no_grad():
            self.scale.mul_(3)
        x = self.drop(self.norm(self.conv(x))) * self.scale
        x = x + torch.randn_like(x) * torch.rand(1) + torch.empty(x.shape).uniform_()
        x = x[:, torch.randperm(4)] * random.random() * np.random.rand()
        self.last = x
        self.seen.append(x)
        self.cache["shape"] = x
        self.cache["kept"] = x
        self.fresh = x.shape
        del self.conv.padding_mode
        return F.dropout2d(F.rrelu(x, training=True), training=True)


@pytest.mark.parametrize("training", [True, False])
def test_a_restless_network(training: bool) -> None:
    net = nn.Sequential(Restless()).train(training)
    with unchanged(net):
        account(net, (3, 9, 9))
    assert net[0].last is None
    assert net[0].seen == []
    assert {k: type(v) for k, v in net[0].cache.items()} == {"kept": Tensor}


@pytest.mark.parametrize("training", [True, False])
def test_a_restless_network_that_is_run(training: bool) -> None:
    net = nn.Sequential(Restless()).train(training)
    with unchanged(net):
        account(net, (3, 9, 9), device="cpu")
    wrong = nn.Sequential(net, nn.Linear(3, 3))
    with unchanged(wrong), pytest.raises(BadInput):
        account(wrong, (3, 9, 9), device="cpu")
    assert net[0].last is None
    assert net[0].seen == []


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_a_wrapped_network(wrap: Any) -> None:
    net = nn.Sequential(Restless()).train()
    wrapped = wrap(net)
    with unchanged(net), unchanged(wrapped):
        account(wrapped, (3, 9, 9))
    with unchanged(net), unchanged(wrapped), pytest.raises(BadInput):
        account(wrapped, (2, 9, 9))


@pytest.mark.parametrize("training", [True, False])
def test_resnet18(training: bool) -> None:
    from torchvision import models

    net = models.resnet18(weights=None).train(training)
    net.fc.weight.requires_grad_(False)
    calls: list[int] = []
    net.layer1.register_forward_hook(lambda m, a, o: calls.append(1))
    with unchanged(net), torch.no_grad():
        account(net, (3, 64, 64))
    assert calls == [1]  # hooks of the user's own belong to the forward


def test_after_an_error() -> None:
    net = nn.Sequential(Restless(), nn.Linear(3, 3)).train()
    with unchanged(net), pytest.raises(BadInput):
        account(net, (3, 9, 9))
    with unchanged(net), pytest.raises(BadInput):
        account(net, (2, 9, 9))


def test_after_an_interrupt() -> None:
    class Interrupted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise KeyboardInterrupt

    net = nn.Sequential(Restless(), Interrupted()).train()
    with unchanged(net), pytest.raises(KeyboardInterrupt):
        account(net, (3, 9, 9))
    assert torch.zeros(2).sum().item() == 0


def test_old_weight_norm_leaves_its_weight() -> None:
    with pytest.warns(FutureWarning):
        net = nn.Sequential(nn.utils.weight_norm(nn.Conv2d(3, 4, 3)))
    x = torch.randn(1, 3, 8, 8)
    expected = net(x)
    with unchanged(net):
        account(net, (3, 8, 8))
    assert torch.equal(net(x), expected)


def test_spectral_norm_does_not_iterate() -> None:
    net = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(6, 5))).train()
    with unchanged(net):
        table = account(net, (2, 6))
    assert table.totals.params == 35


def test_a_network_on_the_meta_device_stays_there() -> None:
    with torch.device("meta"):
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    account(net, (3, 9, 9))
    assert {p.device.type for p in net.parameters()} == {"meta"}


def test_no_memory_is_taken() -> None:
    """A layer of 4 TB on the meta device, and activations of 40 GB."""
    net = nn.Sequential(
        nn.Conv2d(3, 10**4, 3, padding=1, device="meta"), nn.Flatten(), nn.Linear(10**10, 100, device="meta")
    )
    table = account(net, (3, 1000, 1000))
    assert table.totals.params == 27 * 10**4 + 10**4 + 10**12 + 100


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_under_any_gradient_mode(mode: Any) -> None:
    net = nn.Sequential(Restless()).train()
    with mode(), unchanged(net):
        account(net, (3, 9, 9))


def test_train_mode_with_one_image_and_one_value_per_channel() -> None:
    """Training would refuse to normalise it; its costs are known all the same."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    assert account(net, (3, 3, 3)).rows[1].output == (1, 4, 1, 1)
