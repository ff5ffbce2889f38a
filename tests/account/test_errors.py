"""A clash names the place, what came, what is expected and the nearest mend; and says no less than torch does."""

import re
from collections.abc import Callable
from copy import deepcopy
from math import prod
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from convatlas.account import account
from convatlas.errors import BadInput

OWN = "at the network's own forward "


class Calls(nn.Module):
    """A module whose forward is the given function of itself and x."""

    def __init__(self, function: Callable[..., Any], **children: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, child in children.items():
            self.add_module(name, child)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


class Two(Calls):
    """Both branches' maps are added."""

    def __init__(self, a: nn.Module, b: nn.Module) -> None:
        super().__init__(lambda m, x: m.a(x) + m.b(x), a=a, b=b)


def message(net: nn.Module, shape: tuple[int, ...]) -> str:
    with pytest.raises(BadInput) as caught:
        account(net, torch.empty(shape, device="meta"))
    text = str(caught.value)
    assert "\n" not in text
    return text


def weight(*shape: int) -> Tensor:
    return torch.zeros(shape)


CHANNELS: list[tuple[nn.Module, tuple[int, ...], str]] = [
    (
        nn.Sequential(nn.Sequential(nn.Conv2d(3, 8, 3)), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(16, 8, 3)),
        (1, 3, 9, 9),
        "at 3 (conv2d): got 8 channels (1x8x7x7), expects 16 (weight 8x16x3x3); "
        "set in_channels=8, or out_channels=16 in 0.0",
    ),
    (
        nn.Conv2d(4, 8, 3, groups=2),
        (1, 5, 8, 8),
        OWN + "(conv2d): got 5 channels (1x5x8x8), expects 4 (weight 8x2x3x3, 2 groups); "
        "set in_channels=5 and groups to a divisor of it (1, 5), or give an input with 4 channels",
    ),
    (
        nn.Conv2d(3, 8, 3),
        (1, 8, 9, 3),
        OWN + "(conv2d): got 8 channels (1x8x9x3), expects 3 (weight 8x3x3x3); "
        "the channels stand last here: permute the input to 1x3x8x9",
    ),
    (
        nn.Conv1d(3, 8, 3),
        (1, 4, 9),
        OWN + "(conv1d): got 4 channels (1x4x9), expects 3 (weight 8x3x3); "
        "set in_channels=4, or give an input with 3 channels",
    ),
    (
        nn.ConvTranspose2d(3, 8, 3),
        (1, 4, 8, 8),
        OWN + "(conv_transpose2d): got 4 channels (1x4x8x8), expects 3 (weight 3x8x3x3); "
        "set in_channels=4, or give an input with 3 channels",
    ),
    (
        Calls(lambda m, x: F.conv2d(x, weight(8, 2, 3, 3), groups=3)),
        (1, 6, 8, 8),
        OWN + "(conv2d): got a weight of 8x2x3x3 for 3 groups, expects a number of outputs that 3 divides; "
        "set groups to a divisor of 8 (1, 2, 4, 8)",
    ),
    (
        nn.Sequential(nn.Flatten(), nn.Conv2d(3, 8, 3)),
        (1, 3, 8, 8),
        "at 1 (conv2d): got 1x192, expects 3 dimensions (channels, height, width), or 4 with the batch; "
        "leave out the flatten before it",
    ),
    (
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(5)),
        (1, 3, 8, 6),
        "at 1 (batch_norm): got 4 channels (1x4x8x6), expects 5; set num_features=4, or out_channels=5 in 0",
    ),
    (
        nn.GroupNorm(4, 8),
        (1, 3, 8, 6),
        OWN + "(group_norm): got 3 channels (1x3x8x6) for 4 groups, expects a multiple of 4; "
        "set num_groups to a divisor of 3 (1, 3)",
    ),
    (
        nn.GroupNorm(4, 8),
        (1, 12, 8, 6),
        OWN + "(group_norm): got 12 channels (1x12x8x6), expects 8; "
        "set num_channels=12, or give an input with 8 channels",
    ),
    (
        nn.PReLU(5),
        (1, 3, 8, 8),
        OWN + "(prelu): got 3 channels (1x3x8x8), expects 5; set num_parameters=3, or give an input with 5 channels",
    ),
    (
        nn.LayerNorm(3),
        (1, 3, 8, 6),
        OWN + "(layer_norm): got 1x3x8x6, expects a shape that ends in 3; "
        "move dimension 1 to the end (movedim), or set normalized_shape=6",
    ),
]
FEATURES: list[tuple[nn.Module, tuple[int, ...], str]] = [
    (
        nn.Sequential(nn.Conv2d(3, 3, 1), nn.Flatten(), nn.Linear(401, 10)),
        (1, 3, 9, 9),
        "at 2 (linear): got 243 features (1x243), expects 401 (weight 10x401); set in_features=243",
    ),
    (
        nn.Sequential(nn.Conv2d(3, 3, 1), nn.Flatten(), nn.Linear(300, 10)),
        (1, 3, 9, 9),
        "at 2 (linear): got 243 features (1x243), expects 300 (weight 10x300); "
        "set in_features=243; the smallest input that works is 10x10",
    ),
    (
        nn.Linear(192, 10),
        (2, 3, 8, 8),
        OWN + "(linear): got 8 features (2x3x8x8), expects 192 (weight 10x192); "
        "put a flatten(1) before it: 3*8*8 = 192",
    ),
    (
        nn.Linear(3, 10),
        (1, 3, 8, 5),
        OWN + "(linear): got 5 features (1x3x8x5), expects 3 (weight 10x3); "
        "move dimension 1 to the end (movedim), or set in_features=5",
    ),
    (
        nn.Sequential(nn.Linear(8, 10), nn.ReLU(), nn.Linear(12, 3)),
        (3, 8),
        "at 2 (linear): got 10 features (3x10), expects 12 (weight 3x12); set in_features=10, or out_features=12 in 0",
    ),
    (
        nn.Sequential(nn.Flatten(0), nn.Linear(96, 3)),
        (2, 3, 8, 4),
        "at 1 (linear): got 192 features (192), expects 96 (weight 3x96); "
        "flatten from dimension 1 on, so that the batch stays: flatten(1)",
    ),
    (
        Calls(lambda m, x: x.view(-1, 100)),
        (1, 3, 8, 6),
        OWN + "(view): got 1x3x8x6, which has 144 elements, expects -1x100; take 144 in place of 100, or flatten(1)",
    ),
    (
        Calls(lambda m, x: x.reshape(4, 3, 48)),
        (1, 3, 8, 6),
        OWN + "(reshape): got 1x3x8x6, which has 144 elements, expects 4x3x48; "
        "begin with the batch of 1, or with -1, in place of 4",
    ),
    (
        Calls(lambda m, x: x.permute(0, 2, 3, 1).view(1, -1)),
        (1, 3, 8, 6),
        OWN + "(view): got 1x8x6x3 in a layout that no view shows as 1x-1; use reshape, which copies",
    ),
    (
        Calls(lambda m, x: x @ x),
        (4, 6),
        OWN + "(matmul): got 4x6 and 4x6, expects 6 rows on the right and 4 came; transpose the right one",
    ),
    (
        Calls(lambda m, x: torch.bmm(x, x[:, :3, :3])),
        (2, 3, 5),
        OWN + "(bmm): got 2x3x5 and 2x3x3, expects 5 rows on the right and 3 came; transpose the left one",
    ),
    (
        Calls(lambda m, x: F.scaled_dot_product_attention(x, x[..., :5], x)),
        (1, 3, 8, 8),
        OWN + "(scaled_dot_product_attention): got query, key and value of 1x3x8x8, 1x3x8x5 and 1x3x8x8, "
        "expects query and key to end alike: 8 and 5; project both to one size",
    ),
]
SMALL: list[tuple[nn.Module, tuple[int, ...], str]] = [
    (
        nn.Sequential(nn.Conv2d(3, 8, 7), nn.MaxPool2d(4)),
        (1, 3, 6, 9),
        "at 0 (conv2d): got a map of 6x9 (1x3x6x9), smaller than the window of 7x7; "
        "the smallest input that works is 10x10",
    ),
    (
        nn.Sequential(nn.Conv2d(3, 8, 7), nn.AvgPool2d(4)),
        (1, 3, 9, 9),
        "at 1 (avg_pool2d): got a map of 3x3 (1x8x3x3), smaller than the window of 4x4; "
        "the smallest input that works is 10x10",
    ),
    (
        nn.Conv2d(3, 8, 3, dilation=3, padding=1),
        (1, 3, 4, 4),
        OWN + "(conv2d): got a map of 4x4 (1x3x4x4), 6x6 with its padding, smaller than the window of 7x7 "
        "(3x3 with dilation 3); the smallest input that works is 5x5",
    ),
    (
        nn.Conv2d(3, 8, 3, padding=5, padding_mode="reflect"),
        (1, 3, 4, 4),
        OWN + "(pad): got a map of 4x4 (1x3x4x4) to pad by 5 in mode 'reflect', which takes one less than a side at "
        "most; the smallest input that works is 6x6",
    ),
    (
        nn.MaxPool2d(3, padding=2),
        (1, 3, 8, 8),
        OWN + "(max_pool2d): got a padding of 2 for a window of 3, expects at most half of it; set padding=1",
    ),
    (
        nn.Sequential(nn.Upsample((4, 4)), nn.Conv2d(3, 8, 7)),
        (1, 3, 6, 9),
        "at 1 (conv2d): got a map of 4x4 (1x3x4x4), smaller than the window of 7x7; give a larger input",
    ),
]
MEETINGS: list[tuple[nn.Module, tuple[int, ...], str]] = [
    (
        Calls(lambda m, x: x + m.short(x), short=nn.Conv2d(3, 3, 1, 2)),
        (1, 3, 8, 6),
        OWN + "(add): got 1x3x8x6 and 1x3x4x3, which differ in height (dimension 2: 8 and 4, 4 apart) and in width "
        "(dimension 3: 6 and 3, 3 apart); set stride=1 in short, which gives 8x6",
    ),
    (
        Calls(lambda m, x: x + m.b(m.a(x)).relu(), a=nn.Conv2d(3, 5, 3, padding=1), b=nn.Conv2d(5, 3, (3, 1))),
        (1, 3, 8, 6),
        OWN + "(add): got 1x3x8x6 and 1x3x6x6, which differ in height (dimension 2: 8 and 6, 2 apart); "
        "pad, crop or interpolate one of the two to the other's 6x6",
    ),
    (
        Two(nn.Conv2d(3, 3, 3, 2, padding=1), nn.MaxPool2d(3, 2)),
        (1, 3, 8, 8),
        OWN + "(add): got 1x3x4x4 and 1x3x3x3, which differ in height (dimension 2: 4 and 3, 1 apart) and in width "
        "(dimension 3: 4 and 3, 1 apart); set padding=0 in a, which gives 3x3",
    ),
    (
        Two(nn.Conv2d(3, 6, 1), nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU())),
        (1, 3, 8, 8),
        OWN + "(add): got 1x6x8x8 and 1x8x8x8, which differ in channels (dimension 1: 6 and 8, 2 apart); "
        "set out_channels=8 in a, or out_channels=6 in b.0",
    ),
    (
        Calls(lambda m, x: x + m.b(x), b=nn.Conv2d(3, 8, 3, 2, padding=1)),
        (1, 3, 8, 8),
        OWN + "(add): got 1x3x8x8 and 1x8x4x4, which differ in channels (dimension 1: 3 and 8, 5 apart) and in height "
        "(dimension 2: 8 and 4, 4 apart) and in width (dimension 3: 8 and 4, 4 apart); "
        "put a 1x1 convolution with out_channels=8 and stride=2 on the one of 1x3x8x8",
    ),
    (
        Calls(lambda m, x: torch.cat([x, m.up(F.max_pool2d(x, 2))], 1), up=nn.ConvTranspose2d(3, 5, 2, 2)),
        (1, 3, 9, 9),
        OWN + "(cat): got 1x3x9x9 and 1x5x8x8 (tensor 1), which differ in height (dimension 2: 9 and 8, 1 apart) and "
        "in width (dimension 3: 9 and 8, 1 apart); set output_padding=1 in up",
    ),
    (
        Calls(lambda m, x: torch.cat([x, x, x[:, :, 1:]], 1)),
        (1, 3, 8, 6),
        OWN + "(cat): got 1x3x8x6 and 1x3x7x6 (tensor 2), which differ in height (dimension 2: 8 and 7, 1 apart); "
        "pad, crop or interpolate one of the two to the other's 7x6",
    ),
    (
        Calls(lambda m, x: torch.cat([x, x.flatten(1)], 1)),
        (1, 3, 8, 8),
        OWN + "(cat): got 1x3x8x8 and 1x192 (tensor 1), expects equal numbers of dimensions; "
        "unsqueeze or flatten one of the two to have 4 or 2",
    ),
    (
        Calls(lambda m, x: torch.stack([x, x[:, :2]])),
        (1, 3, 8, 6),
        OWN + "(stack): got 1x3x8x6 and 1x2x8x6 (tensor 1), which differ in channels (dimension 1: 3 and 2, 1 apart); "
        "put a 1x1 convolution on one of the two",
    ),
    (
        Calls(lambda m, x: x * x.mean((2, 3))),
        (1, 3, 8, 6),
        OWN + "(mul): got 1x3x8x6 and 1x3, which do not meet from the right; view the smaller one as 1x3x1x1",
    ),
    (
        Calls(lambda m, x: x.mean(1, keepdim=True).add_(x)),
        (1, 3, 8, 6),
        OWN + "(add): got 1x3x8x6 to write into 1x1x8x6 in place, which cannot grow; write x = x + y, not x += y",
    ),
]
EVERY = [*CHANNELS, *FEATURES, *SMALL, *MEETINGS]


def _id(value: object) -> str:
    return str(value)[:60].replace("\n", "") if isinstance(value, str) else ""


@pytest.mark.parametrize(("net", "shape", "text"), EVERY, ids=_id)
def test_full_text(net: nn.Module, shape: tuple[int, ...], text: str) -> None:
    assert message(net, shape) == text


@pytest.mark.parametrize(("net", "shape", "text"), EVERY, ids=_id)
def test_torch_refuses_too_and_says_no_more(net: nn.Module, shape: tuple[int, ...], text: str) -> None:
    """Every number of torch's message stands in ours, but list places, sizes of nothing, and what it flattened."""
    with pytest.raises(RuntimeError) as caught, torch.no_grad():
        net(torch.zeros(shape))
    theirs = re.sub(
        r"Argument #4|mat\d|batch\d|\b\d+D\b|Calculated output size.*|and dilation=1", "", str(caught.value)
    )
    numbers, shown = (set(map(int, re.findall(r"\d+", t))) for t in (theirs, text))
    assert numbers - {0, 1, prod(shape[:-1])} <= shown


def test_what_nobody_foresaw_keeps_torchs_words() -> None:
    assert message(nn.PixelShuffle(2), (1, 6, 8, 8)) == (
        OWN + "(pixel_shuffle): 1x6x8x8 cannot be taken: "
        "Invalid input shape for pixel_shuffle: torch.Size([1, 6, 8, 8]) with upscale_factor = 2"
    )


def _mended(net: nn.Module, text: str) -> nn.Module:
    """The network after what a text that ends in `set KEY=NUMBER in PATH` says."""
    found = re.search(r"set (\w+)=(\d+) in ([\w.]+)", text)
    assert found is not None
    setting, value, path = found[1], int(found[2]), found[3]
    layer = net.get_submodule(path)
    if setting == "out_channels":
        layer.weight = nn.Parameter(torch.zeros(value, *layer.weight.shape[1:]))  # type: ignore[arg-type]
        layer.bias = nn.Parameter(torch.zeros(value))
    else:
        setattr(layer, setting, (value, value))
    return net


@pytest.mark.parametrize(
    ("index", "shape"), [(i, m[1]) for i, m in enumerate(MEETINGS) if re.search(r"; set \w+=", m[2])]
)
def test_the_mend_makes_torch_take_it(index: int, shape: tuple[int, ...]) -> None:
    net, _, text = deepcopy(MEETINGS[index])
    _mended(net, text)(torch.zeros(shape))
    account(net, shape)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(5, 20), st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), st.integers(1, 4), st.integers(1, 3)
)
def test_branches_that_are_apart_are_mended(side: int, k: int, s: int, p: int, k2: int, s2: int) -> None:
    net = Two(nn.Conv2d(3, 4, k, s, p), nn.Conv2d(3, 4, k2, s2))
    x = torch.zeros(1, 3, side, side)
    try:
        net(x)
    except RuntimeError:
        text = message(net, (1, 3, side, side))
        if "; set " in text:
            _mended(net, text)(x)
