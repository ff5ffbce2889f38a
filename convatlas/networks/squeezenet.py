"""SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size (Iandola et al., 2016).

A fire module squeezes its input to a few maps by 1x1 convolutions and then expands them by 1x1 and 3x3 side by side, so
that few 3x3 kernels see few maps. Pooling comes late and there are no fully connected layers: 1.2 M parameters.

Departures and choices:
- The authors' file pads conv10, a 1x1 convolution, by 1: that puts a frame of pixels that are nothing but the bias
  around the class maps, 225 pixels instead of 169, and takes a third more MACs. It is left out, as in torchvision.
- Table 1 says an input of 224x224 and 111x111 after conv1; that needs 227, the crop of the authors' files. At 224 it is
  109. All poolings round up, as in Caffe.
- conv10 has a ReLU, as in the authors' files and in torchvision.
"""

from collections.abc import Callable
from functools import partial

from torch import nn

from ..layers import Concat, chain
from ..paper import Foreign, Network, Paper, Published, Recipe

PAPER = Paper(
    "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size",
    "Forrest N. Iandola, Song Han, Matthew W. Moskewicz, Khalid Ashraf, William J. Dally, Kurt Keutzer",
    2016,
    "https://arxiv.org/abs/1602.07360",
)

# ---- Table 1 --------------------------------------------------------------------------------------------------------

FIRES = {  # maps after squeeze1x1, expand1x1 and expand3x3
    2: (16, 64, 64),
    3: (16, 64, 64),
    4: (32, 128, 128),
    5: (32, 128, 128),
    6: (48, 192, 192),
    7: (48, 192, 192),
    8: (64, 256, 256),
    9: (64, 256, 256),
}
VERSIONS = {  # width and kernel of conv1, and the layers behind which there is a pooling
    "1.0": (96, 7, (1, 4, 8)),
    "1.1": (64, 3, (1, 3, 5)),
}

# ---- Blocks ---------------------------------------------------------------------------------------------------------


def convolution(cin: int, cout: int, kernel: int, stride: int = 1, padding: int = 0) -> nn.Sequential:
    """(N,cin,H,W) -> (N,cout,H/stride,W/stride), rounded as padding and kernel say."""
    return chain(conv=nn.Conv2d(cin, cout, kernel, stride, padding), relu=nn.ReLU(inplace=True))


def fire(cin: int, squeeze: int, ones: int, threes: int) -> nn.Sequential:
    """1x1 to few maps, then 1x1 and 3x3 side by side (Figure 1). (N,cin,H,W) -> (N,ones+threes,H,W)"""
    return chain(
        squeeze=convolution(cin, squeeze, 1),
        expand=Concat(expand1x1=convolution(squeeze, ones, 1), expand3x3=convolution(squeeze, threes, 3, padding=1)),
    )


# ---- The network ----------------------------------------------------------------------------------------------------


def squeezenet(
    version: str, *, classes: int = 1000, channels: int = 3, input: tuple[int, int] = (224, 224)
) -> nn.Sequential:
    """For images of any size. (N,channels,H,W) -> (N,classes)"""
    cin, kernel, pooled = VERSIONS[version]
    layers: dict[str, nn.Module] = {
        "conv1": convolution(channels, cin, kernel, 2),
        "pool1": nn.MaxPool2d(3, 2, ceil_mode=True),
    }
    for number, (squeeze, ones, threes) in FIRES.items():
        layers[f"fire{number}"] = fire(cin, squeeze, ones, threes)
        cin = ones + threes
        if number in pooled:
            layers[f"pool{number}"] = nn.MaxPool2d(3, 2, ceil_mode=True)
    return chain(
        **layers,
        drop9=nn.Dropout(0.5),
        conv10=convolution(cin, classes, 1),
        pool10=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
    )


def initialise(net: nn.Sequential) -> None:
    """Draws weights uniformly from +-sqrt(3 / fan_in), conv10's from N(0, 0.01^2), and sets biases to 0.

    Source: the authors' train_val.prototxt, whose "xavier" is that uniform distribution.
    """
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            if name == "conv10.conv":
                nn.init.normal_(module.weight, 0, 0.01)
            else:
                bound = (3 / module.weight[0].numel()) ** 0.5
                nn.init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def torchvision_rules(version: str) -> tuple[tuple[str, str], ...]:
    """torchvision numbers all layers before conv10 in one row: conv1, its ReLU, fire modules and poolings."""
    rules = [(r"\.conv\.", "."), (r"\.expand\.", "."), (r"^conv1\.", "features.0."), (r"^conv10\.", "classifier.1.")]
    number = 3
    for label in FIRES:
        rules.append((rf"^fire{label}\.", f"features.{number}."))
        number += 2 if label in VERSIONS[version][2] else 1
    return tuple(rules)


def _network(version: str, smallest: int, torchvision: str, about: str = "") -> Network:
    build: Callable[..., nn.Module] = partial(squeezenet, version)
    foreign = Foreign("torchvision", torchvision, torchvision_rules(version))
    return Network(build, initialise, (3, 224, 224), 1000, "squeezenet", about, smallest, foreign)


EARLIER = "The authors' version 1.1: a smaller conv1 and earlier poolings, for less than half of the MACs."

NETWORKS = {
    "squeezenet1_0": _network("1.0", 21, "squeezenet1_0"),
    "squeezenet1_1": _network("1.1", 17, "squeezenet1_1", EARLIER),
}

# ---- How they were trained ------------------------------------------------------------------------------------------

RECIPES = {
    # A batch is worked off in 16 parts of 32 images (Caffe's iter_size).
    "squeezenet": Recipe(
        where="the authors' solver.prototxt and train_val.prototxt",
        dataset="ImageNet",
        iterations=170_000,
        batch=512,
        parts=16,
        lr=0.04,
        momentum=0.9,
        weight_decay=2e-4,
        schedule="polynomial",
        power=1.0,
        augment=("side 256-256",),
    ),
}

# ---- What was printed -----------------------------------------------------------------------------------------------

PARAMETERS = {  # Table 1, before pruning
    "": "1248424",
    "conv1": "14208",
    "fire2": "11920",
    "fire3": "12432",
    "fire4": "45344",
    "fire5": "49440",
    "fire6": "104880",
    "fire7": "111024",
    "fire8": "188992",
    "fire9": "197184",
    "conv10": "513000",
}
OUTPUTS = {  # Table 1, which needs an input of 227
    "conv1": "111x111x96",
    "pool1": "55x55x96",
    "fire2": "55x55x128",
    "fire3": "55x55x128",
    "fire4": "55x55x256",
    "pool4": "27x27x256",
    "fire5": "27x27x256",
    "fire6": "27x27x384",
    "fire7": "27x27x384",
    "fire8": "27x27x512",
    "pool8": "13x13x512",
    "fire9": "13x13x512",
    "conv10": "13x13x1000",
}
AT_227 = "Table 1 says an input of 224x224, but its sizes are those of 227x227"
TORCHVISION = (  # parameters, MACs, accuracies
    ("squeezenet1_0", "1248424", "0.819e9", "58.092", "80.420"),
    ("squeezenet1_1", "1235496", "0.349e9", "58.178", "80.624"),
)
HALVES = "that count adds 1/2 for each ReLU and for each pixel under a pooling window"
CENTRE = "validation, 1 crop"

PUBLISHED = [
    *(Published("squeezenet1_0", "params", figure, "Table 1", layer=layer) for layer, figure in PARAMETERS.items()),
    *(
        Published(
            "squeezenet1_0",
            "output",
            size,
            "Table 1",
            layer=layer,
            reason=AT_227 if size.startswith(("111", "55")) else "",
        )
        for layer, size in OUTPUTS.items()
    ),
    Published("squeezenet1_0", "top1_accuracy", "57.5", "Table 2", protocol=CENTRE),
    Published("squeezenet1_0", "top5_accuracy", "80.3", "Table 2", protocol=CENTRE),
    *(
        Published(row[0], metric, figure, "torchvision 0.29, metadata", protocol=CENTRE if "top" in metric else "")
        for row in TORCHVISION
        for metric, figure in zip(("params", "macs", "top1_accuracy", "top5_accuracy"), row[1:], strict=True)
    ),
    Published("squeezenet1_0", "params", "1248424", "osmr/imgclsmob"),
    Published("squeezenet1_1", "params", "1235496", "osmr/imgclsmob"),
    Published("squeezenet1_0", "macs", "823.67e6", "osmr/imgclsmob", reason=HALVES),
    Published("squeezenet1_1", "macs", "352.02e6", "osmr/imgclsmob", reason=HALVES),
]
