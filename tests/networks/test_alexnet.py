"""AlexNets against the paper's figures, other libraries' tables and weights, and towers written out by hand."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from convatlas.account import account
from convatlas.networks import NETWORKS, PUBLISHED, build
from convatlas.networks.alexnet import TWO_TOWERS, TowerNorm, features, local_norm
from convatlas.table import Table

Differences = Callable[..., list[float]]

# Parameters, and MACs in millions. alexnet: the wiring of BVLC/caffe's bvlc_alexnet; one_tower: osmr/imgclsmob; owt:
# torchvision's metadata (0.714 G); owt_bn: owt's and 2 * (64 + 192 + 384 + 256 + 256 + 4096 + 4096); bn: 1,891,712 of
# the convolutions, 58,631,144 of the fully connected layers and 2 * (96 + 256 + 384 + 384 + 256).
EXPECTED = {
    "alexnet": (60_965_224, 724.41),
    "alexnet_one_tower": (62_378_344, 1_135.26),
    "alexnet_owt": (61_100_840, 714.19),
    "alexnet_owt_bn": (61_119_528, 714.19),
    "alexnet_bn": (60_525_608, 653.51),
}
TOWERS = ("alexnet", "alexnet_one_tower")


@cache
def on_meta(name: str, size: tuple[int, int] | None = None) -> nn.Module:
    with torch.device("meta"):
        return build(name, input=size).eval()


@cache
def table(name: str) -> Table:
    return account(on_meta(name), NETWORKS[name].input)


def shapes(name: str, size: tuple[int, int] | None = None) -> dict[str, tuple[int, ...]]:
    """Output of each top-level module for one image, without the batch."""
    channels, height, width = NETWORKS[name].input
    x = torch.zeros(1, channels, *(size or (height, width)), device="meta")
    out = {}
    for label, layer in on_meta(name, size).named_children():
        x = layer(x)
        out[label] = tuple(x.shape[1:])
    return out


def disturbed(name: str, size: tuple[int, int], dtype: torch.dtype = torch.float64) -> nn.Module:
    """The network in evaluation with values of its own in every entry, whose logits depend on the image."""
    net = build(name, classes=10, input=size).to(dtype).eval()
    generator = torch.Generator().manual_seed(0)
    for key, t in net.state_dict().items():
        if t.dim() > 1:
            t.normal_(0, (2 / t[0].numel()) ** 0.5, generator=generator)
        elif t.is_floating_point():
            t.uniform_(0.5, 1.5, generator=generator) if key.endswith("var") else t.normal_(0, 0.3, generator=generator)
    return net


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_parameters_and_macs(name: str) -> None:
    totals = table(name).totals
    assert (totals.params, round(totals.macs / 1e6, 2)) == EXPECTED[name]
    assert not table(name).uncounted


def test_macs_of_separate_towers_for_an_input_of_224() -> None:
    """649.65 M with conv1's 55x55 maps; 227x227 gives 56x56, and each pixel costs 96 * 3 * 11 * 11."""
    macs = account(on_meta("alexnet_bn", (224, 224)), (3, 224, 224)).totals.macs
    assert round(macs / 1e6, 2) == 649.65
    assert table("alexnet_bn").totals.macs - macs == (56**2 - 55**2) * 96 * 363


def test_one_tower_reads_like_the_lectures_list() -> None:
    """cs231n's lines after the input: conv, pool, norm, with 96*11*11*3 weights in the first."""
    assert shapes("alexnet_one_tower") == {
        "conv1": (96, 55, 55),
        "pool1": (96, 27, 27),
        "norm1": (96, 27, 27),
        "conv2": (256, 27, 27),
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
    assert on_meta("alexnet_one_tower").conv1.conv.weight.numel() == 34_848


def test_kernels_and_order_of_section_3_5() -> None:
    """96 kernels of 11x11x3, 256 of 5x5x48, 384 of 3x3x256, 384 of 3x3x192, 256 of 3x3x192; norms before pools."""
    net = on_meta("alexnet")
    kernels = [tuple(m.weight.shape) for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert kernels == [(96, 3, 11, 11), (256, 48, 5, 5), (384, 256, 3, 3), (384, 192, 3, 3), (256, 192, 3, 3)]
    order = "conv1 norm1 pool1 conv2 norm2 pool2 conv3 conv4 conv5 pool5 fc6 fc7 fc8"
    assert [label for label, _ in net.named_children()] == order.split()


def test_neurons_of_figure_2() -> None:
    counts = [
        table("alexnet").under(label).totals.activations for label in ("conv1", "conv2", "conv3", "conv4", "conv5")
    ]
    counts += [table("alexnet").under(label).totals.activations for label in ("fc6", "fc7", "fc8")]
    assert counts[1:] == [186_624, 64_896, 64_896, 43_264, 4_096, 4_096, 1_000]
    assert counts[0] == 55 * 55 * 96  # the paper prints 253,440, which is 55 * 48 * 96
    assert sum(counts) == 659_272  # "650,000 neurons"


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_receptive_fields(name: str) -> None:
    """google-research/receptive_field's table, row alexnet_v2: kernels and strides are the same in all."""
    found = {}
    for label in ("conv1", "conv2", "conv3", "conv4", "conv5", "pool5"):
        row = table(name).under(label).rows[-1]
        found[label] = (row.field, row.stride)
    fields, strides = (11, 51, 99, 131, 163, 195), (4, 8, 16, 16, 16, 32)
    assert list(found.values()) == [((f, f), (s, s)) for f, s in zip(fields, strides, strict=True)]


@pytest.mark.parametrize(("size", "train"), [((224, 224), False), ((224, 224), True), ((96, 131), False)])
def test_logits_equal_torchvisions_with_its_weights(
    differences: Differences, size: tuple[int, int], train: bool
) -> None:
    assert differences("alexnet_owt", size, train=train) == [0]


def test_batch_normalised_single_tower_is_wired_as_soumiths() -> None:
    """The lines of alexnetowtbn_cudnn.lua, whose nn.View is the flattening and whose LogSoftMax is the loss's."""
    block = ["Conv2d", "BatchNorm2d", "ReLU"]
    pooled = [*block, "MaxPool2d"]
    hidden = ["Dropout", "Linear", "BatchNorm1d", "ReLU"]
    leaves = [m for m in on_meta("alexnet_owt_bn").modules() if not isinstance(m, nn.Sequential)]
    assert [type(m).__name__ for m in leaves] == [
        *(pooled + pooled + block + block + pooled),
        *("Flatten", *hidden, *hidden, "Linear"),
    ]
    assert {m.eps for m in leaves if "BatchNorm" in type(m).__name__} == {1e-3}


def onnx_shapes(name: str) -> tuple[dict[str, tuple[int, ...]], list[tuple[str, tuple[int, ...]]]]:
    """Shapes of the weights, and each node's kind with its output's shape without the batch."""
    onnx = pytest.importorskip("onnx")
    path = Path(onnx.__file__).parent / "backend/test/data/light" / f"{name}.onnx"
    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    known = {
        v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in (*graph.value_info, *graph.output)
    }
    made = {node.output[0]: known[node.output[0]] for node in graph.node if node.op_type == "ConstantOfShape"}
    return made, [(n.op_type, known[n.output[0]][1:]) for n in graph.node if n.op_type != "ConstantOfShape"]


def test_shapes_of_caffes_alexnet_in_onnx() -> None:
    """light_bvlc_alexnet takes 224x224, so conv1 gives 54x54; the weights fit 227x227.

    Its maps are ours at 224 but for pool5, where Caffe rounds 5.5 up to 6 with a padding at the end and ours, which has
    no remainder at 227, rounds down to 5. The fully connected layers are those of 6x6 maps, which are ours at 227.
    """
    weights, nodes = onnx_shapes("light_bvlc_alexnet")
    state = on_meta("alexnet").state_dict()
    own = {name.replace(".conv", "").replace(".linear", "").replace(".", "_"): v.shape for name, v in state.items()}
    short = {n.replace("_w_0", "_weight").replace("_b_0", "_bias"): shape for n, shape in weights.items()}
    assert {n: tuple(shape) for n, shape in own.items()} == short
    assert [kind for kind, _ in nodes] == [
        *("Conv", "Relu", "LRN", "MaxPool", "Conv", "Relu", "LRN", "MaxPool"),
        *("Conv", "Relu", "Conv", "Relu", "Conv", "Relu", "MaxPool", "Reshape"),
        *("Gemm", "Relu", "Dropout", "Gemm", "Relu", "Dropout", "Gemm", "Softmax"),
    ]
    theirs = [shape for kind, shape in nodes if kind in ("Conv", "LRN", "MaxPool", "Gemm")]
    maps, full = shapes("alexnet", (224, 224)), shapes("alexnet")
    differs = {"pool5": (256, 6, 6)}
    assert theirs == [(full if label.startswith("fc") else maps | differs)[label] for label in maps]
    assert maps["pool5"] == (256, 5, 5)
    assert full["pool5"] == (256, 6, 6)


def test_local_normalisation_is_the_papers_formula() -> None:
    """b_i = a_i / (2 + 1e-4 * sum over j from i-2 to i+2 of a_j^2) ^ 0.75 (section 3.3)"""
    a = 40 * torch.randn(2, 9, 3, 4, dtype=torch.float64)
    b = local_norm()(a)
    for i in range(9):
        total = sum(a[:, j] ** 2 for j in range(max(0, i - 2), min(8, i + 2) + 1))
        torch.testing.assert_close(b[:, i], a[:, i] / (2 + 1e-4 * total) ** 0.75)


def test_a_tower_is_normalised_by_itself() -> None:
    x = 40 * torch.randn(2, 12, 3, 4, dtype=torch.float64)
    separately = torch.cat([local_norm()(half) for half in x.chunk(2, dim=1)], dim=1)
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.testing.assert_close(TowerNorm()(x.contiguous(memory_format=layout)), separately)
    across = local_norm()(x)  # as Caffe's single GPU has it: two maps on each side of the border differ
    differs = (across - separately).abs().amax(dim=(0, 2, 3)) > 1e-6
    assert differs.nonzero().flatten().tolist() == [4, 5, 6, 7]


def halves(state: dict[str, Tensor], name: str, tower: int) -> tuple[Tensor, Tensor]:
    return state[f"{name}.weight"].chunk(2)[tower], state[f"{name}.bias"].chunk(2)[tower]


def test_two_towers_written_out(size: tuple[int, int] = (99, 67)) -> None:
    """Figure 2 by hand, in two lists of tensors that meet at conv3 and at the fully connected layers."""
    net = disturbed("alexnet", size)
    s = net.state_dict()
    image = 50 * torch.randn(2, 3, *size, dtype=torch.float64)
    maps = [functional.conv2d(image, *halves(s, "conv1.conv", t), stride=4).relu() for t in (0, 1)]
    maps = [functional.max_pool2d(local_norm()(m), 3, 2) for m in maps]
    maps = [functional.conv2d(maps[t], *halves(s, "conv2.conv", t), padding=2).relu() for t in (0, 1)]
    maps = [functional.max_pool2d(local_norm()(m), 3, 2) for m in maps]
    both = torch.cat(maps, dim=1)
    maps = [functional.conv2d(both, *halves(s, "conv3.conv", t), padding=1).relu() for t in (0, 1)]
    maps = [functional.conv2d(maps[t], *halves(s, "conv4.conv", t), padding=1).relu() for t in (0, 1)]
    maps = [functional.conv2d(maps[t], *halves(s, "conv5.conv", t), padding=1).relu() for t in (0, 1)]
    x = torch.cat([functional.max_pool2d(m, 3, 2) for m in maps], dim=1).flatten(1)
    for layer in ("fc6.linear", "fc7.linear"):
        x = torch.cat([functional.linear(x, *halves(s, layer, t)).relu() for t in (0, 1)], dim=1)
    expected = functional.linear(x, s["fc8.weight"], s["fc8.bias"])
    assert expected.std() > 1e-2
    with torch.no_grad():
        torch.testing.assert_close(net(image), expected, rtol=1e-10, atol=1e-10)


def test_separate_towers_written_out(size: tuple[int, int] = (95, 63)) -> None:
    """BN-AlexNet by hand: nothing of one tower is seen by the other before fc6."""
    net = disturbed("alexnet_bn", size)
    s = net.state_dict()
    image = torch.randn(2, 3, *size, dtype=torch.float64)
    towers = []
    for t in (0, 1):
        x = image
        for layer, stride, padding in [(1, 4, 2), (2, 1, 2), (3, 1, 1), (4, 1, 1), (5, 1, 1)]:
            x = functional.conv2d(x, *halves(s, f"conv{layer}.conv", t), stride=stride, padding=padding)
            named = {n: s[f"conv{layer}.bn.{n}"].chunk(2)[t] for n in ("running_mean", "running_var", "weight", "bias")}
            x = functional.batch_norm(x, **named, eps=1e-3).relu()
            x = functional.max_pool2d(x, 3, 2) if layer in (1, 2, 5) else x
        towers.append(x)
    x = torch.cat(towers, dim=1).flatten(1)
    for layer in ("fc6.linear", "fc7.linear"):
        x = functional.linear(x, s[f"{layer}.weight"], s[f"{layer}.bias"]).relu()
    with torch.no_grad():
        torch.testing.assert_close(
            net(image), functional.linear(x, s["fc8.weight"], s["fc8.bias"]), rtol=1e-10, atol=1e-10
        )


@pytest.mark.parametrize("name", TOWERS)
def test_initialisation_of_section_5(name: str) -> None:
    for label, p in build(name).named_parameters():
        if label.endswith("weight"):
            few = min(p.numel(), 10**6)
            sample = p.detach().flatten()[:few]
            assert abs(sample.std().item() / 0.01 - 1) < 5 / few**0.5
            assert abs(sample.mean().item()) < 5 * 0.01 / few**0.5
        else:
            one = label.split(".")[0] in ("conv2", "conv4", "conv5", "fc6", "fc7")
            assert set(p.tolist()) == {float(one)}


@pytest.mark.parametrize("name", ["alexnet_owt", "alexnet_owt_bn", "alexnet_bn"])
def test_initialisation_of_torch(name: str) -> None:
    """Uniform within 1/sqrt(fan_in), weights and biases, in Torch as in PyTorch."""
    for module in build(name, classes=100, input=(63, 63)).modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            bound = module.weight[0].numel() ** -0.5
            for p in (module.weight, module.bias):
                assert 0.9 * bound < p.abs().max().item() <= bound


def test_dropout_sets_half_of_the_hidden_outputs_to_zero() -> None:
    """Section 4.2, with the others doubled in training where the paper halves them at the test."""
    net = build("alexnet", classes=2, input=(67, 67))
    assert net.training
    x = net[:-3](torch.randn(4, 3, 67, 67))
    for layer in (net.fc6, net.fc7):
        whole, dropped = layer.eval()(x), layer.train()(x)
        kept = dropped[whole > 0] > 0
        assert 0.45 < kept.double().mean() < 0.55
        torch.testing.assert_close(dropped[whole > 0][kept], 2 * whole[whole > 0][kept])
        x = dropped


@pytest.mark.parametrize("size", [(67, 67), (68, 83), (227, 99), (300, 500)])
def test_values_before_fc6_by_the_table(size: tuple[int, int]) -> None:
    channels, height, width = shapes("alexnet", size)["pool5"]
    assert features(TWO_TOWERS, size) == channels * height * width


def test_figures_of_the_paper_that_are_not_ours_have_a_reason() -> None:
    printed = {(p.layer, p.metric): p for p in PUBLISHED["alexnet"] if p.network == "alexnet" and p.reason}
    assert {("", "params"), ("", "activations"), ("conv1", "activations")} <= set(printed)
    assert printed["conv1", "activations"].value == 55 * 48 * 96
