"""Visualizing and Understanding Convolutional Networks (Zeiler, Fergus, 2013).

Projections of features back to pixels show dead and aliased filters in AlexNet's first layers; smaller and denser first
convolutions cure them and lower the error. `zfnet` is the network of Figure 3, `zfnet_512` the wider one of Table 2.

Departures and choices:
- conv2 has stride 2 (section 5.1), which makes 26x26 of 55x55. Some summaries leave it out: with 512-1024-512 maps the
  network would have 386 M parameters.
- The paper's 55x55 and 13x13 maps need a padding of 1 in conv1 and pooling whose last window may reach over the edge.
- Normalisation is AlexNet's, to whose paper this one points, but after pooling, in Figure 3's order.
- "All weights are initialized to 1e-2" is read as a standard deviation: equal weights could not part.
"""

from functools import partial

from torch import nn

from ..layers import chain, initialise_normal
from ..paper import Network, Paper, Published, Recipe
from .alexnet import Conv, Layers, Norm, Pool, features, fully_connected, stages

PAPER = Paper(
    "Visualizing and Understanding Convolutional Networks",
    "Matthew D. Zeiler, Rob Fergus",
    2013,
    "https://arxiv.org/abs/1311.2901",
)

# ---- Figure 3 and Table 2 -------------------------------------------------------------------------------------------


def layers(conv3: int, conv4: int, conv5: int) -> Layers:
    """Figure 3 with that many maps in the last three convolutions."""
    return {
        "conv1": Conv(96, 7, 2, 1),
        "pool1": Pool(ceil=True),
        "norm1": Norm(),
        "conv2": Conv(256, 5, 2),
        "pool2": Pool(ceil=True),
        "norm2": Norm(),
        "conv3": Conv(conv3, 3, padding=1),
        "conv4": Conv(conv4, 3, padding=1),
        "conv5": Conv(conv5, 3, padding=1),
        "pool5": Pool(ceil=True),
    }


FIGURE_3 = layers(384, 384, 256)
WIDE = layers(512, 1024, 512)

# ---- The networks ---------------------------------------------------------------------------------------------------


def zfnet(
    layers: Layers, *, classes: int = 1000, channels: int = 3, input: tuple[int, int] = (224, 224)
) -> nn.Sequential:
    """(N,channels,H,W) -> (N,classes)"""
    return chain(**stages(layers, channels), **fully_connected(features(layers, input), classes))


def initialise(net: nn.Module) -> None:
    """Draws weights from N(0, 0.01^2) and sets biases to 0 (section 3)."""
    initialise_normal(net, 0.01)


B = "512, 1024 and 512 maps in conv3, conv4 and conv5: variant (b) of Table 2."

NETWORKS = {
    "zfnet": Network(partial(zfnet, FIGURE_3), initialise, (3, 224, 224), 1000, "zfnet", smallest=47),
    "zfnet_512": Network(partial(zfnet, WIDE), initialise, (3, 224, 224), 1000, "zfnet", B, smallest=47),
}

# ---- How it was trained ---------------------------------------------------------------------------------------------

RECIPES = {
    # The paper lowers the rate by hand when the validation error stands still. It uses ten fixed crops of the central
    # 256x256 and their mirror images where this takes random ones, and scales each filter whose root mean square
    # exceeds 0.1 back to it, which is left out here.
    "zfnet": Recipe(
        where="section 3",
        dataset="ImageNet",
        epochs=70,
        batch=128,
        lr=0.01,
        momentum=0.9,
        weight_decay=5e-4,
        schedule="plateau",
        augment=("side 256-256", "flip"),
        view="ten-crop",
        assumed=("weight_decay", "factor", "patience", "augment", "crop", "view"),
    ),
}

# ---- What was printed -----------------------------------------------------------------------------------------------

TABLE_2, FIGURE = "Table 2", "Figure 3"
TEN = "validation, 10 crops"
BOTH = "6 networks, 5 of Figure 3 and 1 of 512-1024-512"
OSMR = "osmr/imgclsmob"
HALF = "theirs adds half an operation for each ReLU and for each value under a pooling window"

PUBLISHED = [
    Published("zfnet", "depth", "8", FIGURE),
    Published("zfnet", "output", "55x55x96", FIGURE, layer="norm1"),
    Published("zfnet", "output", "6x6x256", FIGURE, layer="pool5"),
    Published("zfnet", "params", "62357608", OSMR),
    Published("zfnet", "macs", "1170.33e6", OSMR, reason=f"{HALF}, 2.30 M in all"),
    Published("zfnet_512", "params", "107627624", OSMR),
    Published("zfnet_512", "macs", "2479.13e6", OSMR, reason=f"{HALF}, 2.43 M in all"),
    Published("zfnet", "top1_error", "38.4", TABLE_2, protocol=TEN),
    Published("zfnet", "top5_error", "16.5", TABLE_2, protocol=TEN),
    Published("zfnet", "top1_error", "36.7", TABLE_2, protocol=f"{TEN}, 5 networks"),
    Published("zfnet", "top5_error", "15.3", TABLE_2, protocol=f"{TEN}, 5 networks"),
    Published("zfnet", "top5_error", "15.3", TABLE_2, protocol="test, 5 networks"),
    Published("zfnet_512", "top1_error", "37.5", TABLE_2, protocol=TEN),
    Published("zfnet_512", "top5_error", "16.0", TABLE_2, protocol=TEN),
    Published("zfnet_512", "top5_error", "16.1", TABLE_2, protocol="test"),
    Published("zfnet_512", "top1_error", "36.0", TABLE_2, protocol=f"{TEN}, {BOTH}"),
    Published("zfnet_512", "top5_error", "14.7", TABLE_2, protocol=f"{TEN}, {BOTH}"),
    Published("zfnet_512", "top5_error", "14.8", TABLE_2, protocol=f"test, {BOTH}"),
]
