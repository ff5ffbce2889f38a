"""Every formula that is shown is worked out again here, by Python, and must come to its own result and to the row's."""

import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from math import ceil, floor
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convatlas.account import account
from convatlas.account.rules import RULES, _operation
from convatlas.errors import UnknownName
from convatlas.explaining import Explained, explain
from convatlas.explaining.formula import equal, value
from convatlas.explaining.words import does
from convatlas.networks import NETWORKS, build
from convatlas.record import from_json, to_json
from convatlas.table import Row, Table, read_table

TABLES = sorted((Path(__file__).parents[1] / "convatlas" / "catalogue_data" / "tables").glob("*.json"))
CUTS = re.compile(r", stride |, (?=no stride)|, begins at |: |; | values, |, (?=\d+ wide)|, a learned")


def results(text: str) -> Iterator[tuple[int, int]]:
    """(what Python makes of a formula, what is shown as its result) for each "formula = number" in a text."""
    for part in CUTS.split(text):
        left, sign, right = part.removeprefix("windows of ").partition(" = ")
        if sign and "bytes each" not in left and "byte each" not in left:
            code = re.sub(r"\d+", r"Fraction(\g<0>)", re.sub(r"(?<=\d),(?=\d)", "", left))
            worked = eval(code, {"Fraction": Fraction, "floor": floor, "ceil": ceil, "max": max, "min": min})
            shown = re.match(r"-?[\d,]+", right)
            assert shown is not None, text
            yield worked, int(shown[0].rstrip(",").replace(",", ""))


def number(text: str) -> int:
    """The result of the first formula, or the number that a text begins with."""
    for _, shown in results(text):
        return shown
    found = re.match(r"-?\d[\d,]*", text)
    assert found, text
    return int(found[0].rstrip(",").replace(",", ""))


def assert_true(row: Row, x: Explained) -> None:
    """Every line's formula is right in itself, and its result the row's own figure."""
    assert (x.path, x.op, x.inputs, x.output) == (row.path, row.op, row.inputs, row.output)
    assert x.line("does")
    for name, text in x.lines:
        for worked, shown in results(text):
            assert worked == shown, f"{row.path} {row.op}, {name}: {text}"
    figures = {"parameters": row.params, "MACs": row.macs, "backward MACs": row.backward_macs}
    for name, figure in figures.items():
        assert number(x.line(name) or "0") == figure, x
    assert number(x.line("activations")) == row.activations
    assert number(x.line("saved")) == row.saved_bytes
    if row.activations:
        assert f"{row.activation_bytes:,} bytes" in x.line("activations")
    places = {"height": 0, "width": 1, "depth": 0, "length": 0}
    for name, text in x.lines:
        kind, _, axis = name.partition(", ")
        j = places.get(axis, 0)
        if kind == "output" and "along" not in text:
            size = int(text.partition(":")[0]) if ":" in text else number(text)
            assert size in (row.output if not axis else (row.output[j - 2],)), text
        if kind == "field" and not text.startswith("none"):
            assert row.field and row.offset
            field, _, rest = text.replace(", no stride", ", stride no stride").partition(", stride ")
            stride, _, begins = rest.partition(", begins at ")
            assert number(field) == row.field[j]
            assert number(begins) == row.offset[j]
            assert stride.startswith("no stride") if row.stride is None else number(stride) == row.stride[j]


def assert_explained(table: Table) -> list[Explained]:
    rows = explain(table, "").rows
    assert len(rows) == len(table.rows)
    for row, x in zip(table.rows, rows, strict=True):
        assert_true(row, x)
    return list(rows)


# ---- All rows of whole networks -------------------------------------------------------------------------------------


def formulas(rows: list[Explained], name: str) -> tuple[int, int]:
    """How many lines of a name have a formula, of how many."""
    texts = [text for x in rows for n, text in x.lines if n.partition(",")[0] == name]
    return sum(" = " in t for t in texts), len(texts)


CATALOGUE = [pytest.param(n, marks=pytest.mark.slow) if "1202" in n else n for n in NETWORKS]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", CATALOGUE)
def test_every_row_of_the_catalogues_networks(name: str, training: bool, steady: Callable[..., nn.Module]) -> None:
    with torch.device("meta"):
        net = steady(build(name).train(training))
    rows = assert_explained(account(net, (2, *NETWORKS[name].input), name=name))
    assert len(set(formulas(rows, "MACs"))) == 1
    # Only a head of googlenet_bn pools 14x14 to 4x4, with windows of two sizes.
    assert not any("no single window" in t for x in rows if x.path[:3] != "aux" for _, t in x.lines)


@pytest.mark.parametrize("path", TABLES, ids=lambda p: p.stem)
def test_every_row_of_the_stored_tables(path: Path) -> None:
    """Those that were written without settings have fewer formulas and no wrong one."""
    table = read_table(path.read_bytes())
    if len(table.rows) < 1500:
        assert_explained(table)
        assert_explained(table.stages())


def torchvision_table(name: str, size: int = 224) -> Table:
    from torchvision import models

    with torch.device("meta"):
        net = models.get_model(name, weights=None, **{"init_weights": False} if name == "googlenet" else {}).eval()
    return account(net, (3, size, size), name=name)


PLAIN = ("alexnet", "vgg11_bn", "resnet50", "googlenet", "densenet121", "mobilenet_v2", "squeezenet1_1")
OTHERS = ("mobilenet_v3_small", "efficientnet_b0", "shufflenet_v2_x0_5", "vit_b_16", "swin_t", "convnext_tiny")


@pytest.mark.parametrize("name", [*PLAIN, *OTHERS])
def test_every_row_of_torchvisions_networks(name: str) -> None:
    rows = assert_explained(torchvision_table(name))
    assert len(set(formulas(rows, "MACs"))) == 1
    if name in PLAIN:
        assert not any("no single window" in t or t.startswith("none") for x in rows for _, t in x.lines)
        assert not any("what its gradient needs" in x.line("saved") for x in rows)
    learned = [x for x in rows if "a learned tensor" in x.line("parameters")]
    assert len(learned) == {"vit_b_16": 2, "swin_t": 12, "convnext_tiny": 18}.get(name, 0)


def test_every_operation_with_a_rule_is_said() -> None:
    names = {entry[1] for entry in RULES.values() if entry[2] is not None} | {_operation("conv2d")}
    for op in names:
        said = does(Row("", op, ((1, 4), (1, 4)), (1, 4), 0, 0, 4, 16))
        assert said and "no formula is known" not in said, op


# ---- Texts as a reader sees them ------------------------------------------------------------------------------------


class Net(nn.Module):
    """Named layers, run in order."""

    def __init__(self, **layers: nn.Module):
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = layer(x)
        return x


def lines(net: nn.Module, shape: tuple[int, ...], label: str, place: int = 0) -> dict[str, str]:
    table = account(net, shape)
    assert_explained(table)
    return dict(explain(table, label).rows[place].lines)


def test_alexnets_first_layer() -> None:
    """The lecture's own sums: (227 - 11) / 4 + 1 = 55, 96 * (11*11*3 + 1) = 35 k, 55*55*96 = 290,400."""
    net = Net(conv1=nn.Sequential(nn.Conv2d(3, 96, 11, 4), nn.ReLU(True)), pool1=nn.MaxPool2d(3, 2))
    assert explain(account(net.eval(), (3, 227, 227), name="alexnet"), "conv1").as_text() == (
        "alexnet, conv1\n\n"
        "conv1.0        conv2d, 1x3x227x227 -> 1x96x55x55\n"
        "─────────────  ──────────────────────────────────────────────────────────────────────────────────────\n"
        "does           multiplies a window of the map by weights, at every position, and sums up\n"
        "output         (227 + 2*0 - 11) / 4 + 1 = 55\n"
        "parameters     96 * (11*11*3 + 1) = 34,944\n"
        "MACs           55*55*96 * 11*11*3 = 105,415,200\n"
        "backward MACs  105,415,200, once the forward's: one gradient, of its weight; nothing before it learns\n"
        "activations    55*55*96 = 290,400 values, 4 bytes each = 1,161,600 bytes\n"
        "saved          3*227*227 * 4 = 618,348 bytes: its input, for the weight's gradient\n"
        "field          1 + (11 - 1) * 1 = 11, stride 1 * 4 = 4, begins at 0\n\n"
        "conv1.1      relu, 1x96x55x55 -> 1x96x55x55\n"
        "───────────  ─────────────────────────────────────────────────────────────────────────────────\n"
        "does         sets what is below zero to zero, in place\n"
        "activations  0: it writes over a tensor that is there\n"
        "saved        96*55*55 * 4 = 1,161,600 bytes: its output, from which its gradient is worked out\n"
        "field        11, stride 4, begins at 0: its input's"
    )
    pool = lines(net, (3, 227, 227), "pool1")
    assert pool["output"] == "(55 + 2*0 - 3) / 2 + 1 = 27"
    assert pool["field"] == "11 + (3 - 1) * 4 = 19, stride 4 * 2 = 8, begins at 0"
    assert pool["saved"] == "96*27*27 * 8 = 559,872 bytes: where each maximum stood"


Expected = dict[str, str]
LAYERS: list[tuple[nn.Module, tuple[int, ...], Expected]] = [
    (nn.Conv2d(96, 256, 5, padding=2, groups=2), (2, 96, 27, 27), {
        "output": "(27 + 2*2 - 5) / 1 + 1 = 27",
        "parameters": "256 * (5*5*48 + 1) = 307,456",
        "MACs": "2 * 27*27*256 * 5*5*48 = 447,897,600",
        "activations": "2*27*27*256 = 373,248 values, 4 bytes each = 1,492,992 bytes",
        "field": "1 + (5 - 1) * 1 = 5, stride 1 * 1 = 1, begins at 0 - 2*1 = -2",
    }),
    (nn.Conv2d(3, 8, (1, 7), 2, (0, 3), bias=False), (1, 3, 30, 31), {
        "output, height": "floor((30 + 2*0 - 1) / 2) + 1 = 15",
        "output, width": "(31 + 2*3 - 7) / 2 + 1 = 16",
        "parameters": "8 * 1*7*3 = 168",
        "field, height": "1 + (1 - 1) * 1 = 1, stride 1 * 2 = 2, begins at 0",
        "field, width": "1 + (7 - 1) * 1 = 7, stride 1 * 2 = 2, begins at 0 - 3*1 = -3",
    }),
    (nn.Conv2d(3, 8, 3, dilation=2, padding="same"), (1, 3, 20, 20), {
        "output": "(20 + 4 - 2*(3 - 1) - 1) / 1 + 1 = 20",
        "field": "1 + 2*(3 - 1) * 1 = 5, stride 1 * 1 = 1, begins at 0 - 2*1 = -2",
    }),
    (nn.ConvTranspose2d(16, 8, 4, 2, 1), (1, 16, 10, 10), {
        "output": "(10 - 1)*2 - 2*1 + 4 = 20",
        "parameters": "16 * 4*4*8 + 8 = 2,056",
        "MACs": "10*10*16 * 4*4*8 = 204,800",
        "field": "none: positions are joined or mixed irregularly before it, or there are none",
    }),
    (nn.ConvTranspose2d(2, 3, 5, 1, 2), (1, 2, 9, 9), {
        "field": "1 + (5 - 1) * 1 = 5, stride 1 * 1 = 1, begins at 0 - 2*1 = -2",
    }),
    (nn.ConvTranspose1d(4, 6, 3, output_padding=1, stride=2, dilation=2, groups=2), (1, 4, 9), {
        "output": "(9 - 1)*2 - 2*0 + 2*(3 - 1) + 1 + 1 = 22", "parameters": "4 * 3*3 + 6 = 42",
    }),
    (nn.MaxPool2d(3, 2, ceil_mode=True), (1, 4, 112, 112), {"output": "ceil((112 + 2*0 - 3) / 2) + 1 = 56"}),
    (nn.AdaptiveAvgPool2d(6), (1, 4, 13, 13), {
        "output": "6: window i from floor(i * 13 / 6) to ceil((i + 1) * 13 / 6), 3 wide",
    }),
    (nn.AdaptiveAvgPool2d((7, 1)), (1, 4, 56, 28), {
        "output, height": "7: windows of 56 / 7 = 8",
        "output, width": "1: a window over all 28",
        "field, height": "1 + (8 - 1) * 1 = 8, stride 1 * 8 = 8, begins at 0",
        "field, width": "1 + (28 - 1) * 1 = 28, stride 1 * 1 = 1, begins at 0",
    }),
    (nn.BatchNorm2d(64), (2, 64, 5, 5), {
        "parameters": "2 * 64 = 128",
        "saved": "2*64*5*5 * 4 + 2 * 64 * 4 + 2 * 64 * 4 = 13,824 bytes: its input, to work out its gradient; "
        "the batch's mean and inverse deviation of each channel; running mean and variance",
    }),
    (nn.GroupNorm(4, 64), (2, 64, 5, 5), {"parameters": "2 * 64 = 128"}),
    (nn.LayerNorm((8, 4)), (2, 3, 8, 4), {"parameters": "2 * 8*4 = 64"}),
    (nn.Linear(20, 10), (3, 7, 20), {"parameters": "10 * (20 + 1) = 210", "MACs": "3 * 7 * 10 * 20 = 4,200"}),
    (nn.ZeroPad2d((1, 2, 3, 3)), (1, 4, 10, 10), {
        "output, height": "10 + 3 + 3 = 16", "output, width": "10 + 1 + 2 = 13",
    }),
    (nn.Upsample(scale_factor=2), (1, 4, 10, 10), {"output": "10 * 2 = 20"}),
    (nn.Upsample(size=7), (1, 4, 10, 10), {"output": "7: as was asked for, from 10"}),
]  # fmt: skip


@pytest.mark.parametrize(("layer", "shape", "expected"), LAYERS)
def test_one_layer(layer: nn.Module, shape: tuple[int, ...], expected: Expected) -> None:
    table = account(Net(layer=layer), torch.empty(shape, device="meta"))
    assert_explained(table)
    got = dict(explain(table, "layer").rows[0].lines)
    assert {name: got.get(name) for name in expected} == expected


class Joins(nn.Module):
    """Two branches of different fields, a shared layer, products without weights."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 5, padding=2)
        self.fc = nn.Linear(16, 16)
        self.attend = nn.MultiheadAttention(16, 4)
        self.scale = nn.Parameter(torch.ones(16))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.a(x), self.b(x)], 1)
        x = x.flatten(2).transpose(1, 2)  # (1, 36, 16)
        x = self.fc(self.fc(x)) * self.scale
        x = self.attend(x, x, x, need_weights=False)[0]
        y = torch.einsum("nik,njk->nij", x, x)
        y = y @ x + F.scaled_dot_product_attention(x, x, x)
        return F.dropout(y, 0.3, training=True)


def test_branches_shared_layers_and_products() -> None:
    table = account(Joins(), (3, 6, 6))
    rows = {x.op: dict(x.lines) for x in assert_explained(table)}
    assert rows["cat"]["output"] == "8 + 8 = 16 along dimension 1"
    assert rows["cat"]["field"] == (
        "max(-1 + 3, -2 + 5) - min(-1, -2) = 5, stride 1, begins at -2: the union of its inputs'"
    )
    first, again = (dict(x.lines) for x in explain(table, "fc").rows)
    assert first["parameters"] == "16 * (16 + 1) = 272"
    assert again["parameters"] == "0: its weights were counted in an earlier row, or are no parameters"
    assert rows["mul"]["parameters"] == "16, a learned tensor that comes in here"
    assert rows["multi_head_attention_forward"]["parameters"] == "4 * 16 * (16 + 1) = 1,088"
    assert rows["multi_head_attention_forward"]["MACs"] == "36 * (4 * 1*16*16 + 2 * 1*1*16) = 38,016"
    assert rows["einsum"]["MACs"] == "36*16*36 = 20,736"
    assert rows["matmul"]["MACs"] == "36*16 * 36 = 20,736"
    assert rows["scaled_dot_product_attention"]["MACs"] == "36*36 * (16 + 16) = 41,472"
    assert rows["dropout"]["does"] == "sets elements to zero at random, with probability 0.3"


def test_a_classifier_sees_all_positions() -> None:
    net = Net(conv=nn.Conv2d(3, 4, 3, 2), flat=nn.Flatten(), fc=nn.Linear(4 * 36, 10))
    got = lines(net, (3, 13, 13), "fc")
    assert got["field"] == "3 + (6 - 1) * 2 = 13, no stride (one position), begins at 0"
    assert got["backward MACs"] == "2 * 1,440 = 2,880: the gradients of its input and its weight"


class Squeeze(nn.Module):
    """Every position is multiplied by a mean over the whole map, as in squeeze and excitation; then a window."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.window = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)[:, :, ::2, ::2]
        return self.window(y * y.mean((2, 3), keepdim=True) + torch.zeros(1))


def test_fields_that_are_not_one_windows() -> None:
    rows = explain(account(Squeeze(), (3, 30, 30)), "").rows
    assert_explained(account(Squeeze(), (3, 30, 30)))
    conv, mean, mul, _, window = (dict(x.lines)["field"] for x in rows)
    assert conv == "1 + (3 - 1) * 1 = 3, stride 1 * 1 = 1, begins at 0 - 1*1 = -1"
    assert mean == "3 + (15 - 1) * 2 = 31, no stride (one position), begins at -1"
    assert mul == "max(-1 + 3, -1 + 31) - (-1) = 31, stride 2, begins at -1: the union of its inputs'"
    assert window == ("31, stride 2, begins at -3: by no single window, since branches before it see different parts")


class Learned(nn.Module):
    """A product of a learned tensor, one with spaces in its equation, and a slice with a step."""

    def __init__(self) -> None:
        super().__init__()
        self.grid, self.fc = nn.Parameter(torch.zeros(5, 2)), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(x[:, :, ::2, ::2])
        return torch.einsum("n c h w, d c -> n d h w", y, self.fc(self.grid).t())


def test_products_of_learned_tensors() -> None:
    table = account(Learned(), (5, 8, 8))
    rows = {x.op: dict(x.lines) for x in assert_explained(table)}
    assert rows["linear"]["MACs"] == "5 * 3 * 2 = 30"
    assert rows["linear"]["does"].endswith(", here of learned tensors alone")
    assert rows["relu"]["field"] == "1, stride 2, begins at 0: its input's"
    assert rows["einsum"]["MACs"] == "5*4*4*3 = 240"


def test_nothing_is_kept_where_nothing_learns() -> None:
    net = Net(conv=nn.Conv2d(3, 4, 3)).requires_grad_(False)
    got = lines(net, (3, 8, 8), "conv")
    assert got["backward MACs"] == "0: no gradient goes through it"
    assert got["saved"] == "0: no gradient goes through it"


def test_a_figure_that_no_formula_gives_stands_alone() -> None:
    """Rows that contradict their settings get no formula, rather than a wrong one."""
    row = Row("x", "conv2d", ((1, 3, 8, 8),), (1, 4, 9, 9), 7, 11, 324, 1296, (9, 9), (1, 1), 5, 3, (4, 4), SETTING)
    got = explain(Table("odd", ((1, 3, 8, 8),), (row,)), "x").rows[0]
    assert_true(row, got)
    assert "output" not in dict(got.lines)
    assert got.line("parameters") == "7: the table does not have what a formula needs"
    assert got.line("MACs") == "11: the table does not have what a formula needs"
    assert "=" not in got.line("field") and "=" not in got.line("saved")


SETTING: dict[str, Any] = {**dict.fromkeys(("kernel", "stride", "padding", "dilation"), (3, 3)), "groups": 1}


def test_labels_that_are_not_there() -> None:
    table = account(Net(conv1=nn.Conv2d(3, 4, 3), pool=nn.MaxPool2d(2)), (3, 8, 8))
    with pytest.raises(UnknownName) as error:
        explain(table, "conv2")
    assert str(error.value) == "no row or stage named 'conv2'; did you mean conv1?"
    with pytest.raises(UnknownName) as error:
        explain(table, "fc")
    assert str(error.value) == "no row or stage named 'fc'; stages: conv1, pool"


def test_json_has_every_text() -> None:
    e = explain(account(Net(conv1=nn.Conv2d(3, 4, 3)), (3, 8, 8), name="net"), "conv1")
    back = from_json(dict[str, Any], to_json(e.as_dict()))
    assert (back["network"], back["label"], back["rows"][0]["op"]) == ("net", "conv1", "conv2d")
    assert back["rows"][0]["lines"]["parameters"] == "4 * (3*3*3 + 1) = 112"


def test_values_of_formulas() -> None:
    assert value("floor((224 + 2*3 - 7) / 2) + 1") == 112
    assert value("max(1,000, 2 - -5) * ceil(1 / 3)") == 1000
    assert equal("2 * 3", 7) is None
    assert equal("96", 96) == "96"
    with pytest.raises(ValueError, match="is no part of a formula"):
        value("__import__('os')")
