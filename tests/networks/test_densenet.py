"""DenseNets against torchvision with copied weights, the paper's tables, onnx's copy of 121, and sums by hand."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import onnx
import pytest
import torch
from onnx import shape_inference
from torch import nn

from convatlas.account import account
from convatlas.networks import NETWORKS, build
from convatlas.networks.densenet import dense_layer
from convatlas.table import Table

Differences = Callable[..., list[float]]

# torchvision's metadata for the first four and lucid's documentation for 264; the paper's Table 2 (1.0, 7.0 and 27.2 M)
# with the digits added up by hand for plain CIFAR networks; osmr/imgclsmob's table for BC.
PARAMETERS = {
    "densenet121": 7_978_856,
    "densenet169": 14_149_480,
    "densenet201": 20_013_928,
    "densenet161": 28_681_000,
    "densenet264": 33_337_704,
    "densenet40_k12_cifar": 1_019_722,
    "densenet100_k12_cifar": 6_979_642,
    "densenet100_k24_cifar": 27_249_082,
    "densenet_bc100_k12_cifar": 769_162,
    "densenet_bc250_k24_cifar": 15_324_406,
    "densenet_bc190_k40_cifar": 25_624_430,
}
GMACS = {
    "densenet121": 2.834,
    "densenet169": 3.36,
    "densenet201": 4.291,
    "densenet161": 7.728,
}  # torchvision's metadata
CIFAR = {  # layers, growth rate, bottleneck and compression
    "densenet40_k12_cifar": (40, 12, False),
    "densenet100_k12_cifar": (100, 12, False),
    "densenet100_k24_cifar": (100, 24, False),
    "densenet_bc100_k12_cifar": (100, 12, True),
    "densenet_bc250_k24_cifar": (250, 24, True),
    "densenet_bc190_k40_cifar": (190, 40, True),
}


@cache
def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return build(name).eval()


@cache
def table(name: str) -> Table:
    return account(on_meta(name), NETWORKS[name].input)


def test_parameters() -> None:
    assert {name: table(name).totals.params for name in PARAMETERS} == PARAMETERS


def test_macs_are_torchvisions() -> None:
    assert {name: round(table(name).totals.macs / 1e9, 3) for name in GMACS} == GMACS


@pytest.mark.parametrize("name", CIFAR)
def test_macs_and_parameters_of_cifar_networks_by_hand(name: str) -> None:
    depth, k, bc = CIFAR[name]
    layers = (depth - 4) // (6 if bc else 3)
    maps = 2 * k if bc else 16
    weights = [(9 * 3 * maps, 32 * 32)]  # and how many places of the output they work at
    normalised = 0
    for side in (32, 16, 8):
        for n in range(layers):
            cin = maps + n * k
            normalised += cin + 4 * k * bc
            weights += [(cin * 4 * k, side**2), (9 * 4 * k * k, side**2)] if bc else [(9 * cin * k, side**2)]
        maps += layers * k
        normalised += maps  # a transition, at the end the last normalisation
        if side > 8:
            after = maps // 2 if bc else maps
            weights.append((maps * after, side**2))
            maps = after
    weights.append((10 * maps, 1))
    totals = table(name).totals
    assert totals.macs == sum(number * places for number, places in weights)
    assert totals.params == sum(number for number, _ in weights) + 2 * normalised + 10


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_the_name_tells_the_depth(name: str) -> None:
    layers = [m for m in on_meta(name).modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    # Table 1's own numbers of layers give 265 for the network that it calls DenseNet-264.
    named = int(name.removeprefix("densenet").removeprefix("_bc").split("_")[0])
    assert len(layers) == {264: 265}.get(named, named)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(
    "name", ["densenet121", "densenet169", pytest.param("densenet201", marks=pytest.mark.slow), "densenet161"]
)
def test_logits_equal_torchvisions_with_its_weights(differences: Differences, name: str, train: bool) -> None:
    assert differences(name, (64, 64), train=train) == [0]


def test_shapes_of_onnx_densenet121_layer_by_layer() -> None:
    """The Caffe model in onnx's test data; its classifier is a 1x1 convolution."""
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    graph = shape_inference.infer_shapes(onnx.load(folder / "light_densenet121.onnx")).graph
    shapes = {
        v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in (*graph.value_info, *graph.output)
    }
    ops = {
        "Conv": "conv2d",
        "BatchNormalization": "batch_norm",
        "Relu": "relu",
        "Concat": "cat",
        "MaxPool": "max_pool2d",
        "AveragePool": "avg_pool2d",
        "GlobalAveragePool": "adaptive_avg_pool2d",
    }
    theirs = [(ops[node.op_type], shapes[node.output[0]]) for node in graph.node if node.op_type in ops]
    ours = [(row.op, row.output) for row in table("densenet121").rows]
    assert theirs.pop() == ("conv2d", (1, 1000, 1, 1))
    assert ours.pop() == ("linear", (1, 1000))
    assert ours == theirs


def test_sizes_of_table_1() -> None:
    sizes = {name: table("densenet201").under(name).rows[-1].output[2] for name in ("conv1", "pool1", "dense1")}
    assert sizes == {"conv1": 112, "pool1": 56, "dense1": 56}
    for b, side in ((1, 28), (2, 14), (3, 7)):
        assert table("densenet201").under(f"transition{b}").rows[-1].output[2] == side
        assert table("densenet201").under(f"dense{b + 1}").rows[-1].output[2] == side


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("train", [False, True])
def test_a_layer_hands_on_its_input_untouched(bottleneck: bool, train: bool) -> None:
    layer = dense_layer(10, 4, bottleneck).train(train)
    x = torch.randn(2, 10, 5, 5)
    before = x.clone()
    with torch.no_grad():
        y = layer(x)
    assert y.shape == (2, 14, 5, 5)
    assert torch.equal(y[:, :10], before)
    assert torch.equal(x, before)


def test_every_layer_of_a_block_sees_all_before_it() -> None:
    """L(L+1)/2 connections: the maps of each layer reach every later layer's first convolution directly."""
    block = build("densenet_bc100_k12_cifar", classes=2).dense2
    seen = [layer.conv1.in_channels for layer in block]
    assert seen == [seen[0] + 12 * n for n in range(16)]
    assert {layer.conv1.out_channels for layer in block} == {4 * 12}


def test_initialisation_is_hes() -> None:
    net = build("densenet121", classes=10)
    for layer in (net.conv1.conv, net.dense3[5].conv1, net.dense4[2].conv2, net.transition2.conv):
        assert layer.weight.std().item() == pytest.approx((2 / layer.weight[0].numel()) ** 0.5, rel=0.03)
    assert not net.fc.bias.any()
    assert {n.split(".")[-2] for n, _ in net.named_parameters() if n.endswith("bias") and "bn" not in n} == {"fc"}
    assert not [m for m in net.modules() if isinstance(m, nn.Dropout)]
