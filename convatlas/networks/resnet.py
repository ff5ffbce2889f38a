"""Deep Residual Learning for Image Recognition (He, Zhang, Ren, Sun, 2015).

A block learns what to add to its input, y = relu(F(x) + x), so that a deeper network is not harder to optimise than a
shallow one. Here are the ImageNet networks of Table 1 (18 to 152 layers), their plain twins without shortcuts (section
4.1), the CIFAR-10 networks of section 4.2 (20 to 1202 layers) and their plain twins.

Where the shape changes, a shortcut is option A (every second pixel, zeros for the new channels), B (a projection) or C
(projections everywhere). The plain name is the one of the paper's final figures: B on ImageNet, A on CIFAR-10.

Departures and choices:
- The paper puts a bottleneck's stride in its first 1x1, and so do we; torchvision and fb.resnet.torch put it in the
  3x3, which costs 0.23 G more MACs: `resnet50_v15`, `resnet101_v15`, `resnet152_v15`.
- Option A does not say where the zero channels go. We put half before and half after, as the widely used
  re-implementation by Yerlan Idelbayev does, so that its checkpoints give the same logits.
- The paper's 3x3 max pooling is padded by 1 here, as in torchvision; the authors' Caffe files pad 0 and round up. Both
  give 56x56 from 112x112 with the same counts.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from torch import Tensor, nn

from ..layers import chain, conv_bn, initialise_he
from ..paper import Foreign, Network, Paper, Published, Recipe

PAPER = Paper(
    "Deep Residual Learning for Image Recognition",
    "Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun",
    2015,
    "https://arxiv.org/abs/1512.03385",
)

# ---- Table 1, and the table of section 4.2 --------------------------------------------------------------------------

DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
WIDTHS = (64, 128, 256, 512)  # of conv2_x to conv5_x, before a bottleneck's x4
CIFAR_WIDTHS = (16, 32, 64)  # of the maps of 32x32, 16x16 and 8x8 pixels

# ---- Blocks ---------------------------------------------------------------------------------------------------------

Body = Callable[[int, int, int], tuple[nn.Sequential, int]]  # (cin, width, stride) -> F(x) and its channels
Shortcut = Callable[[int, int, int], nn.Module]  # (cin, cout, stride) -> what is added to F(x)


def basic(cin: int, width: int, stride: int) -> tuple[nn.Sequential, int]:
    """Two 3x3 (Figure 5, left). (N,cin,H,W) -> (N,width,H/stride,W/stride)"""
    body = chain(conv1=conv_bn(cin, width, 3, stride), relu1=nn.ReLU(inplace=True), conv2=conv_bn(width, width, 3))
    return body, width


def bottleneck(
    cin: int, width: int, stride: int, stride_in_3x3: bool = False, *, wider: int = 1, groups: int = 1
) -> tuple[nn.Sequential, int]:
    """1x1 down, 3x3, 1x1 up to four times the width (Figure 5, right). (N,cin,H,W) -> (N,4*width,H/stride,W/stride)

    Later papers make the 3x3 `wider` times as wide, or split it into `groups`.
    """
    first, second = (1, stride) if stride_in_3x3 else (stride, 1)
    inner = wider * width
    body = chain(
        conv1=conv_bn(cin, inner, 1, first),
        relu1=nn.ReLU(inplace=True),
        conv2=conv_bn(inner, inner, 3, second, groups=groups),
        relu2=nn.ReLU(inplace=True),
        conv3=conv_bn(inner, 4 * width, 1),
    )
    return body, 4 * width


bottleneck_v15 = partial(bottleneck, stride_in_3x3=True)


class ZeroPad(nn.Module):
    """Every second pixel, and zeros for the new channels; no parameters. (N,cin,H,W) -> (N,cout,H/stride,W/stride)"""

    def __init__(self, cin: int, cout: int, stride: int):
        super().__init__()
        self.stride = stride
        self.before = (cout - cin) // 2
        self.after = cout - cin - self.before

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


def option_a(cin: int, cout: int, stride: int) -> nn.Module:
    return nn.Identity() if stride == 1 and cin == cout else ZeroPad(cin, cout, stride)


def option_b(cin: int, cout: int, stride: int) -> nn.Module:
    return nn.Identity() if stride == 1 and cin == cout else conv_bn(cin, cout, 1, stride)


def option_c(cin: int, cout: int, stride: int) -> nn.Module:
    return conv_bn(cin, cout, 1, stride)


class Block(nn.Module):
    """relu(body(x) + shortcut(x)); a plain network's block has no shortcut and is relu(body(x))."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None):
        super().__init__()
        self.body = body
        self.shortcut = shortcut
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return self.relu(y if self.shortcut is None else y + self.shortcut(x))


def block_256(
    body: Body, width: int, *, classes: int = 0, channels: int = 256, input: tuple[int, int] = (28, 28)
) -> Block:
    """One block that gives 256 maps, of any size, with the identity as shortcut. (N,256,H,W) -> (N,256,H,W)"""
    residual, cout = body(channels, width, 1)
    return Block(residual, option_b(channels, cout, 1))


# ---- The networks ---------------------------------------------------------------------------------------------------


def stages(
    cin: int, widths: tuple[int, ...], depths: tuple[int, ...], body: Body, shortcut: Shortcut | None
) -> tuple[dict[str, nn.Module], int]:
    """conv2, conv3, ... with their blocks numbered from 1, and the last one's channels.

    Each stage but the first halves the maps in its first block.
    """
    out: dict[str, nn.Module] = {}
    for s, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        blocks = {}
        for b in range(depth):
            stride = 2 if s > 0 and b == 0 else 1
            residual, cout = body(cin, width, stride)
            blocks[str(b + 1)] = Block(residual, shortcut and shortcut(cin, cout, stride))
            cin = cout
        out[f"conv{s + 2}"] = chain(**blocks)
    return out, cin


def resnet(
    depth: int,
    body: Body,
    shortcut: Shortcut | None = option_b,
    *,
    classes: int = 1000,
    channels: int = 3,
    input: tuple[int, int] = (224, 224),
) -> nn.Sequential:
    """An ImageNet network of Table 1, for images of any size. (N,channels,H,W) -> (N,classes)"""
    convs, cout = stages(64, WIDTHS, DEPTHS[depth], body, shortcut)
    return chain(
        conv1=conv_bn(channels, 64, 7, 2),
        relu1=nn.ReLU(inplace=True),
        pool1=nn.MaxPool2d(3, 2, 1),
        **convs,
        pool5=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        fc=nn.Linear(cout, classes),
    )


def resnet_cifar(
    depth: int,
    shortcut: Shortcut | None = option_a,
    *,
    classes: int = 10,
    channels: int = 3,
    input: tuple[int, int] = (32, 32),
) -> nn.Sequential:
    """A CIFAR-10 network of depth = 6n+2 layers, for images of any size. (N,channels,H,W) -> (N,classes)"""
    n = (depth - 2) // 6
    convs, cout = stages(16, CIFAR_WIDTHS, (n, n, n), basic, shortcut)
    return chain(
        conv1=conv_bn(channels, 16, 3),
        relu1=nn.ReLU(inplace=True),
        **convs,
        pool4=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        fc=nn.Linear(cout, classes),
    )


TORCHVISION = (
    (r"^conv1\.conv\.", "conv1."),
    (r"^conv1\.bn\.", "bn1."),
    (r"^conv(\d)\.(\d+)\.", r"layer\1-1.\2-1."),
    (r"body\.conv(\d)\.conv\.", r"conv\1."),
    (r"body\.conv(\d)\.bn\.", r"bn\1."),
    (r"shortcut\.conv\.", "downsample.0."),
    (r"shortcut\.bn\.", "downsample.1."),
)


def _imagenet(build: Callable[..., nn.Module], about: str = "", torchvision: str = "") -> Network:
    foreign = Foreign("torchvision", torchvision, TORCHVISION) if torchvision else None
    return Network(build, initialise_he, (3, 224, 224), 1000, "resnet", about, foreign=foreign)


def _cifar(build: Callable[..., nn.Module], about: str = "", recipe: str = "resnet_cifar") -> Network:
    return Network(build, initialise_he, (3, 32, 32), 10, recipe, about)


V15 = "Stride in the 3x3 of a bottleneck, as in torchvision."
A = "Option A shortcuts: every second pixel, zeros for the new channels."
B = "Option B shortcuts: projections where the shape changes."
C = "Option C shortcuts: projections everywhere."
PLAIN = "The same layers without shortcuts."
BOTTLENECK = "One block alone: 1x1 down to 64 maps, 3x3, 1x1 up to 256."
BASIC = "One block alone, as a bottleneck's alternative: two 3x3 at 256 maps."

NETWORKS = {
    "resnet18": _imagenet(partial(resnet, 18, basic), torchvision="resnet18"),
    "resnet34": _imagenet(partial(resnet, 34, basic), torchvision="resnet34"),
    "resnet50": _imagenet(partial(resnet, 50, bottleneck)),
    "resnet101": _imagenet(partial(resnet, 101, bottleneck)),
    "resnet152": _imagenet(partial(resnet, 152, bottleneck)),
    "resnet50_v15": _imagenet(partial(resnet, 50, bottleneck_v15), V15, "resnet50"),
    "resnet101_v15": _imagenet(partial(resnet, 101, bottleneck_v15), V15, "resnet101"),
    "resnet152_v15": _imagenet(partial(resnet, 152, bottleneck_v15), V15, "resnet152"),
    "resnet18_a": _imagenet(partial(resnet, 18, basic, option_a), A),
    "resnet18_c": _imagenet(partial(resnet, 18, basic, option_c), C),
    "resnet34_a": _imagenet(partial(resnet, 34, basic, option_a), A),
    "resnet34_c": _imagenet(partial(resnet, 34, basic, option_c), C),
    "plain18": _imagenet(partial(resnet, 18, basic, None), PLAIN),
    "plain34": _imagenet(partial(resnet, 34, basic, None), PLAIN),
    "resnet20_cifar": _cifar(partial(resnet_cifar, 20)),
    "resnet32_cifar": _cifar(partial(resnet_cifar, 32)),
    "resnet44_cifar": _cifar(partial(resnet_cifar, 44)),
    "resnet56_cifar": _cifar(partial(resnet_cifar, 56)),
    "resnet110_cifar": _cifar(partial(resnet_cifar, 110), recipe="resnet110_cifar"),
    "resnet1202_cifar": _cifar(partial(resnet_cifar, 1202), recipe="resnet110_cifar"),
    "resnet20_cifar_b": _cifar(partial(resnet_cifar, 20, option_b), B),
    "resnet56_cifar_b": _cifar(partial(resnet_cifar, 56, option_b), B),
    "resnet110_cifar_b": _cifar(partial(resnet_cifar, 110, option_b), B, "resnet110_cifar"),
    "resnet1202_cifar_b": _cifar(partial(resnet_cifar, 1202, option_b), B, "resnet110_cifar"),
    "plain20_cifar": _cifar(partial(resnet_cifar, 20, None), PLAIN),
    "plain32_cifar": _cifar(partial(resnet_cifar, 32, None), PLAIN),
    "plain44_cifar": _cifar(partial(resnet_cifar, 44, None), PLAIN),
    "plain56_cifar": _cifar(partial(resnet_cifar, 56, None), PLAIN),
    "plain110_cifar": _cifar(partial(resnet_cifar, 110, None), PLAIN, "resnet110_cifar"),
    "bottleneck_block": Network(partial(block_256, bottleneck, 64), initialise_he, (256, 28, 28), 0, "", BOTTLENECK),
    "basic_block_256": Network(partial(block_256, basic, 256), initialise_he, (256, 28, 28), 0, "", BASIC),
}

# ---- How they were trained ------------------------------------------------------------------------------------------

RECIPES = {
    # Batch norm's statistics were taken anew on "a sufficiently large training batch" (README of the released models).
    "resnet": Recipe(
        where="section 3.4",
        dataset="ImageNet",
        iterations=600_000,
        batch=256,
        lr=0.1,
        momentum=0.9,
        weight_decay=1e-4,
        schedule="plateau",
        statistics=25_600,
        augment=("side 256-480", "pca-colour 0.1", "flip"),
        view="ten-crop",
        assumed=("patience", "statistics"),
    ),
    "resnet_cifar": Recipe(
        where="section 4.2",
        dataset="CIFAR-10",
        iterations=64_000,
        batch=128,
        lr=0.1,
        momentum=0.9,
        weight_decay=1e-4,
        schedule="steps",
        drops=(32_000, 48_000),
        augment=("pad-crop 4", "flip"),
        crop=1.0,
        validation=0.1,
    ),
    # For a folder of one or two thousand photos, from scratch on a CPU.
    "small": Recipe(
        where="ours",
        dataset="a small folder of photos",
        epochs=34,
        batch=16,
        lr=0.01,
        momentum=0.9,
        weight_decay=1e-4,
        schedule="steps",
        drops=(24, 30),
        augment=("area 0.25-1", "flip"),
    ),
}
# The training error alone ends the warm-up, after about 400 iterations with 110 layers.
RECIPES["resnet110_cifar"] = replace(RECIPES["resnet_cifar"], warm_up=64_000, warm_up_lr=0.01, warm_up_error=0.8)

# ---- What was printed -----------------------------------------------------------------------------------------------

TEN, ONE = "validation, 10 crops", "validation, 1 crop of 224 from 256"
MANY, ALL = "validation, fully convolutional at several scales", "test, trained on all 50,000 training images"
ENSEMBLE = "test, ensemble of 6 networks, two of 152 layers"
AUTHORS, FB = "the authors' released models", "facebookarchive/fb.resnet.torch"
AKAMASTER, RF = "akamaster/pytorch_resnet_cifar10", "google-research/receptive_field"
TV, TV_V1, OSMR = "torchvision 0.29, metadata", "torchvision 0.29, IMAGENET1K_V1", "osmr/imgclsmob"
CUT_50 = "3.858 G by our count: the authors cut the figure instead of rounding it"
CUT_34 = "3.664 G by our count: the authors cut the figure, or counted option A, which is 3.644 G"
HALVED = "osmr halves a count of operations that holds normalisation, activations and pooling too"

MACS = (  # network, MACs, where, reason
    ("resnet18", "1.8e9", "Table 1", ""),
    ("resnet34", "3.6e9", "Table 1", CUT_34),
    ("resnet50", "3.8e9", "Table 1", CUT_50),
    ("resnet101", "7.6e9", "Table 1", ""),
    ("resnet152", "11.3e9", "Table 1", ""),
    ("plain34", "3.6e9", "Figure 3", ""),
)
ERRORS = (  # network, top-1 and top-5 error, source, protocol
    ("plain18", "27.94", "", "Table 2", TEN),
    ("resnet18_a", "27.88", "", "Table 2", TEN),
    ("plain34", "28.54", "10.02", "Table 3", TEN),
    ("resnet34_a", "25.03", "7.76", "Table 3", TEN),
    ("resnet34", "24.52", "7.46", "Table 3", TEN),
    ("resnet34_c", "24.19", "7.40", "Table 3", TEN),
    ("resnet50", "22.85", "6.71", "Table 3", TEN),
    ("resnet101", "21.75", "6.05", "Table 3", TEN),
    ("resnet152", "21.43", "5.71", "Table 3", TEN),
    ("resnet34", "21.84", "5.71", "Table 4", MANY),
    ("resnet34_c", "21.53", "5.60", "Table 4", MANY),
    ("resnet50", "20.74", "5.25", "Table 4", MANY),
    ("resnet101", "19.87", "4.60", "Table 4", MANY),
    ("resnet152", "19.38", "4.49", "Table 4", MANY),
    ("resnet152", "", "3.57", "Table 5", ENSEMBLE),
    ("resnet50", "24.7", "7.8", AUTHORS, ONE),
    ("resnet101", "23.6", "7.1", AUTHORS, ONE),
    ("resnet152", "23.0", "6.7", AUTHORS, ONE),
)
TABLE_6 = (  # layers, parameters, test error on CIFAR-10 and its protocol, akamaster's reproduction
    (20, "0.27e6", "8.75", "test", "8.27"),
    (32, "0.46e6", "7.51", "test", "7.37"),
    (44, "0.66e6", "7.17", "test", "6.90"),
    (56, "0.85e6", "6.97", "test", "6.61"),
    (110, "1.7e6", "6.43", "test, best of 5 runs", "6.32"),
    (1202, "19.4e6", "7.93", "test", "6.18"),
)
LIBRARIES = (  # network, errors by fb.resnet.torch with 1 crop and with 10, torchvision's accuracies
    ("resnet18", ("30.43", "10.76"), ("28.22", "9.42"), ("69.758", "89.078")),
    ("resnet34", ("26.73", "8.74"), ("24.76", "7.35"), ("73.314", "91.420")),
    ("resnet50_v15", ("24.01", "7.02"), ("22.24", "6.08"), ("76.130", "92.862")),
    ("resnet101_v15", ("22.44", "6.21"), ("21.08", "5.35"), ("77.374", "93.546")),
    ("resnet152_v15", ("22.16", "6.16"), ("20.69", "5.21"), ("78.312", "94.046")),
)
COUNTS = (  # network, parameters, MACs by torchvision, half the operations by osmr
    ("resnet18", "11689512", "1.814e9", "1820.41e6"),
    ("resnet34", "21797672", "3.664e9", "3672.68e6"),
    ("resnet50", "25557032", "", "3877.95e6"),
    ("resnet101", "44549160", "", "7597.95e6"),
    ("resnet152", "60192808", "", "11321.85e6"),
    ("resnet50_v15", "25557032", "4.089e9", "4110.48e6"),
    ("resnet101_v15", "44549160", "7.801e9", "7830.48e6"),
    ("resnet152_v15", "60192808", "11.514e9", "11554.38e6"),
    ("resnet20_cifar_b", "272474", "", "41.29e6"),
    ("resnet56_cifar_b", "855770", "", "127.06e6"),
    ("resnet110_cifar_b", "1730714", "", "255.70e6"),
    ("resnet1202_cifar_b", "19424026", "", "2857.17e6"),
)
PADDINGS = {50: "239", 101: "511", 152: "751"}
POOL1 = "pool1 is padded at the end only there, as in the authors' files, and on both sides here: 2 pixels"
FIELDS = {50: (35, 99, 291, 483), 101: (35, 99, 835, 1027), 152: (35, 163, 1315, 1507)}  # after conv2 to conv5


def _pair(network: str, kind: str, printed: tuple[str, str], source: str, protocol: str) -> list[Published]:
    figures = zip(("top1", "top5"), printed, strict=True)
    return [Published(network, f"{top}_{kind}", p, source, protocol=protocol) for top, p in figures if p]


PUBLISHED = [
    *(Published(network, "macs", macs, where, reason=reason) for network, macs, where, reason in MACS),
    *(Published(f"resnet{n}", "depth", str(n), "Table 1") for n in DEPTHS),
    *(Published(f"plain{n}", "depth", str(n), "Table 2") for n in (18, 34)),
    *(Published(f"resnet{n}_cifar", "depth", str(n), "Table 6") for n, *_ in TABLE_6),
    *(Published(f"resnet{n}_cifar", "params", params, "Table 6") for n, params, *_ in TABLE_6),
    *(figure for name, e1, e5, where, how in ERRORS for figure in _pair(name, "error", (e1, e5), where, how)),
    *(Published(f"resnet{n}_cifar", "top1_error", e, "Table 6", protocol=how) for n, _, e, how, _ in TABLE_6),
    Published("resnet110_cifar", "top1_error", "6.61", "Table 6", protocol="test, mean of 5 runs"),
    *(Published(f"resnet{n}_cifar", "top1_error", e, AKAMASTER, protocol=ALL) for n, *_, e in TABLE_6),
    *(figure for name, one, _, _ in LIBRARIES for figure in _pair(name, "error", one, FB, ONE)),
    *(figure for name, _, ten, _ in LIBRARIES for figure in _pair(name, "error", ten, FB, TEN)),
    *(figure for name, *_, right in LIBRARIES for figure in _pair(name, "accuracy", right, TV_V1, ONE)),
    *(Published(name, "params", params, TV) for name, params, macs, _ in COUNTS if macs),
    *(Published(name, "macs", macs, TV) for name, _, macs, _ in COUNTS if macs),
    *(Published(name, "params", params, OSMR) for name, params, *_ in COUNTS),
    *(Published(name, "macs", half, OSMR, reason=HALVED) for name, *_, half in COUNTS),
    *(
        Published(f"resnet{n}", "field", str(field), RF, layer=f"conv{stage}")
        for n, fields in FIELDS.items()
        for stage, field in enumerate(fields, 2)
    ),
    *(Published(f"resnet{n}", "padding", p, RF, layer="conv5", reason=POOL1) for n, p in PADDINGS.items()),
]
