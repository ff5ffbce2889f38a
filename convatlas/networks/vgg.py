"""Very Deep Convolutional Networks for Large-Scale Image Recognition (Simonyan, Zisserman, 2014).

Nothing but 3x3 convolutions in five blocks, each ended by 2x2 pooling, then three fully connected layers: depth instead
of large kernels. Here are configurations A to E of Table 1 (11 to 19 layers), and the comparison of section 2.3 as two
modules alone: three 3x3 convolutions see as much as one 7x7, with 27C^2 weights instead of 49C^2.

Departures and choices:
- Weights are drawn uniformly by Glorot and Bengio's equation 16, which section 3.1 names as the one that needs no
  pre-training. What the authors did before they knew it, N(0, 0.01) for net A and its layers as the beginning of the
  deeper nets, would need a trained net A; Caffe's files and torchvision draw the last layers from N(0, 0.0001).
- The paper's test slides the network over the whole image; here the fully connected layers take maps of one size, which
  follows from `input`. torchvision averages maps of any size to 7x7 instead, which changes nothing at 224.
- A-LRN, configuration A with local response normalisation, is left out: the paper found it of no use.
- The batch-normalised networks are torchvision's; the paper is older. Their convolutions keep a bias, of no effect.
- The two modules have no biases, as in the paper's count.
"""

from collections.abc import Callable
from functools import partial

from torch import nn

from ..layers import chain
from ..paper import Foreign, Network, Paper, Published, Recipe

PAPER = Paper(
    "Very Deep Convolutional Networks for Large-Scale Image Recognition",
    "Karen Simonyan, Andrew Zisserman",
    2014,
    "https://arxiv.org/abs/1409.1556",
)

# ---- Table 1 --------------------------------------------------------------------------------------------------------

WIDTHS = (64, 128, 256, 512, 512)  # of the five blocks
DEPTHS = {"A": (1, 1, 2, 2, 2), "B": (2, 2, 2, 2, 2), "C": (2, 2, 3, 3, 3), "D": (2, 2, 3, 3, 3), "E": (2, 2, 4, 4, 4)}
HIDDEN = 4096  # units of fc6 and fc7
SMALLEST = 32  # five poolings halve it to 1

# ---- Blocks ---------------------------------------------------------------------------------------------------------


def kernel_of(configuration: str, place: int) -> int:
    """3, but 1 for the third convolution of a block of configuration C."""
    return 1 if configuration == "C" and place == 3 else 3


def convolution(cin: int, cout: int, kernel: int, *, norm: bool = False, bias: bool = True) -> nn.Sequential:
    """A convolution that keeps the size, and ReLU. (N,cin,H,W) -> (N,cout,H,W)"""
    stage = chain(conv=nn.Conv2d(cin, cout, kernel, padding=kernel // 2, bias=bias))
    if norm:
        stage.add_module("bn", nn.BatchNorm2d(cout))
    stage.add_module("relu", nn.ReLU(inplace=True))
    return stage


def fully_connected(cin: int, cout: int) -> nn.Sequential:
    """(N,cin) -> (N,cout)"""
    return chain(linear=nn.Linear(cin, cout), relu=nn.ReLU(inplace=True), dropout=nn.Dropout(0.5))


# ---- The networks ---------------------------------------------------------------------------------------------------


def vgg(
    configuration: str,
    *,
    norm: bool = False,
    classes: int = 1000,
    channels: int = 3,
    input: tuple[int, int] = (224, 224),
) -> nn.Sequential:
    """A configuration of Table 1. (N,channels,*input) -> (N,classes)"""
    layers: dict[str, nn.Module] = {}
    cin = channels
    for block, (width, depth) in enumerate(zip(WIDTHS, DEPTHS[configuration], strict=True), start=1):
        for place in range(1, depth + 1):
            layers[f"conv{block}_{place}"] = convolution(cin, width, kernel_of(configuration, place), norm=norm)
            cin = width
        layers[f"pool{block}"] = nn.MaxPool2d(2)
    height, width = (side // 2 ** len(WIDTHS) for side in input)
    return chain(
        **layers,
        flatten=nn.Flatten(),
        fc6=fully_connected(cin * height * width, HIDDEN),
        fc7=fully_connected(HIDDEN, HIDDEN),
        fc8=nn.Linear(HIDDEN, classes),
    )


def stack(
    kernels: tuple[int, ...], *, classes: int = 0, channels: int = 256, input: tuple[int, int] = (28, 28)
) -> nn.Sequential:
    """Convolutions of one width (section 2.3). (N,channels,H,W) -> (N,channels,H,W)"""
    return chain(**{f"conv{i}": convolution(channels, channels, k, bias=False) for i, k in enumerate(kernels, start=1)})


def initialise(net: nn.Module) -> None:
    """Draws weights uniformly from +-sqrt(6 / (fan_in + fan_out)) and sets biases to 0 (section 3.1, its last word).

    Source: Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks, 2010,
    equation 16.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def torchvision_rules(configuration: str, norm: bool) -> tuple[tuple[str, str], ...]:
    """torchvision numbers all layers of the five blocks in one row, ReLUs and poolings too."""
    rules = [(r"^fc6\.linear", "classifier.0"), (r"^fc7\.linear", "classifier.3"), (r"^fc8", "classifier.6")]
    number = 0
    for block, depth in enumerate(DEPTHS[configuration], start=1):
        for place in range(1, depth + 1):
            rules.append((rf"^conv{block}_{place}\.conv", f"features.{number}"))
            rules.append((rf"^conv{block}_{place}\.bn", f"features.{number + 1}"))
            number += 3 if norm else 2
        number += 1
    return tuple(rules)


def _network(configuration: str, *, norm: bool = False, about: str = "", torchvision: str = "") -> Network:
    build: Callable[..., nn.Module] = partial(vgg, configuration, norm=norm)
    foreign = Foreign("torchvision", torchvision, torchvision_rules(configuration, norm)) if torchvision else None
    return Network(build, initialise, (3, 224, 224), 1000, "vgg", about, SMALLEST, foreign)


def _module(kernels: tuple[int, ...], about: str) -> Network:
    return Network(partial(stack, kernels), initialise, (256, 28, 28), 0, "", about)


ONES = "Configuration C: the third convolution of blocks 3 to 5 is 1x1."
NORM = "With batch normalisation after each convolution, as in torchvision."

NETWORKS = {
    "vgg11": _network("A", torchvision="vgg11"),
    "vgg13": _network("B", torchvision="vgg13"),
    "vgg16_1x1": _network("C", about=ONES),
    "vgg16": _network("D", torchvision="vgg16"),
    "vgg19": _network("E", torchvision="vgg19"),
    "vgg11_bn": _network("A", norm=True, about=NORM, torchvision="vgg11_bn"),
    "vgg13_bn": _network("B", norm=True, about=NORM, torchvision="vgg13_bn"),
    "vgg16_bn": _network("D", norm=True, about=NORM, torchvision="vgg16_bn"),
    "vgg19_bn": _network("E", norm=True, about=NORM, torchvision="vgg19_bn"),
    "three_3x3": _module((3, 3, 3), "Three 3x3 convolutions alone, which together see 7x7 pixels."),
    "one_7x7": _module((7,), "One 7x7 convolution alone, beside the three 3x3 that see as much."),
}

# ---- How they were trained ------------------------------------------------------------------------------------------

RECIPES = {
    # The rate fell three times within 370,000 iterations (74 epochs); how long the accuracy stood still before that the
    # paper does not say. Its networks deeper than A began with A's first four convolutions and three last layers.
    "vgg": Recipe(
        where="section 3.1",
        dataset="ImageNet",
        iterations=370_000,
        batch=256,
        lr=0.01,
        momentum=0.9,
        weight_decay=5e-4,
        schedule="plateau",
        augment=("side 256-512", "pca-colour 0.1", "flip"),
        view="multi-scale 256,384,512",
        assumed=("patience",),
    ),
    # The paper's first networks saw images of one scale; another one had a side of 384.
    "vgg_256": Recipe(
        where="section 3.1",
        dataset="ImageNet",
        iterations=370_000,
        batch=256,
        lr=0.01,
        momentum=0.9,
        weight_decay=5e-4,
        schedule="plateau",
        augment=("side 256-256", "pca-colour 0.1", "flip"),
        view="dense 256",
        assumed=("patience",),
    ),
}

# ---- What was printed -----------------------------------------------------------------------------------------------

DENSE = "validation, dense at one scale, trained at 256"
JITTER = "validation, dense at one scale of 384, trained at 256 to 512"
SCALES = "validation, dense at three scales"
CROPS = "validation, dense at three scales and many crops"
TEN = "validation, 10 crops"
CENTRE = "validation, 1 crop of 224 from 256"
SEVEN = "ensemble of 7 networks, dense"
TWO = "ensemble of 2 networks, D and E, dense at three scales and many crops"
ERRORS = (  # network, top 1, top 5, where, protocol
    ("vgg11", "29.6", "10.4", "Table 3", DENSE),
    ("vgg13", "28.7", "9.9", "Table 3", DENSE),
    ("vgg16_1x1", "28.1", "9.4", "Table 3", DENSE),
    ("vgg16", "27.0", "8.8", "Table 3", DENSE),
    ("vgg19", "27.3", "9.0", "Table 3", DENSE),
    ("vgg16", "25.6", "8.1", "Table 3", JITTER),
    ("vgg19", "25.5", "8.0", "Table 3", JITTER),
    ("vgg16", "24.8", "7.5", "Table 4", SCALES),
    ("vgg19", "24.8", "7.5", "Table 4", SCALES),
    ("vgg16", "24.4", "7.2", "Table 5", CROPS),
    ("vgg19", "24.4", "7.1", "Table 5", CROPS),
    ("vgg19", "24.7", "7.5", "Table 6", f"validation, {SEVEN}"),
    ("vgg19", "23.7", "6.8", "Table 6", f"validation, {TWO}"),
    ("vgg16", "28.5", "9.9", "KaimingHe/deep-residual-networks", CENTRE),
    ("vgg16", "28.07", "9.33", "He et al. 2015, Table 3", TEN),
)
TEST_ERRORS = (  # top 5
    ("vgg19", "7.3", "Table 4", "test, dense at three scales"),
    ("vgg19", "7.0", "Table 7", "test, dense at three scales and many crops"),
    ("vgg19", "7.3", "Table 7", f"test, {SEVEN}"),
    ("vgg19", "6.8", "Table 7", f"test, {TWO}"),
    ("vgg19", "7.32", "Szegedy et al. 2014, Table 2", f"test, {SEVEN}"),
    ("vgg16", "8.70", "Canziani et al. 2016", CENTRE),
)
TORCHVISION = (  # parameters, MACs, accuracies
    ("vgg11", "132863336", "7.609e9", "69.020", "88.628"),
    ("vgg13", "133047848", "11.308e9", "69.928", "89.246"),
    ("vgg16", "138357544", "15.47e9", "71.592", "90.382"),
    ("vgg19", "143667240", "19.632e9", "72.376", "90.876"),
    ("vgg11_bn", "132868840", "7.609e9", "70.370", "89.810"),
    ("vgg13_bn", "133053736", "11.308e9", "71.586", "90.374"),
    ("vgg16_bn", "138365992", "15.47e9", "73.360", "91.516"),
    ("vgg19_bn", "143678248", "19.632e9", "74.218", "91.842"),
)
OSMR = (  # parameters, FLOPs/2
    ("vgg11", "132863336", "7615.87e6"),
    ("vgg13", "133047848", "11317.65e6"),
    ("vgg16", "138357544", "15480.10e6"),
    ("vgg19", "143667240", "19642.55e6"),
    ("vgg11_bn", "132868840", "7630.72e6"),
    ("vgg13_bn", "133053736", "11342.14e6"),
    ("vgg16_bn", "138365992", "15507.20e6"),
    ("vgg19_bn", "143678248", "19672.26e6"),
)
HALVES = "that count adds 1/2 for each ReLU and each pixel under a pooling window, and 2 for each normalised value"
CONVOLUTIONS = "15.35 G are the convolutions alone; the fully connected layers add 0.12 G"
FIELD = "google-research/receptive_field"

PUBLISHED = [
    Published("vgg11", "params", "133e6", "Table 2"),
    Published("vgg13", "params", "133e6", "Table 2"),
    Published("vgg16_1x1", "params", "134e6", "Table 2"),
    Published("vgg16", "params", "138e6", "Table 2"),
    Published("vgg19", "params", "144e6", "Table 2"),
    Published("vgg11", "depth", "11", "Table 1"),
    Published("vgg13", "depth", "13", "Table 1"),
    Published("vgg16_1x1", "depth", "16", "Table 1"),
    Published("vgg16", "depth", "16", "Table 1"),
    Published("vgg19", "depth", "19", "Table 1"),
    Published("three_3x3", "field", "7", "section 2.3"),
    Published("one_7x7", "params", "1.81", "section 2.3", versus="three_3x3"),
    Published("vgg16", "macs", "15.3e9", "He et al. 2015, section 4.1", reason=CONVOLUTIONS),
    Published("vgg19", "macs", "19.6e9", "He et al. 2015, section 4.1"),
    Published("vgg11", "field", "150", FIELD, layer="pool5"),
    Published("vgg11", "stride", "32", FIELD, layer="pool5"),
    Published("vgg11", "padding", "59", FIELD, layer="pool5"),
    Published("vgg16", "field", "212", FIELD, layer="pool5"),
    Published("vgg16", "padding", "90", FIELD, layer="pool5"),
    Published("vgg16", "stride", "32", FIELD, layer="pool5"),
    *(Published(n, "top1_error", one, where, protocol=how) for n, one, _, where, how in ERRORS),
    *(Published(n, "top5_error", five, where, protocol=how) for n, _, five, where, how in ERRORS),
    *(Published(n, "top5_error", five, where, protocol=how) for n, five, where, how in TEST_ERRORS),
    *(
        Published(row[0], metric, figure, "torchvision 0.29, metadata", protocol=CENTRE if "top" in metric else "")
        for row in TORCHVISION
        for metric, figure in zip(("params", "macs", "top1_accuracy", "top5_accuracy"), row[1:], strict=True)
    ),
    *(Published(n, "params", params, "osmr/imgclsmob") for n, params, _ in OSMR),
    *(Published(n, "macs", macs, "osmr/imgclsmob", reason=HALVES) for n, _, macs in OSMR),
    Published("vgg16", "top1_accuracy", "70.62", "szagoruyko/imagenet-validation.torch", protocol=CENTRE),
    Published("vgg19", "top1_accuracy", "70.74", "szagoruyko/imagenet-validation.torch", protocol=CENTRE),
]
