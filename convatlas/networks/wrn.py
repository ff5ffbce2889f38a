"""Wide Residual Networks (Zagoruyko, Komodakis, 2016).

Units with more maps learn more than more units: 16 layers of eight times the width do better than 1001 thin ones, and
train several times faster. WRN-d-k has d convolutions and k times the maps of the CIFAR-10 networks of the 2015 paper,
in pre-activation units of two 3x3; dropout may stand between the two.

Departures and choices:
- d counts all convolutions, those of the three projections too and not the classifier, so that N = (d-4)/6 units stand
  in each stage, and d-2 layers with weights lie on the longest way.
- `wrn50_2` and `wrn101_2` are no pre-activation networks: as in the authors' released model, they are the 2015 paper's
  with bottlenecks whose inner 3x3 is twice as wide and strides.
"""

from dataclasses import replace
from functools import partial

from torch import nn

from ..layers import chain, initialise_he
from ..paper import Foreign, Network, Paper, Published, Recipe
from .preresnet import activation, cifar, convolution
from .resnet import TORCHVISION, bottleneck_v15, resnet
from .resnext import FB

PAPER = Paper(
    "Wide Residual Networks",
    "Sergey Zagoruyko, Nikos Komodakis",
    2016,
    "https://arxiv.org/abs/1605.07146",
)

# ---- Table 1 --------------------------------------------------------------------------------------------------------

WIDTHS = (16, 32, 64)  # of the maps of 32x32, 16x16 and 8x8 pixels, before widening

# ---- Unit -----------------------------------------------------------------------------------------------------------


def wide(cin: int, width: int, stride: int, dropout: float = 0.0) -> tuple[nn.Sequential, int]:
    """B(3,3), after the unit's own activation. (N,cin,H,W) -> (N,width,H/stride,W/stride)"""
    between = {"dropout": nn.Dropout(dropout)} if dropout else {}
    body = chain(
        conv1=convolution(cin, width, 3, stride),
        act2=activation(width),
        **between,
        conv2=convolution(width, width, 3),
    )
    return body, width


# ---- The networks ---------------------------------------------------------------------------------------------------


def wrn_cifar(
    depth: int,
    k: int,
    dropout: float = 0.0,
    *,
    classes: int = 10,
    channels: int = 3,
    input: tuple[int, int] = (32, 32),
) -> nn.Sequential:
    """WRN-depth-k for images of any size. (N,channels,H,W) -> (N,classes)"""
    widths = tuple(k * width for width in WIDTHS)
    body = partial(wide, dropout=dropout)
    return cifar(widths, (depth - 4) // 6, body, classes=classes, channels=channels, input=input)


def _cifar(depth: int, k: int, dropout: float = 0.0, about: str = "") -> Network:
    return Network(partial(wrn_cifar, depth, k, dropout), initialise_he, (3, 32, 32), 10, "wrn_cifar", about)


def _imagenet(depth: int, torchvision: str) -> Network:
    build = partial(resnet, depth, partial(bottleneck_v15, wider=2))
    foreign = Foreign("torchvision", torchvision, TORCHVISION)
    return Network(build, initialise_he, (3, 224, 224), 1000, "wrn", foreign=foreign)


DROPOUT = "Dropout of 0.3 between the two convolutions of a unit."

NETWORKS = {
    "wrn16_8_cifar": _cifar(16, 8),
    "wrn28_10_cifar": _cifar(28, 10),
    "wrn40_4_cifar": _cifar(40, 4),
    "wrn40_10_cifar": _cifar(40, 10),
    "wrn28_10_dropout_cifar": _cifar(28, 10, 0.3, DROPOUT),
    "wrn50_2": _imagenet(50, "wide_resnet50_2"),
    "wrn101_2": _imagenet(101, "wide_resnet101_2"),
}

# ---- How they were trained ------------------------------------------------------------------------------------------

RECIPES = {
    # Nothing is held out there. Dropout of 0.3 is the network's own (wrn28_10_dropout_cifar).
    "wrn_cifar": Recipe(
        where="section 3 and the authors' scripts/train_cifar.sh",
        dataset="CIFAR-10",
        epochs=200,
        batch=128,
        optimiser="nesterov",
        lr=0.1,
        momentum=0.9,
        weight_decay=5e-4,
        schedule="steps",
        drops=(60, 120, 160),
        factor=0.2,
        augment=("reflect-crop 4", "flip"),
        crop=1.0,
        assumed=("validation",),
    ),
    # The paper says little about ImageNet: this is fb.resnet.torch's recipe, on which its code is built.
    "wrn": replace(
        FB,
        where="ours",
        assumed=(
            "epochs",
            "batch",
            "optimiser",
            "lr",
            "momentum",
            "weight_decay",
            "schedule",
            "drops",
            "factor",
            "augment",
        ),
    ),
}

# ---- What was printed -----------------------------------------------------------------------------------------------

MEDIAN, SINGLE = "test, median of 5 runs", "test, 1 run"
MEDIAN_100, SINGLE_100 = "test on CIFAR-100, median of 5 runs", "test on CIFAR-100, 1 run"
ONE = "validation, 1 crop of 224 from 256"
README, PRETRAINED = "the authors' README", "the authors' pretrained/README"
TV, TV_V1, OSMR = "torchvision 0.29, metadata", "torchvision 0.29, IMAGENET1K_V1", "osmr/imgclsmob"
ALL_CONVOLUTIONS = "d counts every convolution, the three projections too, and not the classifier"
HALVED = "osmr halves a count of operations that holds normalisation, activations and pooling too"

PUBLISHED = [
    Published("wrn16_8_cifar", "depth", "16", "Table 5", reason=ALL_CONVOLUTIONS),
    Published("wrn40_4_cifar", "depth", "40", "Table 5", reason=ALL_CONVOLUTIONS),
    Published("wrn28_10_cifar", "depth", "28", "Table 5", reason=ALL_CONVOLUTIONS),
    Published("wrn16_8_cifar", "params", "11.0e6", "Table 5"),
    Published("wrn40_4_cifar", "params", "8.9e6", "Table 5"),
    Published("wrn28_10_cifar", "params", "36.5e6", "Table 5"),
    Published("wrn40_10_cifar", "params", "55.8e6", "the paper"),
    Published("wrn16_8_cifar", "top1_error", "4.27", "Table 5", protocol=MEDIAN),
    Published("wrn40_4_cifar", "top1_error", "4.53", "Table 5", protocol=MEDIAN),
    Published("wrn28_10_cifar", "top1_error", "4.00", "Table 5", protocol=MEDIAN),
    Published("wrn28_10_cifar", "top1_error", "19.25", "Table 5", protocol=MEDIAN_100),
    Published("wrn28_10_dropout_cifar", "top1_error", "3.89", README, protocol=MEDIAN),
    Published("wrn28_10_dropout_cifar", "top1_error", "18.85", README, protocol=MEDIAN_100),
    Published("wrn40_10_cifar", "top1_error", "3.8", README, protocol=f"{SINGLE}, with dropout"),
    Published("wrn40_10_cifar", "top1_error", "18.3", README, protocol=f"{SINGLE_100}, with dropout"),
    Published("wrn50_2", "depth", "50", PRETRAINED),
    Published("wrn50_2", "params", "68.9e6", PRETRAINED),
    Published("wrn50_2", "top1_error", "21.9", PRETRAINED, protocol=ONE),
    Published("wrn50_2", "top5_error", "6.03", PRETRAINED, protocol=ONE),
    Published("wrn50_2", "top1_error", "21.9", README, protocol=ONE),
    Published("wrn50_2", "top5_error", "5.79", README, protocol=ONE, differs=True, reason=f"{PRETRAINED} prints 6.03"),
    Published("wrn50_2", "top1_accuracy", "78.468", TV_V1, protocol=ONE),
    Published("wrn50_2", "top5_accuracy", "94.086", TV_V1, protocol=ONE),
    Published("wrn101_2", "top1_accuracy", "78.848", TV_V1, protocol=ONE),
    Published("wrn101_2", "top5_accuracy", "94.284", TV_V1, protocol=ONE),
    Published("wrn50_2", "params", "68883240", TV),
    Published("wrn50_2", "macs", "11.398e9", TV),
    Published("wrn101_2", "params", "126886696", TV),
    Published("wrn101_2", "macs", "22.753e9", TV),
    Published("wrn28_10_cifar", "params", "36479194", OSMR),
    Published("wrn28_10_cifar", "macs", "5246.98e6", OSMR, reason=HALVED),
]
