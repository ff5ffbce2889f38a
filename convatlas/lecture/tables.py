"""The lecture's tables, from the catalogue's accounts."""

from collections.abc import Iterable, Sequence
from math import prod

from ..catalogue import catalogue, table
from ..claims import Claim, claims
from ..layout import Cell, Column
from ..table import Row, Shape
from .section import Grid, said
from .words import Say


def size_of(shape: Shape) -> str:
    """Height, width and channels, as the lecture writes them: (1, 96, 55, 55) -> "55x55x96"."""
    _, channels, *size = shape
    return "x".join(map(str, (*size, channels)))


def layers(name: str, caption: str, say: Say) -> Grid:
    """A network's stages under its paper's labels."""
    found = table(name)
    numbers = ("parameters", "MACs", "receptive field")
    columns = [Column("layer"), Column("output", True), *(Column(n, True) for n in numbers)]
    rows: list[list[Cell]] = [[say("input"), size_of(found.input[0]), None, None, None]]
    rows += [[r.path or r.op, size_of(r.output), r.params, r.macs, _field(r)] for r in found.stages().rows]
    totals = found.totals
    rows.append(["total", None, totals.params, totals.macs, None])
    return Grid(caption, columns, rows)


def _field(r: Row) -> int | None:
    return r.field[0] if r.field and max(r.output[2:], default=1) > 1 else None


def alexnet_lines(found: Sequence[Claim], say: Say) -> Grid:
    """The lecture's list of AlexNet, beside the one tower that it draws."""
    printed = {c.id.split(".")[1]: said(c) for c in found if c.metric == "output"}
    account = table("alexnet_one_tower")
    columns = [Column("layer"), *(Column(n, True) for n in ("the lecture", "here", "parameters", "MACs"))]
    size = size_of(account.input[0])
    rows: list[list[Cell]] = [[say("input"), "227x227x3", size, None, None]]
    rows += [[r.path, *printed[r.path], r.params, r.macs] for r in account.stages().rows]
    return Grid("AlexNet, line by line", columns, rows)


def vgg_lines(found: Sequence[Claim], say: Say) -> Grid:
    """The slide of VGG-16's memory and parameters, beside the exact numbers."""
    by_layer: dict[tuple[str, str], tuple[str, str]] = {
        (c.id.split(".")[1], c.metric): said(c) for c in found if c.metric in ("activations", "weights")
    }
    account = table("vgg16")
    columns = [
        Column("layer"),
        Column("output", True),
        *(Column(n, True) for n in ("numbers kept, slide", "numbers kept, here", "weights, slide", "weights, here")),
    ]
    image = prod(account.input[0])
    rows: list[list[Cell]] = [[say("input"), size_of(account.input[0]), "150 k", image, 0, 0]]
    for r in account.stages().rows:
        kept, weights = by_layer[r.path, "activations"], by_layer[r.path, "weights"]
        rows.append([r.path, size_of(r.output), *kept, *weights])
    totals = {c.metric: said(c) for c in found if c.metric in ("values", "weights") and c.id.count(".") == 2}
    rows.append(["total", None, *totals["values"], *totals["weights"]])
    return Grid("VGG-16, memory and parameters", columns, rows)


NAIVE = (  # the module's convolutions in the order of the lecture's list: path, which one there, as it is written
    ("1x1", 0, "1x1 conv, 128", "28x28x128x1x1x256"),
    ("3x3", 0, "3x3 conv, 192", "28x28x192x3x3x256"),
    ("5x5", 0, "5x5 conv, 96", "28x28x96x5x5x256"),
)
REDUCED = (
    ("3x3", 0, "1x1 conv, 64", "28x28x64x1x1x256"),
    ("5x5", 0, "1x1 conv, 64", "28x28x64x1x1x256"),
    ("1x1", 0, "1x1 conv, 128", "28x28x128x1x1x256"),
    ("3x3", 1, "3x3 conv, 192", "28x28x192x3x3x64"),
    ("5x5", 1, "5x5 conv, 96", "28x28x96x5x5x64"),
    ("pool", 0, "1x1 conv, 64", "28x28x64x1x1x256"),
)


MODULES = {"inception_naive": NAIVE, "inception_reduced": REDUCED}


def product(words: str) -> int:
    """ "28x28x64" -> 50176."""
    return prod(map(int, words.split("x")))


def module(name: str, caption: str, say: Say) -> Grid:
    """Each convolution of an Inception module: the product that the lecture writes, and what was counted here."""
    account = table(name)
    columns = [Column("convolution"), Column("output", True), Column("the lecture"), *_numbers("its product", "here")]
    rows: list[list[Cell]] = []
    listed = MODULES[name]
    for branch, which, label, written in listed:
        convolution = [r for r in account.under(branch).rows if r.op == "conv2d"][which]
        rows.append([say(label), size_of(convolution.output), written, product(written), convolution.macs])
    total = sum(product(written) for *_, written in listed)
    rows.append(["total", size_of(account.rows[-1].output), None, total, account.totals.macs])
    return Grid(caption, columns, rows)


def _numbers(*names: str) -> Iterable[Column]:
    return (Column(n, True) for n in names)


def googlenet_table() -> Grid:
    """GoogLeNet's stages beside Table 1 of its paper."""
    printed = {c.id.rsplit(".", 1)[0]: said(c)[0] for c in claims("googlenet") if c.source == "Table 1"}
    columns = [Column("layer"), *_numbers("output", "parameters, paper", "parameters", "MACs, paper", "MACs")]
    rows: list[list[Cell]] = []
    for r in table("googlenet").stages().rows:
        paper = [printed.get(f"googlenet.{r.path}.{metric}", "") for metric in ("params", "macs")]
        rows.append([r.path, size_of(r.output), paper[0], r.params, paper[1], r.macs])
    totals = table("googlenet").totals
    rows.append(["total", None, None, totals.params, None, totals.macs])
    return Grid("GoogLeNet, beside Table 1 of its paper", columns, rows)


def bottleneck(say: Say) -> Grid:
    """The block of 1x1, 3x3, 1x1 convolution by convolution, and two 3x3 at the full width."""
    columns = [Column("block"), Column("convolution"), *_numbers("output", "weights", "MACs")]
    rows: list[list[Cell]] = []
    for name, label in (("bottleneck_block", "bottleneck"), ("basic_block_256", "two 3x3 of 256")):
        account = table(name)
        convolutions = [r for r in account.rows if r.op == "conv2d"]
        for r in convolutions:
            kernel = "x".join(map(str, _kernel(r)))
            rows.append([say(label), f"{kernel} conv, {r.output[1]}", size_of(r.output), r.params, r.macs])
        total = sum(r.params for r in convolutions)
        rows.append([say(label), "total", None, total, account.totals.macs])
    return Grid("The bottleneck, and what it saves", columns, rows)


def _kernel(r: Row) -> tuple[object, ...]:
    kernel = r.setting["kernel"]
    return kernel if isinstance(kernel, tuple) else ()


def side_by_side(names: Sequence[str], caption: str) -> Grid:
    """Networks with their depth and totals, a row each."""
    columns = [Column("network"), *_numbers("layers with weights", "parameters", "MACs", "receptive field")]
    rows: list[list[Cell]] = []
    for name in names:
        e = catalogue().entry(name)
        rows.append([name, e.depth, e.params, e.macs, e.field[0] if e.field else None])
    return Grid(caption, columns, rows)


def macs(name: str) -> int:
    return catalogue().entry(name).macs


def fields(say: Say) -> Grid:
    """Three 3x3 convolutions and one 7x7 between maps of 256 channels."""
    columns = [Column("convolutions"), *_numbers("receptive field", "parameters", "MACs", "non-linearities")]
    rows: list[list[Cell]] = []
    for name, label in (("three_3x3", "three 3x3"), ("one_7x7", "one 7x7")):
        account = table(name)
        t = account.totals
        rows.append(
            [say(label), t.field[0] if t.field else None, t.params, t.macs, sum(r.op == "relu" for r in account.rows)]
        )
    return Grid("Three 3x3 and one 7x7", columns, rows)
