"""GoogLeNet against the paper's Table 1, Caffe's network in the onnx package, and torchvision with copied weights."""

from collections.abc import Callable
from functools import cache
from math import prod
from pathlib import Path

import pytest
import torch
from torch import nn

from convatlas.account import account
from convatlas.errors import BadInput
from convatlas.layers import Heads, WithHeads, drop_heads
from convatlas.networks import NETWORKS, build
from convatlas.table import Table

Differences = Callable[..., list[float]]

# A head by the paper's list: 1x1 to 128 maps of 4x4, 1024 units, 1000 classes, all with biases.
HEAD_4A = (512 * 128 + 128) + (128 * 16 * 1024 + 1024) + (1024 * 1000 + 1000)
HEAD_4D = (528 * 128 + 128) + (128 * 16 * 1024 + 1024) + (1024 * 1000 + 1000)
# With batch normalisation the 1x1 has no bias, but a scale and a shift.
HEADS = {"googlenet": HEAD_4A + HEAD_4D, "googlenet_bn": HEAD_4A + HEAD_4D + 2 * 128}
HEAD_MACS = 2 * (128 * 16 * 1024 + 1024 * 1000) + 16 * 128 * (512 + 528)

# googlenet: Caffe's bvlc_googlenet (below also as the onnx package has it); googlenet_bn: torchvision's metadata.
PARAMETERS = {"googlenet": 6_998_552, "googlenet_bn": 6_624_904}
MACS = {"googlenet": 1_582.67, "googlenet_bn": 1_498.38}  # millions, from the filters and sizes of Table 1

TABLE_1 = {
    "conv1": (64, 112, 112),
    "pool1": (64, 56, 56),
    "conv2": (192, 56, 56),
    "pool2": (192, 28, 28),
    "inception_3a": (256, 28, 28),
    "inception_3b": (480, 28, 28),
    "pool3": (480, 14, 14),
    "inception_4a": (512, 14, 14),
    "inception_4b": (512, 14, 14),
    "inception_4c": (512, 14, 14),
    "inception_4d": (528, 14, 14),
    "inception_4e": (832, 14, 14),
    "pool4": (832, 7, 7),
    "inception_5a": (832, 7, 7),
    "inception_5b": (1024, 7, 7),
    "pool5": (1024, 1, 1),
}


@cache
def table(name: str) -> Table:
    with torch.device("meta"):
        net = build(name)
    drop_heads(net)
    return account(net.eval(), NETWORKS[name].input)


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_parameters_and_macs(name: str) -> None:
    assert table(name).totals.params == PARAMETERS[name]
    assert round(table(name).totals.macs / 1e6, 2) == MACS[name]
    with torch.device("meta"):
        net = build(name)
    whole = account(net.train(), (3, 224, 224)).totals
    assert whole.params == PARAMETERS[name] + HEADS[name]
    assert whole.macs == table(name).totals.macs + HEAD_MACS


def test_torchvisions_own_figures() -> None:
    from torchvision.models import GoogLeNet_Weights

    meta = GoogLeNet_Weights.IMAGENET1K_V1.meta
    assert meta["num_params"] == PARAMETERS["googlenet_bn"]
    assert meta["_ops"] == round(MACS["googlenet_bn"] / 1e3, 3)
    assert min(meta["min_size"]) == NETWORKS["googlenet_bn"].smallest


@pytest.mark.parametrize("train", [False, True])
def test_logits_equal_torchvisions_with_its_weights(differences: Differences, train: bool) -> None:
    assert differences("googlenet_bn", (96, 80), train=train) == ([0, 0, 0] if train else [0])


def test_maps_have_the_papers_sizes() -> None:
    sizes = {label: table("googlenet").under(label).rows[-1].output[1:] for label in TABLE_1}
    assert sizes == TABLE_1


# Table 1's columns: parameters in K, operations in M; and weights without biases / 1024, added up by hand from the
# filters that it prints.
COLUMNS = {
    "conv2": (112, 360, 112.0),
    "inception_3a": (159, 128, 159.5),
    "inception_3b": (380, 304, 379.0),
    "inception_4a": (364, 73, 366.8),
    "inception_4b": (437, 88, 438.0),
    "inception_4c": (463, 100, 497.5),
    "inception_4d": (580, 119, 590.5),
    "inception_4e": (840, 170, 847.0),
    "inception_5a": (1072, 54, 1018.0),
    "inception_5b": (1388, 71, 1409.0),
    "linear": (1000, 1, 1000.0),
}


def test_what_the_reasons_beside_the_papers_columns_say() -> None:
    """Which rows are exact in K of 1,024, and whether a row's operations fit the filters or its own parameters."""
    with torch.device("meta"):
        net = build("googlenet")
    exact, filters, parameters = set(), set(), set()
    for label, (kilo, operations, ours) in COLUMNS.items():
        weights = sum(p.numel() for p in net.get_submodule(label).parameters() if p.dim() > 1)
        assert round(weights / 1024, 1) == ours
        places = prod(TABLE_1[label][1:]) if label != "linear" else 1
        exact |= {label} if kilo == ours else set()
        filters |= {label} if round(weights * places / 1e6) == operations else set()
        parameters |= {label} if round(kilo * 1024 * places / 1e6) == operations else set()
    assert exact == {"conv2", "linear"}
    assert set(COLUMNS) - filters == {"inception_4a", "inception_5a"}
    assert set(COLUMNS) - parameters == {f"inception_{m}" for m in ("3b", "4c", "4d", "4e", "5b")}
    assert round(2.7e3 * 112 * 112, -6) == 34e6  # conv1
    assert 3 * 8 * 7 * 7 + 3 * 8 * 64 == 2712
    # the whole column of operations
    assert 34 + 360 + 128 + 304 + 73 + 88 + 100 + 119 + 170 + 54 + 71 + 1 == 1502


def test_receptive_fields() -> None:
    """By the rule field += (kernel - 1) * stride so far, along the 5x5 of every module (3x3 in torchvision's)."""
    fields = {}
    for name, five, pool4 in (("googlenet", 5, 3), ("googlenet_bn", 3, 2)):
        field, jump = 1, 1
        for kernel, stride in ((7, 2), (3, 2), (3, 1), (3, 2)):
            field, jump = field + (kernel - 1) * jump, jump * stride
        for label in TABLE_1:
            if label in ("pool3", "pool4"):
                field, jump = field + ((3 if label == "pool3" else pool4) - 1) * jump, jump * 2
            elif label.startswith("inception"):
                field += (five - 1) * jump
                last = table(name).under(label).rows[-1]
                assert (last.field, last.stride) == ((field, field), (jump, jump)), (name, label)
        fields[name] = field
    assert fields == {"googlenet": 715, "googlenet_bn": 379}


def onnx_layers() -> tuple[dict[str, list[int]], list[tuple[str, tuple[int, ...]]]]:
    """Caffe's bvlc_googlenet in the onnx package: shapes of its weights, and of what its layers give, in order."""
    onnx = pytest.importorskip("onnx")
    path = Path(onnx.__file__).parent / "backend/test/data/light/light_inception_v1.onnx"
    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    shapes = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in graph.value_info}
    weights = {i.name: list(i.dims) for i in graph.initializer}
    weights |= {n.output[0]: list(shapes[n.output[0]]) for n in graph.node if n.op_type == "ConstantOfShape"}
    names = {"Conv": "conv2d", "MaxPool": "max_pool2d", "LRN": "local_response_norm", "Concat": "cat"}
    layers = [(names[n.op_type], shapes[n.output[0]]) for n in graph.node if n.op_type in names]
    return {n: s for n, s in weights.items() if n.endswith(("_w_0", "_b_0"))}, layers


def test_weights_have_the_shapes_of_caffes() -> None:
    expected, _ = onnx_layers()
    assert sum(map(prod, expected.values())) == PARAMETERS["googlenet"]
    with torch.device("meta"):
        net = build("googlenet")
    drop_heads(net)
    found = {}
    for name, parameter in net.named_parameters():
        *path, kind = [part for part in name.split(".") if part != "conv"]
        stage = path[0]
        if stage == "conv1":
            label = "conv1/7x7_s2"
        elif stage == "linear":
            label = "loss3/classifier"
        else:
            label = f"{stage}/{path[-1]}"
        found[f"{label}_{kind[0]}_0"] = list(parameter.shape)
    expected["loss3/classifier_w_0"] = expected["loss3/classifier_w_0"][2:]  # has two leading ones
    assert found == expected


def test_layers_have_the_shapes_of_caffes() -> None:
    """That file pools without rounding up, which ONNX could not say then; with ours told so too, all must be equal."""
    with torch.device("meta"):
        net = build("googlenet")
    drop_heads(net)
    for module in net.modules():
        if isinstance(module, nn.MaxPool2d):
            module.ceil_mode = False
    _, expected = onnx_layers()
    kinds = {op for op, _ in expected}
    found = [(r.op, r.output) for r in account(net.eval(), (3, 224, 224)).rows if r.op in kinds]
    assert found == expected
    assert len(found) == 57 + 4 + 9 + 2 + 9  # convolutions, poolings between and in modules, normalisations, modules


def test_normalisation_is_caffes() -> None:
    x = torch.randn(1, 64, 2, 2, dtype=torch.float64) * 30
    square = nn.functional.pad(x.square(), (0, 0, 0, 0, 2, 2))
    near = sum(square[:, i : i + 64] for i in range(5))
    torch.testing.assert_close(build("googlenet", classes=2).norm1(x), x / (1 + 1e-4 / 5 * near) ** 0.75)


# ---- Auxiliary classifiers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["googlenet", "googlenet_bn"])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (31, 50), (224, 290)])
def test_heads_work_at_any_size(name: str, height: int, width: int) -> None:
    net = build(name, classes=7, channels=1, input=(height, width))
    x = torch.randn(2, 1, height, width)
    with torch.no_grad():
        given = net.train()(x)
        logits = net.eval()(x)
    assert isinstance(given, Heads)
    assert given.weight == 0.3
    assert [t.shape for t in (given.logits, *given.auxiliary, logits)] == [(2, 7)] * 4


def test_the_paper_s_head_pools_4x4_windows_of_5x5() -> None:
    net = build("googlenet", classes=2)
    x = torch.randn(1, 512, 14, 14)
    windows = x.unfold(2, 5, 3).unfold(3, 5, 3).mean(dim=(-2, -1))
    assert windows.shape == (1, 512, 4, 4)
    torch.testing.assert_close(net.aux1.pool(x), windows)


def test_small_images_leave_the_shapes_of_weights_alone() -> None:
    shapes = []
    for size in ((224, 224), (64, 64), (31, 223)):
        with torch.device("meta"):
            shapes.append({n: p.shape for n, p in build("googlenet", input=size).named_parameters()})
    assert shapes[0] == shapes[1] == shapes[2]


def test_what_each_head_sees() -> None:
    """A head's loss reaches the module that it looks at and what comes before, and nothing behind."""
    net = build("googlenet", classes=3, input=(64, 64))
    assert isinstance(net, WithHeads)
    for head, last in enumerate(("inception_4a", "inception_4d")):
        net.zero_grad()
        net.train()(torch.randn(2, 3, 64, 64)).auxiliary[head].square().sum().backward()
        reached = [n for n, m in net.named_children() if any(p.grad is not None for p in m.parameters())]
        before = [n for n in net._modules if n.startswith(("conv", "inception"))]
        assert reached == sorted([*before[: before.index(last) + 1], f"aux{head + 1}"], key=list(net._modules).index)


@pytest.mark.parametrize(("name", "smallest"), [("googlenet", 31), ("googlenet_bn", 15)])
def test_the_smallest_image(name: str, smallest: int) -> None:
    net = build(name, classes=2, input=(smallest, smallest))
    assert net.train()(torch.randn(3, 3, smallest, smallest)).logits.isfinite().all()
    with pytest.raises(RuntimeError, match="too small"):
        NETWORKS[name].build(classes=2, channels=3, input=(smallest - 1,) * 2)(torch.zeros(2, 3, *(smallest - 1,) * 2))
    with pytest.raises(BadInput) as refusal:
        build(name, input=(smallest - 1, 224))
    expected = f"{name} cannot take images of {smallest - 1}x224; the smallest that works is {smallest}x{smallest}"
    assert str(refusal.value) == expected


# ---- Initialisation -------------------------------------------------------------------------------------------------


def test_weights_are_drawn_as_in_caffe() -> None:
    """Uniform with variance 1/fan_in, so within sqrt(3/fan_in); biases 0.2 but for the three in front of a softmax."""
    net = build("googlenet")
    zero = {"linear", "aux1.fc2", "aux2.fc2"}
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            bound = (3 / module.weight[0].numel()) ** 0.5
            assert module.weight.abs().max() <= bound * (1 + 1e-6)
            assert module.weight.abs().max() > 0.98 * bound
            assert module.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
            assert module.bias.unique().tolist() == pytest.approx([0.0 if name in zero else 0.2])


def test_torchvisions_weights_are_drawn_from_a_cut_normal() -> None:
    for module in build("googlenet_bn").modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert module.weight.abs().max() <= 0.02
            assert module.weight.std().item() == pytest.approx(0.8796 * 0.01, rel=0.05)  # of one cut at 2 deviations
            assert module.bias is None or not module.bias.any()


# ---- A module alone -------------------------------------------------------------------------------------------------


def test_a_module_alone() -> None:
    """Figure 2 with the lecture's filters and its sums of multiply-adds, of which the second has 3.15 times fewer."""
    naive = 25_690_112 + 346_816_512 + 481_689_600  # 1x1, 3x3, 5x5
    reduced = 3 * 12_845_056 + 86_704_128 + 120_422_400 + 25_690_112  # 1x1 to 64, three times; 3x3; 5x5; 1x1 to 128
    assert round(naive / reduced, 2) == 3.15
    for name, channels, macs in (("inception_naive", 672, naive), ("inception_reduced", 480, reduced)):
        assert table(name).totals.macs == macs
        assert table(name).rows[-1].output == (1, channels, 28, 28)


def test_the_naive_module_hands_on_what_it_pools() -> None:
    """So its channels can only grow, from 256 to 672; a projection makes 64 of them."""
    x = torch.randn(1, 256, 6, 5)
    with torch.inference_mode():
        assert torch.equal(build("inception_naive")(x)[:, -256:], nn.functional.max_pool2d(x, 3, 1, 1))
        reduced = build("inception_reduced")
        assert torch.equal(reduced(x)[:, -64:], reduced.pool.pool_proj(nn.functional.max_pool2d(x, 3, 1, 1)))
