"""Multiply-adds of the backward pass against torch's own counter on a real one."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from convatlas.account import account


def counted(net: nn.Module, *shape: int, device: str = "meta") -> int:
    """MACs of forward and backward together."""
    with FlopCounterMode(display=False) as counter:
        result = net(torch.zeros(*shape, device=device))
        parts = result if isinstance(result, tuple) else (result,)
        torch.stack([t.sum() for t in parts]).sum().backward()
    return counter.get_total_flops() // 2


# Without grouped convolutions, whose weight's gradient torch counts as if every group saw all channels.
NAMES = "alexnet vgg11 resnet18 resnet50 densenet121 squeezenet1_1 googlenet inception_v3 vit_b_16 swin_t"


@pytest.mark.parametrize("name", NAMES.split())
def test_forward_and_backward_of_torchvisions_networks(name: str) -> None:
    from torchvision import models

    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    with torch.device("meta"):
        net = models.get_model(name, weights=None, **options).train()
    size = 299 if name == "inception_v3" else 224
    totals = account(net, (2, 3, size, size)).totals
    assert totals.macs + totals.backward_macs == counted(net, 2, 3, size, size)


def test_the_first_convolution_needs_no_gradient_of_its_input() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Flatten(), nn.Linear(4 * 144, 10))
    rows = [r for r in account(net, (2, 3, 16, 16)).rows if r.macs]
    assert [r.backward_macs / r.macs for r in rows] == [1, 2, 2]
    assert account(net.requires_grad_(False), (2, 3, 16, 16)).totals.backward_macs == 0
    net[2].weight.requires_grad_(True)  # the layer before wants none, so its input's gradient is not worked out
    assert [r.backward_macs / r.macs for r in account(net, (2, 3, 16, 16)).rows if r.macs] == [0, 1, 1]


class Split(nn.Module):
    """A grouped convolution as one convolution a group."""

    def __init__(self, whole: nn.Conv2d) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, x: Tensor) -> Tensor:
        w = self.whole
        groups = zip(x.chunk(w.groups, 1), w.weight.chunk(w.groups), strict=True)
        return torch.cat([F.conv2d(a, b, None, w.stride, w.padding, w.dilation) for a, b in groups], 1)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([1, 2, 3, 6]), st.tuples(st.integers(1, 3), st.integers(1, 3)), st.integers(1, 3),
    st.integers(1, 2), st.integers(0, 2),
)  # fmt: skip
def test_grouped_convolutions_cost_what_their_groups_cost(
    groups: int, kernel: tuple[int, int], stride: int, dilation: int, padding: int
) -> None:
    conv = nn.Conv2d(6, 12, kernel, stride, padding, dilation, groups)
    first = nn.Conv2d(3, 6, 1)
    totals = account(nn.Sequential(first, conv), (2, 3, 12, 14)).totals
    assert totals.macs + totals.backward_macs == counted(nn.Sequential(first, Split(conv)), 2, 3, 12, 14, device="cpu")


PRODUCTS: list[tuple[str, Callable[[Tensor, Tensor], Tensor]]] = [
    ("matmul", lambda x, w: x @ w),
    ("constant", lambda x, w: x @ torch.ones(8, 3)),
    ("mm", lambda x, w: torch.mm(x[0], w)),
    ("bmm", lambda x, w: x.bmm(x.mT)),
    ("addmm", lambda x, w: torch.addmm(torch.zeros(5), x[0], w)),
    ("einsum", lambda x, w: torch.einsum("bij,jk->bik", x, w)),
    ("einsum of three", lambda x, w: torch.einsum("bij,jk,kl->bil", x, w, torch.ones(5, 4))),
    ("linear", lambda x, w: F.linear(x, w.mT)),
    ("transposed", lambda x, w: F.conv_transpose1d(x, w[:6, :, None].expand(6, 5, 3))),
    ("attention", lambda x, w: (x @ x.mT).softmax(-1) @ x),
]


class Product(nn.Module):
    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], learned: bool) -> None:
        super().__init__()
        self.function = function
        self.w = nn.Parameter(torch.ones(8, 5))
        self.scale = nn.Parameter(torch.ones(()), requires_grad=learned)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x * self.scale, self.w) + self.w.sum()


@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize(("name", "function"), PRODUCTS)
def test_products(name: str, function: Callable[[Tensor, Tensor], Tensor], learned: bool) -> None:
    net = Product(function, learned)
    totals = account(net, torch.zeros(2, 6, 8)).totals
    assert totals.macs + totals.backward_macs == counted(net, 2, 6, 8, device="cpu")


def test_fused_attention_costs_what_its_matrix_products_cost() -> None:
    """Kernels that work the weights out a second time are not followed: the count is of the definition."""

    class Fused(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(x, x, x)

    class Plain(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x @ x.mT / 8**0.5).softmax(-1) @ x

    fused, plain = (account(nn.Sequential(nn.Linear(8, 8), net), torch.zeros(2, 3, 6, 8)) for net in (Fused(), Plain()))
    assert fused.totals.backward_macs == plain.totals.backward_macs == 2 * fused.totals.macs - 2 * 3 * 6 * 8 * 8
    assert fused.totals.macs == plain.totals.macs
