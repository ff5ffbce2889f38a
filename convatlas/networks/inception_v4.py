"""Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning (Szegedy et al., 2016).

Inception-v4 makes Inception modules deeper and alike, with three kinds of modules for the three sizes of maps and a
reduction between them. Inception-ResNet puts cheaper modules into residual connections, which made training faster and
the error hardly smaller: Inception-v4 itself has no residual connection at all, although its name is often explained as
"ResNet plus Inception".

Departures and choices:
- Shapes, padding and the scales of the residuals (0.17, 0.1 and 0.2) are those of the authors' code (TF-slim), whose
  Inception-ResNet-v2 differs from the paper's figures: its stem is Inception-v3's, its maps have other numbers of
  channels, and its last residual is neither scaled nor followed by a ReLU.
- Batch normalisation's epsilon is TF-slim's 0.001. Average pooling leaves padded pixels out, as TensorFlow does.
- Dropout keeps 80 % before the classifier (Figure 9).
- TF-slim's auxiliary classifier is left out, as in timm.
- The paper does not say how weights are drawn. As in TF-slim, convolutions of Inception-v4 draw from a truncated normal
  distribution of variance 2/fan_in, and those of Inception-ResNet-v2 and all linear layers as Glorot and Bengio (2010).
"""

from functools import partial
from typing import Any

from torch import Tensor, nn

from ..layers import Concat, chain, conv_bn
from ..paper import Foreign, Network, Paper, Published, Recipe

PAPER = Paper(
    "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning",
    "Christian Szegedy, Sergey Ioffe, Vincent Vanhoucke, Alex Alemi",
    2016,
    "https://arxiv.org/abs/1602.07261",
)

# ---- Figures 3 to 9, and TF-slim's Inception-ResNet-v2 --------------------------------------------------------------

# A step is (kernel, channels) and keeps the size, or (kernel, channels, stride) without padding; or two such that see
# the same maps; or a pooling of 3x3.
Step = tuple[Any, ...] | str
Branches = tuple[tuple[Step, ...], ...]

H3, V3, H7, V7 = (1, 3), (3, 1), (1, 7), (7, 1)  # height, width

MIXED_4A: Branches = (((1, 64), (3, 96, 1)), ((1, 64), (H7, 64), (V7, 64), (3, 96, 1)))
INCEPTION_A: Branches = (
    ((1, 96),),
    ((1, 64), (3, 96)),
    ((1, 64), (3, 96), (3, 96)),
    ("average", (1, 96)),
)
REDUCTION_A: Branches = (((3, 384, 2),), ((1, 192), (3, 224), (3, 256, 2)), ("max",))
INCEPTION_B: Branches = (
    ((1, 384),),
    ((1, 192), (H7, 224), (V7, 256)),
    ((1, 192), (V7, 192), (H7, 224), (V7, 224), (H7, 256)),
    ("average", (1, 128)),
)
REDUCTION_B: Branches = (((1, 192), (3, 192, 2)), ((1, 256), (H7, 256), (V7, 320), (3, 320, 2)), ("max",))
INCEPTION_C: Branches = (
    ((1, 256),),
    ((1, 384), ((H3, 256), (V3, 256))),
    ((1, 384), (V3, 448), (H3, 512), ((H3, 256), (V3, 256))),
    ("average", (1, 256)),
)

MIXED_5B: Branches = (
    ((1, 96),),
    ((1, 48), (5, 64)),
    ((1, 64), (3, 96), (3, 96)),
    ("average", (1, 64)),
)
BLOCK35: Branches = (((1, 32),), ((1, 32), (3, 32)), ((1, 32), (3, 48), (3, 64)))
MIXED_6A: Branches = (((3, 384, 2),), ((1, 256), (3, 256), (3, 384, 2)), ("max",))
BLOCK17: Branches = (((1, 192),), ((1, 128), (H7, 160), (V7, 192)))
MIXED_7A: Branches = (((1, 256), (3, 384, 2)), ((1, 256), (3, 288, 2)), ((1, 256), (3, 288), (3, 320, 2)), ("max",))
BLOCK8: Branches = (((1, 192),), ((1, 192), (H3, 224), (V3, 256)))

# ---- Blocks ---------------------------------------------------------------------------------------------------------

EPSILON = 1e-3


def layer(cin: int, kernel: int | tuple[int, int], cout: int, stride: int | None = None) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU; with a stride, even of 1, there is no padding."""
    if stride is None:
        convolution = conv_bn(cin, cout, kernel, eps=EPSILON)
    else:
        convolution = conv_bn(cin, cout, kernel, stride, padding=0, eps=EPSILON)
    convolution.add_module("relu", nn.ReLU(inplace=True))
    return convolution


def average() -> nn.AvgPool2d:
    return nn.AvgPool2d(3, 1, 1, count_include_pad=False)


def branch(cin: int, steps: tuple[Step, ...]) -> tuple[nn.Module, int]:
    """One branch and its channels; a branch of a single step is that step's layer."""
    modules: dict[str, nn.Module] = {}
    for step in steps:
        name = f"conv{len(modules) + 1}"
        if isinstance(step, str):
            modules["pool"] = average() if step == "average" else nn.MaxPool2d(3, 2)
        elif isinstance(step[1], tuple):
            modules[name] = Concat(a=layer(cin, *step[0]), b=layer(cin, *step[1]))
            cin = step[0][1] + step[1][1]
        else:
            modules[name] = layer(cin, *step)
            cin = step[1]
    return (chain(**modules) if len(modules) > 1 else next(iter(modules.values()))), cin


def mixed(cin: int, branches: Branches) -> tuple[Concat, int]:
    """Branches side by side, and the sum of their channels."""
    made = [branch(cin, steps) for steps in branches]
    modules = {f"branch{n + 1}": module for n, (module, _) in enumerate(made)}
    return Concat(**modules), sum(cout for _, cout in made)


class Residual(nn.Module):
    """relu(x + scale * up(branches(x))), where `up` is a 1x1 convolution to x's channels. (N,cin,H,W) -> (N,cin,H,W)

    Residuals are scaled down, since with more than 1000 filters training became unstable (section 3.3).
    """

    def __init__(self, cin: int, branches: Branches, scale: float, relu: bool = True):
        super().__init__()
        self.branches, channels = mixed(cin, branches)
        self.up = nn.Conv2d(channels, cin, 1)
        self.scale = scale
        self.relu = nn.ReLU(inplace=True) if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.up(self.branches(x)) * self.scale + x)


# ---- The networks ---------------------------------------------------------------------------------------------------


def classifier(cin: int, classes: int) -> dict[str, nn.Module]:
    return {
        "pool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "dropout": nn.Dropout(0.2),
        "fc": nn.Linear(cin, classes),
    }


def inception_v4(*, classes: int = 1000, channels: int = 3, input: tuple[int, int] = (299, 299)) -> nn.Sequential:
    """Inception-v4 of Figure 9, for images of any size from 75x75. (N,channels,H,W) -> (N,classes)"""
    mixed_4a, cin = mixed(160, MIXED_4A)
    stem = chain(
        conv2d_1a=layer(channels, 3, 32, 2),
        conv2d_2a=layer(32, 3, 32, 1),
        conv2d_2b=layer(32, 3, 64),
        mixed_3a=Concat(pool=nn.MaxPool2d(3, 2), conv=layer(64, 3, 96, 2)),
        mixed_4a=mixed_4a,
        mixed_5a=Concat(conv=layer(cin, 3, 192, 2), pool=nn.MaxPool2d(3, 2)),
    )
    modules: dict[str, nn.Module] = {"stem": stem}
    cin += 192
    for name, branches in V4_MODULES.items():
        modules[name], cin = mixed(cin, branches)
    return chain(**modules, **classifier(cin, classes))


V4_MODULES = {
    **{f"inception_a_{n}": INCEPTION_A for n in range(1, 5)},
    "reduction_a": REDUCTION_A,
    **{f"inception_b_{n}": INCEPTION_B for n in range(1, 8)},
    "reduction_b": REDUCTION_B,
    **{f"inception_c_{n}": INCEPTION_C for n in range(1, 4)},
}


def inception_resnet_v2(
    *, classes: int = 1000, channels: int = 3, input: tuple[int, int] = (299, 299)
) -> nn.Sequential:
    """Inception-ResNet-v2 of TF-slim, for images of any size from 75x75. (N,channels,H,W) -> (N,classes)"""
    stem = chain(
        conv2d_1a=layer(channels, 3, 32, 2),
        conv2d_2a=layer(32, 3, 32, 1),
        conv2d_2b=layer(32, 3, 64),
        maxpool_3a=nn.MaxPool2d(3, 2),
        conv2d_3b=layer(64, 1, 80),
        conv2d_4a=layer(80, 3, 192, 1),
        maxpool_5a=nn.MaxPool2d(3, 2),
    )
    modules: dict[str, nn.Module] = {"stem": stem}
    modules["mixed_5b"], cin = mixed(192, MIXED_5B)
    modules.update({f"block35_{n}": Residual(cin, BLOCK35, 0.17) for n in range(1, 11)})
    modules["mixed_6a"], cin = mixed(cin, MIXED_6A)
    modules.update({f"block17_{n}": Residual(cin, BLOCK17, 0.1) for n in range(1, 21)})
    modules["mixed_7a"], cin = mixed(cin, MIXED_7A)
    modules.update({f"block8_{n}": Residual(cin, BLOCK8, 0.2) for n in range(1, 10)})
    modules["block8_10"] = Residual(cin, BLOCK8, 1.0, relu=False)
    modules["conv2d_7b"] = layer(cin, 1, 1536)
    return chain(**modules, **classifier(1536, classes))


def initialise(net: nn.Module, convolutions: str) -> None:
    """Draws weights as TF-slim does, "he" or "glorot" for convolutions and Glorot for the rest; biases are 0.

    TensorFlow's `variance_scaling_initializer` cuts the normal distribution at two deviations and widens it by
    sqrt(1.3), so that what is left has the variance 2/fan_in.
    """
    for module in net.modules():
        if not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        if isinstance(module, nn.Conv2d) and convolutions == "he":
            std = (1.3 * 2 / module.weight[0].numel()) ** 0.5
            nn.init.trunc_normal_(module.weight, 0, std, -2 * std, 2 * std)
        else:
            nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


BRANCH = (
    (r"branch(\d)\.conv(\d)\.([ab])\.", r"branch\1-1_\2-1\3."),  # Inception-C's forks have names of their own
    (r"(features\.(?:19|2\d)\.branch[23])\.conv(\d)\.", r"\1-1_\2-1."),
    (r"branch(\d)\.conv(\d)\.", r"branch\1-1.\2-1."),
    (r"branch(\d)\.(conv|bn)\.", r"branch\1-1.\2."),
)
V4_STEM = ("conv2d_1a", "conv2d_2a", "conv2d_2b", "mixed_3a", "mixed_4a", "mixed_5a")
TIMM_V4 = (
    (r"^stem\.", ""),
    *((rf"^{name}\.", f"features.{n}.") for n, name in enumerate((*V4_STEM, *V4_MODULES))),
    *BRANCH,
    (r"^fc\.", "last_linear."),
)
TIMM_RESNET = (
    (r"^stem\.", ""),
    (r"^block35_(\d+)\.", r"repeat.\1-1."),
    (r"^block17_(\d+)\.", r"repeat_1.\1-1."),
    (r"^block8_10\.", "block8."),
    (r"^block8_(\d)\.", r"repeat_2.\1-1."),
    (r"\.branches\.", "."),
    (r"\.up\.", ".conv2d."),
    *BRANCH,
    (r"^fc\.", "classif."),
)

RESIDUAL = "Inception modules inside residual connections, of about the same cost as Inception-v4."

NETWORKS = {
    "inception_v4": Network(
        inception_v4,
        partial(initialise, convolutions="he"),
        (3, 299, 299),
        recipe="inception_v4",
        smallest=75,
        foreign=Foreign("timm", "inception_v4", TIMM_V4),
    ),
    "inception_resnet_v2": Network(
        inception_resnet_v2,
        partial(initialise, convolutions="glorot"),
        (3, 299, 299),
        recipe="inception_v4",
        about=RESIDUAL,
        smallest=75,
        foreign=Foreign("timm", "inception_resnet_v2", TIMM_RESNET),
    ),
}

# ---- How they were trained ------------------------------------------------------------------------------------------

RECIPES = {
    # 20 replicas, here of 32 images each; the batch and the length are not printed. The paper evaluates a running
    # average of the weights; its decay, weight decay and label smoothing are those of the authors' code (TF-slim).
    "inception_v4": Recipe(
        where="section 4",
        dataset="ImageNet",
        epochs=160,
        batch=640,
        optimiser="rmsprop",
        lr=0.045,
        momentum=0.9,
        decay=0.9,
        epsilon=1.0,
        weight_decay=4e-5,
        decayed="weights",
        schedule="exponential",
        factor=0.94,
        every=2,
        label_smoothing=0.1,
        average=0.9999,
        augment=("area 0.08-1", "flip"),
        assumed=(
            "epochs",
            "batch",
            "momentum",
            "weight_decay",
            "decayed",
            "label_smoothing",
            "average",
            "augment",
            "crop",
        ),
    ),
}

# ---- What was printed -----------------------------------------------------------------------------------------------

OSMR = "osmr/imgclsmob"
TIMM = "pytorch-image-models"
SLIM = "tensorflow/models, slim"
FIELDS = "google-research/receptive_field"
ONE = "validation, 1 crop"
TWELVE = "validation, 12 crops"
MANY = "validation, 144 crops"
ENSEMBLE = "test, 144 crops, one Inception-v4 and three Inception-ResNet-v2"
CENTRE = "validation, 1 crop of 299"
WITH_OTHERS = "it is half of all operations, those of normalisation, ReLU and pooling too"
WITH_NORMS = "timm counts batch normalisation too, which fvcore puts at 0.030 G here; without it fvcore has 12.254 G"

V4, RESNET = "inception_v4", "inception_resnet_v2"

V4_FIELDS = {  # after its last layer
    **{"stem.conv2d_1a": 3, "stem.conv2d_2a": 7, "stem.conv2d_2b": 11},
    **{"stem.mixed_3a": 15, "stem.mixed_4a": 47, "stem.mixed_5a": 55},
    **{"inception_a_1": 87, "inception_a_2": 119, "inception_a_3": 151, "inception_a_4": 183, "reduction_a": 215},
    **{"inception_b_1": 407, "inception_b_2": 599, "inception_b_3": 791, "inception_b_4": 983},
    **{"inception_b_5": 1175, "inception_b_6": 1367, "inception_b_7": 1559, "reduction_b": 1687},
    **{"inception_c_1": 1815, "inception_c_2": 1943, "inception_c_3": 2071},
}
RESNET_FIELDS = {
    **{"stem.conv2d_1a": 3, "stem.conv2d_2a": 7, "stem.conv2d_2b": 11, "stem.maxpool_3a": 15, "stem.conv2d_3b": 15},
    **{"stem.conv2d_4a": 23, "stem.maxpool_5a": 31, "mixed_5b": 63, "mixed_6a": 415},
    **{"block17_20": 2335, "mixed_7a": 2399, "conv2d_7b": 3039},
}

PUBLISHED = [
    Published(V4, "params", "42679816", OSMR),
    Published(V4, "params", "42.68e6", TIMM),
    Published(V4, "macs", "12304.93e6", OSMR, reason=WITH_OTHERS),
    Published(V4, "macs", "12.28e9", TIMM, reason=WITH_NORMS),
    Published(V4, "output", "35x35x384", SLIM, layer="stem"),
    Published(V4, "output", "35x35x384", SLIM, layer="inception_a_4"),
    Published(V4, "output", "17x17x1024", SLIM, layer="inception_b_7"),
    Published(V4, "output", "8x8x1536", SLIM, layer="inception_c_3"),
    *(Published(V4, "field", str(field), FIELDS, layer=layer) for layer, field in V4_FIELDS.items()),
    Published(V4, "stride", "32", FIELDS, layer="inception_c_3"),
    Published(V4, "padding", "998", FIELDS, layer="inception_c_3"),
    Published(V4, "top1_error", "20.0", "Table 2", protocol=ONE),
    Published(V4, "top5_error", "5.0", "Table 2", protocol=ONE),
    Published(V4, "top1_error", "18.7", "Table 3", protocol=TWELVE),
    Published(V4, "top5_error", "4.2", "Table 3", protocol=TWELVE),
    Published(V4, "top1_error", "17.7", "Table 4", protocol=MANY),
    Published(V4, "top5_error", "3.8", "Table 4", protocol=MANY),
    Published(V4, "top5_error", "3.08", "Abstract", protocol=ENSEMBLE),
    Published(V4, "top1_accuracy", "80.144", TIMM, protocol=CENTRE),
    Published(V4, "top5_accuracy", "94.982", TIMM, protocol=CENTRE),
    Published(RESNET, "params", "55843464", OSMR),
    Published(RESNET, "macs", "13188.64e6", OSMR, reason=WITH_OTHERS),
    Published(RESNET, "output", "35x35x320", SLIM, layer="mixed_5b"),
    Published(RESNET, "output", "17x17x1088", SLIM, layer="mixed_6a"),
    Published(RESNET, "output", "8x8x2080", SLIM, layer="mixed_7a"),
    Published(RESNET, "output", "8x8x1536", SLIM, layer="conv2d_7b"),
    *(Published(RESNET, "field", str(field), FIELDS, layer=layer) for layer, field in RESNET_FIELDS.items()),
    Published(RESNET, "stride", "32", FIELDS, layer="conv2d_7b"),
    Published(RESNET, "padding", "1482", FIELDS, layer="conv2d_7b"),
    Published(RESNET, "top1_error", "19.9", "Table 2", protocol=ONE),
    Published(RESNET, "top5_error", "4.9", "Table 2", protocol=ONE),
    Published(RESNET, "top1_error", "17.8", "Table 4", protocol=MANY),
    Published(RESNET, "top5_error", "3.7", "Table 4", protocol=MANY),
    Published(RESNET, "top5_error", "3.08", "Abstract", protocol=ENSEMBLE),
]
