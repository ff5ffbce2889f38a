"""Whole networks against torch's own counter, printed figures, and properties that any account must have."""

import json

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from convatlas.account import account
from convatlas.errors import BadInput
from convatlas.table import Table, read_table

TORCHVISION = """alexnet vgg11 vgg19_bn googlenet inception_v3 resnet18 resnext50_32x4d wide_resnet50_2 densenet121
squeezenet1_1 mobilenet_v2 mobilenet_v3_small efficientnet_b0 shufflenet_v2_x1_0 convnext_tiny mnasnet0_5 regnet_y_400mf
vit_b_16 swin_t swin_v2_t maxvit_t""".split()  # noqa: SIM905
SIZE = {"inception_v3": 299}


def build(name: str) -> nn.Module:
    from torchvision import models

    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    if name.startswith("regnet"):  # its builder reads the values of a tensor
        return models.get_model(name, weights=None).eval()
    with torch.device("meta"):
        return models.get_model(name, weights=None, **options).eval()


def counted(net: nn.Module, *shapes: tuple[int, ...], kind: torch.dtype = torch.float32) -> int:
    """MACs by torch's counter, on meta tensors; with gradients on, or attention would take paths without a formula."""
    inputs = [torch.empty(s, device="meta", dtype=kind) for s in shapes]
    with FlopCounterMode(display=False) as counter:
        net.to("meta")(*inputs)
    flops = counter.get_total_flops()
    assert flops % 2 == 0
    return flops // 2


@pytest.fixture(scope="module")
def tables() -> dict[str, tuple[nn.Module, Table]]:
    out = {}
    for name in TORCHVISION:
        net = build(name)
        size = SIZE.get(name, 224)
        out[name] = net, account(net, (3, size, size), name=name)
    return out


@pytest.mark.parametrize("name", TORCHVISION)
def test_macs_equal_half_of_torchs_flops(name: str, tables: dict[str, tuple[nn.Module, Table]]) -> None:
    net, table = tables[name]
    size = SIZE.get(name, 224)
    assert table.totals.macs == counted(net, (1, 3, size, size))
    assert table.uncounted == ()


@pytest.mark.parametrize("name", TORCHVISION)
def test_parameters_equal_the_modules_own(name: str, tables: dict[str, tuple[nn.Module, Table]]) -> None:
    net, table = tables[name]
    assert table.totals.params == sum(p.numel() for p in net.parameters())
    assert sum(r.params for r in table.rows) + table.unused == table.totals.params


@pytest.mark.parametrize("name", TORCHVISION)
def test_every_path_is_a_module(name: str, tables: dict[str, tuple[nn.Module, Table]]) -> None:
    net, table = tables[name]
    assert {r.path for r in table.rows} <= {path for path, _ in net.named_modules()}
    for row in table.rows:
        if row.op == "conv2d":
            assert isinstance(net.get_submodule(row.path), nn.Conv2d)


@pytest.mark.parametrize("name", TORCHVISION)
def test_last_row_gives_the_logits(name: str, tables: dict[str, tuple[nn.Module, Table]]) -> None:
    shape = next(r.output for r in reversed(tables[name][1].rows))
    assert shape[:2] == (1, 1000) and set(shape[2:]) <= {1}  # SqueezeNet ends in a pooled map


# MACs (millions) that others printed or that were confirmed independently.
PRINTED = {"alexnet": 714.19, "vgg11": 7609.09, "googlenet": 1498.38, "inception_v3": 5713.22, "resnet18": 1814.07,
           "resnext50_32x4d": 4230, "densenet121": 2834, "squeezenet1_1": 349.15, "vit_b_16": 17563.83}  # fmt: skip


@pytest.mark.parametrize("name", PRINTED)
def test_macs_equal_printed_figures(name: str, tables: dict[str, tuple[nn.Module, Table]]) -> None:
    digits = len(str(PRINTED[name]).partition(".")[2])
    assert round(tables[name][1].totals.macs / 1e6, digits) == PRINTED[name]


def test_googlenet_without_and_with_auxiliary_heads() -> None:
    net = build("googlenet")
    table = account(net, (3, 224, 224))
    assert (table.totals.params - table.unused, table.totals.params) == (6_624_904, 13_004_888)
    assert {r.op for r in table.rows if r.path.startswith("aux")} == set()
    trained = account(net.train(), (3, 224, 224))
    assert trained.unused == 0
    assert trained.totals.macs == round(1506.75e6, -4) + (trained.totals.macs - round(trained.totals.macs, -4))
    assert trained.totals.macs == counted(net, (2, 3, 224, 224)) // 2


def test_table_survives_json(tables: dict[str, tuple[nn.Module, Table]]) -> None:
    for _, table in tables.values():
        assert read_table(table.as_json()) == table
    assert json.loads(tables["resnet18"][1].as_json())["totals"]["params"] == 11_689_512


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "vit_b_16", "swin_t"])
def test_counts_are_linear_in_the_batch(name: str, tables: dict[str, tuple[nn.Module, Table]]) -> None:
    net, one = tables[name]
    five = account(net, (5, 3, 224, 224))
    assert five.totals.macs == 5 * one.totals.macs
    assert five.totals.params == one.totals.params
    assert [r.macs for r in five.rows] == [5 * r.macs for r in one.rows]


def test_activations_of_a_plain_stack_by_hand() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 10)
    )
    table = account(net, (3, 8, 8))
    assert [(r.op, r.activations) for r in table.rows] == [
        ("conv2d", 512),
        ("relu", 0),
        ("max_pool2d", 128),
        ("linear", 10),
    ]
    assert table.totals.activation_bytes == 4 * (512 + 128 + 10)
    assert account(net.half(), (3, 8, 8)).totals.activation_bytes == 2 * (512 + 128 + 10)


# ---- Networks that fool counters which look at modules only ---------------------------------------------------------


class Functional(nn.Module):
    """Two convolutions through torch.nn.functional and a matrix product as the head; no layer modules at all."""

    def __init__(self) -> None:
        super().__init__()
        self.w1 = nn.Parameter(torch.empty(32, 3, 3, 3))
        self.w2 = nn.Parameter(torch.empty(64, 32, 3, 3))
        self.head = nn.Parameter(torch.empty(64, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.conv2d(x, self.w1, stride=2, padding=1))
        x = F.relu(F.conv2d(x, self.w2, padding=1))
        return x.mean((2, 3)) @ self.head


def test_functional_network() -> None:
    table = account(Functional(), (3, 224, 224))
    assert [r.op for r in table.rows] == ["conv2d", "relu", "conv2d", "relu", "mean", "matmul"]
    assert table.totals.macs == 112 * 112 * 32 * 27 + 112 * 112 * 64 * 32 * 9 + 64 * 10
    assert table.totals.params == 32 * 27 + 64 * 32 * 9 + 640
    assert table.unused == 0


class Thrice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.conv(self.conv(x)))


def test_a_module_called_three_times_has_three_rows_and_one_set_of_parameters() -> None:
    table = account(Thrice(), (16, 10, 10))
    assert [(r.path, r.params) for r in table.rows] == [("conv", 16 * 16 * 9 + 16), ("conv", 0), ("conv", 0)]
    assert table.totals.macs == 3 * 100 * 16 * 16 * 9
    assert table.totals.field == (7, 7)


def test_tied_weights_count_once() -> None:
    net = nn.Sequential(nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False))
    net[1].weight = net[0].weight
    table = account(net, (4, 6))
    assert table.totals.params == 36 == sum(p.numel() for p in net.parameters())
    assert table.totals.macs == 4 * 72


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("norm", [nn.utils.parametrizations.weight_norm, nn.utils.weight_norm])
def test_parameters_that_go_through_another_function_first(norm: object) -> None:
    net = nn.Sequential(norm(nn.Conv2d(3, 4, 3)))
    before = {name: id(p) for name, p in net.named_parameters()}
    table = account(net, (3, 8, 8))
    assert table.totals.params == sum(p.numel() for p in net.parameters()) == 4 * 27 + 4 + 4
    assert table.unused == 0
    assert table.totals.macs == 36 * 4 * 27
    assert table.uncounted == ()
    assert {name: id(p) for name, p in net.named_parameters()} == before
    assert type(net[0].weight) is not type(table)  # readable, and no shape of the walk is left behind
    assert net(torch.zeros(1, 3, 8, 8)).shape == (1, 4, 6, 6)


class Standardised(nn.Conv2d):
    """Weight standardisation (Qiao et al. 2019): arithmetic on a parameter alone."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, w, self.bias, self.stride, self.padding)


def test_weight_standardisation() -> None:
    net = Standardised(3, 4, 3)
    before = net.weight.detach().clone()
    table = account(net, (3, 8, 8))
    assert table.totals.params == 4 * 27 + 4
    assert table.totals.macs == 36 * 4 * 27
    assert next(r for r in table.rows if r.params).op == "mean"
    assert torch.equal(net.weight, before)


class Branching(nn.Module):
    """Control flow on shapes, tuple and dict outputs, two inputs, in-place writes."""

    def forward(self, x: Tensor, y: Tensor) -> dict[str, object]:
        if x.shape[-1] > 8 and x.size(1) == y.size(1):
            x = F.max_pool2d(x, 2)
        out = x.new_zeros(x.shape[0], 2 * x.shape[1], *x.shape[2:])
        out[:, : x.shape[1]] = x
        out[:, x.shape[1] :] += F.interpolate(y, size=x.shape[-2:])
        first, *rest = out.chunk(2, dim=1)
        return {"sum": first + rest[0], "parts": (first, [rest])}


def test_control_flow_on_shapes_and_nested_outputs() -> None:
    table = account(Branching(), [(3, 16, 16), (3, 4, 4)])
    assert table.input == ((1, 3, 16, 16), (1, 3, 4, 4))
    assert [(r.op, r.output) for r in table.rows] == [
        ("max_pool2d", (1, 3, 8, 8)),
        ("setitem", (1, 6, 8, 8)),
        ("interpolate", (1, 3, 8, 8)),
        ("add", (1, 3, 8, 8)),
        ("setitem", (1, 6, 8, 8)),
        ("add", (1, 3, 8, 8)),
    ]


def test_unused_parameters() -> None:
    net = nn.ModuleDict({"a": nn.Linear(3, 5), "b": nn.Linear(3, 7)})
    net.forward = lambda x: net["a"](x)  # type: ignore[method-assign]
    table = account(net, (2, 3))
    assert table.unused == 28
    assert table.totals.params == 48
    assert "28 of the parameters are used by no operation of this pass." in table.as_text()


# ---- Inputs ---------------------------------------------------------------------------------------------------------


def test_shapes_and_tensors_as_input() -> None:
    conv = nn.Conv2d(3, 4, 3)
    assert account(conv, (3, 9, 9)).input == ((1, 3, 9, 9),)
    assert account(conv, (7, 3, 9, 9)).input == ((7, 3, 9, 9),)
    assert account(conv, [(3, 9, 9)]).input == ((1, 3, 9, 9),)
    assert account(nn.Conv1d(3, 4, 3), torch.empty(2, 3, 9, device="meta")).rows[0].output == (2, 4, 7)
    tokens = account(nn.Embedding(50, 8), torch.zeros(2, 6, dtype=torch.int64))
    assert (tokens.rows[0].output, tokens.totals.params, tokens.totals.macs) == ((2, 6, 8), 400, 0)


@pytest.mark.parametrize("given_", [(3, 0, 224), (3, -1, 5), (3.0, 4, 4), [(3, 4, "a")]])
def test_input_that_is_no_shape(given_: object) -> None:
    shown = given_[0] if isinstance(given_, list) else given_
    with pytest.raises(BadInput) as caught:
        account(nn.ReLU(), given_ if isinstance(given_, list) else [given_])
    assert str(caught.value) == f"input {shown!r} is no shape; give whole numbers above zero, as in (3, 224, 224)"


@pytest.mark.parametrize("given_", [(), [], 224, "3x224x224"])
def test_input_that_is_nothing(given_: object) -> None:
    with pytest.raises(BadInput) as caught:
        account(nn.ReLU(), given_)
    assert str(caught.value) == (
        f"input {given_!r} is no shape; give (channels, height, width) as (3, 224, 224), a list of shapes, or a dict "
        "of shapes by the names of the forward's arguments"
    )


def test_name_of_the_table() -> None:
    assert account(nn.ReLU(), (3, 4, 4)).network == "ReLU"
    assert account(nn.ReLU(), (3, 4, 4), name="relu").network == "relu"


# ---- Random small networks ------------------------------------------------------------------------------------------


@st.composite
def small_networks(draw: st.DrawFn) -> tuple[nn.Sequential, tuple[int, int, int]]:
    channels = draw(st.integers(1, 4))
    height, width = draw(st.integers(9, 24)), draw(st.integers(9, 24))
    shape = (channels, height, width)
    layers: list[nn.Module] = []
    for _ in range(draw(st.integers(1, 6))):
        kind = draw(
            st.sampled_from(["conv", "same", "grouped", "up", "max", "avg", "norm", "relu", "gelu", "adaptive", "drop"])
        )
        k, s, p, d = (draw(st.integers(*r)) for r in ((1, 3), (1, 3), (0, 1), (1, 2)))
        out = draw(st.integers(1, 5))
        if kind == "conv":
            layers.append(
                nn.Conv2d(channels, out, (k, draw(st.integers(1, 3))), s, (p, 1), d, bias=draw(st.booleans()))
            )
            channels = out
        elif kind == "same":
            layers.append(nn.Conv2d(channels, out, (k | 1, 3), 1, "same", d))
            channels = out
        elif kind == "grouped":
            layers.append(nn.Conv2d(channels, 2 * channels, k, s, p, d, groups=channels))
            channels *= 2
        elif kind == "up":
            layers.append(nn.ConvTranspose2d(channels, out, k, s, 0, output_padding=min(s, d) - 1, dilation=d))
            channels = out
        elif kind == "max":
            layers.append(nn.MaxPool2d(k + 1, s, p, d, ceil_mode=draw(st.booleans())))
        elif kind == "avg":
            layers.append(nn.AvgPool2d((k + 1, 2), s, (p, 0), ceil_mode=draw(st.booleans())))
        elif kind == "adaptive":
            layers.append(nn.AdaptiveAvgPool2d((out, None)))
        else:
            layers.append({"norm": nn.BatchNorm2d(channels), "relu": nn.ReLU(draw(st.booleans())), "gelu": nn.GELU(),
                           "drop": nn.Dropout(0.5)}[kind])  # fmt: skip
    return nn.Sequential(*layers).eval(), shape


@settings(max_examples=120, deadline=None)
@given(small_networks())
def test_random_networks_agree_with_the_real_forward(drawn: tuple[nn.Sequential, tuple[int, int, int]]) -> None:
    net, shape = drawn
    x = torch.zeros(2, *shape)
    shapes: list[tuple[int, ...]] = []
    try:
        with torch.no_grad():
            y = x
            for layer in net:
                y = layer(y)
                if not isinstance(layer, nn.Dropout):
                    shapes.append(tuple(y.shape))
    except RuntimeError:
        with pytest.raises(BadInput, match=r"^at \d+ \(\w+\): "):
            account(net, (2, *shape))
        return
    table = account(net, (2, *shape))
    assert [r.output for r in table.rows] == shapes
    assert table.totals.macs == counted(net, (2, *shape))
    assert table.totals.params == sum(p.numel() for p in net.parameters())
    assert table.uncounted == ()


# ---- timm -----------------------------------------------------------------------------------------------------------

TIMM = """
resnet50 resnetv2_50 nf_resnet50 seresnet50 skresnet18 ecaresnet26t resnest14d res2net50_26w_4s densenet121
inception_v4 inception_resnet_v2 xception41 dla34 hrnet_w18_small mixnet_s efficientnet_b0 tf_efficientnetv2_b0
mobilenetv3_large_100 ghostnet_100 rexnet_100 regnety_004 repvgg_a0 cspdarknet53 vovnet39a selecsls42 convnext_atto
convnextv2_atto vit_tiny_patch16_224 deit_tiny_patch16_224 cait_xxs24_224 mixer_s32_224 poolformer_s12
swin_tiny_patch4_window7_224 convmixer_768_32 coatnet_0_rw_224 levit_128s mobilevit_s edgenext_xx_small pvt_v2_b0
xcit_nano_12_p16_224 maxvit_tiny_rw_224
""".split()  # noqa: SIM905


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TIMM)
def test_timm_networks(name: str) -> None:
    timm = pytest.importorskip("timm")
    net = timm.create_model(name, pretrained=False).eval()
    size = net.pretrained_cfg["input_size"]
    table = account(net, size)
    assert table.totals.params == sum(p.numel() for p in net.parameters())
    assert table.totals.macs == counted(net, (1, *size))
    assert table.uncounted == ()
