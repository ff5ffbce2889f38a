"""VGG nets against the paper's tables, torchvision with copied weights, ONNX's light model, another library's MACs."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from convatlas.account import account
from convatlas.networks import NETWORKS, build
from convatlas.table import Table

Differences = Callable[..., list[float]]

# torchvision's metadata; configuration C, which it lacks, by hand from Table 1 (its Table 2 says 134 M).
PARAMETERS = {
    "vgg11": 132_863_336,
    "vgg13": 133_047_848,
    "vgg16_1x1": 133_638_952,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "vgg11_bn": 132_868_840,
    "vgg13_bn": 133_053_736,
    "vgg16_bn": 138_365_992,
    "vgg19_bn": 143_678_248,
}
# osmr/imgclsmob's table "FLOPs/2" in millions, which counts more than multiply-adds; see `halves`.
OSMR = {
    "vgg11": 7_615.87,
    "vgg13": 11_317.65,
    "vgg16": 15_480.10,
    "vgg19": 19_642.55,
    "vgg11_bn": 7_630.72,
    "vgg13_bn": 11_342.14,
    "vgg16_bn": 15_507.20,
    "vgg19_bn": 19_672.26,
}
TORCHVISION = sorted(OSMR)


@cache
def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return build(name).eval()


@cache
def table(name: str) -> Table:
    return account(on_meta(name), NETWORKS[name].input)


def halves(t: Table) -> float:
    """What it counts besides: 1/2 for a ReLU and for each of a pooling's 2x2 pixels, 2 for a normalised value."""
    each = {"relu": 0.5, "max_pool2d": 4 * 0.5, "batch_norm": 2.0}
    return sum(each[op] * count for op, count in elements(t))


def elements(t: Table) -> list[tuple[str, int]]:
    size = [(r.op.rstrip("_"), torch.Size(r.output).numel()) for r in t.rows]
    return [(op, count) for op, count in size if op in ("relu", "max_pool2d", "batch_norm")]


def test_parameters() -> None:
    assert {name: sum(p.numel() for p in on_meta(name).parameters()) for name in PARAMETERS} == PARAMETERS
    assert {name: round(PARAMETERS[name] / 1e6) for name in list(PARAMETERS)[:5]} == {
        "vgg11": 133, "vgg13": 133, "vgg16_1x1": 134, "vgg16": 138, "vgg19": 144,  # Table 2
    }  # fmt: skip


def test_macs_are_torchvisions() -> None:
    printed = {"vgg11": 7.609, "vgg13": 11.308, "vgg16": 15.47, "vgg19": 19.632}
    printed |= {f"{name}_bn": macs for name, macs in printed.items()}
    assert {name: round(table(name).totals.macs / 1e9, 3) for name in printed} == printed


@pytest.mark.parametrize("name", sorted(OSMR))
def test_macs_are_another_librarys_by_its_convention(name: str) -> None:
    t = table(name)
    assert len(elements(t)) >= 8 + 2 + 5  # ReLUs of VGG-11, and poolings
    assert (t.totals.macs + halves(t)) / 1e6 == pytest.approx(OSMR[name], abs=0.005)


def test_the_ones_of_configuration_c() -> None:
    """Configuration C is B with a 1x1 more in blocks 3 to 5: 256, 512 and 512 wide, at 56, 28 and 14 pixels."""
    widths = {3: (256, 56), 4: (512, 28), 5: (512, 14)}
    more = table("vgg16_1x1").totals
    assert more.params - table("vgg13").totals.params == sum(w * w + w for w, _ in widths.values())
    assert more.macs - table("vgg13").totals.macs == sum(w * w * s * s for w, s in widths.values())
    kernels = [m.kernel_size for n, m in on_meta("vgg16_1x1").named_modules() if n.endswith("_3.conv")]
    assert kernels == [(1, 1)] * 3


def test_labels_are_those_of_the_caffe_files() -> None:
    expected = []
    for block, depth in enumerate((2, 2, 3, 3, 3), start=1):
        expected += [*(f"conv{block}_{i}" for i in range(1, depth + 1)), f"pool{block}"]
    expected += ["flatten", "fc6", "fc7", "fc8"]
    assert [name for name, _ in on_meta("vgg16").named_children()] == expected


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_the_name_tells_the_depth(name: str) -> None:
    layers = sum(isinstance(m, nn.Conv2d | nn.Linear) for m in on_meta(name).modules())
    assert layers == int(name[3:5])


def test_each_line_of_the_memory_table() -> None:
    """The course notes' VGG-16 (cs231n.github.io/convolutional-networks): values kept, by the products given there."""
    lines = [224 * 224 * 64, 224 * 224 * 64, 112 * 112 * 64, 112 * 112 * 128, 112 * 112 * 128, 56 * 56 * 128]
    lines += [56 * 56 * 256] * 3 + [28 * 28 * 256] + [28 * 28 * 512] * 3 + [14 * 14 * 512] * 4 + [7 * 7 * 512]
    lines += [4096, 4096, 1000]
    t = table("vgg16")
    labels = [name for name, _ in on_meta("vgg16").named_children() if name != "flatten"]
    assert [t.under(label).totals.activations for label in labels] == lines
    assert t.totals.activations == sum(lines)


def test_receptive_fields() -> None:
    """google-research/receptive_field's table for VGG-A and VGG-16."""
    for name, pixels in (("vgg11", 150), ("vgg16", 212)):
        row = table(name).under("pool5").rows[-1]
        assert row.field == (pixels, pixels)
        assert row.stride == (32, 32)
    row = table("vgg16").under("conv5_3").rows[-1]
    assert (row.field, row.stride) == ((196, 196), (16, 16))  # 212 less one step of 16 within pool5's window


def test_shapes_are_those_of_onnx_light_vgg19() -> None:
    file = Path(onnx.__file__).parent / "backend/test/data/light/light_vgg19.onnx"
    graph = onnx.shape_inference.infer_shapes(onnx.load(file)).graph
    known = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in graph.value_info}
    ops = {"Conv": "conv2d", "MaxPool": "max_pool2d", "Gemm": "linear"}
    expected = [(ops[n.op_type], known[n.output[0]]) for n in graph.node if n.op_type in ops]
    assert len(expected) == 16 + 5 + 3
    found = [(r.op, r.output) for r in table("vgg19").rows if r.op in ops.values()]
    assert found == expected


@pytest.mark.parametrize("name", TORCHVISION)
def test_names_and_shapes_are_torchvisions(name: str) -> None:
    import torchvision

    foreign = NETWORKS[name].foreign
    assert foreign is not None
    with torch.device("meta"):
        other = torchvision.models.get_model(foreign.name, weights=None)
    ours = {foreign.their_name(n): tuple(t.shape) for n, t in on_meta(name).state_dict().items()}
    assert ours == {n: tuple(t.shape) for n, t in other.state_dict().items()}
    assert list(ours) == list(other.state_dict())


QUICK = ("vgg11", "vgg11_bn")


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in QUICK)) for n in TORCHVISION])
def test_logits_equal_torchvisions_with_its_weights(differences: Differences, name: str, train: bool) -> None:
    assert differences(name, (224, 224), train=train) == [0]


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 100), (95, 224)])
def test_the_first_fully_connected_layer_follows_the_input(height: int, width: int) -> None:
    with torch.device("meta"):
        net = build("vgg11", classes=3, input=(height, width))
    assert net.fc6.linear.in_features == 512 * (height // 32) * (width // 32)
    assert net(torch.empty(2, 3, height, width, device="meta")).shape == (2, 3)


@pytest.mark.parametrize("width", [1, 3, 16, 256])
def test_three_small_kernels_have_27_and_one_large_49_weights(width: int) -> None:
    """Section 2.3: 27C^2 against 49C^2, 81 % more."""
    three, one = (sum(p.numel() for p in build(n, channels=width).parameters()) for n in ("three_3x3", "one_7x7"))
    assert three == 27 * width**2
    assert one == 49 * width**2
    assert f"{one / three - 1:.0%}" == "81%"


@pytest.mark.parametrize("name", ["three_3x3", "one_7x7"])
def test_both_modules_see_seven_pixels(name: str) -> None:
    """Of the input, exactly the 7x7 pixels around an output's place have a gradient; the account says so too."""
    net = build(name, channels=2).double()
    for parameter in net.parameters():
        nn.init.constant_(parameter, 0.1)  # no ReLU is off, so that no pixel is hidden
    x = torch.rand(1, 2, 15, 15, dtype=torch.float64, requires_grad=True)
    y = net(x)
    assert y.shape == x.shape
    y[0, 0, 7, 7].backward()
    assert x.grad is not None
    seen = x.grad[0].ne(0).any(dim=0)
    expected = torch.zeros(15, 15, dtype=torch.bool)
    expected[4:11, 4:11] = True
    assert torch.equal(seen, expected)
    assert table(name).totals.field == (7, 7)


def test_initialisation_is_glorots() -> None:
    net = build("vgg11", classes=400, input=(32, 32))
    for layer in (net.conv1_1.conv, net.conv3_1.conv, net.conv5_2.conv, net.fc6.linear, net.fc7.linear, net.fc8):
        weight = layer.weight.detach()
        kernel = weight[0, 0].numel()
        bound = (6 / (kernel * (weight.shape[0] + weight.shape[1]))) ** 0.5
        assert 0.98 * bound < weight.abs().max().item() <= bound
        assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.03)
        assert not layer.bias.any()
