"""Identity Mappings in Deep Residual Networks (He, Zhang, Ren, Sun, 2016).

Normalisation and ReLU go before each convolution, so that nothing but additions lies on the way from one unit to the
next and signals pass it unchanged in both directions. A network of 1001 layers then trains well. A unit is
y = x + F(a(x)), where a is normalisation and ReLU; after the last unit a is applied once more.

Departures and choices:
- Where the shape changes, the shortcut is a bare 1x1 convolution of a(x): the unit activates before its paths split, as
  in the authors' Torch code. `preresnet110_cifar` has the 2015 paper's option A there: every second pixel, zeros for
  the new channels. Its first unit activates before the split too, as the appendix says of the unit after conv1.
- On ImageNet, conv1 is followed by normalisation, ReLU and pooling, and the first unit activates once more, as in
  osmr/imgclsmob; the appendix can also be read as leaving that second activation out.
- A bottleneck strides in its 3x3 on ImageNet, as fb.resnet.torch's does, which published the network of 200 layers, and
  in its first 1x1 on CIFAR-10, as the authors' Torch code of the networks of 164 and 1001 layers does.
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from ..layers import chain, conv_bn, initialise_he
from ..paper import Network, Paper, Published, Recipe
from .resnet import CIFAR_WIDTHS, WIDTHS, Body, Shortcut, option_a
from .resnet import DEPTHS as UP_TO_152

PAPER = Paper(
    "Identity Mappings in Deep Residual Networks",
    "Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun",
    2016,
    "https://arxiv.org/abs/1603.05027",
)

# ---- The 2015 paper's Table 1, and 200 layers: 16 more units than with 152, on the maps of 28x28 ---------------------

DEPTHS = UP_TO_152 | {200: (3, 24, 36, 3)}

# ---- Units ----------------------------------------------------------------------------------------------------------


def convolution(cin: int, cout: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Padded to keep the size at stride 1, without bias. (N,cin,H,W) -> (N,cout,H/stride,W/stride)"""
    return nn.Conv2d(cin, cout, kernel, stride, kernel // 2, bias=False)


def activation(channels: int) -> nn.Sequential:
    """Batch normalisation and ReLU, of the same shape."""
    return chain(bn=nn.BatchNorm2d(channels), relu=nn.ReLU(inplace=True))


def basic(cin: int, width: int, stride: int) -> tuple[nn.Sequential, int]:
    """Two 3x3, after the unit's own activation. (N,cin,H,W) -> (N,width,H/stride,W/stride)"""
    body = chain(
        conv1=convolution(cin, width, 3, stride),
        act2=activation(width),
        conv2=convolution(width, width, 3),
    )
    return body, width


def bottleneck(cin: int, width: int, stride: int, stride_in_3x3: bool = True) -> tuple[nn.Sequential, int]:
    """1x1, 3x3, 1x1 up to four times the width. (N,cin,H,W) -> (N,4*width,H/stride,W/stride)"""
    first, second = (1, stride) if stride_in_3x3 else (stride, 1)
    body = chain(
        conv1=convolution(cin, width, 1, first),
        act2=activation(width),
        conv2=convolution(width, width, 3, second),
        act3=activation(width),
        conv3=convolution(width, 4 * width, 1),
    )
    return body, 4 * width


bottleneck_1x1 = partial(bottleneck, stride_in_3x3=False)


def projection(cin: int, cout: int, stride: int) -> nn.Module:
    return nn.Identity() if stride == 1 and cin == cout else convolution(cin, cout, 1, stride)


class Unit(nn.Module):
    """body(a(x)) + shortcut(x), or + shortcut(a(x)) where both paths share the activation."""

    def __init__(self, cin: int, body: nn.Module, shortcut: nn.Module, shared: bool):
        super().__init__()
        self.act1 = activation(cin)
        self.body = body
        self.shortcut = shortcut
        self.shared = shared

    def forward(self, x: Tensor) -> Tensor:
        a = self.act1(x)
        return self.body(a) + self.shortcut(a if self.shared else x)


# ---- The networks ---------------------------------------------------------------------------------------------------


def stages(
    cin: int, widths: tuple[int, ...], depths: tuple[int, ...], body: Body, shortcut: Shortcut = projection
) -> tuple[dict[str, nn.Module], int]:
    """conv2, conv3, ... with their units numbered from 1, and the last one's channels.

    Each stage but the first halves the maps in its first unit.
    """
    out: dict[str, nn.Module] = {}
    for s, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        units = {}
        for u in range(depth):
            stride = 2 if s > 0 and u == 0 else 1
            residual, cout = body(cin, width, stride)
            path = shortcut(cin, cout, stride)
            units[str(u + 1)] = Unit(cin, residual, path, shared=not isinstance(path, nn.Identity))
            cin = cout
        out[f"conv{s + 2}"] = chain(**units)
    return out, cin


def preresnet(
    depth: int,
    body: Body,
    *,
    classes: int = 1000,
    channels: int = 3,
    input: tuple[int, int] = (224, 224),
) -> nn.Sequential:
    """An ImageNet network, for images of any size. (N,channels,H,W) -> (N,classes)"""
    convs, cout = stages(64, WIDTHS, DEPTHS[depth], body)
    return chain(
        conv1=conv_bn(channels, 64, 7, 2),
        relu1=nn.ReLU(inplace=True),
        pool1=nn.MaxPool2d(3, 2, 1),
        **convs,
        act5=activation(cout),
        pool5=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        fc=nn.Linear(cout, classes),
    )


def cifar(
    widths: tuple[int, ...],
    units: int,
    body: Body,
    shortcut: Shortcut = projection,
    *,
    classes: int = 10,
    channels: int = 3,
    input: tuple[int, int] = (32, 32),
) -> nn.Sequential:
    """Three stages of that many units and those widths, for images of any size. (N,channels,H,W) -> (N,classes)"""
    convs, cout = stages(16, widths, (units, units, units), body, shortcut)
    first = convs["conv2"].get_submodule("1")
    assert isinstance(first, Unit)
    first.shared = True  # "right after conv1 and before splitting into two paths" (appendix)
    return chain(
        conv1=convolution(channels, 16, 3),
        **convs,
        act4=activation(cout),
        pool4=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        fc=nn.Linear(cout, classes),
    )


def _imagenet(build: Callable[..., nn.Module]) -> Network:
    return Network(build, initialise_he, (3, 224, 224), 1000, "preresnet")


def _cifar(build: Callable[..., nn.Module]) -> Network:
    return Network(build, initialise_he, (3, 32, 32), 10, "preresnet_cifar")


NETWORKS = {
    "preresnet18": _imagenet(partial(preresnet, 18, basic)),
    "preresnet34": _imagenet(partial(preresnet, 34, basic)),
    "preresnet50": _imagenet(partial(preresnet, 50, bottleneck)),
    "preresnet101": _imagenet(partial(preresnet, 101, bottleneck)),
    "preresnet152": _imagenet(partial(preresnet, 152, bottleneck)),
    "preresnet200": _imagenet(partial(preresnet, 200, bottleneck)),
    "preresnet110_cifar": _cifar(partial(cifar, CIFAR_WIDTHS, 18, basic, option_a)),
    "preresnet164_cifar": _cifar(partial(cifar, CIFAR_WIDTHS, 18, bottleneck_1x1)),
    "preresnet1001_cifar": _cifar(partial(cifar, CIFAR_WIDTHS, 111, bottleneck_1x1)),
}

# ---- How they were trained ------------------------------------------------------------------------------------------

RECIPES = {
    # The appendix gives the drops and no end. Augmentation is the 2015 paper's.
    "preresnet": Recipe(
        where="appendix",
        dataset="ImageNet",
        epochs=90,
        batch=256,
        lr=0.1,
        momentum=0.9,
        weight_decay=1e-4,
        schedule="steps",
        drops=(30, 60),
        augment=("side 256-480", "pca-colour 0.1", "flip"),
        assumed=("epochs",),
    ),
    # The paper remarks that its units do not need the warm-up.
    "preresnet_cifar": Recipe(
        where="appendix",
        dataset="CIFAR-10",
        iterations=64_000,
        batch=128,
        lr=0.1,
        momentum=0.9,
        weight_decay=1e-4,
        schedule="steps",
        drops=(32_000, 48_000),
        warm_up=400,
        warm_up_lr=0.01,
        augment=("pad-crop 4", "flip"),
        crop=1.0,
        assumed=("iterations", "validation"),
    ),
}

# ---- What was printed -----------------------------------------------------------------------------------------------

MEDIAN = "test, median of 5 runs"
MEDIAN_100 = "test on CIFAR-100, median of 5 runs"
WIDE = "validation, 1 crop of 320 from 320"
ASPECT = f"{WIDE}, trained with scale and aspect ratio augmentation"
ONE, TEN = "validation, 1 crop of 224 from 256", "validation, 10 crops"
FB, OSMR = "facebookarchive/fb.resnet.torch", "osmr/imgclsmob"
WEIGHTS_ALONE = "10.33 M with the parameters of the normalisation; the weights alone are 10.18 M"
HALVED = "osmr halves a count of operations that holds normalisation, activations and pooling too"

COUNTS = (  # network, parameters, half the operations by osmr
    ("preresnet18", "11687848", "1820.56e6"),
    ("preresnet34", "21796008", "3672.83e6"),
    ("preresnet50", "25549480", "4107.97e6"),
    ("preresnet101", "44541608", "7827.97e6"),
    ("preresnet152", "60185256", "11551.87e6"),
    ("preresnet200", "64666280", "15068.63e6"),
    ("preresnet164_cifar", "1703258", "255.08e6"),
    ("preresnet1001_cifar", "10327706", "1536.18e6"),
)

PUBLISHED = [
    Published("preresnet110_cifar", "depth", "110", "Table 3"),
    Published("preresnet164_cifar", "depth", "164", "Table 3"),
    Published("preresnet1001_cifar", "depth", "1001", "Table 3"),
    Published("preresnet152", "depth", "152", "Table 5"),
    Published("preresnet200", "depth", "200", "Table 5"),
    Published("preresnet164_cifar", "params", "1.7e6", "Table 4"),
    Published("preresnet1001_cifar", "params", "10.2e6", "Table 4", reason=WEIGHTS_ALONE),
    Published("preresnet110_cifar", "top1_error", "6.37", "Table 3", protocol=MEDIAN),
    Published("preresnet164_cifar", "top1_error", "5.46", "Table 3", protocol=MEDIAN),
    Published("preresnet1001_cifar", "top1_error", "4.92", "Table 3", protocol=MEDIAN),
    Published("preresnet1001_cifar", "top1_error", "4.89", "Table 4", protocol="test, mean of 5 runs"),
    Published("preresnet1001_cifar", "top1_error", "4.62", "Table 4", protocol=f"{MEDIAN}, batches of 64"),
    Published("preresnet1001_cifar", "top1_error", "4.69", "Table 4", protocol="test, mean of 5 runs, batches of 64"),
    Published("preresnet164_cifar", "top1_error", "24.33", "Table 3", protocol=MEDIAN_100),
    Published("preresnet1001_cifar", "top1_error", "22.71", "Table 3", protocol=MEDIAN_100),
    Published("preresnet1001_cifar", "top1_error", "22.68", "Table 4", protocol="test on CIFAR-100, mean of 5 runs"),
    Published("resnet110_cifar", "top1_error", "6.61", "Table 3", protocol=MEDIAN),
    Published("preresnet152", "top1_error", "21.1", "Table 5", protocol=WIDE),
    Published("preresnet152", "top5_error", "5.5", "Table 5", protocol=WIDE),
    Published("preresnet200", "top1_error", "20.7", "Table 5", protocol=WIDE),
    Published("preresnet200", "top5_error", "5.3", "Table 5", protocol=WIDE),
    Published("preresnet200", "top1_error", "20.1", "Table 5", protocol=ASPECT),
    Published("preresnet200", "top5_error", "4.8", "Table 5", protocol=ASPECT),
    Published("resnet152", "top1_error", "21.3", "Table 5", protocol=WIDE),
    Published("resnet152", "top5_error", "5.5", "Table 5", protocol=WIDE),
    Published("preresnet200", "top1_error", "21.66", FB, protocol=ONE),
    Published("preresnet200", "top5_error", "5.79", FB, protocol=ONE),
    Published("preresnet200", "top1_error", "20.15", FB, protocol=TEN),
    Published("preresnet200", "top5_error", "4.93", FB, protocol=TEN),
    *(Published(network, "params", params, OSMR) for network, params, _ in COUNTS),
    *(
        Published(name, "macs", half, OSMR, reason=f"{HALVED}, and strides in the 3x3" if "_cifar" in name else HALVED)
        for name, _, half in COUNTS
    ),
]
