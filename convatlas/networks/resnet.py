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
from functools import partial

from torch import Tensor, nn

from ..layers import chain, conv_bn, initialise_he
from ..paper import Network, Paper, Published, Recipe

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


def bottleneck(cin: int, width: int, stride: int, stride_in_3x3: bool = False) -> tuple[nn.Sequential, int]:
    """1x1 down, 3x3, 1x1 up to four times the width (Figure 5, right). (N,cin,H,W) -> (N,4*width,H/stride,W/stride)"""
    first, second = (1, stride) if stride_in_3x3 else (stride, 1)
    body = chain(
        conv1=conv_bn(cin, width, 1, first),
        relu1=nn.ReLU(inplace=True),
        conv2=conv_bn(width, width, 3, second),
        relu2=nn.ReLU(inplace=True),
        conv3=conv_bn(width, 4 * width, 1),
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
    net = chain(
        conv1=conv_bn(channels, 64, 7, 2),
        relu1=nn.ReLU(inplace=True),
        pool1=nn.MaxPool2d(3, 2, 1),
        **convs,
        pool5=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        fc=nn.Linear(cout, classes),
    )
    initialise_he(net)
    return net


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
    net = chain(
        conv1=conv_bn(channels, 16, 3),
        relu1=nn.ReLU(inplace=True),
        **convs,
        pool4=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        fc=nn.Linear(cout, classes),
    )
    initialise_he(net)
    return net


def _imagenet(build: Callable[..., nn.Module], about: str = "") -> Network:
    return Network(build, (3, 224, 224), 1000, "resnet", about)


def _cifar(build: Callable[..., nn.Module], about: str = "") -> Network:
    return Network(build, (3, 32, 32), 10, "resnet_cifar", about)


V15 = "Stride in the 3x3 of a bottleneck, as in torchvision."
A = "Option A shortcuts: every second pixel, zeros for the new channels."
B = "Option B shortcuts: projections where the shape changes."
C = "Option C shortcuts: projections everywhere."
PLAIN = "The same layers without shortcuts."

NETWORKS = {
    "resnet18": _imagenet(partial(resnet, 18, basic)),
    "resnet34": _imagenet(partial(resnet, 34, basic)),
    "resnet50": _imagenet(partial(resnet, 50, bottleneck)),
    "resnet101": _imagenet(partial(resnet, 101, bottleneck)),
    "resnet152": _imagenet(partial(resnet, 152, bottleneck)),
    "resnet50_v15": _imagenet(partial(resnet, 50, bottleneck_v15), V15),
    "resnet101_v15": _imagenet(partial(resnet, 101, bottleneck_v15), V15),
    "resnet152_v15": _imagenet(partial(resnet, 152, bottleneck_v15), V15),
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
    "resnet110_cifar": _cifar(partial(resnet_cifar, 110)),
    "resnet1202_cifar": _cifar(partial(resnet_cifar, 1202)),
    "resnet20_cifar_b": _cifar(partial(resnet_cifar, 20, option_b), B),
    "resnet56_cifar_b": _cifar(partial(resnet_cifar, 56, option_b), B),
    "resnet110_cifar_b": _cifar(partial(resnet_cifar, 110, option_b), B),
    "resnet1202_cifar_b": _cifar(partial(resnet_cifar, 1202, option_b), B),
    "plain20_cifar": _cifar(partial(resnet_cifar, 20, None), PLAIN),
    "plain32_cifar": _cifar(partial(resnet_cifar, 32, None), PLAIN),
    "plain44_cifar": _cifar(partial(resnet_cifar, 44, None), PLAIN),
    "plain56_cifar": _cifar(partial(resnet_cifar, 56, None), PLAIN),
    "plain110_cifar": _cifar(partial(resnet_cifar, 110, None), PLAIN),
}

# ---- How they were trained ------------------------------------------------------------------------------------------

RECIPES = {
    # The paper adds AlexNet's colour augmentation, which is left out here; it does not say how long an error must stand
    # still before the rate falls.
    "resnet": Recipe(
        where="section 3.4",
        dataset="ImageNet",
        iterations=600_000,
        batch=256,
        lr=0.1,
        momentum=0.9,
        weight_decay=1e-4,
        schedule="plateau",
        augment=("side 256-480", "flip"),
        assumed=("augment", "patience"),
    ),
    # With 110 layers the paper starts at a rate of 0.01 until the training error is below 80 % (about 400 iterations).
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

# ---- What was printed -----------------------------------------------------------------------------------------------

TEN = "validation, 10 crops"
MANY = "validation, fully convolutional at several scales"
ONE = "validation, 1 crop of 224 from 256"
ENSEMBLE = "test, ensemble of 6 networks, two of 152 layers"
AUTHORS = "the authors' released models"
CUT_50 = "3.858 G by our count: the authors cut the figure instead of rounding it"
CUT_34 = "3.664 G by our count: the authors cut the figure, or counted option A, which is 3.644 G"

PUBLISHED = [
    Published("resnet18", "macs", "1.8e9", "Table 1"),
    Published("resnet34", "macs", "3.6e9", "Table 1", reason=CUT_34),
    Published("resnet50", "macs", "3.8e9", "Table 1", reason=CUT_50),
    Published("resnet101", "macs", "7.6e9", "Table 1"),
    Published("resnet152", "macs", "11.3e9", "Table 1"),
    Published("plain34", "macs", "3.6e9", "Figure 3"),
    Published("resnet20_cifar", "params", "0.27e6", "Table 6"),
    Published("resnet32_cifar", "params", "0.46e6", "Table 6"),
    Published("resnet44_cifar", "params", "0.66e6", "Table 6"),
    Published("resnet56_cifar", "params", "0.85e6", "Table 6"),
    Published("resnet110_cifar", "params", "1.7e6", "Table 6"),
    Published("resnet1202_cifar", "params", "19.4e6", "Table 6"),
    Published("plain18", "top1_error", "27.94", "Table 2", protocol=TEN),
    Published("resnet18_a", "top1_error", "27.88", "Table 2", protocol=TEN),
    Published("plain34", "top1_error", "28.54", "Table 3", protocol=TEN),
    Published("plain34", "top5_error", "10.02", "Table 3", protocol=TEN),
    Published("resnet34_a", "top1_error", "25.03", "Table 3", protocol=TEN),
    Published("resnet34_a", "top5_error", "7.76", "Table 3", protocol=TEN),
    Published("resnet34", "top1_error", "24.52", "Table 3", protocol=TEN),
    Published("resnet34", "top5_error", "7.46", "Table 3", protocol=TEN),
    Published("resnet34_c", "top1_error", "24.19", "Table 3", protocol=TEN),
    Published("resnet34_c", "top5_error", "7.40", "Table 3", protocol=TEN),
    Published("resnet50", "top1_error", "22.85", "Table 3", protocol=TEN),
    Published("resnet50", "top5_error", "6.71", "Table 3", protocol=TEN),
    Published("resnet101", "top1_error", "21.75", "Table 3", protocol=TEN),
    Published("resnet101", "top5_error", "6.05", "Table 3", protocol=TEN),
    Published("resnet152", "top1_error", "21.43", "Table 3", protocol=TEN),
    Published("resnet152", "top5_error", "5.71", "Table 3", protocol=TEN),
    Published("resnet34", "top1_error", "21.84", "Table 4", protocol=MANY),
    Published("resnet34", "top5_error", "5.71", "Table 4", protocol=MANY),
    Published("resnet34_c", "top1_error", "21.53", "Table 4", protocol=MANY),
    Published("resnet34_c", "top5_error", "5.60", "Table 4", protocol=MANY),
    Published("resnet50", "top1_error", "20.74", "Table 4", protocol=MANY),
    Published("resnet50", "top5_error", "5.25", "Table 4", protocol=MANY),
    Published("resnet101", "top1_error", "19.87", "Table 4", protocol=MANY),
    Published("resnet101", "top5_error", "4.60", "Table 4", protocol=MANY),
    Published("resnet152", "top1_error", "19.38", "Table 4", protocol=MANY),
    Published("resnet152", "top5_error", "4.49", "Table 4", protocol=MANY),
    Published("resnet152", "top5_error", "3.57", "Table 5", protocol=ENSEMBLE),
    Published("resnet50", "top1_error", "24.7", AUTHORS, protocol=ONE),
    Published("resnet50", "top5_error", "7.8", AUTHORS, protocol=ONE),
    Published("resnet101", "top1_error", "23.6", AUTHORS, protocol=ONE),
    Published("resnet101", "top5_error", "7.1", AUTHORS, protocol=ONE),
    Published("resnet152", "top1_error", "23.0", AUTHORS, protocol=ONE),
    Published("resnet152", "top5_error", "6.7", AUTHORS, protocol=ONE),
    Published("resnet20_cifar", "top1_error", "8.75", "Table 6", protocol="test"),
    Published("resnet32_cifar", "top1_error", "7.51", "Table 6", protocol="test"),
    Published("resnet44_cifar", "top1_error", "7.17", "Table 6", protocol="test"),
    Published("resnet56_cifar", "top1_error", "6.97", "Table 6", protocol="test"),
    Published("resnet110_cifar", "top1_error", "6.43", "Table 6", protocol="test, best of 5 runs"),
    Published("resnet110_cifar", "top1_error", "6.61", "Table 6", protocol="test, mean of 5 runs"),
    Published("resnet1202_cifar", "top1_error", "7.93", "Table 6", protocol="test"),
    Published("resnet152", "top5_error", "3.57", "lecture notes", protocol=ENSEMBLE),
    Published("resnet152", "top5_error", "3.6", "lecture notes", protocol=ENSEMBLE),
]
