"""Receptive fields: figures that others published, and the support of the gradient of random networks."""

import pytest
import torch
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from convatlas.account import account
from convatlas.errors import BadInput
from convatlas.table import Row, Table

# ---- Published figures (distill.pub/2019/computing-receptive-fields); arithmetic for what it lacks -------------------


def torchvision_table(name: str, size: int = 224) -> Table:
    from torchvision import models

    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    with torch.device("meta"):
        net = models.get_model(name, weights=None, **options).eval()
    return account(net, (3, size, size))


def last(table: Table, path: str) -> Row:
    return next(r for r in reversed(table.rows) if r.path == path or r.path.startswith(f"{path}."))


# Field and stride of a stage's last row. ResNet's are those of version 1.5 (stride in the 3x3), as torchvision has it.
STAGES = [
    ("alexnet", "features.0", 11, 4),
    ("alexnet", "features.12", 195, 32),
    ("vgg11", "features", 150, 32),
    ("vgg16", "features.29", 196, 16),
    ("vgg16", "features", 212, 32),
    ("googlenet", "inception5b", 379, 32),
    ("resnet18", "layer4", 435, 32),
    ("resnet34", "layer4", 899, 32),
    ("resnet50", "layer1", 35, 4),
    ("resnet50", "layer2", 91, 8),
    ("resnet50", "layer3", 267, 16),
    ("resnet50", "layer4", 427, 32),
    ("resnet101", "layer4", 971, 32),
    ("resnet152", "layer4", 1451, 32),
]


@pytest.mark.parametrize(("name", "path", "field", "stride"), STAGES)
def test_stages_of_torchvisions_networks(name: str, path: str, field: int, stride: int) -> None:
    table = torchvision_table(name)
    row = last(table, path)
    assert (row.field, row.stride) == ((field, field), (stride, stride))
    if name != "alexnet" and stride == 32:
        assert table.totals.field == (field, field)


def test_convnext_whose_maps_have_their_channels_last() -> None:
    """4x4 stride 4; in stages of 3, 3, 9, 3 blocks each 7x7 adds 6 strides; each 2x2 between stages adds one."""
    expected = 4 + 18 * 4 + 4 + 18 * 8 + 8 + 54 * 16 + 16 + 18 * 32
    assert torchvision_table("convnext_tiny").totals.field == (expected, expected)


def test_inception_v3() -> None:
    """Kernels of 1x7 and 7x1 are tracked per axis."""
    assert torchvision_table("inception_v3", 299).totals.field == (1311, 1311)


class Paper(nn.Module):
    """ResNet with the stride in the first 1x1, as the paper has it; weights do not matter here."""

    def __init__(self, depths: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 7, 2, 3), nn.MaxPool2d(3, 2, 1))
        self.stages = nn.ModuleList()
        for s, depth in enumerate(depths):
            blocks = (Bottleneck(2 if s and not b else 1) for b in range(depth))
            self.stages.append(nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return x.mean((2, 3))


class Bottleneck(nn.Module):
    def __init__(self, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(8, 8, 1, stride), nn.Conv2d(8, 8, 3, 1, 1), nn.Conv2d(8, 8, 1))
        self.shortcut = nn.Conv2d(8, 8, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.shortcut(x)


@pytest.mark.parametrize(("depths", "field"), [((3, 4, 6, 3), 483), ((3, 4, 23, 3), 1027), ((3, 8, 36, 3), 1507)])
def test_resnets_of_the_paper(depths: tuple[int, ...], field: int) -> None:
    assert account(Paper(depths), (3, 224, 224)).totals.field == (field, field)


def test_stages_of_the_papers_resnet50() -> None:
    table = account(Paper((3, 4, 6, 3)), (3, 224, 224))
    fields = [last(table, f"stages.{s}").field for s in range(4)]
    assert fields == [(35, 35), (99, 99), (291, 291), (483, 483)]


def alexnet() -> nn.Sequential:
    """The convolutions and poolings of 2012, 227 pixels."""
    return nn.Sequential(
        nn.Conv2d(3, 96, 11, 4), nn.MaxPool2d(3, 2), nn.Conv2d(96, 256, 5, 1, 2, groups=2), nn.MaxPool2d(3, 2),
        nn.Conv2d(256, 384, 3, 1, 1), nn.Conv2d(384, 384, 3, 1, 1, groups=2), nn.Conv2d(384, 256, 3, 1, 1, groups=2),
        nn.MaxPool2d(3, 2), nn.Flatten(), nn.Linear(9216, 64), nn.Linear(64, 10),
    )  # fmt: skip


def test_alexnet_and_the_linear_layers_behind_it() -> None:
    table = account(alexnet(), (3, 227, 227))
    fields = [r.field[0] for r in table.rows if r.field]
    assert fields == [11, 19, 51, 67, 99, 131, 163, 195, 355, 355]
    assert table.rows[-1].stride is None
    assert table.totals.field == (195, 195)


def test_stacks_of_3x3() -> None:
    for depth, field in ((2, 5), (3, 7)):
        net = nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=1) for _ in range(depth)))
        assert account(net, (1, 32, 32)).totals.field == (field, field)


class SqueezeExcite(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.mean((2, 3), keepdim=True).sigmoid()


def test_a_gate_from_global_pooling_sees_the_whole_input() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, 2), SqueezeExcite(), nn.Conv2d(4, 4, 1))
    table = account(net, (3, 21, 31))
    assert table.rows[0].field == (3, 3)
    assert table.rows[-1].field == (21, 31)
    assert table.rows[-1].stride == (2, 2)


class TwoGates(nn.Module):
    """Each element is scaled by the means of two bands of rows."""

    def forward(self, x: Tensor) -> Tensor:
        return x * x[:, :, 3:6].mean((2, 3), keepdim=True) + x * x[:, :, 24:26].mean((2, 3), keepdim=True)


def test_gates_from_parts_of_a_map() -> None:
    net = nn.Sequential(nn.AvgPool2d(1), TwoGates())
    extent, ends = support(net, (31, 21))
    assert ends[0] == (3, 25)
    assert account(net, (1, 31, 21)).rows[-1].field == extent == (23, 21)


class Rearranged(nn.Module):
    """A map that is turned to channels last, shuffled over channels, flattened and turned back."""

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2).relu()


def test_rearranging_keeps_the_field() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, (3, 5), 2), Rearranged(), nn.Conv2d(4, 4, 3))
    assert account(net, (3, 21, 31)).rows[-1].field == (3 + 2 * 2, 5 + 2 * 2)


def test_unknown_where_positions_are_mixed() -> None:
    class Mixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(1, 3, 4, 16).relu()

    row = account(Mixed(), (3, 8, 8)).rows[-1]
    assert (row.field, row.stride) == (None, None)


def test_no_field_without_spatial_axes() -> None:
    assert account(nn.Linear(4, 3), (2, 4)).rows[0].field is None


# ---- The support of the gradient ------------------------------------------------------------------------------------


class Cut(nn.Module):
    def __init__(self, start: tuple[int, int], step: tuple[int, int]) -> None:
        super().__init__()
        self.start, self.step = start, step

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, self.start[0] :: self.step[0], self.start[1] :: self.step[1]]


class Branches(nn.Module):
    """Sum or concatenation of parallel paths, cut to the smallest map from the top left."""

    def __init__(self, paths: list[nn.Module], add: bool) -> None:
        super().__init__()
        self.paths, self.add = nn.ModuleList(paths), add

    def forward(self, x: Tensor) -> Tensor:
        maps = [p(x) for p in self.paths]
        height, width = min(m.shape[2] for m in maps), min(m.shape[3] for m in maps)
        maps = [m[:, :, :height, :width] for m in maps]
        return sum(maps[1:], maps[0]) if self.add else torch.cat(maps, 1)


class Pad(nn.Module):
    def __init__(self, margins: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.margins = margins

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x, self.margins)


def positive(conv: nn.Module) -> nn.Module:
    """Weights of one, so that no gradient cancels."""
    for p in conv.parameters():
        nn.init.ones_(p)
    return conv.double()


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
margins = st.tuples(st.integers(0, 1), st.integers(0, 1))


@st.composite
def layers(
    draw: st.DrawFn, channels: int, stride: tuple[int, int] | None = None, deep: bool = True
) -> tuple[nn.Module, int]:
    kinds = ["conv", "depthwise", "pool", "cut", "pad", "branches", "up"]
    kind = draw(st.sampled_from(kinds if stride is None and deep else ["conv", "depthwise"]))
    kernel, padding = draw(pairs), draw(margins)
    step = stride or draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    if kind == "conv":
        return positive(nn.Conv2d(channels, 2, kernel, step, padding, draw(st.integers(1, 2)), bias=False)), 2
    if kind == "depthwise":
        return positive(nn.Conv2d(channels, channels, kernel, step, padding, groups=channels, bias=False)), channels
    if kind == "up":  # stride one: a convolution with another offset
        return positive(nn.ConvTranspose2d(channels, 2, kernel, 1, padding, bias=False)), 2
    if kind == "pool":
        kernel = tuple(max(k, 2 * p, s) for k, p, s in zip(kernel, padding, step, strict=True))
        return nn.AvgPool2d(kernel, step, padding, ceil_mode=draw(st.booleans())), channels
    if kind == "cut":
        return Cut(draw(margins), step), channels
    if kind == "pad":
        return Pad(draw(st.tuples(*[st.integers(0, 2)] * 4))), channels
    paths = [draw(layers(channels, step, False)) for _ in range(draw(st.integers(2, 3)))]
    paths = [(nn.Sequential(Cut(draw(st.tuples(*[st.integers(0, 3)] * 2)), (1, 1)), p), c) for p, c in paths]
    add = len({c for _, c in paths}) == 1 and draw(st.booleans())
    return Branches([p for p, _ in paths], add), paths[0][1] if add else sum(c for _, c in paths)


@st.composite
def networks(draw: st.DrawFn) -> nn.Sequential:
    stack, channels = [], 1
    for _ in range(draw(st.integers(1, 5))):
        layer, channels = draw(layers(channels))
        stack.append(layer)
    return nn.Sequential(*stack)


def support(net: nn.Module, shape: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Extent and last pixel, per axis, of the input pixels that the centre element's gradient reaches."""
    x = torch.ones(1, 1, *shape, dtype=torch.float64, requires_grad=True)
    y = net.double()(x)
    y[0, :, (y.shape[2] - 1) // 2, (y.shape[3] - 1) // 2].sum().backward()
    reached = [torch.nonzero(x.grad[0, 0].sum(d)).flatten() for d in (1, 0)]
    return tuple(int(r[-1] - r[0]) + 1 for r in reached), tuple((int(r[0]), int(r[-1])) for r in reached)


def check_field_and_offset(net: nn.Sequential, size: tuple[int, int]) -> None:
    """Begin and extent of the centre element's field, per axis, against the pixels that its gradient reaches."""
    net.append(nn.ReLU())  # a cut is a view and makes no row: its field shows here
    x = torch.empty(1, 1, *size, dtype=torch.float64, device="meta")
    try:
        row = account(net, x).rows[-1]
    except BadInput:  # drawn deeper than the map is large
        with pytest.raises(RuntimeError):
            net(torch.zeros(1, 1, *size, dtype=torch.float64))
        return
    try:
        extent, ends = support(net, size)
    except IndexError:  # it sees padding alone
        reject()
    # At the border padding hides a part of the field; the promise is about elements that see nothing of it.
    assume(all(a > 4 and b < n - 5 for (a, b), n in zip(ends, size, strict=True)))
    assume(row.stride and all(s * o > n - 24 for s, o, n in zip(row.stride, row.output[2:], size, strict=True)))
    begins = tuple(f + (o - 1) // 2 * s for f, s, o in zip(row.offset, row.stride, row.output[2:], strict=True))
    assume(all(b >= 0 and b + f <= n for b, f, n in zip(begins, row.field, size, strict=True)))
    assert (row.field, begins) == (extent, tuple(a for a, _ in ends))


@settings(max_examples=100, deadline=None)
@given(networks(), st.integers(61, 64), st.integers(66, 70))
def test_field_and_offset_are_the_support_of_the_gradient(net: nn.Sequential, height: int, width: int) -> None:
    check_field_and_offset(net, (height, width))


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(networks(), st.integers(90, 97), st.integers(100, 104))
def test_field_and_offset_of_many_networks(net: nn.Sequential, height: int, width: int) -> None:
    check_field_and_offset(net, (height, width))


@pytest.mark.parametrize(
    ("layer", "offset"),
    [
        (nn.Conv2d(3, 4, 7, 2, 3), (-3, -3)),
        (nn.Conv2d(3, 4, (1, 5), 1, (0, 2), (1, 2)), (0, -2)),
        (nn.ConvTranspose2d(3, 4, 3, 1, 0), (-2, -2)),  # the first output meets the last column of the kernel
        (nn.MaxPool2d(3, 2, 1), (-1, -1)),
        (nn.ZeroPad2d((3, 0, 1, 0)), (-1, -3)),
        (nn.Identity(), (0, 0)),
        (nn.AdaptiveAvgPool2d(1), (0, 0)),
    ],
)
def test_offset_of_one_layer(layer: nn.Module, offset: tuple[int, int]) -> None:
    assert account(nn.Sequential(layer, nn.ReLU()), (3, 32, 32)).rows[-1].offset == offset


def test_offsets_of_branches_join_at_the_smaller() -> None:
    """3x3 after 7x7 stride 2: -3 and then one output of 2 pixels more; the shortcut begins at -3."""
    net = nn.Sequential(nn.Conv2d(1, 1, 7, 2, 3), Branches([nn.Conv2d(1, 1, 3, 1, 1), nn.Identity()], True), nn.ReLU())
    assert [r.offset for r in account(net, (1, 32, 32)).rows] == [(-3, -3), (-5, -5), (-5, -5), (-5, -5)]
    assert account(nn.Linear(4, 3), (2, 4)).rows[0].offset is None


@st.composite
def unpadded(draw: st.DrawFn) -> nn.Sequential:
    stack: list[nn.Module] = []
    for _ in range(draw(st.integers(1, 3))):
        kernel, step = draw(pairs), draw(pairs)
        conv = draw(st.booleans())
        stack.append(positive(nn.Conv2d(1, 1, kernel, step, bias=False)) if conv else nn.AvgPool2d(kernel, step))
    return nn.Sequential(*stack)


@settings(max_examples=40, deadline=None)
@given(unpadded(), st.sampled_from(["linear", "mean", "pool", "conv"]))
def test_what_joins_all_positions_sees_what_they_saw_together(net: nn.Sequential, how: str) -> None:
    x = torch.ones(1, 1, 40, 44, dtype=torch.float64, requires_grad=True)
    features = net(x)
    size = tuple(features.shape[2:])
    joins = {
        "linear": nn.Sequential(nn.Flatten(), positive(nn.Linear(size[0] * size[1], 1, bias=False))),
        "mean": Mean(),
        "pool": nn.AdaptiveAvgPool2d(1),
        "conv": positive(nn.Conv2d(1, 1, size, bias=False)),
    }
    net.append(joins[how])
    net(x).sum().backward()
    assert x.grad is not None
    reached = [torch.nonzero(x.grad[0, 0].sum(d)).flatten() for d in (1, 0)]
    row = account(net, torch.empty(1, 1, 40, 44, dtype=torch.float64, device="meta")).rows[-1]
    assert row.field == tuple(int(r[-1] - r[0]) + 1 for r in reached)
    assert row.stride is None


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((-2, -1))
