"""Each rule against torch itself: shape, type and layout of its answers; and that no rule gave way to the fallback."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from convatlas.account import account
from convatlas.account.walk import Walk
from convatlas.errors import BadInput

X = (2, 6, 8, 10)

VIEWS: list[Callable[[Tensor], Any]] = [
    lambda x: x.view(2, 6, -1),
    lambda x: x.view((2, 3, 2, 8, 10)),
    lambda x: x.view(torch.int32),
    lambda x: x.view_as(x[:, :]),
    lambda x: x.reshape(12, 80).reshape_as(x),
    lambda x: x.flatten(1),
    lambda x: torch.flatten(x, start_dim=1, end_dim=2),
    lambda x: x.unflatten(1, (3, -1)),
    lambda x: x[:, :1].squeeze(1),
    lambda x: x[:1, :1].squeeze(),
    lambda x: x.unsqueeze(-1).unsqueeze(0),
    lambda x: x.permute(0, 2, 3, 1),
    lambda x: torch.permute(x, (3, 0, -2, 1)),
    lambda x: x.transpose(1, -1),
    lambda x: x.swapaxes(0, 1),
    lambda x: x[0, 0].t(),
    lambda x: x[0, 0].T,
    lambda x: x.mT,
    lambda x: x.movedim(1, -1),
    lambda x: torch.movedim(x, (0, 1), (1, 3)),
    lambda x: x[:, :1].expand(-1, 5, -1, 10),
    lambda x: x[0, 0].expand(3, 2, 8, 10),
    lambda x: x[:, :1].expand_as(x),
    lambda x: x.select(1, -2),
    lambda x: x.narrow(2, 1, 4),
    lambda x: x.split(4, 1),
    lambda x: x.split([1, 2, 3], dim=1),
    lambda x: torch.split(x, 3, -1),
    lambda x: x.chunk(4, 1),
    lambda x: x.chunk(2, dim=-1),
    lambda x: x.unbind(1),
    lambda x: list(x),
    lambda x: x[1],
    lambda x: x[..., 2],
    lambda x: x[:, None, 1:5:2, ::3, -1],
    lambda x: x[None, ..., None],
    lambda x: x[-1:, ..., 100:],
    lambda x: x.detach(),
    lambda x: x.data,
    lambda x: x.contiguous(),
    lambda x: x.to(torch.float32),
    lambda x: x.permute(0, 2, 3, 1).view(2, 80, 6),
    lambda x: x.permute(0, 2, 3, 1).flatten(1, 2),
    lambda x: x.transpose(2, 3)[:, :, ::2],
]

COPIES: list[Callable[[Tensor], Any]] = [
    lambda x: x.permute(0, 2, 3, 1).reshape(2, -1),
    lambda x: x.transpose(1, 2).flatten(1),
    lambda x: x.permute(0, 2, 3, 1).contiguous(),
    lambda x: x.contiguous(memory_format=torch.channels_last),
    lambda x: x.clone(),
    lambda x: x.half(),
    lambda x: x.to(torch.float64),
    lambda x: x.type(torch.int64),
    lambda x: x.type_as(torch.zeros(1, dtype=torch.float64)),
    lambda x: x.repeat(2, 1, 1, 3),
    lambda x: x.repeat((2, 1, 1, 1, 3)),
    lambda x: torch.cat([x, x[:, :2]], 1),
    lambda x: torch.cat((x.half(), x), dim=-1),
    lambda x: torch.stack([x, x], 2),
    lambda x: x.index_select(1, torch.tensor([0, 2])),
    lambda x: F.pad(x, (1, 2, -1, 0)),
    lambda x: F.pad(x, (1, 2, 3, 1), mode="reflect"),
    lambda x: F.interpolate(x, scale_factor=2.5),
    lambda x: F.interpolate(x, size=(5, 7), mode="bilinear", align_corners=False),
    lambda x: F.pixel_unshuffle(x, 2),
    lambda x: F.pixel_shuffle(x.repeat(1, 2, 1, 1), 2),
    lambda x: F.channel_shuffle(x, 3),
    lambda x: x.flip(1),
    lambda x: torch.flip(x, dims=(2, 3)),
]

ELEMENTWISE: list[Callable[[Tensor], Any]] = [
    lambda x: x + x[:, :1],
    lambda x: 1 - x,
    lambda x: x * x[0, 0],
    lambda x: x / 3,
    lambda x: 2 / x,
    lambda x: x**2,
    lambda x: 2**x,
    lambda x: -x,
    lambda x: abs(x),
    lambda x: x % 3,
    lambda x: x // 2,
    lambda x: torch.add(x, x, alpha=2),
    lambda x: x.int() + 1,
    lambda x: x.int() + 1.5,
    lambda x: x.int() / 2,
    lambda x: x.int().sqrt(),
    lambda x: x.half() + x,
    lambda x: x.half() * torch.ones((), dtype=torch.float64),
    lambda x: x > 0,
    lambda x: (x > 0) & (x < 1),
    lambda x: ~(x == x),
    lambda x: x.clamp(min=0),
    lambda x: torch.maximum(x, x[:1]),
    lambda x: torch.where(x > 0, x, 0.0),
    lambda x: torch.where(x[:, :1] > 0, x, x.double()),
    lambda x: x.masked_fill(x > 0, 1.0),
    lambda x: x.lerp(x, 0.5),
    lambda x: x.addcmul(x, x),
    lambda x: F.relu(x),
    lambda x: F.relu6(x),
    lambda x: F.leaky_relu(x, 0.1),
    lambda x: F.gelu(x),
    lambda x: F.silu(x),
    lambda x: F.hardswish(x),
    lambda x: F.hardsigmoid(x),
    lambda x: F.softplus(x),
    lambda x: F.prelu(x, torch.ones(6)),
    lambda x: F.glu(x, 1),
    lambda x: x.sigmoid().tanh().exp(),
    lambda x: F.softmax(x, 1),
    lambda x: x.softmax(-1, dtype=torch.float64),
    lambda x: F.log_softmax(x, dim=1),
    lambda x: F.local_response_norm(x, 5),
    lambda x: F.layer_norm(x, (10,), torch.ones(10), torch.ones(10)),
    lambda x: F.group_norm(x, 3, torch.ones(6)),
    lambda x: F.instance_norm(x),
    lambda x: F.batch_norm(x, torch.zeros(6), torch.ones(6)),
    lambda x: F.rms_norm(x, (10,)),
    lambda x: F.dropout(x, 0.5, True),
    lambda x: x.permute(0, 2, 3, 1).exp(),
    lambda x: x.permute(0, 2, 3, 1) * torch.ones(6),
]

REDUCTIONS: list[Callable[[Tensor], Any]] = [
    lambda x: x.mean(),
    lambda x: x.mean((2, 3)),
    lambda x: x.mean([2, 3], keepdim=True),
    lambda x: x.mean(-1, True),
    lambda x: torch.sum(x, dim=1),
    lambda x: x.int().sum(),
    lambda x: x.amax((1, 2)),
    lambda x: x.logsumexp(1),
    lambda x: x.std(1),
    lambda x: x.var((1, 2), keepdim=True, unbiased=False),
    lambda x: torch.var_mean(x, (1, 2), keepdim=True),
    lambda x: x.max(),
    lambda x: x.max(1),
    lambda x: x.max(1, keepdim=True)[0],
    lambda x: torch.max(x, x[:1]),
    lambda x: x.min(dim=2).indices,
    lambda x: x.argmax(1),
    lambda x: x.argmax(),
    lambda x: (x > 0).any(1),
    lambda x: x.norm(dim=1),
    lambda x: torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True),
    lambda x: x.prod(1),
]

WINDOWS: list[Callable[[Tensor], Any]] = [
    lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True),
    lambda x: F.max_pool2d(x, 2, return_indices=True),
    lambda x: F.max_pool1d(x[0], 3),
    lambda x: F.max_pool3d(x, (1, 2, 2)),
    lambda x: F.avg_pool2d(x, (2, 3), ceil_mode=True, count_include_pad=False),
    lambda x: F.avg_pool1d(x[0], 4, 3, 1, True),
    lambda x: F.lp_pool2d(x, 2, 3, 2),
    lambda x: F.adaptive_avg_pool2d(x, (3, None)),
    lambda x: F.adaptive_avg_pool2d(x, 1),
    lambda x: F.adaptive_max_pool2d(x, (5, 4)),
    lambda x: F.adaptive_max_pool2d(x, 2, return_indices=True),
    lambda x: F.adaptive_avg_pool1d(x[0], 3),
    lambda x: F.adaptive_avg_pool3d(x, (2, 3, 4)),
]

PRODUCTS: list[Callable[[Tensor], Any]] = [
    lambda x: F.conv2d(x, torch.zeros(4, 3, 3, 2), None, (2, 1), (1, 0), 2, 2),
    lambda x: F.conv2d(x, torch.zeros(4, 6, 3, 3), padding="valid"),
    lambda x: F.conv2d(x, torch.zeros(4, 6, 3, 3), padding=[1, 2], stride=[2, 2]),
    lambda x: F.conv1d(x[0], torch.zeros(4, 8, 3), torch.zeros(4), padding="same"),
    lambda x: F.conv3d(x, torch.zeros(4, 2, 3, 3, 3), padding=1),
    lambda x: F.conv_transpose2d(x, torch.zeros(6, 2, 3, 3), None, 2, 1, 1, 2, 1),
    lambda x: F.conv_transpose1d(x[0], torch.zeros(8, 5, 3), torch.zeros(5), stride=3, dilation=2),
    lambda x: F.linear(x, torch.zeros(7, 10), torch.zeros(7)),
    lambda x: F.linear(x[0, 0, 0], torch.zeros(7, 10)),
    lambda x: x @ torch.zeros(10, 7),
    lambda x: torch.zeros(5, 8) @ x,
    lambda x: torch.matmul(x, x[0, 0].mT),
    lambda x: torch.matmul(x[0, 0], torch.zeros(10)),
    lambda x: torch.matmul(torch.zeros(8), x[0, 0]),
    lambda x: x[0].bmm(torch.zeros(6, 10, 3)),
    lambda x: torch.mm(x[0, 0], torch.zeros(10, 3)),
    lambda x: torch.mv(x[0, 0], torch.zeros(10)),
    lambda x: torch.addmm(torch.zeros(3), x[0, 0], torch.zeros(10, 3)),
    lambda x: torch.baddbmm(torch.zeros(6, 8, 3), x[0], torch.zeros(6, 10, 3)),
    lambda x: torch.einsum("nchw,cd->ndhw", x, torch.zeros(6, 4)),
    lambda x: torch.einsum("nchw,nchv->ncwv", x, x),
    lambda x: torch.einsum("...hw,wk->...hk", x, torch.zeros(10, 3)),
    lambda x: torch.einsum("nchw,cd,de->nehw", x, torch.zeros(6, 4), torch.zeros(4, 3)),
    lambda x: torch.einsum("hw, wk", x[0, 0], torch.zeros(10, 3)),
]


class Of(nn.Module):
    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        result = self.function(x)
        outs = result if isinstance(result, (tuple, list)) else [result]
        OUTS.extend((tuple(t.shape), t.dtype, t.stride()) for t in outs)
        return result


OUTS: list[tuple[Any, ...]] = []


def name(function: object) -> str:
    return inspect.getsource(function).strip().removeprefix("lambda x: ").rstrip(",")  # type: ignore[arg-type]


def walked(function: Callable[[Tensor], Any], monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """The answers' shapes, types and strides, and the table; a fallback of a function that has a rule fails."""
    fallback = Walk.without_rule

    def strict(self: Walk, func: Any, args: Any, kwargs: Any) -> Any:
        assert func not in self.rules, f"the rule of {func} gave way"
        return fallback(self, func, args, kwargs)

    monkeypatch.setattr(Walk, "without_rule", strict)
    OUTS.clear()
    table = account(Of(function), torch.empty(X, device="meta"))
    return list(OUTS), table


def real(function: Callable[[Tensor], Any]) -> list[tuple[Any, ...]]:
    OUTS.clear()
    Of(function)(torch.zeros(X))
    return list(OUTS)


@pytest.mark.parametrize("function", VIEWS, ids=name)
def test_views_have_torchs_layout_and_no_row(
    function: Callable[[Tensor], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    outs, table = walked(function, monkeypatch)
    assert outs == real(function)
    assert table.rows == ()


@pytest.mark.parametrize("function", COPIES + ELEMENTWISE + REDUCTIONS + WINDOWS, ids=name)
def test_shape_and_type_are_torchs(function: Callable[[Tensor], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    outs, table = walked(function, monkeypatch)
    assert [o[:2] for o in outs] == [o[:2] for o in real(function)]
    assert table.rows
    assert table.totals.macs == 0
    assert table.uncounted == ()


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("function", PRODUCTS, ids=name)
def test_products_count_what_torch_counts(function: Callable[[Tensor], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    outs, table = walked(function, monkeypatch)
    assert [o[:2] for o in outs] == [o[:2] for o in real(function)]
    with FlopCounterMode(display=False) as counter:
        function(torch.zeros(X, requires_grad=True))
    flops = counter.get_total_flops()
    if flops == 0:  # torch has no formula for a matrix times a vector
        flops = 2 * 80
    assert table.totals.macs == flops // 2
    assert table.uncounted == ()


def test_layout_decides_whether_a_reshape_copies() -> None:
    shuffle = Of(lambda x: x.view(2, 3, 2, 8, 10).transpose(1, 2).contiguous().view(X))
    assert [(r.op, r.activations) for r in account(shuffle, torch.empty(X, device="meta")).rows] == [
        ("contiguous", 960)
    ]
    turned = Of(lambda x: x.permute(0, 2, 3, 1).relu().permute(0, 3, 1, 2).flatten(1))
    assert [r.op for r in account(turned, torch.empty(X, device="meta")).rows] == ["relu"]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=5),
    st.permutations(range(5)),
    st.lists(st.integers(1, 3), min_size=5, max_size=5),
    st.data(),
)
def test_any_reshape_of_any_layout(shape: list[int], order: list[int], steps: list[int], data: st.DataObject) -> None:
    """view where torch allows one, a copy where it copies; the strides are torch's."""
    order = [d for d in order if d < len(shape)]
    n = 1
    for size, step in zip(shape, steps, strict=False):
        n *= -(-size // step)
    cut = tuple(slice(None, None, s) for s in steps[: len(shape)])
    parts, rest = [], n
    for divisor in data.draw(st.lists(st.sampled_from([1, 2, 3, 4, 5, 6]), max_size=4)):
        if rest % divisor == 0:
            parts.append(divisor)
            rest //= divisor
    wanted = (*parts, rest)

    def reshaped(x: Tensor) -> Tensor:
        return x[cut].permute(order).reshape(wanted)

    OUTS.clear()
    x = torch.zeros(shape)
    expected = reshaped(x)
    table = account(Of(reshaped), x)
    assert OUTS[0][:2] == (wanted, torch.float32)
    copied = expected.numel() > 0 and expected.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()
    assert [r.op for r in table.rows] == (["reshape"] if copied else [])
    if not copied:
        assert [s for s, d in zip(OUTS[0][2], wanted, strict=True) if d > 1] == [
            s for s, d in zip(expected.stride(), wanted, strict=True) if d > 1
        ]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(1, 3), max_size=4), min_size=2, max_size=3))
def test_broadcasting_is_torchs(shapes: list[list[int]]) -> None:
    class Sum(nn.Module):
        def forward(self, *xs: Tensor) -> Tensor:
            return torch.where(xs[0] > 0, xs[1], xs[-1]) * xs[0]

    inputs = [torch.empty(s, device="meta") for s in shapes]
    try:
        expected = torch.broadcast_shapes(*shapes)
    except RuntimeError:
        with pytest.raises(BadInput, match=r", which (differ in|do not meet)"):
            account(Sum(), inputs)
        return
    assert account(Sum(), inputs).rows[-1].output == tuple(expected)


IN_PLACE: list[Callable[[Tensor], Any]] = [
    lambda x: x.relu_(),
    lambda x: F.relu(x, inplace=True),
    lambda x: F.relu6(x, inplace=True),
    lambda x: F.silu(x, inplace=True),
    lambda x: F.hardswish(x, inplace=True),
    lambda x: F.leaky_relu_(x, 0.1),
    lambda x: x.sigmoid_(),
    lambda x: x.mul_(x.sigmoid()),
    lambda x: x.div_(2).add_(1),
    lambda x: x.__iadd__(x.exp()),
    lambda x: F.dropout(x, 0.5, True, True),
    lambda x: x.clamp_(0, 1),
    lambda x: x.masked_fill_(x > 0, 2.0),
]


class Learned(Of):
    """The function behind a product with a parameter, so that its input wants a gradient."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__(function)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Any:
        result = self.function(x * self.scale)
        WANTED.extend(t.requires_grad for t in (result if isinstance(result, (tuple, list)) else [result]))
        return result


WANTED: list[bool] = []


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize(
    "function", VIEWS + COPIES + ELEMENTWISE + REDUCTIONS + WINDOWS + PRODUCTS + IN_PLACE, ids=name
)
def test_what_is_saved_is_torchs(function: Callable[[Tensor], Any], kept_by_autograd: Callable[..., int]) -> None:
    net = Learned(function)
    WANTED.clear()
    expected = kept_by_autograd(net, torch.zeros(X))
    wanted = list(WANTED)
    WANTED.clear()
    table = account(net, torch.zeros(X))
    assert (table.totals.saved_bytes, WANTED, table.uncounted) == (expected, wanted, ())
