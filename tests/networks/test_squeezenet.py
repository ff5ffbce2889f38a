"""SqueezeNets against Table 1, torchvision with copied weights, ONNX's light model, and another library's MACs."""

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
NAMES = ("squeezenet1_0", "squeezenet1_1")

# Table 1, "#parameters before pruning"
PARAMETERS = {
    "conv1": 14_208,
    "fire2": 11_920,
    "fire3": 12_432,
    "fire4": 45_344,
    "fire5": 49_440,
    "fire6": 104_880,
    "fire7": 111_024,
    "fire8": 188_992,
    "fire9": 197_184,
    "conv10": 513_000,
}
# Table 1, "output size": those of an input of 227, the crop of the authors' train_val.prototxt
SIZES = {
    "conv1": (96, 111),
    "pool1": (96, 55),
    "fire2": (128, 55),
    "fire3": (128, 55),
    "fire4": (256, 55),
    "pool4": (256, 27),
    "fire5": (256, 27),
    "fire6": (384, 27),
    "fire7": (384, 27),
    "fire8": (512, 27),
    "pool8": (512, 13),
    "fire9": (512, 13),
    "conv10": (1000, 13),
    "pool10": (1000, 1),
}


@cache
def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return build(name).eval()


@cache
def table(name: str) -> Table:
    return account(on_meta(name), NETWORKS[name].input)


def test_parameters_a_layer_are_those_of_table_one() -> None:
    net = on_meta("squeezenet1_0")
    found = {name: sum(p.numel() for p in layer.parameters()) for name, layer in net.named_children()}
    assert {name: count for name, count in found.items() if count} == PARAMETERS


def test_totals() -> None:
    """Parameters: torchvision's metadata. MACs: an operation counter for MXNet prints these of the same layers."""
    totals = {name: (table(name).totals.params, table(name).totals.macs) for name in NAMES}
    assert totals == {"squeezenet1_0": (1_248_424, 818_924_576), "squeezenet1_1": (1_235_496, 349_151_936)}


@pytest.mark.parametrize(("name", "printed"), [("squeezenet1_0", 823.67), ("squeezenet1_1", 352.02)])
def test_macs_are_another_librarys_by_its_convention(name: str, printed: float) -> None:
    """osmr/imgclsmob prints FLOPs/2: it adds 1/2 for a ReLU and 1/2 for each pixel under a pooling window."""
    windows = {"relu": 1, "max_pool2d": 9, "adaptive_avg_pool2d": 13 * 13}
    size = [(r.op.rstrip("_"), torch.Size(r.output).numel()) for r in table(name).rows]
    more = sum(count / 2 * windows[op] for op, count in size if op in windows)
    assert (table(name).totals.macs + more) / 1e6 == pytest.approx(printed, abs=0.005)


def test_sizes_of_table_one_at_227() -> None:
    x = torch.empty(1, 3, 227, 227, device="meta")
    found = {}
    for name, layer in on_meta("squeezenet1_0").named_children():
        x = layer(x)
        if name in SIZES:
            found[name] = tuple(x.shape[1:3])
    assert found == SIZES


def test_shapes_are_those_of_onnx_light_squeezenet() -> None:
    """Its model is version 1.1. Its poolings round down, which is the same at 224."""
    file = Path(onnx.__file__).parent / "backend/test/data/light/light_squeezenet.onnx"
    graph = onnx.shape_inference.infer_shapes(onnx.load(file)).graph
    known = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in graph.value_info}
    ops = {"Conv": "conv2d", "MaxPool": "max_pool2d", "Concat": "cat", "GlobalAveragePool": "adaptive_avg_pool2d"}
    expected = [(ops[n.op_type], known[n.output[0]]) for n in graph.node if n.op_type in ops]
    assert len(expected) == 26 + 3 + 8 + 1
    assert [(r.op, r.output) for r in table("squeezenet1_1").rows if r.op in ops.values()] == expected


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("size", [(64, 64), (97, 130)])
@pytest.mark.parametrize("name", NAMES)
def test_logits_equal_torchvisions_with_its_weights(
    differences: Differences, name: str, size: tuple[int, int], train: bool
) -> None:
    assert differences(name, size, train=train) == [0]


def test_a_fire_module_expands_what_it_squeezed() -> None:
    """Figure 1: both kernels see the squeezed maps; 1x1 maps come first, and every map is rectified."""
    fire = build("squeezenet1_0").fire2
    x = torch.randn(2, 96, 7, 9)
    f = nn.functional
    with torch.inference_mode():
        squeezed = f.relu(f.conv2d(x, fire.squeeze.conv.weight, fire.squeeze.conv.bias))
        assert squeezed.shape == (2, 16, 7, 9)
        ones, threes = fire.expand.expand1x1.conv, fire.expand.expand3x3.conv
        expected = [
            f.conv2d(squeezed, ones.weight, ones.bias),
            f.conv2d(squeezed, threes.weight, threes.bias, padding=1),
        ]
        torch.testing.assert_close(fire(x), f.relu(torch.cat(expected, dim=1)))


@pytest.mark.parametrize("name", NAMES)
def test_squeezed_maps_are_an_eighth_of_the_expanded(name: str) -> None:
    """Section 5.1: the squeeze ratio is 0.125, half of the expanded maps are of 3x3, widths grow by 128 every two."""
    fires = [layer for label, layer in on_meta(name).named_children() if label.startswith("fire")]
    squeezed = [fire.squeeze.conv.out_channels for fire in fires]
    assert [8 * s for s in squeezed] == [128, 128, 256, 256, 384, 384, 512, 512]
    for fire, s in zip(fires, squeezed, strict=True):
        assert {branch.conv.out_channels for branch in fire.expand} == {4 * s}


def test_poolings_come_earlier_in_version_one_one() -> None:
    """forresti/SqueezeNet, SqueezeNet_v1.1/README.md: pool{1,4,8,10} and pool{1,3,5,10}."""
    labels = [[n for n, _ in on_meta(name).named_children() if n.startswith("pool")] for name in NAMES]
    assert labels == [["pool1", "pool4", "pool8", "pool10"], ["pool1", "pool3", "pool5", "pool10"]]


def test_initialisation_is_the_prototxts() -> None:
    net = build("squeezenet1_0")
    for name, layer in net.named_modules():
        if isinstance(layer, nn.Conv2d):
            assert layer.bias is not None
            assert not layer.bias.any()
            if name == "conv10.conv":
                assert layer.weight.std().item() == pytest.approx(0.01, rel=0.02)
                assert layer.weight.abs().max().item() > 0.03  # normal, not uniform
            else:
                bound = (3 / layer.weight[0].numel()) ** 0.5
                assert 0.98 * bound < layer.weight.abs().max().item() <= bound, name
