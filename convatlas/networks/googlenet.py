"""Going Deeper with Convolutions (Szegedy et al., 2014).

An Inception module looks at its input through 1x1, 3x3 and 5x5 convolutions and a pooling at once, and 1x1 convolutions
before the large ones keep that cheap. Nine modules with an average pooling in place of large fully connected layers
make GoogLeNet, 22 layers deep. While it trains, two auxiliary classifiers look at 4a and 4d.

Departures and choices:
- What the paper leaves open is as in Caffe's bvlc_googlenet: pooling rounds up; local response normalisation (where the
  paper's Figure 3 has it) over 5 channels with alpha 0.0001, beta 0.75 and k 1; weights from Caffe's "xavier", uniform
  with variance 1/fan_in; biases 0.2, and 0 in front of a softmax.
- The last pooling covers the whole map, whatever its size. An auxiliary classifier pools 5x5 with stride 3; where that
  would leave fewer than 4x4 windows, as with images below 224, its 4x4 windows are spread over the map, so that its
  weights keep their shapes. On larger images its first fully connected layer grows.
- `googlenet_bn` is torchvision's network: batch normalisation (epsilon 0.001) and no biases in place of local response
  normalisation, a 3x3 where the paper has 5x5 (a known slip there), a 2x2 pool4, dropout of 20 % before the classifier.
  Its weights are drawn from a normal distribution of deviation 0.01, as there, but cut off at two deviations; biases
  are 0.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import nn

from ..layers import Concat, WithHeads, chain, conv_bn
from ..paper import Foreign, Network, Paper, Published, Recipe

PAPER = Paper(
    "Going Deeper with Convolutions",
    "Christian Szegedy, Wei Liu, Yangqing Jia, Pierre Sermanet, Scott Reed, Dragomir Anguelov, Dumitru Erhan, "
    "Vincent Vanhoucke, Andrew Rabinovich",
    2014,
    "https://arxiv.org/abs/1409.4842",
)

# ---- Table 1 --------------------------------------------------------------------------------------------------------


class Widths(NamedTuple):
    """Filters of a module, in the order of the table's columns; no reduction or projection where it is None."""

    one: int
    reduce3: int | None
    three: int
    reduce5: int | None
    five: int
    pool_proj: int | None

    def out(self, cin: int) -> int:
        return self.one + self.three + self.five + (self.pool_proj or cin)


MODULES = {
    "3a": Widths(64, 96, 128, 16, 32, 32),
    "3b": Widths(128, 128, 192, 32, 96, 64),
    "4a": Widths(192, 96, 208, 16, 48, 64),
    "4b": Widths(160, 112, 224, 24, 64, 64),
    "4c": Widths(128, 128, 256, 24, 64, 64),
    "4d": Widths(112, 144, 288, 32, 64, 64),
    "4e": Widths(256, 160, 320, 32, 128, 128),
    "5a": Widths(256, 160, 320, 32, 128, 128),
    "5b": Widths(384, 192, 384, 48, 128, 128),
}
HEADS = {"aux1": "inception_4a", "aux2": "inception_4d"}
HEAD_WEIGHT = 0.3
NAIVE = Widths(128, None, 192, None, 96, None)  # Figure 2(a); the lecture's filters
REDUCED = Widths(128, 64, 192, 64, 96, 64)  # Figure 2(b); the lecture's filters

# ---- Blocks ---------------------------------------------------------------------------------------------------------

Convolution = Callable[..., nn.Sequential]  # (cin, cout, kernel, stride=1)


def conv_relu(cin: int, cout: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """(N,cin,H,W) -> (N,cout,H/stride,W/stride), rounded up"""
    return chain(conv=nn.Conv2d(cin, cout, kernel, stride, kernel // 2), relu=nn.ReLU(inplace=True))


def conv_bn_relu(cin: int, cout: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """(N,cin,H,W) -> (N,cout,H/stride,W/stride), rounded up"""
    return chain(**dict(conv_bn(cin, cout, kernel, stride, eps=1e-3).named_children()), relu=nn.ReLU(inplace=True))


def inception(cin: int, widths: Widths, convolution: Convolution = conv_relu, five: int = 5) -> Concat:
    """A module of Figure 2. `five` is the kernel in the place of the 5x5. (N,cin,H,W) -> (N,widths.out(cin),H,W)"""

    def branch(name: str, reduce: int | None, cout: int, kernel: int) -> nn.Sequential:
        if reduce is None:
            return convolution(cin, cout, kernel)
        return chain(**{f"{name}_reduce": convolution(cin, reduce, 1), name: convolution(reduce, cout, kernel)})

    pool = chain(pool=nn.MaxPool2d(3, 1, 1))
    if widths.pool_proj is not None:
        pool.add_module("pool_proj", convolution(cin, widths.pool_proj, 1))
    branches = {
        "1x1": convolution(cin, widths.one, 1),
        "3x3": branch("3x3", widths.reduce3, widths.three, 3),
        "5x5": branch("5x5", widths.reduce5, widths.five, five),
        "pool": pool,
    }
    return Concat(**branches)


def head_pool(size: tuple[int, int], least: int = 4) -> tuple[nn.Module, tuple[int, int]]:
    """The 5x5 average pooling with stride 3 for maps of that size, and the size that it leaves: `least` or more.

    Where it would leave less, its windows are spread so that they are `least` on each axis.
    """
    height, width = (max(0, side - 5) // 3 + 1 for side in size)
    if min(height, width) >= least:
        return nn.AvgPool2d(5, 3), (height, width)
    height, width = max(height, least), max(width, least)
    return nn.AdaptiveAvgPool2d((height, width)), (height, width)


def auxiliary(cin: int, classes: int, convolution: Convolution, pool: nn.Module, size: tuple[int, int]) -> nn.Module:
    """An auxiliary classifier (section 5); `size` is what `pool` leaves. (N,cin,H,W) -> (N,classes)"""
    return chain(
        pool=pool,
        conv=convolution(cin, 128, 1),
        flatten=nn.Flatten(),
        fc1=nn.Linear(128 * size[0] * size[1], 1024),
        relu=nn.ReLU(inplace=True),
        dropout=nn.Dropout(0.7),
        fc2=nn.Linear(1024, classes),
    )


# ---- The networks ---------------------------------------------------------------------------------------------------


def _stem(convolution: Convolution, channels: int, normalise: bool) -> dict[str, nn.Module]:
    """conv1 to pool2. (N,channels,H,W) -> (N,192,H/8,W/8)"""
    return {
        "conv1": convolution(channels, 64, 7, 2),
        "pool1": nn.MaxPool2d(3, 2, ceil_mode=True),
        **({"norm1": nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0)} if normalise else {}),
        "conv2": chain(**{"3x3_reduce": convolution(64, 64, 1), "3x3": convolution(64, 192, 3)}),
        **({"norm2": nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0)} if normalise else {}),
        "pool2": nn.MaxPool2d(3, 2, ceil_mode=True),
    }


def googlenet(
    batch_norm: bool = False, *, classes: int = 1000, channels: int = 3, input: tuple[int, int] = (224, 224)
) -> WithHeads:
    """GoogLeNet of Table 1, or torchvision's. (N,channels,H,W) -> (N,classes), in training with both heads' logits"""
    convolution, five, pool4, dropout = (conv_bn_relu, 3, 2, 0.2) if batch_norm else (conv_relu, 5, 3, 0.4)
    height, width = ((side + 1) // 2 // 8 for side in input)  # of 4a's maps: conv1 rounds up, three poolings down
    modules = _stem(convolution, channels, not batch_norm)
    cin = 192
    for label, widths in MODULES.items():
        modules[f"inception_{label}"] = inception(cin, widths, convolution, five)
        cin = widths.out(cin)
        for head, seen in HEADS.items():
            if seen == f"inception_{label}":
                pool, size = (nn.AdaptiveAvgPool2d(4), (4, 4)) if batch_norm else head_pool((height, width))
                modules[head] = auxiliary(cin, classes, convolution, pool, size)
        if label == "3b":
            modules["pool3"] = nn.MaxPool2d(3, 2, ceil_mode=True)
        elif label == "4e":
            modules["pool4"] = nn.MaxPool2d(pool4, 2, ceil_mode=True)
    modules["pool5"] = nn.AdaptiveAvgPool2d(1)
    modules["flatten"] = nn.Flatten()
    modules["dropout"] = nn.Dropout(dropout)
    modules["linear"] = nn.Linear(cin, classes)
    return WithHeads(modules, HEADS, HEAD_WEIGHT)


def module(
    widths: Widths, *, classes: int = 0, channels: int = 256, input: tuple[int, int] = (28, 28)
) -> nn.Sequential:
    """One module alone: feature maps in, feature maps out. (N,channels,H,W) -> (N,widths.out(channels),H,W)"""
    return inception(channels, widths)


def initialise(net: nn.Module) -> None:
    """Draws weights uniformly with variance 1/fan_in; biases are 0.2, and 0 in front of a softmax.

    That is Caffe's models/bvlc_googlenet/train_val.prototxt; the paper does not say how it drew them.
    """
    for name, layer in net.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="linear")
            if layer.bias is not None:
                nn.init.constant_(layer.bias, 0.0 if name.endswith(("linear", "fc2")) else 0.2)


def initialise_truncated(net: nn.Module, std: float = 0.01) -> None:
    """Draws weights from a normal distribution of that deviation, cut off at two deviations; biases are 0."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(layer.weight, 0.0, std, -2 * std, 2 * std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


TORCHVISION = (
    (r"^conv2\.3x3_reduce\.", "conv2."),
    (r"^conv2\.3x3\.", "conv3."),
    (r"^inception_", "inception"),
    (r"\.1x1\.", ".branch1."),
    (r"\.3x3\.3x3_reduce\.", ".branch2.0."),
    (r"\.3x3\.3x3\.", ".branch2.1."),
    (r"\.5x5\.5x5_reduce\.", ".branch3.0."),
    (r"\.5x5\.5x5\.", ".branch3.1."),
    (r"\.pool\.pool_proj\.", ".branch4.1."),
    (r"^linear\.", "fc."),
)

IMAGE, MAPS = (3, 224, 224), (256, 28, 28)
BN = "torchvision's: batch normalisation, no biases, 3x3 in place of 5x5, a 2x2 pool4."
FIGURE_2A = "A module alone, naive, as in Figure 2(a), with the lecture's numbers of filters."
FIGURE_2B = "A module alone, with dimension reductions, as in Figure 2(b), with the lecture's numbers of filters."

# The smallest image leaves pool4 a map as large as its window needs: 2x2 for 3x3 rounded up, 1x1 for 2x2.
NETWORKS = {
    "googlenet": Network(googlenet, initialise, IMAGE, 1000, "googlenet", smallest=31),
    "googlenet_bn": Network(
        partial(googlenet, True),
        initialise_truncated,
        IMAGE,
        1000,
        "googlenet",
        BN,
        smallest=15,
        foreign=Foreign("torchvision", "googlenet", TORCHVISION),
    ),
    "inception_naive": Network(partial(module, NAIVE), initialise, MAPS, 0, "", FIGURE_2A),
    "inception_reduced": Network(partial(module, REDUCED), initialise, MAPS, 0, "", FIGURE_2B),
}

# ---- How it was trained ---------------------------------------------------------------------------------------------

RECIPES = {
    # The paper gives momentum, the rate's fall by 4 % every 8 epochs, averaged weights and the sampled areas; the rest
    # is the solver of Caffe's bvlc_googlenet, whose 10 million iterations of 32 images are 250 epochs. Colours change
    # as in Howard (2013, arXiv:1312.5402), whom the paper names. Left out: asynchronous updates, random interpolation.
    "googlenet": Recipe(
        where="section 6",
        dataset="ImageNet",
        epochs=250,
        batch=32,
        lr=0.01,
        momentum=0.9,
        weight_decay=2e-4,
        schedule="exponential",
        factor=0.96,
        every=8,
        head_weight=0.3,
        average=0.9999,
        augment=("area 0.08-1", "colour 0.5", "flip"),
        assumed=("epochs", "batch", "lr", "weight_decay", "average", "augment"),
    ),
    "bvlc_googlenet": Recipe(
        where="Caffe's models/bvlc_googlenet/solver.prototxt",
        dataset="ImageNet",
        iterations=10_000_000,
        batch=32,
        lr=0.01,
        momentum=0.9,
        weight_decay=2e-4,
        decayed="weights",
        bias_lr=2.0,
        schedule="exponential",
        factor=0.96,
        every=320_000,
        head_weight=0.3,
        augment=("side 256-256", "flip"),
    ),
    "bvlc_googlenet_quick": Recipe(
        where="Caffe's models/bvlc_googlenet/quick_solver.prototxt",
        dataset="ImageNet",
        iterations=2_400_000,
        batch=32,
        lr=0.01,
        momentum=0.9,
        weight_decay=2e-4,
        decayed="weights",
        bias_lr=2.0,
        schedule="polynomial",
        power=0.5,
        head_weight=0.3,
        augment=("side 256-256", "flip"),
    ),
}

# ---- What was printed -----------------------------------------------------------------------------------------------

# Table 1 counts weights without biases in K of 1,024, as its rows conv2 and linear show, and operations in millions.
KILO = "the paper leaves out biases and its K is 1,024, as the rows of conv2 and linear show: {} K here"
SLIP = KILO + "; the row's own operations fit that and not its parameters"
OTHER = KILO + "; the row's operations fit its parameters, so it was counted for other filters than it lists"
REST = KILO + "; the rest is not explained"
SEPARABLE = (
    "a 7x7 on 3 channels has 9.4 K weights and 118 M; 2.7 K at 112x112 places are the row's 34 M, as of a smaller "
    "layer: a separable 7x7 with 8 maps a channel, which TF-slim's inception_v2 begins with, has 2,712 weights"
)
COUNTED = "{} M by our count; the row's {} K of 1,024 weights at its places are {} M"
# layer, output, and where the row has them: params, why ours differ, ops, why ours differ
TABLE_1 = (
    ("conv1", "112x112x64", "2.7e3", SEPARABLE, "34e6", SEPARABLE),
    ("pool1", "56x56x64", "", "", "", ""),
    ("conv2", "56x56x192", "112e3", KILO.format("112"), "360e6", ""),
    ("pool2", "28x28x192", "", "", "", ""),
    ("inception_3a", "28x28x256", "159e3", KILO.format("159.5"), "128e6", ""),
    ("inception_3b", "28x28x480", "380e3", SLIP.format("379.0"), "304e6", ""),
    ("pool3", "14x14x480", "", "", "", ""),
    ("inception_4a", "14x14x512", "364e3", OTHER.format("366.8"), "73e6", COUNTED.format("73.6", "364", "73.1")),
    ("inception_4b", "14x14x512", "437e3", REST.format("438.0"), "88e6", ""),
    ("inception_4c", "14x14x512", "463e3", SLIP.format("497.5"), "100e6", ""),
    ("inception_4d", "14x14x528", "580e3", SLIP.format("590.5"), "119e6", ""),
    ("inception_4e", "14x14x832", "840e3", SLIP.format("847.0"), "170e6", ""),
    ("pool4", "7x7x832", "", "", "", ""),
    ("inception_5a", "7x7x832", "1072e3", OTHER.format("1,018"), "54e6", COUNTED.format("51.1", "1,072", "53.8")),
    ("inception_5b", "7x7x1024", "1388e3", SLIP.format("1,409"), "71e6", ""),
    ("pool5", "1x1x1024", "", "", "", ""),
    ("linear", "", "1000e3", KILO.format("1,000"), "1e6", ""),
)

BUDGET = "1.583 G by our count; Table 1 sums to 1.502 G, since it gives conv1 34 M in place of 118 M"
TWELVE = "8.7 by our count; 12 is 60 M over 5 M, as the authors' next paper (arXiv:1512.00567) writes it"
CAFFE, VISION = "BVLC/caffe, models/bvlc_googlenet", "torchvision 0.29, metadata"
CENTRE = "validation, 1 crop of 224 from 256"

PUBLISHED = [
    *(Published("googlenet", "output", size, "Table 1", layer=layer) for layer, size, *_ in TABLE_1 if size),
    *(Published("googlenet", "params", n, "Table 1", layer=at, reason=why) for at, _, n, why, *_ in TABLE_1 if n),
    *(Published("googlenet", "macs", n, "Table 1", layer=at, reason=why) for at, *_, n, why in TABLE_1 if n),
    Published("googlenet", "macs", "1.5e9", "section 1", reason=BUDGET),
    Published("alexnet", "params", "12", "section 1", versus="googlenet", reason=TWELVE),
    Published("googlenet", "depth", "22", "section 5"),
    Published(
        "googlenet",
        "statement",
        "27 layers if pooling is counted",
        "section 5",
        reason="22 with parameters, and five poolings outside the modules",
    ),
    Published("googlenet", "top5_error", "10.07", "Table 3", protocol="validation, 1 network, 1 crop"),
    Published("googlenet", "top5_error", "9.15", "Table 3", protocol="validation, 1 network, 10 crops"),
    Published("googlenet", "top5_error", "7.89", "Table 3", protocol="validation, 1 network, 144 crops"),
    Published("googlenet", "top5_error", "8.09", "Table 3", protocol="validation, 7 networks, 1 crop"),
    Published("googlenet", "top5_error", "7.62", "Table 3", protocol="validation, 7 networks, 10 crops"),
    Published("googlenet", "top5_error", "6.67", "Table 3", protocol="validation, 7 networks, 144 crops"),
    Published("googlenet", "top5_error", "6.67", "Table 2", protocol="test, 7 networks, 144 crops"),
    Published("googlenet", "top1_error", "31.3", CAFFE, protocol=CENTRE),
    Published("googlenet", "top5_error", "11.1", CAFFE, protocol=CENTRE),
    Published("googlenet_bn", "params", "6624904", VISION),
    Published("googlenet_bn", "macs", "1.498e9", VISION),
    Published("googlenet_bn", "top1_accuracy", "69.778", VISION, protocol=CENTRE),
    Published("googlenet_bn", "top5_accuracy", "89.530", VISION, protocol=CENTRE),
]
