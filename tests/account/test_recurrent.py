"""Recurrent layers and cells against torch's counter on meta tensors, and against the real layers' results."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from convatlas.account import account
from convatlas.errors import BadInput

LAYERS: list[tuple[type[nn.RNNBase], dict[str, Any]]] = [
    (nn.LSTM, {}),
    (nn.LSTM, {"num_layers": 2, "bidirectional": True}),
    (nn.LSTM, {"num_layers": 3, "bias": False, "batch_first": True}),
    (nn.LSTM, {"proj_size": 3, "num_layers": 2, "bidirectional": True, "batch_first": True}),
    (nn.GRU, {"num_layers": 2, "batch_first": True}),
    (nn.GRU, {"bidirectional": True, "bias": False}),
    (nn.RNN, {}),
    (nn.RNN, {"nonlinearity": "relu", "bidirectional": True, "num_layers": 2}),
]
CELLS: list[tuple[type[nn.RNNCellBase], dict[str, Any]]] = [
    (nn.LSTMCell, {}),
    (nn.LSTMCell, {"bias": False}),
    (nn.GRUCell, {}),
    (nn.RNNCell, {}),
    (nn.RNNCell, {"nonlinearity": "relu"}),
]


class Seen(nn.Module):
    """Notes the shapes of all results, and hands the first on; a reshape copies only where its layout says so."""

    def __init__(self, net: nn.Module, seen: Callable[[Any], None]) -> None:
        super().__init__()
        self.net, self.seen = net, seen

    def forward(self, x: Tensor) -> Tensor:
        out = self.net(x)
        flat = [out] if isinstance(out, Tensor) else [out[0], *(out[1] if isinstance(out[1], tuple) else out[1:])]
        self.seen([tuple(t.shape) for t in flat])
        return flat[0].transpose(0, 1).reshape(-1) if flat[0].dim() == 3 else flat[0]


def flops(net: nn.Module, x: Tensor) -> tuple[int, int]:
    """Of the forward, and of a whole step."""
    net = deepcopy(net).to("meta")
    with FlopCounterMode(display=False) as forward:
        net(x.to("meta"))
    with FlopCounterMode(display=False) as step:
        net(x.to("meta")).sum().backward()
    return forward.get_total_flops(), step.get_total_flops()


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize(("kind", "options"), LAYERS + CELLS, ids=str)
def test_products_shapes_and_layouts(kind: Callable[..., nn.Module], options: dict[str, Any]) -> None:
    shapes: list[Any] = []
    net = Seen(kind(6, 5, **options), shapes.append)
    x = torch.zeros(4, 3, 6) if issubclass(kind, nn.RNNBase) else torch.zeros(4, 6)  # type: ignore[arg-type]
    net(x)
    table = account(net, x)
    assert shapes[0] == shapes[1]
    forward, step = flops(net, x)
    assert 2 * table.totals.macs == forward
    assert 2 * (table.totals.macs + sum(r.backward_macs for r in table.rows)) == step
    assert table.totals.params == sum(p.numel() for p in net.parameters())
    assert table.unused == 0
    first = options.get("batch_first", False)  # the results then stand step by step, and turned they need no copy
    assert [r.op for r in table.rows if r.op == "reshape"] == ["reshape"] * (issubclass(kind, nn.RNNBase) and not first)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize(("kind", "options"), [*LAYERS[3:], *CELLS], ids=str)
def test_saved_bytes(
    kind: Callable[..., nn.Module], options: dict[str, Any], kept_by_autograd: Callable[..., int]
) -> None:
    net = kind(6, 5, **{**options, "batch_first": False} if issubclass(kind, nn.RNNBase) else options)  # type: ignore[arg-type]
    x = torch.zeros(4, 3, 6) if issubclass(kind, nn.RNNBase) else torch.zeros(4, 6)  # type: ignore[arg-type]
    table = account(net, x)
    assert table.uncounted == ()
    assert table.totals.saved_bytes == kept_by_autograd(net, x)


def test_what_meta_tensors_do_not_show_of_saved_bytes_is_listed() -> None:
    """oneDNN's workspace, and copies of a turned input. Frozen layers keep nothing; oneDNN does not do float64."""
    x = torch.empty(4, 3, 6, device="meta")
    assert account(nn.LSTM(6, 5), x).uncounted == ("what lstm saves",)
    assert account(nn.GRU(6, 5, batch_first=True), x).uncounted == ("what gru saves",)
    assert account(nn.LSTM(6, 5).requires_grad_(False), x).uncounted == ()
    assert account(nn.LSTM(6, 5).double(), x.double()).uncounted == ()


def test_a_state_that_wants_a_gradient_has_one_more_step_backward() -> None:
    class Learned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.start = nn.GRU(6, 5), nn.Parameter(torch.zeros(1, 3, 5))

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x, self.start)[0]

    x = torch.zeros(4, 3, 6)
    table = account(Learned(), x)
    assert 2 * (table.totals.macs + sum(r.backward_macs for r in table.rows)) == flops(Learned(), x)[1]


def test_packed_sequences_are_refused() -> None:
    """How many sequences there are stands in a tensor's values."""

    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.GRU(6, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(nn.utils.rnn.PackedSequence(x.flatten(0, 1), torch.tensor([3, 3, 3, 3])))[1]

    with pytest.raises(BadInput, match=r"^at net \(zeros\): the forward pass reads the values of a tensor"):
        account(Packed(), torch.empty(4, 3, 6, device="meta"))
