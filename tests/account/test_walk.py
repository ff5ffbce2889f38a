"""What the walk says when it cannot go on, what it lists as uncounted, and how it names places."""

import threading

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convatlas.account import account
from convatlas.errors import BadInput


def message(net: nn.Module, *shape: int) -> str:
    with pytest.raises(BadInput) as caught:
        account(net, shape)
    text = str(caught.value)
    assert "\n" not in text
    return text


class Calls(nn.Module):
    """A module whose forward is the given function of itself and x."""

    def __init__(self, function: object, **children: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, child in children.items():
            self.add_module(name, child)

    def forward(self, x: Tensor) -> object:
        return self.function(self, x)


# ---- Errors of its own ----------------------------------------------------------------------------------------------


def test_an_error_of_the_modules_own() -> None:
    assert message(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)), 3, 8) == (
        "at 1 (BatchNorm2d): ValueError: expected 4D input (got 2D input)"
    )


def test_an_assertion_on_the_size() -> None:
    def checked(m: nn.Module, x: Tensor) -> Tensor:
        torch._assert(x.shape[-1] == 224, f"Wrong image width! Expected 224 but got {x.shape[-1]}!")
        return x

    assert message(nn.Sequential(Calls(checked)), 3, 8, 8) == (
        "at 0 (assert): Wrong image width! Expected 224 but got 8!"
    )


# ---- Values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("item", lambda m, x: x.mean().item()),
        ("bool", lambda m, x: x if x.sum() > 0 else -x),
        ("tolist", lambda m, x: x.tolist()),
        ("float", lambda m, x: float(x.mean())),
        ("nonzero", lambda m, x: torch.nonzero(x)),
        ("masked_select", lambda m, x: x.masked_select(x > 0)),
        ("getitem", lambda m, x: x[x > 0]),
        ("numpy", lambda m, x: x.numpy()),
        ("where", lambda m, x: torch.where(x > 0)),
        ("unique", lambda m, x: torch.unique(x)),
    ],
)
def test_a_forward_that_needs_values(name: str, function: object) -> None:
    assert message(nn.Sequential(nn.ReLU(), Calls(function)), 3, 8, 8) == (
        f"at 1 ({name}): the forward pass reads the values of a tensor, and an account has shapes only; "
        "let the forward depend on shapes, or give device='cpu' to run it on values"
    )


def test_values_of_the_networks_own_buffers_can_be_read() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("times", torch.tensor(3))

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(int(self.times)):
                x = x.relu()
            return x

    assert [r.op for r in account(Scaled(), (3, 4, 4)).rows] == ["relu"] * 3


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [torch.jit.script, lambda net: torch.jit.trace(net, torch.zeros(1, 3, 4, 4))])
def test_scripted_code(make: object) -> None:
    assert message(nn.Sequential(nn.ReLU(), make(nn.Sequential(nn.ReLU()))), 3, 4, 4) == (
        "at 1: scripted code cannot be walked; give the module that it was made from"
    )


def test_compiled_modules() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1))
    assert account(torch.compile(net), (3, 4, 4)).rows == account(net, (3, 4, 4)).rows
    assert message(nn.Sequential(torch.compile(net)), 3, 4, 4) == (
        "at 0: a compiled module cannot be walked; give the one before compiling"
    )


def test_a_lazy_layer() -> None:
    with pytest.raises(BadInput) as caught:
        account(nn.Sequential(nn.LazyLinear(5)), (2, 4))
    assert str(caught.value) == "at 0: a lazy layer has no weights yet; run the network once, then account"


# ---- Functions without a rule ---------------------------------------------------------------------------------------


def test_what_computes_and_has_no_rule_is_listed() -> None:
    table = account(Calls(lambda m, x: torch.fft.rfft2(x).real.exp()), (3, 8, 8))
    assert table.uncounted == ("torch.fft.rfft2",)
    assert [r.op for r in table.rows] == ["fft_rfft2", "exp"]
    assert table.rows[0].output == (1, 3, 8, 5)
    assert "Not counted, no rule for: torch.fft.rfft2." in table.as_text()


def test_recurrent_layers_are_listed() -> None:
    table = account(nn.LSTM(6, 5, batch_first=True), torch.empty(1, 4, 6, device="meta"))
    assert len(table.uncounted) == 1
    assert "lstm" in table.uncounted[0]
    assert table.totals.params == 4 * 5 * (6 + 5 + 2)
    assert table.unused == 0


def test_cheap_functions_without_a_rule_are_not_listed() -> None:
    net = Calls(lambda m, x: (x.topk(2, 1)[0].cumsum(1), F.normalize(x), x.roll(1, 2), F.one_hot(x.argmax(1), 3)))
    assert account(net, (3, 8, 8)).uncounted == ()


def test_unusual_calls_of_known_functions_fall_back() -> None:
    net = Calls(
        lambda m, x: (torch.relu(x, out=torch.empty_like(x)) if False else x.sum(), x[:, [0, 2]], x.view(torch.int32))
    )
    table = account(net, (3, 8, 8))
    assert [(r.op, r.output) for r in table.rows] == [("sum", ()), ("getitem", (1, 2, 8, 8))]


# ---- Places ---------------------------------------------------------------------------------------------------------


def test_paths_of_functions_methods_and_direct_calls() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def scaled(self, x: Tensor) -> Tensor:
            return x * 2

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.scaled(self.conv.forward(x)))

    net = nn.Sequential(Block(), Calls(lambda m, x: x.exp()), nn.ModuleDict({"last": Block()})["last"])
    assert [(r.path, r.op) for r in account(net, (3, 4, 4)).rows] == [
        ("0.conv", "conv2d"), ("0", "mul"), ("0", "relu"), ("1", "exp"),
        ("2.conv", "conv2d"), ("2", "mul"), ("2", "relu"),
    ]  # fmt: skip


def test_a_replaced_forward() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1))
    weight = net[0].weight
    net[0].forward = lambda x: F.conv2d(x, weight)
    assert [(r.path, r.params) for r in account(net, (3, 4, 4)).rows] == [("0", 12)]


def test_an_account_within_a_forward() -> None:
    inner = nn.Sequential(nn.Conv2d(3, 5, 1))
    seen = []

    def both(m: nn.Module, x: Tensor) -> Tensor:
        x = m.conv(x)
        seen.append(account(inner, (3, 6, 6)))
        return m.conv(x)

    table = account(Calls(both, conv=nn.Conv2d(3, 3, 1)), (3, 4, 4))
    assert [(r.path, r.output) for r in table.rows] == [("conv", (1, 3, 4, 4))] * 2
    assert [(r.path, r.output) for r in seen[0].rows] == [("0", (1, 5, 6, 6))]


def test_many_threads_on_one_network_that_is_in_use() -> None:
    from torchvision import models

    net = models.resnet18(weights=None).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected, alone = net(x), account(net, (3, 64, 64))
    wrong: list[str] = []
    stop = threading.Event()

    def run() -> None:
        with torch.no_grad():
            while not stop.is_set():
                if not torch.equal(net(x), expected):
                    wrong.append("forward")

    def walk() -> None:
        wrong.extend("account" for _ in range(15) if account(net, (3, 64, 64)) != alone)

    users = [threading.Thread(target=run) for _ in range(2)]
    walkers = [threading.Thread(target=walk) for _ in range(2)]
    for t in (*users, *walkers):
        t.start()
    for t in walkers:
        t.join()
    stop.set()
    for t in users:
        t.join()
    assert wrong == []
