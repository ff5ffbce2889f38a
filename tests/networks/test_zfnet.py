"""ZFNets against the paper's Figure 3, osmr/imgclsmob's counts and onnx's relative of it."""

from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from convatlas.account import account
from convatlas.networks import NETWORKS, build
from convatlas.networks.alexnet import Conv, features, stages
from convatlas.networks.zfnet import WIDE
from convatlas.table import Table

# Parameters: osmr/imgclsmob's ZFNet and ZFNet-b. MACs in millions: its figures, 1,170.33 and 2,479.13, less half of the
# ReLUs' and pooling windows' values, which it adds: (1,515,904 + 9 * 342,880) / 2 and (1,688,960 + 9 * 352,096) / 2.
EXPECTED = {
    "zfnet": (62_357_608, 1_170.33 - 2.30),
    "zfnet_512": (107_627_624, 2_479.13 - 2.43),
}


@cache
def table(name: str) -> Table:
    with torch.device("meta"):
        return account(build(name).eval(), NETWORKS[name].input)


def shapes(name: str) -> dict[str, tuple[int, ...]]:
    x, out = torch.zeros(1, 3, 224, 224, device="meta"), {}
    with torch.device("meta"):
        for label, layer in build(name).eval().named_children():
            x = layer(x)
            out[label] = tuple(x.shape[1:])
    return out


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_parameters_and_macs(name: str) -> None:
    params, macs = EXPECTED[name]
    assert table(name).totals.params == params
    assert table(name).totals.macs / 1e6 == pytest.approx(macs, abs=0.011)


def test_shapes_of_figure_3() -> None:
    assert shapes("zfnet") == {
        "conv1": (96, 110, 110),
        "pool1": (96, 55, 55),
        "norm1": (96, 55, 55),
        "conv2": (256, 26, 26),
        "pool2": (256, 13, 13),
        "norm2": (256, 13, 13),
        "conv3": (384, 13, 13),
        "conv4": (384, 13, 13),
        "conv5": (256, 13, 13),
        "pool5": (256, 6, 6),
        "fc6": (4096,),
        "fc7": (4096,),
        "fc8": (1000,),
    }


def test_the_wider_network_differs_in_three_convolutions_only() -> None:
    one, other = shapes("zfnet"), shapes("zfnet_512")
    differs = {label: other[label] for label in one if one[label] != other[label]}
    assert differs == {"conv3": (512, 13, 13), "conv4": (1024, 13, 13), "conv5": (512, 13, 13), "pool5": (512, 6, 6)}


def test_without_the_stride_of_conv2_it_has_386_million_parameters() -> None:
    """With AlexNet's paddings and its input of 227, as a reader of such a summary would take them."""
    literal = WIDE | {"conv1": Conv(96, 7, 2), "conv2": Conv(256, 5, padding=2)}
    with torch.device("meta"):
        convolutions = sum(p.numel() for stage in stages(literal, 3).values() for p in stage.parameters())
    rest = 4097 * 4096 + 4097 * 1000
    assert convolutions + (features(literal, (227, 227)) + 1) * 4096 + rest == 386_548_840


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_receptive_fields(name: str) -> None:
    """By hand: a layer adds (kernel - 1) times the product of the strides before it."""
    windows = {
        "conv1": (7, 2),
        "pool1": (3, 2),
        "conv2": (5, 2),
        "pool2": (3, 2),
        "conv3": (3, 1),
        "conv4": (3, 1),
        "conv5": (3, 1),
        "pool5": (3, 2),
    }
    field, jump = 1, 1
    for label, (kernel, stride) in windows.items():
        field, jump = field + (kernel - 1) * jump, jump * stride
        row = table(name).under(label).rows[-1]
        assert (row.field, row.stride) == ((field, field), (jump, jump)), label
    assert (field, jump) == (171, 32)


def test_onnx_has_another_network_under_this_name() -> None:
    """light_zfnet512 has our kernels and strides up to conv3 and our normalisation, but in other places.

    It pads conv1 by 0 and rounds pooling down, so its maps are a pixel smaller (109, 54, 25, 12); it normalises before
    pooling, where Figure 3 has it behind; its conv4 has 512 maps where Table 2 has 1024; pool5 is 2x2, which makes 6x6
    of 12x12; and fc7 has 1024 neurons where section 3 keeps AlexNet's 4096.
    """
    onnx = pytest.importorskip("onnx")
    path = Path(onnx.__file__).parent / "backend/test/data/light/light_zfnet512.onnx"
    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    known = {
        v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in (*graph.value_info, *graph.output)
    }
    nodes = [n for n in graph.node if n.op_type in ("Conv", "LRN", "MaxPool", "Gemm")]
    first = ("conv1", "norm1", "pool1", "conv2", "norm2", "pool2")
    labels = (*first, "conv3", "conv4", "conv5", "pool5", "fc6", "fc7", "fc8")
    theirs = {label: known[node.output[0]][1:] for label, node in zip(labels, nodes, strict=True)}
    own = shapes("zfnet_512")
    for label, smaller in [("conv1", 109), ("pool1", 54), ("conv2", 25), ("pool2", 12), ("conv3", 12), ("conv5", 12)]:
        maps, side, _ = own[label]
        assert theirs[label] == (maps, smaller, smaller) == (maps, side - 1, side - 1)
    assert (theirs["conv4"], own["conv4"]) == ((512, 12, 12), (1024, 13, 13))
    assert theirs["pool5"] == own["pool5"] == (512, 6, 6)
    assert (theirs["fc6"], theirs["fc7"], theirs["fc8"]) == ((4096,), (1024,), (1000,))
    made = {n.output[0].split("/")[-1]: known[n.output[0]] for n in graph.node if n.op_type == "ConstantOfShape"}
    with torch.device("meta"):
        state = build("zfnet_512").state_dict()
    for name, ours in [
        ("conv1", "conv1.conv"),
        ("conv2", "conv2.conv"),
        ("conv3", "conv3.conv"),
        ("fc6", "fc6.linear"),
    ]:
        assert made[f"{name}_w_0"] == tuple(state[f"{ours}.weight"].shape)
    norm = next(n for n in nodes if n.op_type == "LRN")
    theirs_norm = {a.name: onnx.helper.get_attribute_value(a) for a in norm.attribute}
    with torch.device("meta"):
        n = build("zfnet_512").norm1
    assert {"size": n.size, "alpha": n.alpha, "beta": n.beta, "bias": n.k} == pytest.approx(theirs_norm)


def test_initialisation_of_section_3() -> None:
    for label, p in build("zfnet", classes=10, input=(47, 47)).named_parameters():
        if label.endswith("weight"):
            assert abs(p.std().item() / 0.01 - 1) < 5 / p.numel() ** 0.5
            assert abs(p.mean().item()) < 5 * 0.01 / p.numel() ** 0.5
        else:
            assert not p.any()


def test_no_convolution_is_grouped() -> None:
    """Section 3: the sparse connections of AlexNet's layers 3, 4 and 5 are dense here."""
    with torch.device("meta"):
        assert {m.groups for m in build("zfnet").modules() if isinstance(m, nn.Conv2d)} == {1}
