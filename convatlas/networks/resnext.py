"""Aggregated Residual Transformations for Deep Neural Networks (Xie, Girshick, Dollár, Tu, He, 2016).

A block adds up C transformations of one shape, each a bottleneck of d maps: at equal cost, more and thinner ones
(a higher cardinality C) do better than fewer and wider ones. That is a bottleneck whose 3x3 has C groups of d maps each
(Figure 3c), which is how the authors built it and how it stands here; C x d is the template on 256 maps.

Departures and choices:
- `resnext101_32x8d` is not in the paper: its authors published it later, trained on other images (Mahajan et al., 2018,
  arXiv:1805.00932), and torchvision has it for ImageNet alone.
- The networks for CIFAR-10 have the ReLU after the addition, as in the released code; its README says that the paper's
  first version activated before the convolutions and did worse.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal

from torch import nn

from ..layers import chain, conv_bn, initialise_he
from ..paper import Foreign, Network, Paper, Published, Recipe
from .resnet import TORCHVISION, Body, bottleneck_v15, option_b, resnet, stages

PAPER = Paper(
    "Aggregated Residual Transformations for Deep Neural Networks",
    "Saining Xie, Ross Girshick, Piotr Dollár, Zhuowen Tu, Kaiming He",
    2016,
    "https://arxiv.org/abs/1611.05431",
)

# ---- The template of section 5.3: [1x1, 64; 3x3, 64; 1x1, 256] ------------------------------------------------------

TEMPLATE = 64  # maps inside a bottleneck of ResNet-50's first stage, C = 1
CIFAR_WIDTHS = (64, 128, 256)  # of the maps of 32x32, 16x16 and 8x8 pixels, before x4

# ---- The block ------------------------------------------------------------------------------------------------------


def aggregated(cardinality: int, d: int) -> Body:
    """A bottleneck with `cardinality` groups in its 3x3, of d maps each in the first stage (Table 1, right)."""
    return partial(bottleneck_v15, wider=cardinality * d // TEMPLATE, groups=cardinality)


# ---- The networks ---------------------------------------------------------------------------------------------------


def resnext_cifar(
    body: Body, *, classes: int = 10, channels: int = 3, input: tuple[int, int] = (32, 32)
) -> nn.Sequential:
    """The network of 29 layers of section 5.3, for images of any size. (N,channels,H,W) -> (N,classes)"""
    convs, cout = stages(64, CIFAR_WIDTHS, (3, 3, 3), body, option_b)
    return chain(
        conv1=conv_bn(channels, 64, 3),
        relu1=nn.ReLU(inplace=True),
        **convs,
        pool4=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        fc=nn.Linear(cout, classes),
    )


def _imagenet(
    build: Callable[..., nn.Module], library: Literal["torchvision", "timm"], name: str, about: str = ""
) -> Network:
    foreign = Foreign(library, name, TORCHVISION)
    return Network(build, initialise_he, (3, 224, 224), 1000, "resnext", about, foreign=foreign)


def _cifar(cardinality: int, d: int) -> Network:
    build = partial(resnext_cifar, aggregated(cardinality, d))
    return Network(build, initialise_he, (3, 32, 32), 10, "resnext_cifar")


LATER = "Cardinality 32 and width 8, which the authors published after the paper."

NETWORKS = {
    "resnext50_32x4d": _imagenet(partial(resnet, 50, aggregated(32, 4)), "torchvision", "resnext50_32x4d"),
    "resnext101_32x4d": _imagenet(partial(resnet, 101, aggregated(32, 4)), "timm", "resnext101_32x4d"),
    "resnext101_64x4d": _imagenet(partial(resnet, 101, aggregated(64, 4)), "torchvision", "resnext101_64x4d"),
    "resnext101_32x8d": _imagenet(partial(resnet, 101, aggregated(32, 8)), "torchvision", "resnext101_32x8d", LATER),
    "resnext29_8x64d_cifar": _cifar(8, 64),
    "resnext29_16x64d_cifar": _cifar(16, 64),
}

# ---- How they were trained ------------------------------------------------------------------------------------------

FB = Recipe(
    where="facebookarchive/fb.resnet.torch",
    dataset="ImageNet",
    epochs=90,
    batch=256,
    optimiser="nesterov",
    lr=0.1,
    momentum=0.9,
    weight_decay=1e-4,
    schedule="steps",
    drops=(30, 60),
    augment=("area 0.08-1", "colour 0.4", "pca-colour 0.1", "flip"),
)
CIFAR = Recipe(
    where="appendix A and the authors' code",
    dataset="CIFAR-10",
    epochs=300,
    batch=128,
    optimiser="nesterov",
    lr=0.1,
    momentum=0.9,
    weight_decay=5e-4,
    schedule="steps",
    drops=(150, 225),
    augment=("pad-crop 4", "flip"),
    crop=1.0,
    assumed=("validation",),  # nothing is held out there
)
RECIPES = {
    # The authors' code is built on fb.resnet.torch, whose rate falls every 30 epochs; the paper gives no end.
    "resnext": replace(
        FB, where="section 4 and the authors' code", epochs=100, drops=(30, 60, 90), assumed=("epochs",)
    ),
    "resnext_cifar": CIFAR,
    # The training code of ResNets with which most networks after the paper were trained.
    "fb_resnet": FB,
    "fb_resnet_cifar": replace(CIFAR, where=FB.where, epochs=164, weight_decay=1e-4, drops=(81, 122)),
}

# ---- What was printed -----------------------------------------------------------------------------------------------

ONE = "validation, 1 crop of 224 from 256"
MEAN, MEAN_100 = "test, mean of 10 runs", "test on CIFAR-100, mean of 10 runs"
README = "facebookresearch/ResNeXt, README"
TV, TV_V1, OSMR = "torchvision 0.29, metadata", "torchvision 0.29, IMAGENET1K_V1", "osmr/imgclsmob"
HALVED = "osmr halves a count of operations that holds normalisation, activations and pooling too"
ALONE = "with the parameters of the normalisation; the weights alone are"
ABOUT = "printed as about 7.8 or 15.6 G, the same for different networks"

COUNTS = (  # network, parameters, MACs by torchvision, half the operations by osmr
    ("resnext50_32x4d", "25028904", "4.230e9", "4255.86e6"),
    ("resnext101_32x4d", "44177704", "", "8003.45e6"),
    ("resnext101_64x4d", "83455272", "15.460e9", "15500.27e6"),
    ("resnext101_32x8d", "88791336", "16.414e9", ""),
    ("resnext29_16x64d_cifar", "68155210", "", "10709.34e6"),
)
ERRORS = (  # network, top-1 and top-5 error, source, protocol
    ("resnext50_32x4d", "22.2", "", "Table 3", ONE),
    ("resnext101_32x4d", "21.2", "5.6", "Table 4", ONE),
    ("resnext101_64x4d", "20.4", "5.3", "Table 4", ONE),
    ("resnet50_v15", "23.9", "", "Table 3", ONE),
    ("resnet101_v15", "22.0", "6.0", "Table 4", ONE),
    ("resnext29_8x64d_cifar", "3.65", "", "Table 7", MEAN),
    ("resnext29_16x64d_cifar", "3.58", "", "Table 7", MEAN),
    ("wrn28_10_cifar", "4.17", "", "Table 7", "test"),
    ("resnext29_8x64d_cifar", "17.77", "", "Table 7", MEAN_100),
    ("resnext29_16x64d_cifar", "17.31", "", "Table 7", MEAN_100),
    ("wrn28_10_cifar", "20.50", "", "Table 7", "test on CIFAR-100"),
)
ACCURACIES = (  # torchvision's first weights, top-1 and top-5
    ("resnext50_32x4d", "77.618", "93.698"),
    ("resnext101_32x8d", "79.312", "94.526"),
)

PUBLISHED = [
    Published("resnet50_v15", "weights", "70e3", "section 3.4", layer="conv2.2"),
    Published("resnext50_32x4d", "weights", "70e3", "section 3.4", layer="conv2.2"),
    Published("resnet50_v15", "macs", "0.22e9", "Table 2", layer="conv2.2"),
    Published("resnext50_32x4d", "macs", "0.22e9", "Table 2", layer="conv2.2"),
    Published("resnet50_v15", "params", "25.5e6", "Table 1", reason=f"25.56 M {ALONE} 25.50 M"),
    Published("resnet50_v15", "macs", "4.1e9", "Table 1"),
    Published("resnext50_32x4d", "params", "25.0e6", "Table 1"),
    Published("resnext50_32x4d", "macs", "4.2e9", "Table 1"),
    Published("resnext101_32x4d", "macs", "7.8e9", README, reason=ABOUT),
    Published("resnext101_64x4d", "macs", "15.6e9", README, reason=ABOUT),
    Published("resnext29_8x64d_cifar", "depth", "29", "Table 7"),
    Published("resnext29_8x64d_cifar", "params", "34.4e6", "Table 7"),
    Published("resnext29_16x64d_cifar", "params", "68.1e6", "Table 7", reason=f"68.16 M {ALONE} 68.05 M"),
    Published("wrn28_10_cifar", "params", "36.5e6", "Table 7"),
    *(
        Published(network, metric, error, source, protocol=protocol)
        for network, *errors, source, protocol in ERRORS
        for metric, error in zip(("top1_error", "top5_error"), errors, strict=True)
        if error
    ),
    *(Published(network, "top1_accuracy", top1, TV_V1, protocol=ONE) for network, top1, _ in ACCURACIES),
    *(Published(network, "top5_accuracy", top5, TV_V1, protocol=ONE) for network, _, top5 in ACCURACIES),
    *(Published(network, "params", params, TV) for network, params, macs, _ in COUNTS if macs),
    *(Published(network, "macs", macs, TV) for network, _, macs, _ in COUNTS if macs),
    *(Published(network, "params", params, OSMR) for network, params, _, half in COUNTS if half),
    *(Published(network, "macs", half, OSMR, reason=HALVED) for network, _, _, half in COUNTS if half),
]
