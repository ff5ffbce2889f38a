"""ResNets against the paper's figures, torchvision with copied weights, and a foreign checkpoint's known answers."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import onnx
import onnx.shape_inference
import pytest
import torch
from torch import nn

from convatlas import weights
from convatlas.account import account
from convatlas.catalogue import table
from convatlas.networks import NETWORKS, build, resnet
from convatlas.networks.resnet import ZeroPad

Differences = Callable[..., list[float]]

# Parameters: torchvision's metadata for 18 to 152 and the 1x1 projections of options B and C added up by hand; the
# CIFAR-10 networks' from osmr/imgclsmob's table (option B, 20, 56, 110, 1202) and, for option A, 2,752 less.
PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnet50_v15": 25_557_032,
    "resnet101_v15": 44_549_160,
    "resnet152_v15": 60_192_808,
    "resnet18_a": 11_515_688,
    "resnet18_c": 12_043_816,
    "resnet34_a": 21_623_848,
    "resnet34_c": 22_716_840,
    "plain18": 11_515_688,
    "plain34": 21_623_848,
    "resnet20_cifar": 269_722,
    "resnet32_cifar": 464_154,
    "resnet44_cifar": 658_586,
    "resnet56_cifar": 853_018,
    "resnet110_cifar": 1_727_962,
    "resnet1202_cifar": 19_421_274,
    "resnet20_cifar_b": 272_474,
    "resnet56_cifar_b": 855_770,
    "resnet110_cifar_b": 1_730_714,
    "resnet1202_cifar_b": 19_424_026,
    "plain20_cifar": 269_722,
    "plain32_cifar": 464_154,
    "plain44_cifar": 658_586,
    "plain56_cifar": 853_018,
    "plain110_cifar": 1_727_962,
    "bottleneck_block": 69_632 + 2 * (64 + 64 + 256),  # and the normalisations'
    "basic_block_256": 1_179_648 + 2 * (256 + 256),
}
BLOCKS = ("bottleneck_block", "basic_block_256")
# Millions of MACs. torchvision's metadata (1.814, 3.664, 4.089, 7.801 and 11.514 G); the others added up by hand.
MACS = {
    "resnet18": 1_814.07,
    "resnet34": 3_663.76,
    "resnet50": 3_857.97,
    "resnet101": 7_570.19,
    "resnet152": 11_282.42,
    "resnet50_v15": 4_089.18,
    "resnet101_v15": 7_801.41,
    "resnet152_v15": 11_513.63,
    "resnet18_a": 1_794.81,
    "resnet18_c": 1_878.30,
    "resnet34_a": 3_644.49,
    "resnet34_c": 3_830.75,
    "plain18": 1_794.81,
    "plain34": 3_644.49,
    "resnet20_cifar": 40.55,
    "resnet32_cifar": 68.86,
    "resnet44_cifar": 97.17,
    "resnet56_cifar": 125.49,
    "resnet110_cifar": 252.89,
    "resnet1202_cifar": 2_829.24,
    "resnet20_cifar_b": 40.81,
    "plain20_cifar": 40.55,
    "plain56_cifar": 125.49,
    "bottleneck_block": 54.59,  # 69,632 weights at 28x28 places
    "basic_block_256": 924.84,  # 1,179,648 weights
}


@cache
def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return build(name)


def test_parameters() -> None:
    assert {name: sum(p.numel() for p in on_meta(name).parameters()) for name in PARAMETERS} == PARAMETERS


@pytest.mark.parametrize("name", MACS)
def test_macs(name: str) -> None:
    totals = account(on_meta(name).eval(), NETWORKS[name].input).totals
    assert totals.macs / 1e6 == pytest.approx(MACS[name], abs=0.005)


# google-research/receptive_field, RECEPTIVE_FIELD_TABLE.md: resnet_v1 has the paper's strides, though in a stage's last
# block, which gives the same field.
FIELDS = {
    "resnet50": [35, 99, 291, 483],
    "resnet101": [35, 99, 835, 1027],
    "resnet152": [35, 163, 1315, 1507],
}


@pytest.mark.parametrize("name", FIELDS)
def test_receptive_fields(name: str) -> None:
    table = account(on_meta(name).eval(), (3, 224, 224))
    fields = [table.under(stage).totals.field for stage in ("conv2", "conv3", "conv4", "conv5")]
    assert fields == [(field, field) for field in FIELDS[name]]


@pytest.mark.parametrize("name", sorted(set(PARAMETERS) - set(BLOCKS)))
def test_the_name_tells_the_depth(name: str) -> None:
    """Weighted layers as the papers count them: convolutions of the trunk and the linear layer, no projections."""
    modules = on_meta(name).named_modules()
    layers = [n for n, m in modules if isinstance(m, nn.Conv2d | nn.Linear) and "shortcut" not in n]
    assert len(layers) == int("".join(c for c in name.split("_")[0] if c.isdigit()))


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50_v15", "resnet101_v15", "resnet152_v15"])
def test_logits_equal_torchvisions_with_its_weights(differences: Differences, name: str, train: bool) -> None:
    assert differences(name, (64, 64), train=train) == [0]


def test_logits_of_a_foreign_checkpoint(shared_data: Path) -> None:
    """akamaster/pytorch_resnet_cifar10's ResNet-20, with logits from an independent forward pass in float64."""
    folder = shared_data / "checkpoints"
    net = build("resnet20_cifar").eval()
    weights.fill_by_order(net, weights.read_foreign(folder / "resnet20-12fca82f.th"), "the checkpoint")
    n = torch.arange(2 * 3 * 32 * 32, dtype=torch.float64)
    images = torch.sin(n * n * 0.001).reshape(2, 3, 32, 32)
    expected = torch.tensor(json.loads((folder / "resnet20_oracle.json").read_text())["logits"], dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(net(images.float()).double(), expected, rtol=0, atol=1e-4)
        torch.testing.assert_close(net.double()(images), expected, rtol=0, atol=1e-10)


def test_option_a_takes_every_second_pixel_and_pads_both_sides() -> None:
    x = torch.arange(2 * 5 * 5, dtype=torch.float32).reshape(1, 2, 5, 5) + 1
    y = ZeroPad(2, 6, 2)(x)
    assert y.shape == (1, 6, 3, 3)
    assert not y[:, :2].any()
    assert not y[:, 4:].any()
    for c in range(2):
        assert y[0, 2 + c].tolist() == [[x[0, c, 2 * i, 2 * j].item() for j in range(3)] for i in range(3)]


def strides(name: str) -> dict[str, int]:
    net = build(name, classes=2)
    return {n.split(".")[-2]: m.stride[0] for n, m in net.conv3[0].named_modules() if isinstance(m, nn.Conv2d)}


def test_where_a_bottleneck_strides() -> None:
    """The paper's first 1x1 has the stride (as in the authors' released files); torchvision's 3x3 has it."""
    assert strides("resnet50") == {"conv1": 2, "conv2": 1, "conv3": 1, "shortcut": 2}
    assert strides("resnet50_v15") == {"conv1": 1, "conv2": 2, "conv3": 1, "shortcut": 2}


@pytest.mark.parametrize(
    ("name", "projections"),
    [("resnet18", 3), ("resnet18_a", 0), ("resnet18_c", 8), ("plain18", 0), ("resnet50", 4), ("resnet56_cifar_b", 2)],
)
def test_projections_of_each_option(name: str, projections: int) -> None:
    net = build(name, classes=2)
    assert sum(isinstance(m, nn.Conv2d) for n, m in net.named_modules() if "shortcut" in n) == projections


def test_a_block_that_learnt_nothing_is_the_identity() -> None:
    """Section 3.1: with F = 0 a block gives its input, which is not negative after the ReLU before it."""
    block = build("resnet18", classes=2).eval().conv2[1]
    nn.init.zeros_(block.body.conv2.bn.weight)
    x = torch.rand(1, 64, 8, 8)
    with torch.inference_mode():
        assert torch.equal(block(x), x)


def test_every_map_halves_once_a_stage() -> None:
    x = torch.zeros(1, 3, 224, 224)
    sizes = {}
    with torch.inference_mode():
        for name, layer in build("resnet18").eval().named_children():
            x = layer(x)
            sizes[name] = tuple(x.shape[1:])
    # Table 1, column "output size", with the widths of its 18-layer column
    assert [sizes[n] for n in ("conv1", "conv2", "conv3", "conv4", "conv5")] == [
        (64, 112, 112),
        (64, 56, 56),
        (128, 28, 28),
        (256, 14, 14),
        (512, 7, 7),
    ]


def test_blocks_alone_are_those_of_the_networks() -> None:
    """Figure 5: both have the identity as shortcut and give 256 maps of the same size; 16.9 times the weights apart."""
    for name, like, place in (("bottleneck_block", "resnet50", "conv2.2"), ("basic_block_256", "resnet34", "conv4.2")):
        block, other = on_meta(name), on_meta(like).get_submodule(place)
        assert isinstance(block.shortcut, nn.Identity)
        shapes = [{n: p.shape for n, p in net.named_parameters()} for net in (block, other)]
        assert shapes[0] == shapes[1]
        with torch.device("meta"):
            assert block(torch.empty(2, 256, 28, 28)).shape == (2, 256, 28, 28)
            assert block(torch.empty(1, 256, 7, 9)).shape == (1, 256, 7, 9)


def test_every_name_is_checked_here() -> None:
    assert set(resnet.NETWORKS) == set(PARAMETERS)


def test_shapes_are_those_of_onnx_light_resnet50() -> None:
    """An export of Caffe2's network, which has the stride in the 3x3; operation by operation, in the same order."""
    file = Path(onnx.__file__).parent / "backend/test/data/light/light_resnet50.onnx"
    graph = onnx.shape_inference.infer_shapes(onnx.load(file)).graph
    known = {
        v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in (*graph.value_info, *graph.output)
    }
    ops = {
        "Conv": "conv2d",
        "BatchNormalization": "batch_norm",
        "Relu": "relu",
        "MaxPool": "max_pool2d",
        "Sum": "add",
        "AveragePool": "adaptive_avg_pool2d",
        "Gemm": "linear",
    }
    expected = [(ops[n.op_type], known[n.output[0]]) for n in graph.node if n.op_type in ops]
    assert len(expected) == 53 + 53 + 49 + 1 + 16 + 1 + 1
    found = [(r.op, r.output) for r in table("resnet50_v15").rows if r.op in ops.values()]
    assert found == expected
